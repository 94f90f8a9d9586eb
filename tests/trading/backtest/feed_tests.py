"""Feeds that tests write by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from trading.backtest.feed import Feed
from trading.backtest.feed_files import grids_of
from trading.backtest.kernels.replay_slots import EventKind

GRIDS = grids_of("0.1", "0.001")
Row = tuple[int, int, int, int, int, int, int]
RECEIPT_NS = 5


def message(
    time: int, bids: Mapping[int, int], asks: Mapping[int, int], *, snapshot: bool = False, update: int = 0
) -> list[Row]:
    """One message of a book: ticks and lots."""
    received = time + RECEIPT_NS
    rows = [(time, received, int(EventKind.SNAPSHOT), 0, 0, 0, update)] if snapshot else []
    for side, levels in ((1, bids), (-1, asks)):
        rows += [(time, received, int(EventKind.LEVEL), side, tick, lots, update) for tick, lots in levels.items()]
    return [*rows, (time, received, int(EventKind.END), 0, 0, 0, update)]


def trade(time: int, side: str, tick: int, lots: int) -> list[Row]:
    """``side`` is the taker's."""
    return [(time, time + RECEIPT_NS, int(EventKind.TRADE), 1 if side == "Buy" else -1, tick, lots, 0)]


def feed(*parts: Iterable[Row], has_book: bool = True) -> Feed:
    rows = [row for part in parts for row in part]
    return Feed("BTCUSDT", GRIDS, np.array(rows, dtype=np.int64).reshape(-1, 7), has_book=has_book)
