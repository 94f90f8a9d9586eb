"""Backtests over recordings through the API: which there are, one asked for and carried out, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Cast
from tests.trading.backtest.tapes import START_MS, leaning_tape
from trading.models import BacktestRun
from trading.runtime.backtest_run import carry_out_backtest

pytestmark = pytest.mark.django_db
PATH = "/api/v1/backtests"
IMBALANCE = {
    "strategy": "scalping.imbalance",
    "symbols": ["BTCUSDT"],
    "parameters": {"hold_ms": 0, "max_spread_percent": 0.2},
    "sizing_mode": "fixed_usd",
    "sizing_value": "5",
}


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    made = tmp_path / "recordings"
    made.mkdir()
    settings.RECORDINGS_DIR = made
    leaning_tape().written(made)
    return made


def asked(cast: Cast, **changes: Any) -> Any:
    body = {"strategies": [IMBALANCE], "source": "books", "recording": "tape.jsonl.zst"} | changes
    body = {name: value for name, value in body.items() if value is not None}
    return cast.client(cast.alice).post(PATH, body, format="json")


def test_a_recording_is_listed_asked_for_and_tested_and_is_its_owners_only(cast: Cast, folder: Path) -> None:
    (folder / "notes.txt").write_text("not a recording")
    (listed,) = cast.client(cast.bob).get(f"{PATH}/recordings").json()
    assert (listed["name"], listed["first_ms"], listed["last_ms"]) == ("tape.jsonl.zst", START_MS, START_MS + 6_200)
    assert cast.client(None).get(f"{PATH}/recordings").status_code == 403

    answer = asked(cast)
    assert answer.status_code == 201, answer.json()
    number = answer.json()["id"]
    assert answer.json()["request"]["start"] == "2023-11-15T00:00:00Z"
    assert carry_out_backtest(number) == "done", BacktestRun.objects.get().error

    client = cast.client(cast.alice)
    found = client.get(f"{PATH}/{number}").json()
    assert found["summary"]["statistics"]["trades"] == 1
    fills = client.get(f"{PATH}/{number}/fills").json()["results"]
    assert [(each["why"], each["price"]) for each in fills] == [("signal", "100.1"), ("take_profit", "100.6")]
    prices = client.get(f"{PATH}/{number}/prices?symbol=BTCUSDT&from={START_MS}&to={START_MS + 1}").json()
    assert prices["symbol"] == "BTCUSDT"
    assert client.get(f"{PATH}/{number}/export?as=html").status_code == 200
    for part in ("", "/fills", "/prices", "/export"):
        assert cast.client(cast.bob).get(f"{PATH}/{number}{part}").status_code == 404


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"recording": "other.jsonl.zst"}, "recording", "there are tape.jsonl.zst"),
        ({"recording": "../secret.jsonl.zst"}, "recording", "must be one of this deployment"),
        ({"recording": None}, "recording", "must be one of this deployment"),
        ({"source": "candles", "start": "2026-01-01", "end": "2026-01-02"}, "recording", "must not be said"),
        ({"costs": {"slippage": "0.001"}}, "costs.slippage", "the recorded book itself shows it"),
        ({"venue": "binance"}, "venue", "must be bybit for source books"),
        ({"strategies": [IMBALANCE | {"symbols": ["NOSUCHUSDT"]}]}, "strategies.0.symbols", "no instrument"),
    ],
)
def test_what_cannot_be_tested_is_refused_with_its_field(
    cast: Cast, folder: Path, changes: dict[str, Any], field: str, words: str
) -> None:
    (folder.parent / "secret.jsonl.zst").write_bytes(b"")
    answer = asked(cast, **changes)
    assert answer.status_code == 400
    found = {each["field"]: each["rule"] for each in answer.json()["error"]["fields"]}
    assert words in found[field], found
    assert not BacktestRun.objects.exists()


def test_a_recording_that_is_too_large_for_the_workers_is_refused(cast: Cast, folder: Path, settings: Any) -> None:
    settings.BACKTEST_RECORDING_MEGABYTES = 0
    assert "for manage.py backtest" in str(asked(cast).json())


def test_a_link_out_of_the_folder_is_no_recording(cast: Cast, folder: Path) -> None:
    (folder.parent / "secret.jsonl.zst").write_bytes(b"secret")
    (folder / "link.jsonl.zst").symlink_to(folder.parent / "secret.jsonl.zst")
    assert asked(cast, recording="link.jsonl.zst").status_code == 400


def test_a_recording_without_the_symbol_fails_in_words(cast: Cast, folder: Path) -> None:
    answer = asked(cast, strategies=[IMBALANCE | {"symbols": ["ETHUSDT"]}])
    assert carry_out_backtest(answer.json()["id"]) == "failed"
    assert "holds no book of ETHUSDT" in BacktestRun.objects.get().error
