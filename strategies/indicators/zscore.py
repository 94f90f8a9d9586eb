"""z-score: how many standard deviations (of a population) the last close is above the mean of the last closes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel, plain
from strategies.indicators.rolling import VARIANCE, moments_size, moments_update


@plain
def state_size(period: int) -> int:
    return moments_size(period)


@kernel("float64(float64[::1], float64, int64)")
def zscore_update(state: NDArray[np.float64], close: float, period: int) -> float:
    """From the ``period``-th close on; 0 where none of them differs. Constant time."""
    if not math.isfinite(close):
        return np.nan
    mean = moments_update(state, close, period)
    if math.isnan(mean):
        return np.nan
    return (close - mean) / math.sqrt(state[VARIANCE]) if state[VARIANCE] > 0 else 0.0


@kernel("float64[::1](float64[::1], int64)")
def zscore_series(closes: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    state, line = np.zeros(state_size(period)), np.empty(len(closes))
    for index in range(len(closes)):
        line[index] = zscore_update(state, closes[index], period)
    return line
