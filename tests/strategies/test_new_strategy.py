"""`manage.py new_strategy`: a file that works as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from strategies.base import parse_parameters
from strategies.registry import STRATEGIES
from tests.strategies.test_library import candles


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Iterator[Path]:
    before = settings.STRATEGIES_DIR
    settings.STRATEGIES_DIR = tmp_path / "own"
    STRATEGIES.look_in(settings.STRATEGIES_DIR)
    yield settings.STRATEGIES_DIR
    STRATEGIES.look_in(before)


def new(*arguments: str) -> str:
    out = StringIO()
    call_command("new_strategy", *arguments, stdout=out)
    return out.getvalue()


def test_the_file_is_a_strategy_at_once_and_says_what_to_do_next(folder: Path) -> None:
    said = new("my_cross")
    assert str(folder / "my_cross.py") in said and "manage.py check_strategy my_cross" in said
    kind = STRATEGIES.refresh()["my_cross"]
    assert kind.title == "My cross" and not STRATEGIES.problems
    parameters = parse_parameters(kind.parameters, {"timeframe": "1", "fast": 3, "slow": 8})
    bars = candles(500)
    strategy = kind.create("BTCUSDT", parameters)
    signals = {n: signal for n, bar in enumerate(bars) if (signal := strategy.on_candle(bar)) is not None}
    closes = np.array([float(bar.close) for bar in bars])
    leaning = [
        np.sign(closes[n - 2 : n + 1].mean() - closes[n - 7 : n + 1].mean()) if n >= 7 else 0 for n in range(500)
    ]
    expected = {n: "Buy" if leaning[n] > 0 else "Sell" for n in range(8, 500) if leaning[n] != leaning[n - 1]}
    assert {n: signal.side for n, signal in signals.items()} == expected and len(expected) > 20
    # Over arrays it decides the same.
    kernel, numbers = kind.kernel(), strategy.numbers  # type: ignore[attr-defined]
    columns = [
        np.array([float(getattr(bar, name)) for bar in bars]) for name in ("open", "high", "low", "close", "volume")
    ]
    starts = np.array([bar.start_ms for bar in bars])
    at, rows = np.zeros(500, np.int64), np.zeros((500, 12))
    assert kernel.run(kernel.new_state(numbers), numbers, starts, *columns, at, rows) == len(expected)
    assert at[: len(expected)].tolist() == list(expected)


def test_one_of_books_is_a_strategy_too(folder: Path) -> None:
    new("my_book", "--book")
    kind = STRATEGIES.refresh()["my_book"]
    made = kind.create("BTCUSDT", parse_parameters(kind.parameters, {}))
    assert made.timeframe is None and not STRATEGIES.problems


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My Cross", "cannot be the name of a strategy; expected up to 40 small letters"),
        ("../escape", "cannot be the name"),
        ("class", "no word of Python"),
        ("9lives", "cannot be the name"),
        ("x" * 41, "cannot be the name"),
        ("supertrend", "there is a strategy supertrend already; choose another name"),
    ],
)
def test_a_name_that_cannot_be_is_refused(folder: Path, name: str, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        new(name)
    assert not folder.exists()


def test_a_file_that_is_there_is_not_written_over(folder: Path) -> None:
    folder.mkdir()
    (folder / "mine.py").write_text("# precious\n")
    with pytest.raises(CommandError, match="is there already; remove it, or choose another name"):
        new("mine")
    assert (folder / "mine.py").read_text() == "# precious\n"


def test_a_folder_that_cannot_be_made_says_so(folder: Path) -> None:
    folder.write_text("no folder")
    with pytest.raises(CommandError, match="let STRATEGIES_DIR name another folder"):
        new("mine")
