"""Hot spots: zones where much more is traded than the price's zone usually sees. Also the profile of traded volume.

A zone's volume fades with a time constant of a minute; its slot in the profile is the zone modulo its size.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import inlined, kernel
from marketdata.engine.detectors.distributions import add_weight, log_bucket, log_value, quantile
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.layout import (
    HOT_SPOT_LIMIT,
    HOT_SPOT_MEDIAN,
    PROFILE,
    PROFILE_LOTS,
    PROFILE_MS,
    PROFILE_NEWEST,
    PROFILE_SINCE,
    PROFILE_TOLD,
    PROFILE_TRADES,
    PROFILE_WORDS,
    PROFILE_ZONE,
    RECENT_BOUGHT,
    RECENT_SOLD,
    TRADED_PROFILE,
    TRADED_ZONES,
    ZONE_SHIFT,
)
from marketdata.engine.detectors.records import new_record
from marketdata.engine.detectors.thresholds import place_of
from marketdata.engine.layout import ASK, BID, NOW_MS
from marketdata.engine.memory import load, load_float, store, store_float

RATIO, QUANTILE, TRADES = place_of("hot_spot_ratio"), place_of("hot_spot_quantile"), place_of("hot_spot_trades")
HOT_SPOT = int(DetectionKind.HOT_SPOT)
FADE_MS = 60_000.0
FEWEST_SECONDS = 20.0
COOLED_SHARE = 0.5


@inlined
def profile_slot(detector, zone):
    return detector + 8 * (TRADED_PROFILE + (zone & (PROFILE - 1)) * PROFILE_WORDS)


@kernel
def zone_volume(book: int, detector: int, zone: int) -> float:
    """Lots traded in a zone, faded to now."""
    slot = profile_slot(detector, zone)
    if load(slot, PROFILE_ZONE) != zone or load(slot, PROFILE_MS) == 0:
        return 0.0
    return load_float(slot, PROFILE_LOTS) * np.exp(-(load(book, NOW_MS) - load(slot, PROFILE_MS)) / FADE_MS)


@kernel
def renew_hot_spot_threshold(detector: int) -> None:
    zones = detector + 8 * TRADED_ZONES
    median = log_value(quantile(zones, 0.5))
    usual = log_value(quantile(zones, load_float(detector, QUANTILE)))
    store_float(detector, HOT_SPOT_MEDIAN, median)
    store_float(detector, HOT_SPOT_LIMIT, max(usual, load_float(detector, RATIO) * max(median, 1.0)))


@kernel
def note_zone_trade(book: int, detector: int, tick: int, lots: int, is_warm: int) -> None:
    zone, now = tick >> load(detector, ZONE_SHIFT), load(book, NOW_MS)
    slot, volume = profile_slot(detector, zone), zone_volume(book, detector, zone)
    if volume < 1.0:
        store(slot, PROFILE_TRADES, 0)
        store(slot, PROFILE_SINCE, now)
        store(slot, PROFILE_TOLD, 0)
    volume += np.float64(lots)
    store(slot, PROFILE_ZONE, zone)
    store(slot, PROFILE_MS, now)
    store_float(slot, PROFILE_LOTS, volume)
    store(slot, PROFILE_TRADES, load(slot, PROFILE_TRADES) + 1)
    store(detector, PROFILE_NEWEST, zone)
    zones = detector + 8 * TRADED_ZONES
    if is_warm == 0 or load_float(zones, 0) < FEWEST_SECONDS or not load_float(detector, HOT_SPOT_LIMIT) > 0.0:
        return
    median, limit = load_float(detector, HOT_SPOT_MEDIAN), load_float(detector, HOT_SPOT_LIMIT)
    if volume < limit:
        if volume < COOLED_SHARE * limit:
            store(slot, PROFILE_TOLD, 0)
        return
    if load(slot, PROFILE_TOLD) or load(slot, PROFILE_TRADES) < load_float(detector, TRADES):
        return
    store(slot, PROFILE_TOLD, 1)
    bought, sold = load_float(detector, RECENT_BOUGHT), load_float(detector, RECENT_SOLD)
    shift = load(detector, ZONE_SHIFT)
    evidence = new_record(
        book,
        detector,
        HOT_SPOT,
        BID if bought >= sold else ASK,
        zone << shift,
        ((zone + 1) << shift) - 1,
        load(slot, PROFILE_SINCE),
        min(volume / (4.0 * limit), 1.0) + 0.25,
    )
    store_float(evidence, 0, volume)
    store_float(evidence, 1, median)
    store_float(evidence, 2, volume / max(median, 1.0))
    store_float(evidence, 3, limit)
    store_float(evidence, 4, np.float64(load(slot, PROFILE_TRADES)))
    store_float(evidence, 5, (bought - sold) / max(bought + sold, 1.0))


@kernel
def sample_traded_zone(book: int, detector: int) -> None:
    """Once a second: how much the zone of the newest trade has."""
    volume = zone_volume(book, detector, load(detector, PROFILE_NEWEST))
    if volume >= 1.0:
        add_weight(detector + 8 * TRADED_ZONES, log_bucket(np.int64(volume)), 1.0)
