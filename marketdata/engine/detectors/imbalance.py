"""Imbalance of the best levels beyond what is usual for the symbol: the thresholds are quantiles of its own past."""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import kernel
from marketdata.engine.detectors.distributions import add_weight, linear_bucket, linear_value, quantile
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.layout import (
    IMBALANCE_HIGH,
    IMBALANCE_LOW,
    IMBALANCE_MEAN,
    IMBALANCE_MS,
    IMBALANCE_SIDE,
    IMBALANCE_SINCE,
    IMBALANCE_TOLD,
    IMBALANCES,
)
from marketdata.engine.detectors.records import new_record
from marketdata.engine.detectors.thresholds import place_of
from marketdata.engine.layout import ASK, BEST, BID, NOW_MS
from marketdata.engine.memory import load, load_float, store, store_float
from marketdata.engine.scratch import TOP, TOP_COUNT, TOP_SIDE_WORDS, TOP_SUM_LOTS, TOP_TICKS

LEVELS, MEAN_MS = place_of("imbalance_levels"), place_of("imbalance_mean_ms")
QUANTILE, LEAST, HOLD_MS = place_of("imbalance_quantile"), place_of("imbalance_least"), place_of("imbalance_hold_ms")
IMBALANCE = int(DetectionKind.IMBALANCE)
# It is over when it has come back this part of the way: one that trembles at the threshold is one event.
OVER_SHARE = 0.7
# A silence says nothing about how long an imbalance lasted.
LONGEST_WEIGHT_MS = 1_000


@kernel
def renew_imbalance_thresholds(detector: int) -> None:
    """Once a second."""
    share, least = load_float(detector, QUANTILE), load_float(detector, LEAST)
    distribution = detector + 8 * IMBALANCES
    store_float(detector, IMBALANCE_LOW, min(linear_value(quantile(distribution, 1.0 - share)), -least))
    store_float(detector, IMBALANCE_HIGH, max(linear_value(quantile(distribution, share)), least))


@kernel
def _tell(book: int, detector: int, scratch: int, mean: float, limit: float, bids: int, asks: int) -> None:
    now, since = load(book, NOW_MS), load(detector, IMBALANCE_SINCE)
    side = BID if mean > 0.0 else ASK
    levels = np.int64(load_float(detector, LEVELS))
    furthest = scratch + 8 * (
        TOP + side * TOP_SIDE_WORDS + TOP_TICKS + min(levels, load(scratch, TOP_COUNT + side)) - 1
    )
    best, last = load(book, BEST + side), load(furthest, 0)
    score = (abs(mean) - abs(limit)) / max(1.0 - abs(limit), 0.01)
    evidence = new_record(book, detector, IMBALANCE, side, min(best, last), max(best, last), since, 0.5 + 0.5 * score)
    store_float(evidence, 0, mean)
    store_float(evidence, 1, limit)
    store_float(evidence, 2, np.float64(bids))
    store_float(evidence, 3, np.float64(asks))
    store_float(evidence, 4, (now - since) / 1_000.0)
    store_float(evidence, 5, linear_value(quantile(detector + 8 * IMBALANCES, 0.5)))


@kernel
def follow_imbalance(book: int, detector: int, scratch: int, is_warm: int) -> None:
    """After a message whose best levels are in the scratch."""
    levels, now = np.int64(load_float(detector, LEVELS)), load(book, NOW_MS)
    top = scratch + 8 * (TOP + TOP_SUM_LOTS)
    bids = load(top, min(levels, load(scratch, TOP_COUNT + BID)) - 1)
    asks = load(top, TOP_SIDE_WORDS + min(levels, load(scratch, TOP_COUNT + ASK)) - 1)
    value = (bids - asks) / (bids + asks)
    passed, mean = now - load(detector, IMBALANCE_MS), value
    if load(detector, IMBALANCE_MS) != 0:
        mean += (load_float(detector, IMBALANCE_MEAN) - value) * np.exp(-passed / load_float(detector, MEAN_MS))
        weight = np.float64(min(passed, LONGEST_WEIGHT_MS))
        add_weight(detector + 8 * IMBALANCES, linear_bucket(mean), weight)
    store_float(detector, IMBALANCE_MEAN, mean)
    store(detector, IMBALANCE_MS, now)
    if is_warm == 0:
        return
    low, high = load_float(detector, IMBALANCE_LOW), load_float(detector, IMBALANCE_HIGH)
    side = load(detector, IMBALANCE_SIDE)
    if side == 0:
        side = np.int64(mean > high) - np.int64(mean < low)
        if side == 0:
            return
        store(detector, IMBALANCE_SIDE, side)
        store(detector, IMBALANCE_SINCE, now)
        store(detector, IMBALANCE_TOLD, 0)
        return
    limit = high if side > 0 else low
    if side * mean < OVER_SHARE * side * limit:
        store(detector, IMBALANCE_SIDE, 0)
        return
    lasted = now - load(detector, IMBALANCE_SINCE) >= load_float(detector, HOLD_MS)
    if load(detector, IMBALANCE_TOLD) == 0 and lasted and side * mean > side * limit:
        store(detector, IMBALANCE_TOLD, 1)
        _tell(book, detector, scratch, mean, limit, bids, asks)
