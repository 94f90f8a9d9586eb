"""Spoofing and layering: large orders behind the best that were withdrawn untouched while the other side traded.

Spoofing is one large level, layering several notable ones that were placed together and pulled together. What was
traded, what was moved to another price, what lay too deep to be seen, and what was pulled while the other side traded
nothing, or more than its size, is neither.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import kernel
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.large_levels import (
    CANCELLED,
    NEVER,
    end_of,
    remove_watch,
    tell_lifetime,
    watch_of,
)
from marketdata.engine.detectors.layout import (
    BOUGHT,
    LARGE_LOTS,
    SOLD,
    SPOOF_TOLD_MS,
    SPOOFS_TOLD,
    WATCH_ADDED,
    WATCH_BORN_MS,
    WATCH_COUNT,
    WATCH_DISTANCE,
    WATCH_DUE_MS,
    WATCH_ENDED_MS,
    WATCH_GROUPED,
    WATCH_NEAREST,
    WATCH_OTHER_TRADED,
    WATCH_OTHER_USUAL,
    WATCH_OWN_TRADED,
    WATCH_RANK,
    WATCH_TICK,
    WATCH_TRADED,
    WATCHED,
)
from marketdata.engine.detectors.records import new_record
from marketdata.engine.detectors.thresholds import place_of
from marketdata.engine.layout import BID, NOW_MS, SIDES
from marketdata.engine.memory import load, load_float, store, store_float

MEMORY_S, SETTLE_MS, SPOOF_FILL = place_of("memory_s"), place_of("settle_ms"), place_of("spoof_fill")
LIFE_LEAST_MS, SPOOF_LIFE_MS = place_of("spoof_life_least_ms"), place_of("spoof_life_ms")
SPOOF_DISTANCE, LURE = place_of("spoof_distance_ticks"), place_of("spoof_lure")
OPPOSITE_SHARE, OPPOSITE_EXCESS = place_of("spoof_opposite_share"), place_of("spoof_opposite_excess")
OPPOSITE_MOST, SPOOF_RANK, SPOOF_SCORE = (
    place_of("spoof_opposite_most"),
    place_of("spoof_rank"),
    place_of("spoof_score"),
)
LAYERS = place_of("layers")
PLACED_MS, PULLED_MS = place_of("layering_placed_ms"), place_of("layering_pulled_ms")
# Who does it again is less likely to do it by chance.
REPEATED_SCORE, MOST_REPEATS = 0.1, 3.0
# Orders of one maker on both sides are about as large.
MIRRORED_SHARE = 0.5
SPOOFING, LAYERING = int(DetectionKind.SPOOFING), int(DetectionKind.LAYERING)


@kernel
def _withdrawn_untouched(detector: int, watch: int) -> int:
    """1 for one that was never the best of its side, lived shortly and was hardly traded."""
    ended, added = load(watch, WATCH_ENDED_MS), load(watch, WATCH_ADDED)
    if ended == 0 or load(watch, WATCH_NEAREST) < 1:
        return 0
    if load(watch, WATCH_DISTANCE) < load_float(detector, SPOOF_DISTANCE):
        return 0
    if load(watch, WATCH_RANK) > load_float(detector, SPOOF_RANK):
        return 0
    lived = ended - load(watch, WATCH_BORN_MS)
    if lived < load_float(detector, LIFE_LEAST_MS) or lived > load_float(detector, SPOOF_LIFE_MS):
        return 0
    return 1 if load(watch, WATCH_TRADED) <= load_float(detector, SPOOF_FILL) * added else 0


@kernel
def _in_ladder(detector: int, side: int, watch: int, other: int) -> int:
    if load(other, WATCH_GROUPED) or _withdrawn_untouched(detector, other) == 0:
        return 0
    if end_of(detector, side, other) != CANCELLED:
        return 0
    return _together(detector, watch, other)


@kernel
def _together(detector: int, watch: int, other: int) -> int:
    """1 for two that were placed together and pulled together."""
    placed = abs(load(other, WATCH_BORN_MS) - load(watch, WATCH_BORN_MS))
    pulled = abs(load(other, WATCH_ENDED_MS) - load(watch, WATCH_ENDED_MS))
    return 1 if placed <= load_float(detector, PLACED_MS) and pulled <= load_float(detector, PULLED_MS) else 0


@kernel
def _other_side(book: int, detector: int, side: int, watch: int) -> float:
    """Lots traded on the other side since it was placed."""
    return np.float64(load(detector, BOUGHT if side == BID else SOLD) - load(watch, WATCH_OTHER_TRADED))


@kernel
def _excess(book: int, watch: int, traded: float) -> float:
    """That, as a multiple of what is usual in the time."""
    usual = load_float(watch, WATCH_OTHER_USUAL) * (load(book, NOW_MS) - load(watch, WATCH_BORN_MS))
    return traded / usual if usual > 0.0 else (1_000.0 if traded > 0.0 else 0.0)


@kernel
def _repeats(book: int, detector: int, side: int) -> float:
    """How many spoofs of a side were told before, fading with the memory of what is usual; one more is, now."""
    now = load(book, NOW_MS)
    passed = np.float64(now - load(detector, SPOOF_TOLD_MS + side))
    before = load_float(detector, SPOOFS_TOLD + side) * np.exp(-passed / (1_000.0 * load_float(detector, MEMORY_S)))
    store_float(detector, SPOOFS_TOLD + side, before + 1.0)
    store(detector, SPOOF_TOLD_MS + side, now)
    return before


@kernel
def _tell(
    book: int, detector: int, side: int, watch: int, kind: int, levels: int, lots: int, low: int, high: int
) -> None:
    born, ended = load(watch, WATCH_BORN_MS), load(watch, WATCH_ENDED_MS)
    traded = _other_side(book, detector, side, watch)
    own = load(detector, SOLD if side == BID else BOUGHT) - load(watch, WATCH_OWN_TRADED)
    excess = _excess(book, watch, traded)
    if traded < load_float(detector, LURE) * own:
        return
    if not load_float(detector, OPPOSITE_SHARE) * lots <= traded <= load_float(detector, OPPOSITE_MOST) * lots:
        return
    size = lots / load(detector, LARGE_LOTS)
    lived = np.float64(ended - born)
    score = 0.4 * min(size / 4.0, 1.0) + 0.3 * min(excess / 8.0, 1.0)
    score += 0.3 * (1.0 - lived / load_float(detector, SPOOF_LIFE_MS))
    last = np.float64(levels)
    if kind == SPOOFING:
        # Levels that come and go together need no such flow: in a busy market it drowns.
        if excess < load_float(detector, OPPOSITE_EXCESS) or score < load_float(detector, SPOOF_SCORE):
            return
        last = _repeats(book, detector, side)
        score += REPEATED_SCORE * min(last, MOST_REPEATS)
    evidence = new_record(book, detector, kind, side, low, high, born, score)
    store_float(evidence, 0, np.float64(lots))
    store_float(evidence, 1, size)
    store_float(evidence, 2, lived / 1_000.0)
    store_float(evidence, 3, load(watch, WATCH_TRADED) / load(watch, WATCH_ADDED))
    store_float(evidence, 4, np.float64(load(watch, WATCH_NEAREST)))
    store_float(evidence, 5, traded)
    store_float(evidence, 6, excess)
    store_float(evidence, 7, last)


@kernel
def _mirrored(detector: int, side: int, watch: int) -> int:
    """How many levels of the other side came and went with it: who quotes both sides lures nobody."""
    number = 0
    for index in range(load(detector, WATCH_COUNT + 1 - side)):
        other = watch_of(detector, 1 - side, index)
        alike = abs(load(other, WATCH_ADDED) - load(watch, WATCH_ADDED)) <= MIRRORED_SHARE * load(watch, WATCH_ADDED)
        if load(other, WATCH_ENDED_MS) != 0 and alike:
            number += _together(detector, watch, other)
    return number


@kernel
def _judge(book: int, detector: int, side: int, watch: int) -> None:
    tell_lifetime(book, detector, side, watch)
    if load(watch, WATCH_GROUPED) or _withdrawn_untouched(detector, watch) == 0:
        return
    tick = load(watch, WATCH_TICK)
    levels, lots, low, high = 0, 0, tick, tick
    count = load(detector, WATCH_COUNT + side)
    for index in range(count):
        other = watch_of(detector, side, index)
        if _in_ladder(detector, side, watch, other):
            levels += 1
            lots += load(other, WATCH_ADDED)
            low, high = min(low, load(other, WATCH_TICK)), max(high, load(other, WATCH_TICK))
    large = load(detector, LARGE_LOTS)
    if 2 * _mirrored(detector, side, watch) >= max(levels, 1):
        return
    if levels >= load_float(detector, LAYERS) and lots >= large:
        _tell(book, detector, side, watch, LAYERING, levels, lots, low, high)
        for index in range(count):
            other = watch_of(detector, side, index)
            if other != watch and _in_ladder(detector, side, watch, other):
                store(other, WATCH_GROUPED, 1)
    elif load(watch, WATCH_ADDED) >= large and end_of(detector, side, watch) == CANCELLED:
        _tell(book, detector, side, watch, SPOOFING, 1, load(watch, WATCH_ADDED), tick, tick)


@kernel
def judge_ended(book: int, detector: int) -> None:
    """Judge every level whose late trades must have arrived by now, and let it go."""
    now = load(book, NOW_MS)
    if now < load(detector, WATCH_DUE_MS):
        return
    settle, due = np.int64(load_float(detector, SETTLE_MS)), NEVER
    for side in range(SIDES):
        index = 0
        for _ in range(WATCHED):
            if index >= load(detector, WATCH_COUNT + side):
                break
            watch = watch_of(detector, side, index)
            ended = load(watch, WATCH_ENDED_MS)
            if ended != 0 and now >= ended + settle:
                _judge(book, detector, side, watch)
                remove_watch(detector, side, index)
            else:
                due = min(due, ended + settle) if ended != 0 else due
                index += 1
    store(detector, WATCH_DUE_MS, due)
