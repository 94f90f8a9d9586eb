"""Parabolic stop and reverse (Wilder): a stop that follows a trend ever faster, and turns when it is met."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import inner, kernel, plain
from strategies.indicators.bars import is_bar

State = NDArray[np.float64]
# DIRECTION is 1 while the stop is below the price, -1 above it; NEXT_STOP is that of the bar to come.
COUNT, HIGH, LOW, DIRECTION, EXTREME, ACCELERATION, NEXT_STOP = range(7)


@plain
def state_size() -> int:
    return 7


@inner
def _turn(state: State, stop: float, extreme: float, nearest: float, start: float) -> float:
    """The trend ends: its extreme is the new one's first stop. Values in the old trend's direction."""
    direction = state[DIRECTION]
    state[DIRECTION], state[ACCELERATION] = -direction, start
    state[EXTREME] = extreme * direction
    state[NEXT_STOP] = max(stop + start * (extreme - stop), nearest) * direction
    return stop * direction


@kernel("float64(float64[::1], float64, float64, float64, float64, float64)")
def parabolic_sar_update(state: State, high: float, low: float, start: float, step: float, maximum: float) -> float:
    """The stop of this bar, from the second on. The acceleration begins at ``start`` and grows by ``step`` with each
    new extreme, to ``maximum``. Constant time."""
    if not is_bar(high, low, low):
        return np.nan
    before_high, before_low = state[HIGH], state[LOW]
    state[HIGH], state[LOW] = high, low
    state[COUNT] += 1
    if state[COUNT] == 1:
        return np.nan
    start = min(start, maximum)
    if state[COUNT] == 2:
        fell = before_low - low
        state[DIRECTION] = -1.0 if fell > 0 and fell > high - before_high else 1.0
        state[EXTREME] = high if state[DIRECTION] > 0 else low
        state[NEXT_STOP] = before_low if state[DIRECTION] > 0 else before_high
        state[ACCELERATION] = start
        before_high, before_low = high, low
    # Rising and falling are one thing in the mirror: everything below is in the trend's direction.
    direction = state[DIRECTION]
    ahead, behind = (high, low) if direction > 0 else (-low, -high)
    ahead_before, behind_before = (before_high, before_low) if direction > 0 else (-before_low, -before_high)
    stop, extreme = state[NEXT_STOP] * direction, state[EXTREME] * direction
    if behind <= stop:
        return _turn(state, max(extreme, ahead, ahead_before), behind, max(ahead, ahead_before), start)
    if ahead > extreme:
        extreme = ahead
        state[ACCELERATION] = min(state[ACCELERATION] + step, maximum)
    following = stop + state[ACCELERATION] * (extreme - stop)
    state[EXTREME] = extreme * direction
    state[NEXT_STOP] = min(following, behind, behind_before) * direction
    return stop * direction


@kernel("float64[::1](float64[::1], float64[::1], float64, float64, float64)")
def parabolic_sar_series(highs: State, lows: State, start: float, step: float, maximum: float) -> State:
    state, line = np.zeros(state_size()), np.empty(len(highs))
    for index in range(len(highs)):
        line[index] = parabolic_sar_update(state, highs[index], lows[index], start, step, maximum)
    return line
