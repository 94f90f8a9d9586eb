"""The two moments at which detectors look: after a message that was applied, and after a trade.

Both are called only for books with detectors, by address, by the kernels that take messages and trades; each message
costs a look at its changes and at the best levels, each second of the venue's time one look at the whole book.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import kernel
from marketdata.engine.detectors.absorption import follow_attacks, note_attack
from marketdata.engine.detectors.clusters import choose_zones, renew_cluster_threshold, scan_clusters
from marketdata.engine.detectors.distributions import add_weight, fade, log_bucket, log_value, quantile
from marketdata.engine.detectors.explosion import look_for_explosion, renew_extremes
from marketdata.engine.detectors.hot_spots import note_zone_trade, renew_hot_spot_threshold, sample_traded_zone
from marketdata.engine.detectors.imbalance import follow_imbalance, renew_imbalance_thresholds
from marketdata.engine.detectors.large_levels import (
    FAST_MS,
    NEVER,
    RATE_MS,
    forget_levels,
    note_large_levels,
    note_trade_at_levels,
)
from marketdata.engine.detectors.layout import (
    ATTACK_LEAST,
    ATTACKS,
    BOUGHT,
    DETECTOR_WORDS,
    DISTRIBUTION_WORDS,
    DISTRIBUTIONS,
    EVENT_RING,
    EVENTS,
    FAST_BOUGHT,
    FAST_SOLD,
    KNOWN_LOT_SIZE,
    KNOWN_TICK_SIZE,
    LARGE_LOTS,
    NOTABLE_LOTS,
    NUMBER_OF_DISTRIBUTIONS,
    RECENT_BOUGHT,
    RECENT_MS,
    RECENT_SOLD,
    RECORD_WORDS,
    RENEWED_SECOND,
    SECOND_SEEN,
    SIZES,
    SOLD,
    START_MS,
    USUAL_LOTS,
    WATCH_DUE_MS,
)
from marketdata.engine.detectors.manipulation import judge_ended
from marketdata.engine.detectors.support import follow_turns, renew_deviation
from marketdata.engine.detectors.thresholds import place_of
from marketdata.engine.detectors.toxicity import note_flow
from marketdata.engine.layout import (
    ASK,
    BID,
    DETECTORS,
    LEVEL_COUNT,
    LOT_SIZE,
    NOW_MS,
    SECOND,
    SIDES,
    STATE,
    TICK_SIZE,
)
from marketdata.engine.memory import load, load_float, store, store_float
from marketdata.engine.scratch import TOP, TOP_COUNT, TOP_LOTS, TOP_SIDE_WORDS
from marketdata.engine.sync import BookState

LIVE = int(BookState.LIVE)
MEMORY_S, WARM_UP_S = place_of("memory_s"), place_of("warm_up_s")
LARGE_QUANTILE, LARGE_FACTOR = place_of("large_quantile"), place_of("large_factor")
NOTABLE_SHARE, ATTACK_QUANTILE = place_of("notable_share"), place_of("absorption_quantile")
FEWEST_ATTACKS = 5.0
# Quantiles of 256 buckets each: every second they would be most of what a message costs.
RENEW_SECONDS = 4
FIRST_CHANGING = EVENT_RING + EVENTS * RECORD_WORDS


@kernel
def _begin(book: int, detector: int) -> None:
    """Nothing is known, on the book's grid: the first message, or the first on a finer grid."""
    for word in range(FIRST_CHANGING, DETECTOR_WORDS):
        store(detector, word, 0)
    store_float(detector, KNOWN_TICK_SIZE, load_float(book, TICK_SIZE))
    store_float(detector, KNOWN_LOT_SIZE, load_float(book, LOT_SIZE))
    store(detector, START_MS, load(book, NOW_MS))
    store(detector, SECOND_SEEN, load(book, SECOND))
    store(detector, RENEWED_SECOND, load(book, SECOND))
    store(detector, RECENT_MS, load(book, NOW_MS))
    store(detector, LARGE_LOTS, NEVER)
    store(detector, NOTABLE_LOTS, NEVER)
    store(detector, WATCH_DUE_MS, NEVER)
    choose_zones(book, detector)


@kernel
def _on_known_grid(book: int, detector: int) -> int:
    same_ticks = load_float(detector, KNOWN_TICK_SIZE) == load_float(book, TICK_SIZE)
    return 1 if same_ticks and load_float(detector, KNOWN_LOT_SIZE) == load_float(book, LOT_SIZE) else 0


@kernel
def _is_warm(book: int, detector: int) -> int:
    return 1 if load(book, NOW_MS) - load(detector, START_MS) >= 1_000.0 * load_float(detector, WARM_UP_S) else 0


@kernel
def _sample_sizes(detector: int, scratch: int) -> None:
    for side in range(SIDES):
        lots = scratch + 8 * (TOP + side * TOP_SIDE_WORDS + TOP_LOTS)
        for index in range(load(scratch, TOP_COUNT + side)):
            add_weight(detector + 8 * SIZES, log_bucket(load(lots, index)), 1.0)


@kernel
def _renew_thresholds(book: int, detector: int, is_warm: int) -> None:
    """Distributions fade, and what is usual is read from them."""
    passed = load(book, SECOND) - load(detector, RENEWED_SECOND)
    store(detector, RENEWED_SECOND, load(book, SECOND))
    factor = np.exp(-passed / load_float(detector, MEMORY_S))
    for number in range(NUMBER_OF_DISTRIBUTIONS):
        fade(detector + 8 * (DISTRIBUTIONS + number * DISTRIBUTION_WORDS), factor)
    renew_imbalance_thresholds(detector)
    renew_cluster_threshold(detector)
    renew_hot_spot_threshold(detector)
    sizes, attacks = detector + 8 * SIZES, detector + 8 * ATTACKS
    store(detector, USUAL_LOTS, np.int64(log_value(quantile(sizes, 0.5))))
    if is_warm == 0:
        return
    large = load_float(detector, LARGE_FACTOR) * log_value(quantile(sizes, load_float(detector, LARGE_QUANTILE)))
    store(detector, LARGE_LOTS, max(np.int64(large), 1))
    store(detector, NOTABLE_LOTS, max(np.int64(load_float(detector, NOTABLE_SHARE) * large), 1))
    if load_float(attacks, 0) >= FEWEST_ATTACKS:
        least = log_value(quantile(attacks, load_float(detector, ATTACK_QUANTILE)))
        store(detector, ATTACK_LEAST, max(np.int64(least), 1))
    elif load(detector, ATTACK_LEAST) == 0:
        # Too little was traded to know what is usual: a large level's worth.
        store(detector, ATTACK_LEAST, load(detector, LARGE_LOTS))


@kernel
def _begin_second(book: int, detector: int, scratch: int, is_warm: int) -> None:
    """What is done once a second: samples are taken and zones scanned; every few seconds thresholds are renewed."""
    store(detector, SECOND_SEEN, load(book, SECOND))
    _sample_sizes(detector, scratch)
    sample_traded_zone(book, detector)
    renew_deviation(book, detector)
    renew_extremes(book, detector)
    first_warm = is_warm and load(detector, LARGE_LOTS) == NEVER
    if first_warm or load(book, SECOND) - load(detector, RENEWED_SECOND) >= RENEW_SECONDS:
        _renew_thresholds(book, detector, is_warm)
    scan_clusters(book, detector, is_warm)


def observe_message(book: int, scratch: int, is_snapshot: int, _unused: int) -> None:
    """Look at a book that has just taken the message in the scratch, its best levels there too."""
    detector = load(book, DETECTORS)
    if load(book, STATE) != LIVE or load(book, LEVEL_COUNT + BID) == 0 or load(book, LEVEL_COUNT + ASK) == 0:
        return
    if _on_known_grid(book, detector) == 0:
        _begin(book, detector)
    is_warm = _is_warm(book, detector)
    if is_snapshot:
        forget_levels(detector)
    else:
        note_large_levels(book, detector, scratch)
    judge_ended(book, detector)
    follow_attacks(book, detector)
    follow_imbalance(book, detector, scratch, is_warm)
    follow_turns(book, detector, scratch)
    if load(book, SECOND) != load(detector, SECOND_SEEN):
        _begin_second(book, detector, scratch, is_warm)
    look_for_explosion(book, detector)


def observe_trade(book: int, tick: int, lots: int, is_bought: int) -> None:
    """Look at a trade of which the book's windows already know."""
    detector = load(book, DETECTORS)
    if load(book, STATE) != LIVE or _on_known_grid(book, detector) == 0:
        return
    now = load(book, NOW_MS)
    kept = np.exp(-(now - load(detector, RECENT_MS)) / RATE_MS)
    bought = load_float(detector, RECENT_BOUGHT) * kept + (lots if is_bought else 0)
    sold = load_float(detector, RECENT_SOLD) * kept + (0 if is_bought else lots)
    store_float(detector, RECENT_BOUGHT, bought)
    store_float(detector, RECENT_SOLD, sold)
    kept = np.exp(-(now - load(detector, RECENT_MS)) / FAST_MS)
    store_float(detector, FAST_BOUGHT, load_float(detector, FAST_BOUGHT) * kept + (lots if is_bought else 0))
    store_float(detector, FAST_SOLD, load_float(detector, FAST_SOLD) * kept + (0 if is_bought else lots))
    store(detector, RECENT_MS, now)
    total = BOUGHT if is_bought else SOLD
    store(detector, total, load(detector, total) + lots)
    side = ASK if is_bought else BID
    note_trade_at_levels(detector, side, tick, lots)
    note_attack(book, detector, side, tick, lots)
    note_zone_trade(book, detector, tick, lots, _is_warm(book, detector))
    note_flow(book, detector, lots, is_bought)
