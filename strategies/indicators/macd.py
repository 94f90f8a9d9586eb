"""Moving average convergence / divergence: a fast exponential average minus a slow one, and the average of that."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel, plain
from strategies.indicators.ema import ema_update
from strategies.indicators.ema import state_size as ema_size

SIGNAL, HISTOGRAM, COUNT, AVERAGES = range(4)


@plain
def state_size() -> int:
    return AVERAGES + 3 * ema_size()


@kernel("float64(float64[::1], float64, int64, int64, int64)")
def macd_update(state: NDArray[np.float64], close: float, fast: int, slow: int, signal: int) -> float:
    """The line, from the close of the slower average's length on; ``SIGNAL`` and ``HISTOGRAM`` are NaN for the
    ``signal - 1`` bars after that. Both averages start at one bar, as TA-Lib's do. Constant time."""
    if not math.isfinite(close):
        return np.nan
    if fast > slow:
        fast, slow = slow, fast
    size = ema_size()
    state[COUNT] += 1
    state[SIGNAL] = state[HISTOGRAM] = np.nan
    slower = ema_update(state[AVERAGES : AVERAGES + size], close, slow)
    if state[COUNT] <= slow - fast:
        return np.nan
    faster = ema_update(state[AVERAGES + size : AVERAGES + 2 * size], close, fast)
    line = faster - slower
    # NaN while the averages are not there, which the average of the line passes over.
    state[SIGNAL] = ema_update(state[AVERAGES + 2 * size :], line, signal)
    state[HISTOGRAM] = line - state[SIGNAL]
    return line


@kernel("float64[:, ::1](float64[::1], int64, int64, int64)")
def macd_series(closes: NDArray[np.float64], fast: int, slow: int, signal: int) -> NDArray[np.float64]:
    """Line, signal and histogram; shape (3, n)."""
    state, lines = np.zeros(state_size()), np.empty((3, len(closes)))
    for index in range(len(closes)):
        lines[0, index] = macd_update(state, closes[index], fast, slow, signal)
        passed_over = not math.isfinite(closes[index])
        lines[1, index] = np.nan if passed_over else state[SIGNAL]
        lines[2, index] = np.nan if passed_over else state[HISTOGRAM]
    return lines
