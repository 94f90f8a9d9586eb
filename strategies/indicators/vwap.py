"""Volume-weighted average price of the UTC day so far: of typical prices, (high + low + close) / 3."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel, plain
from strategies.indicators.bars import is_bar
from strategies.indicators.rolling import add

DAY_MS = 86_400_000
DAY, VOLUME, VOLUME_CARRY, WORTH, WORTH_CARRY = range(5)


@plain
def state_size() -> int:
    return 5


@kernel("float64(float64[::1], int64, float64, float64, float64, float64)")
def vwap_update(
    state: NDArray[np.float64], start_ms: int, high: float, low: float, close: float, volume: float
) -> float:
    """NaN until something traded that day; ``start_ms`` is the bar's start. Constant time."""
    if not is_bar(high, low, close) or not 0.0 <= volume < np.inf:
        return np.nan
    day = start_ms // DAY_MS
    if day != state[DAY]:
        state[DAY] = day
        state[VOLUME] = state[VOLUME_CARRY] = state[WORTH] = state[WORTH_CARRY] = 0.0
    add(state, VOLUME, volume)
    add(state, WORTH, volume * (high + low + close) / 3.0)
    traded = state[VOLUME] + state[VOLUME_CARRY]
    return (state[WORTH] + state[WORTH_CARRY]) / traded if traded > 0 else np.nan


@kernel("float64[::1](int64[::1], float64[::1], float64[::1], float64[::1], float64[::1])")
def vwap_series(
    starts_ms: NDArray[np.int64],
    highs: NDArray[np.float64],
    lows: NDArray[np.float64],
    closes: NDArray[np.float64],
    volumes: NDArray[np.float64],
) -> NDArray[np.float64]:
    state, line = np.zeros(state_size()), np.empty(len(closes))
    for index in range(len(closes)):
        line[index] = vwap_update(state, starts_ms[index], highs[index], lows[index], closes[index], volumes[index])
    return line
