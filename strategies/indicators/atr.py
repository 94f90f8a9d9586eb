"""Average true range (Wilder): how far the price goes in a bar, in quote coin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel, plain
from strategies.indicators.bars import is_bar, true_range

COUNT, PREVIOUS_CLOSE, AVERAGE = range(3)


@plain
def state_size() -> int:
    return 3


@kernel("float64(float64[::1], float64, float64, float64, int64)")
def atr_update(state: NDArray[np.float64], high: float, low: float, close: float, period: int) -> float:
    """From the bar after the ``period``-th on: the first bar has no range, since no close was before it. Constant
    time."""
    if not is_bar(high, low, close):
        return np.nan
    ranged = true_range(high, low, state[PREVIOUS_CLOSE])
    state[PREVIOUS_CLOSE] = close
    state[COUNT] += 1
    if state[COUNT] == 1:
        return np.nan
    if state[COUNT] > period + 1:
        state[AVERAGE] += (ranged - state[AVERAGE]) / period
        return state[AVERAGE]
    state[AVERAGE] += ranged / period
    return state[AVERAGE] if state[COUNT] == period + 1 else np.nan


@kernel("float64[::1](float64[::1], float64[::1], float64[::1], int64)")
def atr_series(
    highs: NDArray[np.float64], lows: NDArray[np.float64], closes: NDArray[np.float64], period: int
) -> NDArray[np.float64]:
    state, line = np.zeros(state_size()), np.empty(len(closes))
    for index in range(len(closes)):
        line[index] = atr_update(state, highs[index], lows[index], closes[index], period)
    return line
