"""SAR wave: in a flat market, a cross of the Parabolic SAR in the direction of the Elliott wave under way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.candle_strategy import ROW, CandleKernel
from strategies.compiled import inner, kernel
from strategies.indicators.elliott import (
    CONFIDENCE,
    FIRST_HEIGHT,
    TREND,
    TURNS,
    WAVE_START,
    elliott_count,
    elliott_follow,
)
from strategies.indicators.elliott import state_size as elliott_size
from strategies.indicators.flat_market import flat_market_update
from strategies.indicators.flat_market import state_size as flat_size
from strategies.indicators.parabolic_sar import DIRECTION as SAR_DIRECTION
from strategies.indicators.parabolic_sar import NEXT_STOP, parabolic_sar_update
from strategies.indicators.parabolic_sar import state_size as sar_size
from strategies.kernels.signal_row import DECIDE, NOTES, RUN, clamped_stop, fill_row, is_a_bar

(
    TIMEFRAME,
    AF_START,
    AF_STEP,
    AF_MAX,
    MIN_FLAT_STRENGTH,
    MIN_WAVE_CONFIDENCE,
    FIBONACCI_1,
    FIBONACCI_2,
    FIBONACCI_3,
    FIBONACCI_4,
    FIBONACCI_5,
    FIBONACCI_TOLERANCE,
    FLAT_PERIOD,
    FLAT_LOOKBACK,
    SWING_ATR,
    REWARD_RISK,
    MIN_STOP_PERCENT,
    MAX_STOP_PERCENT,
) = range(18)
# Places in the state: the SAR's, the wave count's, the flat market's.
SAR = 0
WAVES = SAR + sar_size()
FLAT = WAVES + elliott_size()
# By wave, 1 to 5: how far it is expected to go, in heights of wave 1, and what that makes of a signal's strength.
TARGETS = np.array([1.618, 0.618, 2.618, 0.618, 1.0])
STRENGTHS = np.array([1.1, 1.0, 1.2, 1.0, 1.2])


@inner
def _retraced_by_fibonacci(numbers: NDArray[np.float64], turns: NDArray[np.float64]) -> bool:
    """Whether the last swing gave back about one of Fibonacci's shares of the one before."""
    before = abs(turns[1] - turns[2])
    if not before > 0.0:
        return False
    share = abs(turns[0] - turns[1]) / before
    for level in range(FIBONACCI_1, FIBONACCI_5 + 1):
        if abs(share - numbers[level]) <= numbers[FIBONACCI_TOLERANCE]:
            return True
    return False


@inner
def _follows_a_wave(
    state: NDArray[np.float64],
    numbers: NDArray[np.float64],
    close: float,
    flat: float,
    row: NDArray[np.float64],
) -> bool:
    waves, direction, stop = state[WAVES:FLAT], state[SAR + SAR_DIRECTION], state[SAR + NEXT_STOP]
    wave = int(elliott_count(waves))
    confidence = waves[CONFIDENCE]
    if not 1 <= wave <= 5 or confidence < numbers[MIN_WAVE_CONFIDENCE]:
        return False
    # Of an impulse that rises waves 1, 3 and 5 go up, 2 and 4 down; of one that falls the other way round.
    if direction != (waves[TREND] if wave % 2 == 1 else -waves[TREND]):
        return False
    if (wave == 3 or wave == 5) and not _retraced_by_fibonacci(numbers, waves[TURNS:]):
        return False
    distance = clamped_stop(direction * (close - stop), close, numbers[MIN_STOP_PERCENT], numbers[MAX_STOP_PERCENT])
    target = waves[WAVE_START] + direction * TARGETS[wave - 1] * waves[FIRST_HEIGHT]
    reward = direction * (target - close)
    if reward < distance * numbers[REWARD_RISK]:
        return False
    row[NOTES], row[NOTES + 1], row[NOTES + 2], row[NOTES + 3] = wave, confidence, flat, stop
    strength = (0.6 * confidence + 0.4 * flat) * STRENGTHS[wave - 1]
    return fill_row(row, int(direction), strength, close, distance, reward)


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
    before = state[SAR + SAR_DIRECTION]
    parabolic_sar_update(state[SAR:WAVES], high, low, numbers[AF_START], numbers[AF_STEP], numbers[AF_MAX])
    period = int(numbers[FLAT_PERIOD])
    known = elliott_follow(state[WAVES:FLAT], high, low, close, 0.0, numbers[SWING_ATR], period)
    flat = flat_market_update(state[FLAT:], high, low, close, period, int(numbers[FLAT_LOOKBACK]))
    crossed = before != 0.0 and state[SAR + SAR_DIRECTION] != before
    if not known or not crossed or not flat >= numbers[MIN_FLAT_STRENGTH]:
        return False
    return _follows_a_wave(state, numbers, close, flat, row)


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
    return FLAT + flat_size(int(numbers[FLAT_PERIOD]), int(numbers[FLAT_LOOKBACK]))


KERNEL = CandleKernel(decide, run, state_size)
