"""What a recording holds, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from marketdata.feeds.recorded import RecordedFrame, RecordingError, read_header, read_recording
from trading.backtest.errors import BacktestError
from trading.backtest.recording_files import TRADES


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
    for frame in lines_of(path):
        first, last = first or frame.receive_ns, frame.receive_ns
    if not first:
        raise BacktestError(f"{path.name} holds nothing")
    return first, last


def lines_of(path: Path) -> Iterator[RecordedFrame]:
    """
    Raises:
        BacktestError: it cannot be read; with its line.
    """
    try:
        yield from read_recording(path)
    except RecordingError as error:
        raise BacktestError(str(error)) from None
