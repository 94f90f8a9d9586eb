"""What strategies' pages say of their results is made by one command, from recordings that stay where they are."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import recordings

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = "momentum.breakout"


@pytest.mark.long
@pytest.mark.recording
def test_a_page_is_written_anew_from_its_trade_on_with_the_same_figures(tmp_path: Path) -> None:
    recordings.recording("candles-bybit-5m", "BTCUSDT_linear_5m.csv.gz")
    recordings.bybit_session()
    shown = (REPOSITORY / "docs" / "strategies" / f"{KEY}.md").read_text()
    made = tmp_path / "strategies" / f"{KEY}.md"
    made.parent.mkdir()
    shutil.copy(REPOSITORY / "docs" / "strategies" / f"{KEY}.md", made)
    command = [sys.executable, "benchmarks/strategy_results.py", KEY, "--docs", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=300)
    without_date = [text.split("\nMade on ")[0] for text in (made.read_text(), shown)]
    assert without_date[0] == without_date[1]
    image = tmp_path / "images" / "strategies" / f"{KEY}.svg"
    assert image.read_text() == (REPOSITORY / "docs" / "images" / "strategies" / f"{KEY}.svg").read_text()
