"""Realised volatility: the root of the mean squared logarithmic return of the last bars, a fraction per bar. Times the
root of the bars in a year it is a year's."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel, plain
from strategies.indicators.rolling import sum_size, sum_update

COUNT, PREVIOUS, SQUARES = range(3)


@plain
def state_size(period: int) -> int:
    return SQUARES + sum_size(period)


@kernel("float64(float64[::1], float64, int64)")
def realised_volatility_update(state: NDArray[np.float64], close: float, period: int) -> float:
    """From the close after the ``period``-th on; a close that is not above 0 is passed over. Constant time."""
    if not 0.0 < close < np.inf:
        return np.nan
    previous = state[PREVIOUS]
    state[PREVIOUS] = close
    state[COUNT] += 1
    if state[COUNT] == 1:
        return np.nan
    change = math.log(close / previous)
    squares = sum_update(state[SQUARES:], change * change, period)
    return math.sqrt(max(squares, 0.0) / period) if not math.isnan(squares) else np.nan


@kernel("float64[::1](float64[::1], int64)")
def realised_volatility_series(closes: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    state, line = np.zeros(state_size(period)), np.empty(len(closes))
    for index in range(len(closes)):
        line[index] = realised_volatility_update(state, closes[index], period)
    return line
