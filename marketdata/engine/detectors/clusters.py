"""Volume clusters: zones of the book that hold much more than the others, when they come and when they go.

Zones are a power of two of ticks wide and lie at fixed prices, so they keep their place while the price moves.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import inlined, kernel
from marketdata.engine.detectors.distributions import add_weight, log_bucket, log_value, quantile
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.layout import (
    CLUSTER,
    CLUSTER_BEGIN_MS,
    CLUSTER_COUNT,
    CLUSTER_LIMIT,
    CLUSTER_LOTS,
    CLUSTER_MISSED,
    CLUSTER_RATIOS,
    CLUSTER_SEEN,
    CLUSTER_TOLD,
    CLUSTER_WORDS,
    CLUSTER_ZONE,
    CLUSTERS,
    ZONE_LOTS,
    ZONE_ORDER,
    ZONE_SHIFT,
    ZONES,
)
from marketdata.engine.detectors.records import new_record
from marketdata.engine.detectors.thresholds import place_of
from marketdata.engine.ladder import EVERYTHING, NOTHING, ONE, bitmap, ring
from marketdata.engine.layout import ASK, BEST, BID, NOW_MS, RING_MASK, SIDES, WINDOW_LOW, WORST
from marketdata.engine.memory import load, load_bits, load_float, store, store_float, trailing_zeros

RATIO, QUANTILE, SECONDS = place_of("cluster_ratio"), place_of("cluster_quantile"), place_of("cluster_seconds")
VOLUME_CLUSTER, CLUSTER_GONE = int(DetectionKind.VOLUME_CLUSTER), int(DetectionKind.CLUSTER_GONE)
# A zone is a 32nd of the known side wide, but not more than this part of the price.
ZONES_OF_SIDE, WIDEST_ZONE = 32, 2e-4
FEWEST_ZONES = 8
WIDEST_SHIFT = 16
# Ratios are kept in 64ths: distributions hold whole numbers.
FINENESS = 64
# A cluster is gone when it has been below this part of its threshold in so many scans.
GONE_SHARE, GONE_SCANS = 0.5, 2


@kernel
def choose_zones(book: int, detector: int) -> None:
    """How wide zones are, from how far the book reaches and from its price."""
    span = min(load(book, BEST + BID) - load(book, WORST + BID), load(book, WORST + ASK) - load(book, BEST + ASK))
    widest = min(np.float64(span) / ZONES_OF_SIDE, WIDEST_ZONE * load(book, BEST + ASK))
    shift = 0
    for each in range(1, WIDEST_SHIFT):
        if (1 << each) <= widest:
            shift = each
    store(detector, ZONE_SHIFT, shift)


@inlined
def cluster_of(detector, side, index):
    return detector + 8 * (CLUSTER + (side * CLUSTERS + index) * CLUSTER_WORDS)


@kernel
def _count_zones(book: int, detector: int, side: int) -> int:
    """The volume of every whole zone behind the one of the best price, nearest first; returns how many are known."""
    shift, mask, low = load(detector, ZONE_SHIFT), load(book, RING_MASK), load(book, WINDOW_LOW)
    best, worst = load(book, BEST + side), load(book, WORST + side)
    step = -1 if side == BID else 1
    first = (best >> shift) + step
    known = min(ZONES, step * ((worst >> shift) - first))
    for zone in range(max(known, 0)):
        store(detector, ZONE_LOTS + zone, 0)
    if known < FEWEST_ZONES:
        return known
    start = (first << shift) if side == ASK else (first - known + 1) << shift
    stop = start + (known << shift)
    start, stop = max(start, low), min(stop, low + mask + 1)
    lots, bits = ring(book, side), bitmap(book, side)
    base = start >> 6 << 6
    for _ in range((mask >> 6) + 1):
        if base >= stop:
            break
        found = load_bits(bits, (base & mask) >> 6)
        if base < start:
            found &= EVERYTHING << np.uint64(start - base)
        if base + 64 > stop:
            found &= EVERYTHING >> np.uint64(base + 64 - stop)
        for _bit in range(64):
            if found == NOTHING:
                break
            tick = base + trailing_zeros(found)
            found &= found - ONE
            zone = step * ((tick >> shift) - first)
            store(detector, ZONE_LOTS + zone, load(detector, ZONE_LOTS + zone) + load(lots, tick & mask))
        base += 64
    return known


@kernel
def _median_zone(detector: int, known: int) -> int:
    """The median volume (insertion sort: the order changes little from scan to scan, and there are few)."""
    for zone in range(known):
        value, place = load(detector, ZONE_LOTS + zone), zone
        for _ in range(known):
            if place == 0 or load(detector, ZONE_ORDER + place - 1) <= value:
                break
            store(detector, ZONE_ORDER + place, load(detector, ZONE_ORDER + place - 1))
            place -= 1
        store(detector, ZONE_ORDER + place, value)
    return load(detector, ZONE_ORDER + (known >> 1))


@kernel
def _find(detector: int, side: int, zone: int) -> int:
    for index in range(load(detector, CLUSTER_COUNT + side)):
        if load(cluster_of(detector, side, index), CLUSTER_ZONE) == zone:
            return index
    return -1


@kernel
def _see(book: int, detector: int, side: int, zone: int, lots: int) -> None:
    """A dense zone in this scan."""
    index = _find(detector, side, zone)
    if index < 0:
        index = load(detector, CLUSTER_COUNT + side)
        if index == CLUSTERS:
            return
        store(detector, CLUSTER_COUNT + side, index + 1)
        cluster = cluster_of(detector, side, index)
        for word in range(CLUSTER_WORDS):
            store(cluster, word, 0)
        store(cluster, CLUSTER_ZONE, zone)
        store(cluster, CLUSTER_BEGIN_MS, load(book, NOW_MS))
    cluster = cluster_of(detector, side, index)
    store(cluster, CLUSTER_SEEN, load(cluster, CLUSTER_SEEN) + 1)
    store(cluster, CLUSTER_MISSED, 0)
    store(cluster, CLUSTER_LOTS, max(load(cluster, CLUSTER_LOTS), lots))


@kernel
def _tell(book: int, detector: int, kind: int, side: int, cluster: int, lots: int, median: int, limit: float) -> None:
    zone, shift = load(cluster, CLUSTER_ZONE), load(detector, ZONE_SHIFT)
    best = load(book, BEST + side)
    low, high = zone << shift, ((zone + 1) << shift) - 1
    ratio = load(cluster, CLUSTER_LOTS) / max(median, 1)
    evidence = new_record(
        book, detector, kind, side, low, high, load(cluster, CLUSTER_BEGIN_MS), min(ratio / (4.0 * limit), 1.0)
    )
    store_float(evidence, 0, np.float64(lots))
    store_float(evidence, 1, np.float64(median))
    store_float(evidence, 2, lots / max(median, 1))
    store_float(evidence, 3, limit)
    store_float(evidence, 4, np.float64(load(cluster, CLUSTER_LOTS)))
    store_float(evidence, 5, (load(book, NOW_MS) - load(cluster, CLUSTER_BEGIN_MS)) / 1_000.0)
    store_float(evidence, 6, np.float64(best - high if side == BID else low - best))


@kernel
def _zone_lots(book: int, detector: int, side: int, zone: int, known: int) -> int:
    """What the scan found in a zone; -1 where it did not look."""
    shift = load(detector, ZONE_SHIFT)
    step = -1 if side == BID else 1
    place = step * (zone - ((load(book, BEST + side) >> shift) + step))
    return load(detector, ZONE_LOTS + place) if 0 <= place < known else -1


@kernel
def _follow(book: int, detector: int, side: int, known: int, median: int, limit: float) -> None:
    """Tell those that have lasted, and those that are gone."""
    index = 0
    for _ in range(CLUSTERS):
        if index >= load(detector, CLUSTER_COUNT + side):
            break
        cluster = cluster_of(detector, side, index)
        lots = _zone_lots(book, detector, side, load(cluster, CLUSTER_ZONE), known)
        if lots < GONE_SHARE * limit * median:
            store(cluster, CLUSTER_MISSED, load(cluster, CLUSTER_MISSED) + 1)
        told = load(cluster, CLUSTER_TOLD)
        if load(cluster, CLUSTER_MISSED) >= GONE_SCANS or lots < 0:
            # Where the price is now, or beyond what is known, nobody can say that it is gone.
            if told and lots >= 0:
                _tell(book, detector, CLUSTER_GONE, side, cluster, lots, median, limit)
            last = cluster_of(detector, side, load(detector, CLUSTER_COUNT + side) - 1)
            for word in range(CLUSTER_WORDS):
                store(cluster, word, load(last, word))
            store(detector, CLUSTER_COUNT + side, load(detector, CLUSTER_COUNT + side) - 1)
            continue
        if told == 0 and load(cluster, CLUSTER_SEEN) > load_float(detector, SECONDS):
            store(cluster, CLUSTER_TOLD, 1)
            _tell(book, detector, VOLUME_CLUSTER, side, cluster, lots, median, limit)
        index += 1


@kernel
def renew_cluster_threshold(detector: int) -> None:
    usual = log_value(quantile(detector + 8 * CLUSTER_RATIOS, load_float(detector, QUANTILE))) / FINENESS
    least = load_float(detector, RATIO)
    store_float(detector, CLUSTER_LIMIT, max(usual, least) if usual > 0.0 else least)


@kernel
def scan_clusters(book: int, detector: int, is_warm: int) -> None:
    """Once a second."""
    ratios, limit = detector + 8 * CLUSTER_RATIOS, load_float(detector, CLUSTER_LIMIT)
    for side in range(SIDES):
        known = _count_zones(book, detector, side)
        if known < FEWEST_ZONES:
            continue
        median = max(_median_zone(detector, known), 1)
        shift, step = load(detector, ZONE_SHIFT), -1 if side == BID else 1
        first = (load(book, BEST + side) >> shift) + step
        for place in range(known):
            lots = load(detector, ZONE_LOTS + place)
            add_weight(ratios, log_bucket(lots * FINENESS // median), 1.0)
            if is_warm and lots >= limit * median:
                _see(book, detector, side, first + step * place, lots)
        _follow(book, detector, side, known, median, limit)
