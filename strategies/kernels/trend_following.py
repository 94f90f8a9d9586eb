"""Trend following: a cross of two averages, confirmed by ADX and RSI within some bars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.candle_strategy import ROW, CandleKernel
from strategies.compiled import inner, kernel
from strategies.indicators.adx import adx_update
from strategies.indicators.adx import state_size as adx_size
from strategies.indicators.atr import atr_update
from strategies.indicators.atr import state_size as atr_size
from strategies.indicators.ema import ema_update
from strategies.indicators.ema import state_size as ema_size
from strategies.indicators.rsi import rsi_update
from strategies.indicators.rsi import state_size as rsi_size
from strategies.kernels.signal_row import DECIDE, NOTES, RUN, clamped_stop, fill_row, is_a_bar

(
    TIMEFRAME,
    MA_FAST,
    MA_SLOW,
    RSI_PERIOD,
    OVERBOUGHT,
    OVERSOLD,
    ADX_THRESHOLD,
    ADX_PERIOD,
    CROSS_BARS,
    ATR_PERIOD,
    STOP_ATR,
    REWARD_RISK,
    MIN_STOP_PERCENT,
    MAX_STOP_PERCENT,
) = range(14)
# Slots of the state; SIDE is where the fast average is, 1 above the slow one; WAITING is the direction of a cross that
# nothing came of yet. Those of the indicators follow.
SIDE, WAITING, SINCE, FAST = range(4)
SLOW = FAST + ema_size()
RSI = SLOW + ema_size()
ADX = RSI + rsi_size()
ATR = ADX + adx_size()
SIZE = ATR + atr_size()
# Averages of a price that stands still differ by rounding alone.
EQUAL = 1e-9


@inner
def _watch_for_a_cross(state: NDArray[np.float64], fast: float, slow: float) -> None:
    state[SINCE] += 1
    if not abs(fast - slow) > EQUAL * slow:
        return
    side = 1.0 if fast > slow else -1.0
    if state[SIDE] != side:
        state[WAITING] = side if state[SIDE] != 0.0 else 0.0
        state[SINCE] = 0.0
        state[SIDE] = side


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
    fast = ema_update(state[FAST:SLOW], close, int(numbers[MA_FAST]))
    slow = ema_update(state[SLOW:RSI], close, int(numbers[MA_SLOW]))
    rsi = rsi_update(state[RSI:ADX], close, int(numbers[RSI_PERIOD]))
    adx = adx_update(state[ADX:ATR], high, low, close, int(numbers[ADX_PERIOD]))
    atr = atr_update(state[ATR:SIZE], high, low, close, int(numbers[ATR_PERIOD]))
    _watch_for_a_cross(state, fast, slow)
    if state[SINCE] > numbers[CROSS_BARS]:
        state[WAITING] = 0.0
    direction = int(state[WAITING])
    has_room = rsi < numbers[OVERBOUGHT] if direction > 0 else rsi > numbers[OVERSOLD]
    if direction == 0 or not has_room or not adx >= numbers[ADX_THRESHOLD] or not atr >= 0.0:
        return False
    state[WAITING] = 0.0
    distance = clamped_stop(atr * numbers[STOP_ATR], close, numbers[MIN_STOP_PERCENT], numbers[MAX_STOP_PERCENT])
    # From 0.5 at the least ADX to 1 at twice 50, less where RSI leaves little room.
    room = (numbers[OVERBOUGHT] - rsi) if direction > 0 else (rsi - numbers[OVERSOLD])
    strength = 0.5 + 0.3 * min((adx - numbers[ADX_THRESHOLD]) / 25.0, 1.0) + 0.2 * min(room / 20.0, 1.0)
    row[NOTES], row[NOTES + 1], row[NOTES + 2] = fast, slow, rsi
    row[NOTES + 3], row[NOTES + 4], row[NOTES + 5] = adx, atr, state[SINCE]
    return fill_row(row, direction, strength, close, distance, distance * numbers[REWARD_RISK])


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
    return SIZE


KERNEL = CandleKernel(decide, run, state_size)
