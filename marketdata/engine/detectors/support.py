"""Support and resistance: places where the price has turned more than once, and where much rests or was traded.

A turn is a move back by several deviations of one second's change; it is known only when that move has happened.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import inlined, kernel
from marketdata.engine.detectors.hot_spots import profile_slot, zone_volume
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.layout import (
    CHANGE_BEFORE,
    CHANGE_SQUARES,
    MID_BEFORE,
    PROFILE,
    PROFILE_ZONE,
    TURN,
    TURN_AT_MS,
    TURN_COUNT,
    TURN_DIRECTION,
    TURN_EXTREME,
    TURN_MS,
    TURN_PLACE,
    TURN_TICK,
    TURN_WORDS,
    TURNS,
    ZONE_SHIFT,
)
from marketdata.engine.detectors.records import new_record
from marketdata.engine.detectors.thresholds import place_of
from marketdata.engine.ladder import level_lots
from marketdata.engine.layout import ASK, BEST, BID, NOW_MS
from marketdata.engine.memory import load, load_float, store, store_float
from marketdata.engine.scratch import TOP, TOP_COUNT, TOP_LOTS, TOP_SIDE_WORDS, TOP_SUM_LOTS, TOP_TICKS

TOUCHES, REBOUND, WIDTH = place_of("support_touches"), place_of("support_rebound"), place_of("support_width")
DENSITY, MEMORY_S = place_of("support_density"), place_of("support_memory_s")
SUPPORT, RESISTANCE = int(DetectionKind.SUPPORT), int(DetectionKind.RESISTANCE)
CHANGE_SECONDS = 60.0
LEAST_REBOUND = 4.0
WIDEST_PLACE = 1_024
RISING, FALLING = 1, -1


@inlined
def turn_of(detector, side, index):
    return detector + 8 * (TURN + (side * TURNS + index) * TURN_WORDS)


@kernel
def renew_deviation(book: int, detector: int) -> None:
    """Once a second: how much the price changes in one, apart from a steady drift: half the mean square of the
    difference of successive changes."""
    mid, before = 0.5 * (load(book, BEST + BID) + load(book, BEST + ASK)), load_float(detector, MID_BEFORE)
    store_float(detector, MID_BEFORE, mid)
    if before > 0.0:
        change, squares = mid - before, load_float(detector, CHANGE_SQUARES)
        turn = change - load_float(detector, CHANGE_BEFORE)
        store_float(detector, CHANGE_BEFORE, change)
        weight = 1.0 / CHANGE_SECONDS if squares > 0.0 else 1.0
        store_float(detector, CHANGE_SQUARES, squares + (0.5 * turn * turn - squares) * weight)


@inlined
def rebound_of(detector):
    """How many ticks back make a turn."""
    return max(load_float(detector, REBOUND) * np.sqrt(load_float(detector, CHANGE_SQUARES)), LEAST_REBOUND)


@kernel
def _resting_density(book: int, scratch: int, side: int, low: int, high: int) -> float:
    """Lots a tick from ``low`` to ``high`` over those of the best levels without the first; 0 where none rest."""
    count = load(scratch, TOP_COUNT + side)
    if count < 3:
        return 0.0
    top, lots = scratch + 8 * (TOP + side * TOP_SIDE_WORDS), 0
    for tick in range(low, min(high, low + WIDEST_PLACE) + 1):
        lots += level_lots(book, side, tick)
    others = load(top, TOP_SUM_LOTS + count - 1) - load(top, TOP_LOTS)
    span = abs(load(top, TOP_TICKS + count - 1) - load(top, TOP_TICKS))
    usual = others / max(span, 1)
    return lots / (high - low + 1) / usual if usual > 0.0 else 0.0


@kernel
def _traded_density(book: int, detector: int, low: int, high: int) -> float:
    """The mean volume of traded zones from ``low`` to ``high`` over the mean of all that were traded in."""
    shift, inside, total, zones, zones_inside = load(detector, ZONE_SHIFT), 0.0, 0.0, 0, 0
    for slot in range(PROFILE):
        zone = load(profile_slot(detector, slot), PROFILE_ZONE)
        volume = zone_volume(book, detector, zone)
        if zone != 0 and volume >= 1.0:
            zones += 1
            total += volume
            if low >> shift <= zone <= high >> shift:
                zones_inside += 1
                inside += volume
    if zones_inside == 0 or zones_inside == zones:
        return 0.0
    return inside / zones_inside / ((total - inside) / (zones - zones_inside))


@kernel
def _keep(book: int, detector: int, side: int, tick: int, at_ms: int, half: int) -> int:
    """Remember a turn; forget those that it breaks and those that are too old. Returns how many are at its place, and
    moves the oldest of them to the front."""
    kept, touches, first_ms = 0, 1, at_ms
    oldest_ms = load(book, NOW_MS) - np.int64(1_000.0 * load_float(detector, MEMORY_S))
    for index in range(load(detector, TURN_COUNT + side)):
        turn = turn_of(detector, side, index)
        place, when = load(turn, TURN_PLACE), load(turn, TURN_AT_MS)
        broken = place > tick + half if side == BID else place < tick - half
        if broken or when < oldest_ms:
            continue
        if abs(place - tick) <= half:
            touches += 1
            first_ms = min(first_ms, when)
        target = turn_of(detector, side, kept)
        store(target, TURN_PLACE, place)
        store(target, TURN_AT_MS, when)
        kept += 1
    if kept == TURNS:
        for index in range(1, TURNS):
            source, target = turn_of(detector, side, index), turn_of(detector, side, index - 1)
            store(target, TURN_PLACE, load(source, TURN_PLACE))
            store(target, TURN_AT_MS, load(source, TURN_AT_MS))
        kept -= 1
    turn = turn_of(detector, side, kept)
    store(turn, TURN_PLACE, tick)
    store(turn, TURN_AT_MS, at_ms)
    store(detector, TURN_COUNT + side, kept + 1)
    store(detector, TURN_MS, first_ms)
    return touches


@kernel
def _turned(book: int, detector: int, scratch: int, side: int, rebound: float) -> None:
    """The price has turned at the extreme: up from it for ``side`` BID, down for ASK."""
    tick, at_ms = load(detector, TURN_TICK), load(detector, TURN_MS)
    half = max(np.int64(load_float(detector, WIDTH) * rebound), 1)
    touches = _keep(book, detector, side, tick, at_ms, half)
    if touches < load_float(detector, TOUCHES):
        return
    resting = _resting_density(book, scratch, side, tick - half, tick + half)
    traded = _traded_density(book, detector, tick - half, tick + half)
    density = load_float(detector, DENSITY)
    if resting < density and traded < density:
        return
    score = (
        0.25 * min(touches - 1, 2)
        + 0.25 * min(resting / (2.0 * density), 1.0)
        + 0.25 * min(traded / (2.0 * density), 1.0)
    )
    kind = SUPPORT if side == BID else RESISTANCE
    evidence = new_record(book, detector, kind, side, tick - half, tick + half, load(detector, TURN_MS), score)
    store_float(evidence, 0, np.float64(touches))
    store_float(evidence, 1, resting)
    store_float(evidence, 2, traded)
    store_float(evidence, 3, rebound)
    store_float(evidence, 4, (load(book, NOW_MS) - load(detector, TURN_MS)) / 1_000.0)


@kernel
def follow_turns(book: int, detector: int, scratch: int) -> None:
    """After a message: the extreme since the last turn, and whether the price has turned from it."""
    bid, ask, now = load(book, BEST + BID), load(book, BEST + ASK), load(book, NOW_MS)
    doubled, direction, extreme = bid + ask, load(detector, TURN_DIRECTION), load(detector, TURN_EXTREME)
    if direction == 0:
        direction = RISING
        store(detector, TURN_DIRECTION, direction)
        extreme = doubled - 1
    beyond = direction * (doubled - extreme)
    if beyond > 0:
        store(detector, TURN_EXTREME, doubled)
        store(detector, TURN_TICK, ask if direction == RISING else bid)
        store(detector, TURN_MS, now)
        return
    rebound = rebound_of(detector)
    if -beyond >= 2.0 * rebound:
        _turned(book, detector, scratch, ASK if direction == RISING else BID, rebound)
        store(detector, TURN_DIRECTION, -direction)
        store(detector, TURN_EXTREME, doubled)
        store(detector, TURN_TICK, bid if direction == RISING else ask)
        store(detector, TURN_MS, now)
