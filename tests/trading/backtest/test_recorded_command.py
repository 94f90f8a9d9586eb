"""``manage.py backtest`` over recordings."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from django.core.management import call_command

from tests.recordings import bybit_session


def told(*arguments: str) -> str:
    out = io.StringIO()
    call_command("backtest", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.recording
def test_a_recorded_session_is_tested_on_its_books_without_a_database(tmp_path: Path) -> None:
    output = tmp_path / "result.json"

    text = told(
        "--source", "books", "--recording", str(bybit_session()), "--strategy", "scalping.imbalance",
        "--symbols", "BTCUSDT", "--parameter", "threshold=0.6", "--parameter", "cooldown_s=5",
        "--parameter", "hold_ms=0", "--output", str(output),
    )  # fmt: skip

    found = json.loads(output.read_text())
    assert found["request"]["source"] == "books" and found["request"]["recording"] == bybit_session().name
    assert found["fills"] and {fill["why"] for fill in found["fills"]} == {"signal", "end"}
    assert "balance at the end" in text
