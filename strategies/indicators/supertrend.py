"""SuperTrend (O. Seban), incremental: Wilder's ATR around the middle of the bar, with bands that only tighten while
the trend holds. One kernel, fed bar by bar, live and offline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel

# Slots of the state array.
BARS, PREVIOUS_CLOSE, TRUE_RANGE_SUM, ATR, UPPER, LOWER, DIRECTION = range(7)
STATE_SIZE = 7


def new_state() -> NDArray[np.float64]:
    """The state before the first bar: float64, shape (7,)."""
    return np.zeros(STATE_SIZE)


@kernel("float64(float64[::1], float64, float64, float64, int64, float64)")
def supertrend_update(
    state: NDArray[np.float64], high: float, low: float, close: float, period: int, multiplier: float
) -> float:
    """Take one closed bar (prices in quote coin) and return the SuperTrend line, NaN during the first ``period`` bars.

    ``state[DIRECTION]`` is +1 while the line is below the price (up), -1 above it, 0 before the first line.
    """
    true_range = high - low
    if state[BARS] > 0:
        true_range = max(true_range, abs(high - state[PREVIOUS_CLOSE]), abs(low - state[PREVIOUS_CLOSE]))
    state[BARS] += 1
    previous_close = state[PREVIOUS_CLOSE]
    state[PREVIOUS_CLOSE] = close
    if state[BARS] <= period:
        state[TRUE_RANGE_SUM] += true_range
        if state[BARS] < period:
            return np.nan
        state[ATR] = state[TRUE_RANGE_SUM] / period
    else:
        state[ATR] += (true_range - state[ATR]) / period
    middle = (high + low) / 2.0
    upper = middle + multiplier * state[ATR]
    lower = middle - multiplier * state[ATR]
    if state[DIRECTION] == 0:
        state[UPPER], state[LOWER] = upper, lower
        state[DIRECTION] = 1.0 if close > middle else -1.0
        return state[LOWER] if state[DIRECTION] > 0 else state[UPPER]
    if upper < state[UPPER] or previous_close > state[UPPER]:
        state[UPPER] = upper
    if lower > state[LOWER] or previous_close < state[LOWER]:
        state[LOWER] = lower
    if state[DIRECTION] > 0 and close < state[LOWER]:
        state[DIRECTION] = -1.0
    elif state[DIRECTION] < 0 and close > state[UPPER]:
        state[DIRECTION] = 1.0
    return state[LOWER] if state[DIRECTION] > 0 else state[UPPER]
