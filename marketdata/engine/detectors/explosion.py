"""Explosion: the price moves far within a short time on much more volume than before."""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import kernel
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.layout import CHECKED_MS, EXPLOSION_TOLD_MS, WINDOW_HIGHEST, WINDOW_LOWEST
from marketdata.engine.detectors.records import new_record
from marketdata.engine.detectors.thresholds import place_of
from marketdata.engine.layout import (
    ASK,
    BEST,
    BID,
    BOUGHT_SERIES,
    FIRST_SECOND,
    MID_SERIES,
    NOW_MS,
    SECOND,
    SERIES_SECONDS,
    SOLD_SERIES,
    TICK_SIZE,
)
from marketdata.engine.memory import load, load_float, store, store_float
from marketdata.engine.windows import sum_of_second

MOVE, VOLUME = place_of("explosion_move"), place_of("explosion_volume")
WINDOW_S, BEFORE_S, CHECK_MS = (
    place_of("explosion_window_s"),
    place_of("explosion_before_s"),
    place_of("explosion_check_ms"),
)
EXPLOSION = int(DetectionKind.EXPLOSION)
MASK = SERIES_SECONDS - 1


@kernel
def _traded(book: int, first: int, last: int) -> float:
    """Lots traded in the seconds ``first`` to ``last``."""
    total = 0
    for second in range(first, last + 1):
        total += sum_of_second(book, BOUGHT_SERIES, second) + sum_of_second(book, SOLD_SERIES, second)
    return np.float64(total)


@kernel
def _tell(book: int, detector: int, side: int, since: int, start: float, mid: float) -> None:
    """Compare the volume, which only few moves make necessary, and tell it once a window."""
    now, second = load(book, NOW_MS), load(book, SECOND)
    window, before = np.int64(load_float(detector, WINDOW_S)), np.int64(load_float(detector, BEFORE_S))
    if now - load(detector, EXPLOSION_TOLD_MS + side) < 1_000 * window and load(detector, EXPLOSION_TOLD_MS + side):
        return
    # Where the move began, not a whole window ago: a violent one may be young.
    first = min(since, second - 1)
    oldest = max(first - before, load(book, FIRST_SECOND))
    if first - oldest < 10:
        return
    usual = _traded(book, oldest, first - 1) / (first - oldest)
    lately = _traded(book, first, second) / (second - first + 1)
    if not usual > 0.0 or lately < load_float(detector, VOLUME) * usual:
        return
    store(detector, EXPLOSION_TOLD_MS + side, now)
    tick_size = load_float(book, TICK_SIZE)
    from_tick, to_tick = np.int64(start / tick_size + 0.5), np.int64(mid / tick_size + 0.5)
    move, times = mid / start - 1.0, lately / usual
    score = 0.5 * min(abs(move) / (2.0 * load_float(detector, MOVE)), 1.0)
    score += 0.5 * min(times / (2.0 * load_float(detector, VOLUME)), 1.0)
    evidence = new_record(
        book, detector, EXPLOSION, side, min(from_tick, to_tick), max(from_tick, to_tick), 1_000 * since, score
    )
    store_float(evidence, 0, move)
    store_float(evidence, 1, times)
    store_float(evidence, 2, lately)
    store_float(evidence, 3, usual)
    store_float(evidence, 4, (now - 1_000 * since) / 1_000.0)


@kernel
def renew_extremes(book: int, detector: int) -> None:
    """Once a second: between which prices the window lies."""
    second, low, high = load(book, SECOND), np.inf, 0.0
    first = max(second - np.int64(load_float(detector, WINDOW_S)), load(book, FIRST_SECOND))
    for each in range(first, second):
        past = load_float(book, MID_SERIES + (each & MASK))
        low = past if past < low else low
        high = past if past > high else high
    store_float(detector, WINDOW_LOWEST, low)
    store_float(detector, WINDOW_HIGHEST, high)


@kernel
def look_for_explosion(book: int, detector: int) -> None:
    """After a message; looks every ``explosion_check_ms``."""
    now, second = load(book, NOW_MS), load(book, SECOND)
    if now - load(detector, CHECKED_MS) < load_float(detector, CHECK_MS):
        return
    store(detector, CHECKED_MS, now)
    mid = 0.5 * (load(book, BEST + BID) + load(book, BEST + ASK)) * load_float(book, TICK_SIZE)
    up, down = 1.0 + load_float(detector, MOVE), 1.0 - load_float(detector, MOVE)
    if mid < up * load_float(detector, WINDOW_LOWEST) and mid > down * load_float(detector, WINDOW_HIGHEST):
        return
    first = max(second - np.int64(load_float(detector, WINDOW_S)), load(book, FIRST_SECOND))
    low, high, low_at, high_at = mid, mid, second, second
    for each in range(first, second):
        past = load_float(book, MID_SERIES + (each & MASK))
        # A flat price: the move begins where it leaves it. Comparisons with a second that is not known, NaN, are false.
        if past <= low:
            low, low_at = past, each
        if past >= high:
            high, high_at = past, each
    if mid >= low * up:
        _tell(book, detector, BID, low_at, low, mid)
    if mid <= high * down:
        _tell(book, detector, ASK, high_at, high, mid)
