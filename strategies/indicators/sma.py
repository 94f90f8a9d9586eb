"""Simple moving average: the mean of the last closes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel, plain
from strategies.indicators.rolling import sum_size, sum_update


@plain
def state_size(period: int) -> int:
    return sum_size(period)


@kernel("float64(float64[::1], float64, int64)")
def sma_update(state: NDArray[np.float64], value: float, period: int) -> float:
    """The mean of the last ``period`` values, from the ``period``-th on. Constant time."""
    if not math.isfinite(value):
        return np.nan
    return sum_update(state, value, period) / period


@kernel("float64[::1](float64[::1], int64)")
def sma_series(values: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    state, line = np.zeros(state_size(period)), np.empty(len(values))
    for index in range(len(values)):
        line[index] = sma_update(state, values[index], period)
    return line
