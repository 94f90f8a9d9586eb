"""Donchian channel: the highest high and the lowest low of the last bars."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel, plain
from strategies.indicators.bars import is_bar
from strategies.indicators.extremes import highest_size, highest_update

State = NDArray[np.float64]
# PREVIOUS_UPPER and PREVIOUS_LOWER are the channel before this bar, by which a breakout is judged; NaN before one is.
UPPER, LOWER, PREVIOUS_UPPER, PREVIOUS_LOWER, COUNT, EXTREMES = range(6)


@plain
def state_size(period: int) -> int:
    return EXTREMES + 2 * highest_size(period)


@kernel("float64(float64[::1], float64, float64, int64)")
def donchian_update(state: State, high: float, low: float, period: int) -> float:
    """The middle of the channel, from the ``period``-th bar on. Constant time on average."""
    if not is_bar(high, low, low):
        return np.nan
    had_channel = state[COUNT] >= period
    state[PREVIOUS_UPPER] = state[UPPER] if had_channel else np.nan
    state[PREVIOUS_LOWER] = state[LOWER] if had_channel else np.nan
    size = highest_size(period)
    state[UPPER] = highest_update(state[EXTREMES : EXTREMES + size], high, period)
    state[LOWER] = -highest_update(state[EXTREMES + size :], -low, period)
    state[COUNT] += 1
    return (state[UPPER] + state[LOWER]) / 2.0 if state[COUNT] >= period else np.nan


@kernel("float64[:, ::1](float64[::1], float64[::1], int64)")
def donchian_series(highs: State, lows: State, period: int) -> State:
    """Middle, upper and lower line; shape (3, n)."""
    state, lines = np.zeros(state_size(period)), np.empty((3, len(highs)))
    for index in range(len(highs)):
        middle = donchian_update(state, highs[index], lows[index], period)
        defined = not math.isnan(middle)
        lines[0, index] = middle
        lines[1, index] = state[UPPER] if defined else np.nan
        lines[2, index] = state[LOWER] if defined else np.nan
    return lines
