"""A generated recording of a busy book: level changes near the market and trades, some hundred levels deep."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from trading.backtest.feed import COLUMNS, EventKind, Feed
from trading.simulator.instruments import Grids

START_NS = 1_767_225_600_000_000_000
RECEIPT_NS = 1_000_000
TICK, LOT = "0.1", "0.001"
WIDTH, DEPTH = 40_000, 400
BASE = 650_000 - WIDTH // 2
LEVEL, TRADE, END, SNAPSHOT = (int(kind) for kind in EventKind)


def feed_of(rows: int, seed: int = 7) -> Feed:
    """About so many level changes and trades; their messages' ends come on top."""
    events = np.zeros((2 * rows + 4 * DEPTH, COLUMNS), dtype=np.int64)
    count = _generate(events, rows, seed)
    return Feed("BTCUSDT", Grids.of(Decimal(TICK), Decimal(LOT)), events[:count].copy())


def changes_of(feed: Feed) -> int:
    """Level changes and trades: what every library calls an event."""
    return int(np.isin(feed.events[:, 2], (LEVEL, TRADE)).sum())


@numba.njit
def _put(events: Any, count: int, time: int, kind: int, side: int, tick: int, lots: int, update: int) -> int:
    row = events[count]
    row[0], row[1], row[2], row[3], row[4], row[5], row[6] = time, time + RECEIPT_NS, kind, side, tick, lots, update
    return count + 1


@numba.njit
def _first(events: Any, lots: Any, best: Any) -> int:
    """The snapshot that it begins with."""
    count = _put(events, 0, START_NS, SNAPSHOT, 0, 0, 0, 1)
    for away in range(DEPTH):
        for side in range(2):
            tick = best[side] + (2 * side - 1) * away
            lots[side, tick] = np.random.randint(1, 5_000)
            count = _put(events, count, START_NS, LEVEL, 1 - 2 * side, BASE + tick, lots[side, tick], 1)
    return _put(events, count, START_NS, END, 0, 0, 0, 1)


@numba.njit
def _trade(events: Any, count: int, time: int, update: int, lots: Any, best: Any) -> int:
    """Somebody takes: the trades, and then the levels as they are after them."""
    side = np.random.randint(0, 2)
    left, made, touched = 1 + int(np.random.exponential(1_200.0)), 0, np.zeros(8, dtype=np.int64)
    while left > 0 and made < len(touched):
        tick = best[side]
        taken = min(left, lots[side, tick])
        count = _put(events, count, time, TRADE, 2 * side - 1, BASE + tick, taken, 0)
        left -= taken
        lots[side, tick] -= taken
        touched[made] = tick
        made += 1
        while lots[side, best[side]] == 0:
            best[side] += 2 * side - 1
    for tick in touched[:made]:
        count = _put(events, count, time, LEVEL, 1 - 2 * side, BASE + tick, lots[side, tick], update)
    return count


@numba.njit
def _change(events: Any, count: int, time: int, update: int, lots: Any, best: Any) -> int:
    """Somebody comes or goes, most often near the market, sometimes between bid and ask."""
    side = np.random.randint(0, 2)
    away, room = 2 * side - 1, best[1] - best[0] - 1
    if room > 0 and np.random.random() < 0.25:
        tick, value = best[side] - away * np.random.randint(1, room + 1), np.random.randint(1, 3_000)
    else:
        tick = best[side] + away * min(int(np.random.exponential(25.0)), DEPTH)
        value = 0 if np.random.random() < 0.3 else np.random.randint(1, 5_000)
    if value == lots[side, tick]:
        return count
    lots[side, tick] = value
    if value == 0:
        while lots[side, best[side]] == 0:
            best[side] += away
    elif away * (best[side] - tick) > 0:
        best[side] = tick
    return _put(events, count, time, LEVEL, 1 - 2 * side, BASE + tick, value, update)


@numba.njit
def _generate(events: NDArray[np.int64], rows: int, seed: int) -> int:
    """Write events; how many. About 400 messages and 85 trades a second."""
    np.random.seed(seed)
    # Bids and asks; ticks from BASE on.
    lots, best = np.zeros((2, WIDTH), dtype=np.int64), np.array([WIDTH // 2 - 1, WIDTH // 2])
    count, time, update = _first(events, lots, best), START_NS, 1
    for _ in range(rows):
        if count - update >= rows:
            break
        time += 1 + int(np.random.exponential(2_500_000.0))
        update += 1
        if np.random.random() < 0.15:
            count = _trade(events, count, time, update, lots, best)
        for _ in range(1 + int(np.random.exponential(5.0))):
            count = _change(events, count, time, update, lots, best)
        count = _put(events, count, time, END, 0, 0, 0, update)
    return count
