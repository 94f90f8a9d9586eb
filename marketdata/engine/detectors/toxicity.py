"""Flow toxicity: for many buckets of equal volume, takers press one way.

VPIN (Easley, Lopez de Prado, O'Hara 2012) is the mean of |bought - sold| / size over the last 50 buckets. Where few
large trades make the volume it is near 1 whoever trades (measured: 0.6 to 0.9 in recorded markets without pressure),
so it alone says little. Here the signs decide: with s the signed shares, |sum s| / sqrt(sum s^2) is about standard
normal for buckets that lean at random, however large the trades are, and the square root of 50 when all lean one way.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import kernel
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.layout import (
    BUCKET_BEGIN_MS,
    BUCKET_BOUGHT,
    BUCKET_SHARES,
    BUCKET_SIZE,
    BUCKET_SOLD,
    BUCKET_TIMES,
    BUCKETS_FILLED,
    FLOW_BUCKETS,
    START_MS,
    TOXICITY_SINCE,
)
from marketdata.engine.detectors.records import new_record
from marketdata.engine.detectors.thresholds import place_of
from marketdata.engine.layout import (
    ASK,
    BEST,
    BID,
    BOUGHT_SERIES,
    BOUGHT_SUM_300,
    NOW_MS,
    SOLD_SERIES,
    SOLD_SUM_300,
)
from marketdata.engine.memory import load, load_float, store, store_float
from marketdata.engine.windows import running

LEAST, DEVIATIONS = place_of("toxicity_least"), place_of("toxicity_deviations")
WARM_UP_S = place_of("toxicity_warm_up_s")
TOXICITY = int(DetectionKind.TOXICITY)
MOST_BUCKETS_A_TRADE = 2 * FLOW_BUCKETS
# The regime is over when it has come back this part of the way.
OVER_SHARE = 0.6


@kernel
def _judge(book: int, detector: int) -> None:
    """After a bucket was filled."""
    filled = load(detector, BUCKETS_FILLED)
    if filled < FLOW_BUCKETS:
        return
    total, absolute, squares = 0.0, 0.0, 0.0
    for bucket in range(FLOW_BUCKETS):
        share = load_float(detector, BUCKET_SHARES + bucket)
        total += share
        absolute += abs(share)
        squares += share * share
    vpin = absolute / FLOW_BUCKETS
    deviations = abs(total) / np.sqrt(squares) if squares > 0.0 else 0.0
    limit = load_float(detector, DEVIATIONS)
    if load(detector, TOXICITY_SINCE) != 0:
        if deviations < OVER_SHARE * limit:
            store(detector, TOXICITY_SINCE, 0)
        return
    if deviations < limit or vpin < load_float(detector, LEAST):
        return
    now = load(book, NOW_MS)
    store(detector, TOXICITY_SINCE, now)
    begin = load(detector, BUCKET_TIMES + filled % FLOW_BUCKETS)
    side, score = BID if total > 0.0 else ASK, abs(total) / FLOW_BUCKETS
    evidence = new_record(book, detector, TOXICITY, side, load(book, BEST + BID), load(book, BEST + ASK), begin, score)
    store_float(evidence, 0, vpin)
    store_float(evidence, 1, deviations)
    store_float(evidence, 2, limit)
    store_float(evidence, 3, total / FLOW_BUCKETS)
    store_float(evidence, 4, (now - begin) / 1_000.0)


@kernel
def note_flow(book: int, detector: int, lots: int, is_bought: int) -> None:
    """A trade: it fills the running bucket, a fiftieth of what was traded in 300 s before it, and more."""
    left = lots
    for _ in range(MOST_BUCKETS_A_TRADE):
        size = load(detector, BUCKET_SIZE)
        if size == 0:
            if load(book, NOW_MS) - load(detector, START_MS) < 1_000.0 * load_float(detector, WARM_UP_S):
                return
            traded = load(book, BOUGHT_SUM_300) + load(book, SOLD_SUM_300)
            traded += running(book, BOUGHT_SERIES) + running(book, SOLD_SERIES)
            size = max(traded // FLOW_BUCKETS, 1)
            store(detector, BUCKET_SIZE, size)
            store(detector, BUCKET_BEGIN_MS, load(book, NOW_MS))
        bought, sold = load(detector, BUCKET_BOUGHT), load(detector, BUCKET_SOLD)
        taken = min(left, size - bought - sold)
        bought += taken if is_bought else 0
        sold += 0 if is_bought else taken
        left -= taken
        full = bought + sold == size
        if full:
            slot = load(detector, BUCKETS_FILLED) % FLOW_BUCKETS
            store_float(detector, BUCKET_SHARES + slot, (bought - sold) / size)
            store(detector, BUCKET_TIMES + slot, load(detector, BUCKET_BEGIN_MS))
            store(detector, BUCKETS_FILLED, load(detector, BUCKETS_FILLED) + 1)
            store(detector, BUCKET_SIZE, 0)
            bought, sold = 0, 0
        store(detector, BUCKET_BOUGHT, bought)
        store(detector, BUCKET_SOLD, sold)
        if full:
            _judge(book, detector)
        if left == 0:
            break
