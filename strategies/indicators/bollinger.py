"""Bollinger bands: the mean of the last closes, and lines so many standard deviations (of a population) around it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel, plain
from strategies.indicators.rolling import VARIANCE, moments_size, moments_update

UPPER, LOWER, DEVIATION, MOMENTS = range(4)


@plain
def state_size(period: int) -> int:
    return MOMENTS + moments_size(period)


@kernel("float64(float64[::1], float64, int64, float64)")
def bollinger_update(state: NDArray[np.float64], close: float, period: int, multiplier: float) -> float:
    """The middle, from the ``period``-th close on; ``UPPER``, ``LOWER`` and ``DEVIATION`` beside it. Constant time."""
    if not math.isfinite(close):
        return np.nan
    middle = moments_update(state[MOMENTS:], close, period)
    state[DEVIATION] = math.sqrt(state[MOMENTS + VARIANCE])
    state[UPPER] = middle + multiplier * state[DEVIATION]
    state[LOWER] = middle - multiplier * state[DEVIATION]
    return middle


@kernel("float64[:, ::1](float64[::1], int64, float64)")
def bollinger_series(closes: NDArray[np.float64], period: int, multiplier: float) -> NDArray[np.float64]:
    """Middle, upper and lower line; shape (3, n)."""
    state, lines = np.zeros(state_size(period)), np.empty((3, len(closes)))
    for index in range(len(closes)):
        middle = bollinger_update(state, closes[index], period, multiplier)
        defined = not math.isnan(middle)
        lines[0, index] = middle
        lines[1, index] = state[UPPER] if defined else np.nan
        lines[2, index] = state[LOWER] if defined else np.nan
    return lines
