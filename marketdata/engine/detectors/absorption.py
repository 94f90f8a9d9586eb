"""Absorption: takers hit a level for much more than it ever showed, and it holds."""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import inlined, kernel
from marketdata.engine.detectors.distributions import add_weight, log_bucket
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.large_levels import distance_of
from marketdata.engine.detectors.layout import (
    ATTACK,
    ATTACK_BEGIN_MS,
    ATTACK_BEHIND_MS,
    ATTACK_COUNT,
    ATTACK_LAST_MS,
    ATTACK_LEAST,
    ATTACK_REACHED_MS,
    ATTACK_SHOWN,
    ATTACK_TICK,
    ATTACK_TOLD,
    ATTACK_TRADED,
    ATTACK_TRADES,
    ATTACK_WORDS,
    ATTACKED,
    ATTACKS,
    USUAL_LOTS,
)
from marketdata.engine.detectors.records import new_record
from marketdata.engine.detectors.thresholds import place_of
from marketdata.engine.ladder import level_lots
from marketdata.engine.layout import NOW_MS, SIDES
from marketdata.engine.memory import load, load_float, store, store_float

RATIO = place_of("absorption_ratio")
HOLD_MS, GAP_MS = place_of("absorption_hold_ms"), place_of("absorption_gap_ms")
ABSORPTION = int(DetectionKind.ABSORPTION)
# A refill may be one message late: the level is not lost at once when the best is behind it.
GRACE_MS = 300


@inlined
def attack_of(detector, side, index):
    return detector + 8 * (ATTACK + (side * ATTACKED + index) * ATTACK_WORDS)


@kernel
def _end(detector: int, side: int, index: int) -> None:
    """What it took tells what levels usually take."""
    attack = attack_of(detector, side, index)
    add_weight(detector + 8 * ATTACKS, log_bucket(load(attack, ATTACK_TRADED)), 1.0)
    last = load(detector, ATTACK_COUNT + side) - 1
    source = attack_of(detector, side, last)
    for word in range(ATTACK_WORDS):
        store(attack, word, load(source, word))
    store(detector, ATTACK_COUNT + side, last)


@kernel
def note_attack(book: int, detector: int, side: int, tick: int, lots: int) -> None:
    """A taker hit this side at this price."""
    now, count = load(book, NOW_MS), load(detector, ATTACK_COUNT + side)
    oldest, oldest_ms = 0, now
    for index in range(count):
        attack = attack_of(detector, side, index)
        if load(attack, ATTACK_TICK) == tick:
            store(attack, ATTACK_LAST_MS, now)
            store(attack, ATTACK_TRADED, load(attack, ATTACK_TRADED) + lots)
            store(attack, ATTACK_TRADES, load(attack, ATTACK_TRADES) + 1)
            return
        if load(attack, ATTACK_LAST_MS) < oldest_ms:
            oldest, oldest_ms = index, load(attack, ATTACK_LAST_MS)
    if count == ATTACKED:
        _end(detector, side, oldest)
        count -= 1
    attack = attack_of(detector, side, count)
    for word in range(ATTACK_WORDS):
        store(attack, word, 0)
    store(attack, ATTACK_TICK, tick)
    store(attack, ATTACK_BEGIN_MS, now)
    store(attack, ATTACK_LAST_MS, now)
    store(attack, ATTACK_TRADED, lots)
    store(attack, ATTACK_TRADES, 1)
    store(attack, ATTACK_SHOWN, level_lots(book, side, tick))
    store(detector, ATTACK_COUNT + side, count + 1)


@kernel
def _tell(book: int, detector: int, side: int, attack: int, shown: float) -> None:
    tick, begin = load(attack, ATTACK_TICK), load(attack, ATTACK_BEGIN_MS)
    traded = np.float64(load(attack, ATTACK_TRADED))
    least = np.float64(max(load(detector, ATTACK_LEAST), 1))
    score = 0.5 * min(traded / shown / (4.0 * load_float(detector, RATIO)), 1.0) + 0.5 * min(
        traded / (4.0 * least), 1.0
    )
    evidence = new_record(book, detector, ABSORPTION, side, tick, tick, begin, score)
    store_float(evidence, 0, traded)
    store_float(evidence, 1, np.float64(load(attack, ATTACK_SHOWN)))
    store_float(evidence, 2, traded / shown)
    store_float(evidence, 3, np.float64(load(attack, ATTACK_TRADES)))
    store_float(evidence, 4, (load(book, NOW_MS) - begin) / 1_000.0)
    store_float(evidence, 5, least)


@kernel
def follow_attacks(book: int, detector: int) -> None:
    """After a message: what the attacked levels show now, whether they were passed, and which have held."""
    now = load(book, NOW_MS)
    for side in range(SIDES):
        index = 0
        for _ in range(ATTACKED):
            if index >= load(detector, ATTACK_COUNT + side):
                break
            attack = attack_of(detector, side, index)
            tick = load(attack, ATTACK_TICK)
            shown = max(load(attack, ATTACK_SHOWN), level_lots(book, side, tick))
            store(attack, ATTACK_SHOWN, shown)
            behind = load(attack, ATTACK_BEHIND_MS)
            if distance_of(book, side, tick) >= 0:
                behind = 0
            elif behind == 0:
                behind = now
            store(attack, ATTACK_BEHIND_MS, behind)
            silent = now - load(attack, ATTACK_LAST_MS) > load_float(detector, GAP_MS)
            if silent or (behind != 0 and now - behind > GRACE_MS):
                _end(detector, side, index)
                continue
            index += 1
            if load(attack, ATTACK_TOLD) or behind != 0 or load(detector, ATTACK_LEAST) == 0:
                continue
            # A level of dust is passed and refilled by anyone: it counts as one of usual size.
            compared = np.float64(max(shown, load(detector, USUAL_LOTS), 1))
            traded = load(attack, ATTACK_TRADED)
            if traded < load_float(detector, RATIO) * compared or traded < load(detector, ATTACK_LEAST):
                store(attack, ATTACK_REACHED_MS, 0)
                continue
            reached = load(attack, ATTACK_REACHED_MS)
            if reached == 0:
                store(attack, ATTACK_REACHED_MS, now)
            elif now - reached >= load_float(detector, HOLD_MS):
                store(attack, ATTACK_TOLD, 1)
                _tell(book, detector, side, attack, compared)
