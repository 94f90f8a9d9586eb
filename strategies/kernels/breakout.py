"""Breakout: a close beyond the extreme of the bars before, tested often enough, on more volume than usual."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.candle_strategy import ROW, CandleKernel
from strategies.compiled import inner, kernel
from strategies.indicators.donchian import LOWER, UPPER, donchian_update
from strategies.indicators.donchian import state_size as donchian_size
from strategies.indicators.sma import sma_update
from strategies.indicators.sma import state_size as sma_size
from strategies.kernels.signal_row import DECIDE, NOTES, RUN, clamped_stop, fill_row, is_a_bar

(
    TIMEFRAME,
    RESISTANCE_STRENGTH,
    VOLUME_MULTIPLIER,
    PRICE_THRESHOLD,
    LOOKBACK,
    REWARD_RISK,
    MIN_STOP_PERCENT,
    MAX_STOP_PERCENT,
) = range(8)
# Slots of the state; NEXT is the place of the oldest bar in the rings of highs and of lows, which follow; then the
# channel, then the mean volume.
BARS, NEXT, MEAN_VOLUME, HIGHS = range(4)


@inner
def _touches(ring: NDArray[np.float64], oldest: int, bound: float, direction: int) -> int:
    """How often the bars of a ring came to a level: those of one visit count once."""
    touches, was_there = 0, False
    for bar in range(len(ring)):
        place = oldest + bar
        place = place - len(ring) if place >= len(ring) else place
        is_there = direction * ring[place] >= direction * bound
        if is_there and not was_there:
            touches += 1
        was_there = is_there
    return touches


@inner
def _breaks(
    state: NDArray[np.float64],
    numbers: NDArray[np.float64],
    close: float,
    volume: float,
    row: NDArray[np.float64],
) -> bool:
    """Whether a bar breaks the level of those before it."""
    lookback, threshold = int(numbers[LOOKBACK]), numbers[PRICE_THRESHOLD]
    if state[BARS] < lookback or not volume > numbers[VOLUME_MULTIPLIER] * state[MEAN_VOLUME] > 0.0:
        return False
    channel = HIGHS + 2 * lookback
    if close > state[channel + UPPER] * (1.0 + threshold):
        direction, level, ring = 1, state[channel + UPPER], HIGHS
    elif close < state[channel + LOWER] * (1.0 - threshold):
        direction, level, ring = -1, state[channel + LOWER], HIGHS + lookback
    else:
        return False
    behind = level * (1.0 - direction * threshold)
    touches = _touches(state[ring : ring + lookback], int(state[NEXT]), behind, direction)
    needed = numbers[RESISTANCE_STRENGTH]
    if touches < needed:
        return False
    distance = abs(close - behind)
    distance = clamped_stop(distance, close, numbers[MIN_STOP_PERCENT], numbers[MAX_STOP_PERCENT])
    ratio = volume / state[MEAN_VOLUME]
    busy = min(ratio / numbers[VOLUME_MULTIPLIER] - 1.0, 1.0)
    tested = min(touches / needed - 1.0, 1.0)
    row[NOTES], row[NOTES + 1], row[NOTES + 2] = level, touches, ratio
    strength = 0.4 + 0.3 * busy + 0.3 * tested
    return fill_row(row, direction, strength, close, distance, distance * numbers[REWARD_RISK])


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
    signals = _breaks(state, numbers, close, volume, row)
    lookback = int(numbers[LOOKBACK])
    channel = HIGHS + 2 * lookback
    volumes = channel + donchian_size(lookback)
    at = int(state[NEXT])
    state[NEXT] = at + 1 if at + 1 < lookback else 0
    state[HIGHS + at], state[HIGHS + lookback + at] = high, low
    state[BARS] += 1
    donchian_update(state[channel:volumes], high, low, lookback)
    state[MEAN_VOLUME] = sma_update(state[volumes:], volume, lookback)
    return signals


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
    lookback = int(numbers[LOOKBACK])
    return HIGHS + 2 * lookback + donchian_size(lookback) + sma_size(lookback)


KERNEL = CandleKernel(decide, run, state_size)
