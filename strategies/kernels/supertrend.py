"""SuperTrend: signals on the bar that flips the trend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.candle_strategy import ROW, CandleKernel
from strategies.compiled import kernel
from strategies.indicators.supertrend import ATR, STATE_SIZE, supertrend_update
from strategies.indicators.supertrend import DIRECTION as TREND
from strategies.kernels.signal_row import DECIDE, NOTES, RUN, clamped_stop, fill_row, is_a_bar

TIMEFRAME, PERIOD, MULTIPLIER, REWARD_RISK, MIN_STOP_PERCENT, MAX_STOP_PERCENT = range(6)


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
    before = state[TREND]
    line = supertrend_update(state, high, low, close, int(numbers[PERIOD]), numbers[MULTIPLIER])
    trend = state[TREND]
    if before == 0.0 or trend == before:
        return False
    distance = clamped_stop(abs(close - line), close, numbers[MIN_STOP_PERCENT], numbers[MAX_STOP_PERCENT])
    strength = 0.5 + abs(close - line) / (4.0 * numbers[MULTIPLIER] * state[ATR] + 1e-12)
    row[NOTES], row[NOTES + 1] = line, state[ATR]
    return fill_row(row, int(trend), strength, close, distance, distance * numbers[REWARD_RISK])


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
    return STATE_SIZE


KERNEL = CandleKernel(decide, run, state_size)
