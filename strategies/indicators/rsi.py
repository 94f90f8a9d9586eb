"""Relative strength index (Wilder): the share of rises among the last moves, 0 to 100."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel, plain

COUNT, PREVIOUS, RISE, FALL = range(4)
# Of a price that has not moved at all. TA-Lib says 0 there, which would read as a fall.
UNMOVED = 50.0


@plain
def state_size() -> int:
    return 4


@kernel("float64(float64[::1], float64, int64)")
def rsi_update(state: NDArray[np.float64], close: float, period: int) -> float:
    """0 to 100, from the close after the ``period``-th on. Constant time; ``RISE`` and ``FALL`` are the averages."""
    if not math.isfinite(close):
        return np.nan
    move = close - state[PREVIOUS]
    state[PREVIOUS] = close
    state[COUNT] += 1
    if state[COUNT] == 1:
        return np.nan
    rise, fall = max(move, 0.0), max(-move, 0.0)
    if state[COUNT] <= period + 1:
        state[RISE] += rise / period
        state[FALL] += fall / period
        if state[COUNT] <= period:
            return np.nan
    else:
        state[RISE] += (rise - state[RISE]) / period
        state[FALL] += (fall - state[FALL]) / period
    moves = state[RISE] + state[FALL]
    return 100.0 * state[RISE] / moves if moves > 0 else UNMOVED


@kernel("float64[::1](float64[::1], int64)")
def rsi_series(closes: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    state, line = np.zeros(state_size()), np.empty(len(closes))
    for index in range(len(closes)):
        line[index] = rsi_update(state, closes[index], period)
    return line
