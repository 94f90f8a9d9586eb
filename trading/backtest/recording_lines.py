"""What a recording holds, line by line."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

from marketdata.feeds.recorded import RecordedFrame, RecordingError, read_header, read_recording
from trading.backtest.errors import BacktestError
from trading.backtest.recording_files import TRADES

LINEAR = "linear"


def symbols_of(path: Path) -> tuple[str, ...]:
    """Those that its header names; of a recording of others none."""
    try:
        return () if path.name.endswith(TRADES) else tuple(sorted(read_header(path).get("grids", {})))
    except RecordingError:
        return ()


def span_of(path: Path) -> tuple[int, int]:
    """When its first and last line came, ns.

    Raises:
        BacktestError: it cannot be read, or holds nothing.
    """
    first = last = 0
    for time_ns in _times_of_list(path) if path.name.endswith(TRADES) else (each.receive_ns for each in lines_of(path)):
        first, last = first or time_ns, time_ns
    if not first:
        raise BacktestError(f"{path.name} holds nothing")
    return first, last


def lines_of(path: Path) -> Iterator[RecordedFrame]:
    """Without those of public channels that engines do not trade on: these may have a clock of their own.

    Raises:
        BacktestError: it cannot be read; with its line.
    """
    try:
        for frame in read_recording(path):
            if frame.category in (None, LINEAR):
                yield frame
    except RecordingError as error:
        raise BacktestError(str(error)) from None


def _times_of_list(path: Path) -> Iterator[int]:
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                time = row.get("time") or row.get("timestamp") or ""
                if not time.isdecimal():
                    raise BacktestError(f"{path.name}, line {number}: time is {time!r}; expected milliseconds UTC")
                yield int(time) * 1_000_000
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise BacktestError(f"{path.name} cannot be read: {error}") from None
