"""Zigzag: the turns of a price, each so far from the last one that what lies between counts as one swing.

A turn is known only once the price has come back by the reversal: the larger of ``percent`` of the extreme and
``multiple`` average true ranges (0 leaves one out). Nothing is ever changed afterwards: it does not repaint.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import inner, kernel, plain
from strategies.indicators.atr import atr_update
from strategies.indicators.atr import state_size as atr_size
from strategies.indicators.bars import is_bar

State = NDArray[np.float64]
# DIRECTION is that of the swing under way (1 up, -1 down, 0 before the first turn), EXTREME how far it has come, and
# EXTREME_BAR when (bars that were taken, from 0). PIVOT is the last turn, PIVOT_BAR its bar, PIVOT_KIND 1 for a high,
# -1 for a low; CONFIRMED is 1 on the bar that made it known. LOW and HIGH are those before the first turn.
(
    DIRECTION,
    EXTREME,
    EXTREME_BAR,
    PIVOT,
    PIVOT_BAR,
    PIVOT_KIND,
    CONFIRMED,
    BARS,
    HIGH,
    HIGH_BAR,
    LOW,
    LOW_BAR,
    RANGE,
) = range(13)


@plain
def state_size() -> int:
    return RANGE + atr_size()


@inner
def _turn(state: State, pivot: float, pivot_bar: float, kind: float, extreme: float) -> None:
    state[PIVOT], state[PIVOT_BAR], state[PIVOT_KIND], state[CONFIRMED] = pivot, pivot_bar, kind, 1.0
    state[DIRECTION], state[EXTREME], state[EXTREME_BAR] = -kind, extreme, state[BARS]


@inner
def _first_turn(state: State, high: float, low: float, close: float, percent: float, ranged: float) -> None:
    if state[BARS] == 0 or high > state[HIGH]:
        state[HIGH], state[HIGH_BAR] = high, state[BARS]
    if state[BARS] == 0 or low < state[LOW]:
        state[LOW], state[LOW_BAR] = low, state[BARS]
    if math.isnan(ranged):
        return
    rose = high - state[LOW] >= max(state[LOW] * percent / 100.0, ranged) and state[LOW_BAR] < state[BARS]
    fell = state[HIGH] - low >= max(state[HIGH] * percent / 100.0, ranged) and state[HIGH_BAR] < state[BARS]
    if rose and (not fell or close - state[LOW] >= state[HIGH] - close):
        _turn(state, state[LOW], state[LOW_BAR], -1.0, high)
    elif fell:
        _turn(state, state[HIGH], state[HIGH_BAR], 1.0, low)


@kernel("float64(float64[::1], float64, float64, float64, float64, float64, int64)")
def zigzag_update(
    state: State, high: float, low: float, close: float, percent: float, multiple: float, period: int
) -> float:
    """The price of the last turn, from the first that is known on. Constant time.

    Of a bar that makes a new extreme only the close can turn the swing: what came first within it is not known.
    """
    if not is_bar(high, low, close):
        return np.nan
    state[CONFIRMED] = 0.0
    ranged = atr_update(state[RANGE:], high, low, close, period) * multiple if multiple > 0 else 0.0
    if state[DIRECTION] == 0:
        _first_turn(state, high, low, close, percent, ranged)
    else:
        direction = state[DIRECTION]
        ahead, behind = (high, low) if direction > 0 else (low, high)
        if (ahead - state[EXTREME]) * direction > 0:
            state[EXTREME], state[EXTREME_BAR] = ahead, state[BARS]
            behind = close
        if (state[EXTREME] - behind) * direction >= max(state[EXTREME] * percent / 100.0, ranged):
            _turn(state, state[EXTREME], state[EXTREME_BAR], direction, behind)
    state[BARS] += 1
    return state[PIVOT] if state[DIRECTION] != 0 else np.nan


@kernel("float64[:, ::1](float64[::1], float64[::1], float64[::1], float64, float64, int64)")
def zigzag_series(highs: State, lows: State, closes: State, percent: float, multiple: float, period: int) -> State:
    """The last turn, and the direction of the swing under way; shape (2, n)."""
    state, lines = np.zeros(state_size()), np.empty((2, len(closes)))
    for index in range(len(closes)):
        lines[0, index] = zigzag_update(state, highs[index], lows[index], closes[index], percent, multiple, period)
        lines[1, index] = state[DIRECTION]
    return lines
