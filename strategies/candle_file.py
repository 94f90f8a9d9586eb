"""Bars of a CSV file, plain or gzipped, to check a strategy on. Backtests read the archive of candles instead."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path

from marketdata.candles.series import INTERVALS, interval_ms
from marketdata.events import Candle

TIMES = ("ts_ms", "start_ms", "open_time", "timestamp", "time")
PRICES = ("open", "high", "low", "close")


class CandleFileError(ValueError):
    """A file that has no bars; the message says where and what was expected."""


def read_candles(path: Path, symbol: str, most: int) -> list[Candle]:
    """The newest ``most`` bars, oldest first; their interval is the usual distance of two.

    Raises:
        CandleFileError: no such file, no header with a time and four prices, a row that is none.
    """
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            rows = _rows(file, path)[-most:]
    except (OSError, UnicodeDecodeError) as error:
        raise CandleFileError(f"{path} cannot be read: {error}") from error
    steps = Counter(later[0] - earlier[0] for earlier, later in pairwise(rows))
    step = steps.most_common(1)[0][0] if steps else 0
    interval = next((name for name in INTERVALS if interval_ms(name) == step), None)
    if interval is None or min(steps) <= 0:
        raise CandleFileError(
            f"{path}: bars are {step} ms apart, some {min(steps, default=0)}; expected rising times, "
            f"of one interval of {', '.join(INTERVALS)}"
        )
    return [
        Candle(symbol, interval, at, open_, high, low, close, volume, close * volume, True)
        for at, (open_, high, low, close, volume) in rows
    ]


def _rows(lines: Iterable[str], path: Path) -> list[tuple[int, list[Decimal]]]:
    reader = csv.DictReader(lines)
    names = reader.fieldnames or ()
    time = next((name for name in TIMES if name in names), None)
    if time is None or not {*PRICES, "volume"} <= set(names):
        raise CandleFileError(
            f"{path}: the first line names {', '.join(names)}; expected one of {', '.join(TIMES)} (milliseconds) and "
            "open, high, low, close, volume"
        )
    found = []
    for row in reader:
        try:
            found.append((int(row[time]), [Decimal(row[name]) for name in (*PRICES, "volume")]))
        except (ValueError, TypeError, InvalidOperation):
            raise CandleFileError(f"{path}:{reader.line_num}: expected numbers, found {row}") from None
    return found
