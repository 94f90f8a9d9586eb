"""Average directional index (Wilder): how strong a trend is, either way, 0 to 100."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import inner, kernel, plain
from strategies.indicators.bars import is_bar, true_range

State = NDArray[np.float64]
# PLUS and MINUS are the directional indicators, 0 to 100; defined ``period`` bars before the index itself.
COUNT, HIGH, LOW, CLOSE, UPWARD, DOWNWARD, RANGE, PLUS, MINUS, INDEX = range(10)


@plain
def state_size() -> int:
    return 10


@inner
def _strength(state: State) -> float:
    """The directional index of one bar, -1 where nothing moved; PLUS and MINUS on the way."""
    if state[RANGE] <= 0:
        state[PLUS] = state[MINUS] = 0.0
        return -1.0
    state[PLUS] = 100.0 * state[UPWARD] / state[RANGE]
    state[MINUS] = 100.0 * state[DOWNWARD] / state[RANGE]
    both = state[PLUS] + state[MINUS]
    return 100.0 * abs(state[PLUS] - state[MINUS]) / both if both > 0 else -1.0


@kernel("float64(float64[::1], float64, float64, float64, int64)")
def adx_update(state: State, high: float, low: float, close: float, period: int) -> float:
    """From bar ``2 * period`` on. Constant time."""
    if not is_bar(high, low, close):
        return np.nan
    up, down = high - state[HIGH], state[LOW] - low
    ranged = true_range(high, low, state[CLOSE])
    state[HIGH], state[LOW], state[CLOSE] = high, low, close
    state[COUNT] += 1
    if state[COUNT] == 1:
        return np.nan
    # Wilder's sums: the first of one move less than a period, as he and TA-Lib have it.
    kept = 1.0 if state[COUNT] <= period else 1.0 - 1.0 / period
    state[UPWARD] = state[UPWARD] * kept + (up if up > 0 and up > down else 0.0)
    state[DOWNWARD] = state[DOWNWARD] * kept + (down if down > 0 and down > up else 0.0)
    state[RANGE] = state[RANGE] * kept + ranged
    if state[COUNT] <= period:
        return np.nan
    strength = _strength(state)
    if state[COUNT] > 2 * period:
        # A market without any direction has none to average: the index stays.
        if strength >= 0:
            state[INDEX] += (strength - state[INDEX]) / period
        return state[INDEX]
    state[INDEX] += max(strength, 0.0) / period
    return state[INDEX] if state[COUNT] == 2 * period else np.nan


@kernel("float64[::1](float64[::1], float64[::1], float64[::1], int64)")
def adx_series(highs: State, lows: State, closes: State, period: int) -> State:
    state, line = np.zeros(state_size()), np.empty(len(closes))
    for index in range(len(closes)):
        line[index] = adx_update(state, highs[index], lows[index], closes[index], period)
    return line
