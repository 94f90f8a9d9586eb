"""Mean reversion: back inside the Bollinger bands after a close too far from the mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.candle_strategy import ROW, CandleKernel
from strategies.compiled import inner, kernel
from strategies.indicators.bollinger import DEVIATION, bollinger_update
from strategies.indicators.bollinger import state_size as bollinger_size
from strategies.kernels.signal_row import DECIDE, NOTES, RUN, clamped_stop, fill_row, is_a_bar

(
    TIMEFRAME,
    BOLLINGER_PERIOD,
    BOLLINGER_DEVIATIONS,
    ZSCORE,
    MIN_VOLATILITY,
    REENTRY_BARS,
    REWARD_RISK,
    MIN_STOP_PERCENT,
    MAX_STOP_PERCENT,
) = range(9)
# Slots of the state; WAITING is the direction to trade when the price comes back, STRETCH the farthest z-score since it
# left, FARTHEST the farthest price. The bands' follow.
WAITING, WAITED, STRETCH, FARTHEST, BANDS = range(5)
# Deviations of a price that stands still are rounding.
STILL = 1e-9


@inner
def _stretch(state: NDArray[np.float64], direction: int, score: float, farthest: float) -> None:
    if state[WAITING] != direction:
        state[WAITING], state[STRETCH], state[FARTHEST] = direction, 0.0, farthest
    state[STRETCH] = max(state[STRETCH], abs(score))
    state[WAITED] = 0.0


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
    period, deviations = int(numbers[BOLLINGER_PERIOD]), numbers[BOLLINGER_DEVIATIONS]
    mean = bollinger_update(state[BANDS:], close, period, deviations)
    deviation = state[BANDS + DEVIATION]
    score = (close - mean) / deviation if deviation > STILL * mean else 0.0
    direction = -1 if score > 0.0 else 1
    if state[WAITING] != 0.0:
        state[WAITED] += 1
        outermost = min(low, state[FARTHEST]) if state[WAITING] > 0 else max(high, state[FARTHEST])
        state[FARTHEST] = outermost
    if abs(score) >= numbers[ZSCORE]:
        _stretch(state, direction, score, low if direction > 0 else high)
        return False
    direction = int(state[WAITING])
    # Of a price that went through to the other band nothing is left to earn either.
    if direction == 0 or (-direction * score >= deviations and state[WAITED] < numbers[REENTRY_BARS]):
        return False
    state[WAITING] = 0.0
    width = 2.0 * deviations * deviation / mean
    if abs(score) >= deviations or state[WAITED] > numbers[REENTRY_BARS] or not width >= numbers[MIN_VOLATILITY]:
        return False
    distance = clamped_stop(abs(close - state[FARTHEST]), close, numbers[MIN_STOP_PERCENT], numbers[MAX_STOP_PERCENT])
    reward = direction * (mean - close)
    if reward < distance * numbers[REWARD_RISK]:
        return False
    strength = 0.5 + 0.5 * (state[STRETCH] - numbers[ZSCORE])
    row[NOTES], row[NOTES + 1], row[NOTES + 2], row[NOTES + 3] = mean, score, state[STRETCH], width
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
    return BANDS + bollinger_size(int(numbers[BOLLINGER_PERIOD]))


KERNEL = CandleKernel(decide, run, state_size)
