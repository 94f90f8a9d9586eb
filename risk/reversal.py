"""Whether the market has turned against a position: five indicators of its book and its trades, one vote each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from marketdata.engine.feature_table import feature_index

# Each says "down" below minus its threshold, "up" above it, and nothing in between or where it is not known.
THRESHOLDS: Mapping[str, float] = MappingProxyType(
    {
        "imbalance_slow": 0.2,  # the book leans, over ten seconds
        "price_pressure": 0.2,  # orders came and went on one side, in the depth of the best five levels
        "trade_imbalance_60s": 0.2,  # takers of one side
        "return_60s": 0.001,  # the price itself
        "trade_vwap_distance": 0.0005,  # the price against what was paid in the last minute
    }
)
_INDICATORS = tuple((feature_index(name), threshold) for name, threshold in THRESHOLDS.items())


def indicators_against(side: str, features: NDArray[np.float64]) -> int:
    """How many of the five speak against a position of a side (``Buy`` long, ``Sell`` short). ``features``: one row of
    the feature table."""
    sign = 1.0 if side == "Buy" else -1.0
    return sum(1 for index, threshold in _INDICATORS if float(features[index]) * sign < -threshold)
