"""What is usual for a symbol: distributions with a fading memory, and their quantiles.

256 buckets, either linear over [-1, 1] or eight an octave (a bucket is at most 12.5 % wide; quantiles are interpolated
within it). All weights shrink by the same factor, so what is old counts less.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import inlined, kernel
from marketdata.engine.detectors.layout import BUCKETS
from marketdata.engine.memory import leading_zeros, load_float, store_float


@kernel
def log_bucket(value: int) -> int:
    """The bucket of a whole number: 0 to 7 as they are, then eight an octave."""
    if value < 8:
        return value if value > 0 else 0
    octave = 60 - leading_zeros(np.uint64(value))
    bucket = (octave << 3) + (value >> octave)
    return bucket if bucket < BUCKETS else BUCKETS - 1


@kernel
def log_value(place: float) -> float:
    """The number at a place between buckets: the inverse of :func:`log_bucket`."""
    if place < 8.0:
        return place
    octave = np.floor(place / 8.0) - 1.0
    return (place - 8.0 * octave) * 2.0**octave


@kernel
def linear_bucket(value: float) -> int:
    """The bucket of a number from -1 to 1."""
    bucket = int((value + 1.0) * (BUCKETS / 2))
    return min(max(bucket, 0), BUCKETS - 1)


@kernel
def linear_value(place: float) -> float:
    return place / (BUCKETS / 2) - 1.0


@inlined
def add_weight(distribution, bucket, weight):
    store_float(distribution, 0, load_float(distribution, 0) + weight)
    store_float(distribution, 1 + bucket, load_float(distribution, 1 + bucket) + weight)


@kernel
def fade(distribution: int, factor: float) -> None:
    for place in range(BUCKETS + 1):
        store_float(distribution, place, load_float(distribution, place) * factor)


@kernel
def quantile(distribution: int, share: float) -> float:
    """The place, between buckets, below which this share of the weight lies; NaN while there is none."""
    total = load_float(distribution, 0)
    if not total > 0.0:
        return np.nan
    wanted, below = share * total, 0.0
    for bucket in range(BUCKETS):
        weight = load_float(distribution, 1 + bucket)
        if below + weight >= wanted and weight > 0.0:
            return bucket + (wanted - below) / weight
        below += weight
    return np.float64(BUCKETS)
