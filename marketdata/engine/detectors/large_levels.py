"""Large levels: when they came, how near the price came to them, what was traded there, and how they ended.

A level is followed from the message that adds a notable quantity to it, if it lies in the near half of the known book:
further out, levels come and go with the edge of what the venue shows. Trades may arrive after the book that already
shows them, so what has ended is judged a little later.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import inlined, kernel
from marketdata.engine.detectors.distributions import add_weight, log_bucket, log_value, quantile
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.layout import (
    BOUGHT,
    FAST_BOUGHT,
    FAST_SOLD,
    LARGE_LOTS,
    LIVES,
    NOTABLE_LOTS,
    RECENT_BOUGHT,
    RECENT_MS,
    RECENT_SOLD,
    SOLD,
    START_MS,
    WATCH,
    WATCH_ADDED,
    WATCH_BEFORE,
    WATCH_BORN_MS,
    WATCH_COUNT,
    WATCH_DISTANCE,
    WATCH_DUE_MS,
    WATCH_ENDED_MS,
    WATCH_NEAREST,
    WATCH_OTHER_TRADED,
    WATCH_OTHER_USUAL,
    WATCH_OWN_TRADED,
    WATCH_RANK,
    WATCH_TICK,
    WATCH_TRADED,
    WATCH_WORDS,
    WATCHED,
)
from marketdata.engine.detectors.records import new_record
from marketdata.engine.detectors.thresholds import place_of
from marketdata.engine.layout import ASK, BEST, BID, NOW_MS, SIDES, WORST
from marketdata.engine.memory import load, load_float, store, store_float
from marketdata.engine.scratch import (
    ALL_CHANGES,
    BID_CHANGES,
    LOTS,
    OLD_LOTS,
    TICKS,
    TOP,
    TOP_COUNT,
    TOP_SIDE_WORDS,
    TOP_TICKS,
)

ENDED_SHARE, SETTLE_MS = place_of("ended_share"), place_of("settle_ms")
NEAR_SHARE = place_of("near_share")
LIFETIME_LEAST_MS, SPOOF_FILL = place_of("lifetime_least_ms"), place_of("spoof_fill")
LEVEL_LIFETIME = int(DetectionKind.LEVEL_LIFETIME)
NEVER = 1 << 60
NEAR_TICKS = 100.0
# Two memories of what is traded: of a minute, and of what happened just before.
RATE_MS, FAST_MS = 60_000.0, 3_000.0
FILLED_SHARE = 0.5
# An order that is moved comes back at about its size, at about the time when it went.
MOVED_MS, MOVED_SHARE = 250, 0.1
# How a large level ended.
CANCELLED, FILLED, PARTLY_FILLED, MOVED = range(4)


@inlined
def watch_of(detector, side, index):
    return detector + 8 * (WATCH + (side * WATCHED + index) * WATCH_WORDS)


@inlined
def distance_of(book, side, tick):
    """How many ticks a price lies behind the best of its side; below 0 before it."""
    best = load(book, BEST + side)
    return best - tick if side == BID else tick - best


@kernel
def usual_rate(book: int, detector: int, side: int) -> float:
    """Lots a ms that takers of one direction traded lately, or just now if that is more: a burst that is under way is
    nobody's success."""
    now = load(book, NOW_MS)
    age = np.float64(max(now - load(detector, START_MS), 1_000))
    passed = np.float64(now - load(detector, RECENT_MS))
    slow = load_float(detector, RECENT_BOUGHT if side == BID else RECENT_SOLD) * np.exp(-passed / RATE_MS)
    fast = load_float(detector, FAST_BOUGHT if side == BID else FAST_SOLD) * np.exp(-passed / FAST_MS)
    return max(slow / (RATE_MS * (1.0 - np.exp(-age / RATE_MS))), fast / FAST_MS)


@kernel
def _place_for(detector: int, side: int, added: int) -> int:
    """Where a new one is kept: at the end, or instead of the smallest that has not ended; -1 if none is smaller."""
    count = load(detector, WATCH_COUNT + side)
    if count < WATCHED:
        store(detector, WATCH_COUNT + side, count + 1)
        return count
    smallest, found = added, -1
    for index in range(count):
        watch = watch_of(detector, side, index)
        if load(watch, WATCH_ENDED_MS) == 0 and load(watch, WATCH_ADDED) < smallest:
            smallest, found = load(watch, WATCH_ADDED), index
    return found


@kernel
def _rank(scratch: int, side: int, tick: int) -> int:
    """How many of the best 50 levels lie before a price of their side."""
    ticks = scratch + 8 * (TOP + side * TOP_SIDE_WORDS + TOP_TICKS)
    count = load(scratch, TOP_COUNT + side)
    for index in range(count):
        other = load(ticks, index)
        if (other <= tick) if side == BID else (other >= tick):
            return index
    return count


@kernel
def _begin(book: int, detector: int, scratch: int, side: int, tick: int, old: int, new: int) -> None:
    distance = distance_of(book, side, tick)
    span = abs(load(book, WORST + side) - load(book, BEST + side))
    near = max(load_float(detector, NEAR_SHARE) * load(book, BEST + side), NEAR_TICKS)
    if 2 * distance > span or distance > near:
        return
    place = _place_for(detector, side, new - old)
    if place < 0:
        return
    watch = watch_of(detector, side, place)
    for word in range(WATCH_WORDS):
        store(watch, word, 0)
    store(watch, WATCH_TICK, tick)
    store(watch, WATCH_BORN_MS, load(book, NOW_MS))
    store(watch, WATCH_BEFORE, old)
    store(watch, WATCH_ADDED, new - old)
    store(watch, WATCH_NEAREST, distance)
    store(watch, WATCH_DISTANCE, distance)
    store(watch, WATCH_RANK, _rank(scratch, side, tick))
    # A spoofed bid is there to sell to those who buy at the ask; and the other way round.
    store(watch, WATCH_OTHER_TRADED, load(detector, BOUGHT if side == BID else SOLD))
    store(watch, WATCH_OWN_TRADED, load(detector, SOLD if side == BID else BOUGHT))
    store_float(watch, WATCH_OTHER_USUAL, usual_rate(book, detector, side))


@kernel
def _change(book: int, detector: int, scratch: int, side: int, tick: int, old: int, new: int) -> None:
    """A notable level changed: follow it on, or begin to."""
    for index in range(load(detector, WATCH_COUNT + side)):
        watch = watch_of(detector, side, index)
        if load(watch, WATCH_TICK) == tick and load(watch, WATCH_ENDED_MS) == 0:
            before = load(watch, WATCH_BEFORE)
            added = load(watch, WATCH_ADDED)
            if new - before > added:
                store(watch, WATCH_ADDED, new - before)
            elif new - before <= load_float(detector, ENDED_SHARE) * added:
                store(watch, WATCH_ENDED_MS, load(book, NOW_MS))
                due = load(book, NOW_MS) + np.int64(load_float(detector, SETTLE_MS))
                store(detector, WATCH_DUE_MS, min(due, load(detector, WATCH_DUE_MS)))
            return
    if new - old >= load(detector, NOTABLE_LOTS):
        _begin(book, detector, scratch, side, tick, old, new)


@kernel
def note_large_levels(book: int, detector: int, scratch: int) -> None:
    """Look at the changes of an update that was applied; few of them are large."""
    notable = load(detector, NOTABLE_LOTS)
    ticks, news, olds = scratch + 8 * TICKS, scratch + 8 * LOTS, scratch + 8 * OLD_LOTS
    bids = load(scratch, BID_CHANGES)
    for index in range(load(scratch, ALL_CHANGES)):
        old, new = load(olds, index), load(news, index)
        if abs(new - old) >= notable or (old >= notable and new < old):
            side = BID if index < bids else ASK
            _change(book, detector, scratch, side, load(ticks, index), old, new)
    for side in range(SIDES):
        for index in range(load(detector, WATCH_COUNT + side)):
            watch = watch_of(detector, side, index)
            if load(watch, WATCH_ENDED_MS) == 0:
                distance = distance_of(book, side, load(watch, WATCH_TICK))
                store(watch, WATCH_NEAREST, min(distance, load(watch, WATCH_NEAREST)))


@kernel
def note_trade_at_levels(detector: int, side: int, tick: int, lots: int) -> None:
    """A taker hit this side at this price."""
    for index in range(load(detector, WATCH_COUNT + side)):
        watch = watch_of(detector, side, index)
        if load(watch, WATCH_TICK) == tick:
            store(watch, WATCH_TRADED, load(watch, WATCH_TRADED) + lots)


@kernel
def _came_back(detector: int, side: int, watch: int) -> int:
    """1 if a level of about its size appeared elsewhere on its side when it went: it was moved, not withdrawn."""
    added, ended = load(watch, WATCH_ADDED), load(watch, WATCH_ENDED_MS)
    for index in range(load(detector, WATCH_COUNT + side)):
        other = watch_of(detector, side, index)
        if load(other, WATCH_TICK) == load(watch, WATCH_TICK):
            continue
        at_once = abs(load(other, WATCH_BORN_MS) - ended) <= MOVED_MS
        if at_once and abs(load(other, WATCH_ADDED) - added) <= MOVED_SHARE * added:
            return 1
    return 0


@kernel
def end_of(detector: int, side: int, watch: int) -> int:
    """How a level that has ended did so."""
    traded, added = np.float64(load(watch, WATCH_TRADED)), load(watch, WATCH_ADDED)
    if traded >= FILLED_SHARE * added:
        return FILLED
    if traded > load_float(detector, SPOOF_FILL) * added:
        return PARTLY_FILLED
    return MOVED if _came_back(detector, side, watch) else CANCELLED


@kernel
def tell_lifetime(book: int, detector: int, side: int, watch: int) -> None:
    """The life of a large level that has ended, if it was not a mere flicker."""
    born, added = load(watch, WATCH_BORN_MS), load(watch, WATCH_ADDED)
    lived = load(watch, WATCH_ENDED_MS) - born
    if added < load(detector, LARGE_LOTS) or lived < load_float(detector, LIFETIME_LEAST_MS):
        return
    usual = log_value(quantile(detector + 8 * LIVES, 0.5))
    # The first one is the usual one; a NaN in the evidence would make equal events unequal.
    usual = usual if usual > 0.0 else np.float64(lived)
    add_weight(detector + 8 * LIVES, log_bucket(lived), 1.0)
    tick = load(watch, WATCH_TICK)
    score = lived / (lived + usual)
    evidence = new_record(book, detector, LEVEL_LIFETIME, side, tick, tick, born, score)
    store_float(evidence, 0, lived / 1_000.0)
    store_float(evidence, 1, usual / 1_000.0)
    store_float(evidence, 2, np.float64(added))
    store_float(evidence, 3, load(watch, WATCH_TRADED) / added)
    store_float(evidence, 4, np.float64(end_of(detector, side, watch)))
    store_float(evidence, 5, np.float64(load(watch, WATCH_DISTANCE)))
    store_float(evidence, 6, np.float64(load(watch, WATCH_NEAREST)))


@kernel
def forget_levels(detector: int) -> None:
    """After a snapshot nobody knows when its levels came, or how those before it ended."""
    for side in range(SIDES):
        store(detector, WATCH_COUNT + side, 0)
    store(detector, WATCH_DUE_MS, NEVER)


@kernel
def remove_watch(detector: int, side: int, index: int) -> None:
    last = load(detector, WATCH_COUNT + side) - 1
    target, source = watch_of(detector, side, index), watch_of(detector, side, last)
    for word in range(WATCH_WORDS):
        store(target, word, load(source, word))
    store(detector, WATCH_COUNT + side, last)
