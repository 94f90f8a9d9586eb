"""Volume profile: back inside the value area after a short stay outside of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.candle_strategy import ROW, CandleKernel
from strategies.compiled import inner, kernel
from strategies.indicators.volume_profile import (
    STRENGTH,
    VALUE_AREA_HIGH,
    VALUE_AREA_LOW,
    volume_profile_update,
)
from strategies.indicators.volume_profile import state_size as profile_size
from strategies.kernels.signal_row import DECIDE, NOTES, RUN, clamped_stop, fill_row, is_a_bar

(
    TIMEFRAME,
    LOOKBACK,
    ROWS,
    VALUE_AREA,
    POC_STRENGTH,
    EXCURSION_BARS,
    REWARD_RISK,
    MIN_STOP_PERCENT,
    MAX_STOP_PERCENT,
) = range(9)
# Slots of the state; OUTSIDE is the direction to trade when the price comes back (1 while it is below the value area),
# STAYED the bars since it left, FARTHEST the farthest price there. Those of the profile follow.
OUTSIDE, STAYED, FARTHEST, PROFILE = range(4)


@inner
def _stay_outside(state: NDArray[np.float64], direction: int, high: float, low: float) -> None:
    if state[OUTSIDE] != direction:
        state[OUTSIDE], state[STAYED], state[FARTHEST] = direction, 0.0, low if direction > 0 else high
    state[STAYED] += 1
    state[FARTHEST] = min(low, state[FARTHEST]) if direction > 0 else max(high, state[FARTHEST])


@kernel(DECIDE)
def decide(
    state: NDArray[np.float64],
    numbers: NDArray[np.float64],
    start_ms: int,
    open_: float,
    high: float,
    low: float,
    close: float,
    volume: float,
    row: NDArray[np.float64],
) -> bool:
    if not is_a_bar(open_, high, low, close, volume):
        return False
    profile, lookback = state[PROFILE:], int(numbers[LOOKBACK])
    share = numbers[VALUE_AREA] / 100.0
    poc = volume_profile_update(profile, high, low, close, volume, lookback, int(numbers[ROWS]), share)
    if np.isnan(poc):
        state[OUTSIDE] = 0.0
        return False
    bottom, top = profile[VALUE_AREA_LOW], profile[VALUE_AREA_HIGH]
    if close < bottom or close > top:
        _stay_outside(state, 1 if close < bottom else -1, high, low)
        return False
    direction, stayed = int(state[OUTSIDE]), state[STAYED]
    state[OUTSIDE] = 0.0
    if direction == 0 or stayed > numbers[EXCURSION_BARS] or profile[STRENGTH] < numbers[POC_STRENGTH]:
        return False
    farthest = min(low, state[FARTHEST]) if direction > 0 else max(high, state[FARTHEST])
    distance = clamped_stop(abs(close - farthest), close, numbers[MIN_STOP_PERCENT], numbers[MAX_STOP_PERCENT])
    reward = direction * (poc - close)
    if reward < distance * numbers[REWARD_RISK]:
        reward = top - close if direction > 0 else close - bottom
    if reward < distance * numbers[REWARD_RISK]:
        return False
    concentrated = min(profile[STRENGTH] / numbers[POC_STRENGTH] - 1.0, 1.0)
    strength = 0.5 + 0.25 * concentrated + 0.25 * (1.0 - (stayed - 1.0) / numbers[EXCURSION_BARS])
    row[NOTES], row[NOTES + 1], row[NOTES + 2] = poc, bottom, top
    row[NOTES + 3], row[NOTES + 4] = profile[STRENGTH], stayed
    return fill_row(row, direction, strength, close, distance, reward)


@kernel(RUN)
def run(
    state: NDArray[np.float64],
    numbers: NDArray[np.float64],
    start_ms: NDArray[np.int64],
    open_: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    close: NDArray[np.float64],
    volume: NDArray[np.float64],
    at: NDArray[np.int64],
    rows: NDArray[np.float64],
) -> int:
    row, found = np.zeros(ROW), 0
    for bar in range(len(close)):
        if decide(state, numbers, start_ms[bar], open_[bar], high[bar], low[bar], close[bar], volume[bar], row):
            at[found] = bar
            rows[found] = row
            found += 1
    return found


def state_size(numbers: NDArray[np.float64]) -> int:
    return PROFILE + profile_size(int(numbers[LOOKBACK]), int(numbers[ROWS]))


KERNEL = CandleKernel(decide, run, state_size)
