"""Flow toxicity: VPIN (Easley, Lopez de Prado, O'Hara 2012) far above what is usual for the symbol.

The buckets are those of the feature ``toxicity``; each new one renews the mean of the last fifty.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import kernel
from marketdata.engine.detectors.distributions import add_weight, linear_bucket, linear_value, quantile
from marketdata.engine.detectors.layout import (
    RECENT_BOUGHT,
    RECENT_SOLD,
    TOXICITIES,
    TOXICITY_SEEN,
    TOXICITY_SINCE,
)
from marketdata.engine.detectors.records import DetectionKind, new_record
from marketdata.engine.detectors.thresholds import place_of
from marketdata.engine.layout import ASK, BEST, BID, NOW_MS, TOXICITY_BUCKETS, TOXICITY_FILLED, TOXICITY_SHARES
from marketdata.engine.memory import load, load_float, store, store_float

LEAST, DEVIATIONS, BUCKETS = (
    place_of("toxicity_least"),
    place_of("toxicity_deviations"),
    place_of("toxicity_buckets"),
)
TOXICITY = int(DetectionKind.TOXICITY)
# The share of a normal distribution that lies below its mean and one deviation.
ONE_DEVIATION = 0.8413
LEAST_DEVIATION = 0.02


@kernel
def follow_toxicity(book: int, detector: int) -> None:
    """After a trade."""
    filled = load(book, TOXICITY_FILLED)
    if filled == load(detector, TOXICITY_SEEN):
        return
    store(detector, TOXICITY_SEEN, filled)
    if filled < TOXICITY_BUCKETS:
        return
    total = 0.0
    for bucket in range(TOXICITY_BUCKETS):
        total += load_float(book, TOXICITY_SHARES + bucket)
    value = total / TOXICITY_BUCKETS
    distribution = detector + 8 * TOXICITIES
    known = load_float(distribution, 0)
    median = linear_value(quantile(distribution, 0.5))
    deviation = max(linear_value(quantile(distribution, ONE_DEVIATION)) - median, LEAST_DEVIATION)
    add_weight(distribution, linear_bucket(value), 1.0)
    if known < load_float(detector, BUCKETS):
        return
    now, limit = load(book, NOW_MS), median + load_float(detector, DEVIATIONS) * deviation
    limit = max(limit, load_float(detector, LEAST))
    if load(detector, TOXICITY_SINCE) != 0:
        if value < median + deviation:
            store(detector, TOXICITY_SINCE, 0)
    elif value >= limit:
        store(detector, TOXICITY_SINCE, now)
        bought, sold = load_float(detector, RECENT_BOUGHT), load_float(detector, RECENT_SOLD)
        side = BID if bought >= sold else ASK
        bid, ask = load(book, BEST + BID), load(book, BEST + ASK)
        evidence = new_record(book, detector, TOXICITY, side, bid, ask, now, 0.5 + (value - limit) / (2.0 * (1.0 - limit)))
        store_float(evidence, 0, value)
        store_float(evidence, 1, limit)
        store_float(evidence, 2, median)
        store_float(evidence, 3, (value - median) / deviation)
        store_float(evidence, 4, (bought - sold) / max(bought + sold, 1.0))
        store_float(evidence, 5, np.float64(filled))
