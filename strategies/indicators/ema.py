"""Exponential moving average: each value counts ``2 / (period + 1)``, the first is a plain mean."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel, plain

COUNT, SUM, AVERAGE = range(3)


@plain
def state_size() -> int:
    return 3


@kernel("float64(float64[::1], float64, int64)")
def ema_update(state: NDArray[np.float64], value: float, period: int) -> float:
    """The average, from the ``period``-th value on. Constant time."""
    if not math.isfinite(value):
        return np.nan
    if state[COUNT] < period:
        state[COUNT] += 1
        state[SUM] += value
        if state[COUNT] < period:
            return np.nan
        state[AVERAGE] = state[SUM] / period
    else:
        state[AVERAGE] += (value - state[AVERAGE]) * (2.0 / (period + 1))
    return state[AVERAGE]


@kernel("float64[::1](float64[::1], int64)")
def ema_series(values: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    state, line = np.zeros(state_size()), np.empty(len(values))
    for index in range(len(values)):
        line[index] = ema_update(state, values[index], period)
    return line
