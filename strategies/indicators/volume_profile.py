"""Volume profile: at which prices the volume of the last bars changed hands.

The range of the last ``lookback`` bars is cut into ``rows`` of equal height, and each bar's volume lies evenly over its
own range. The point of control (POC) is the middle of the row with the most (the lowest of equals); the value area
grows from it row by row, to the side where the next row has more (upwards between equals), until it holds the share
that is asked for.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import inner, kernel, plain
from strategies.indicators.bars import is_bar
from strategies.indicators.extremes import highest_size, highest_update

State = NDArray[np.float64]
# Prices, but for STRENGTH: the POC row's volume over the mean row's. The rows follow, then rings of highs, lows and
# volumes, then the queues of extremes.
POC, VALUE_AREA_HIGH, VALUE_AREA_LOW, STRENGTH, TOP, BOTTOM, COUNT, NEXT, ROWS = range(9)


@plain
def state_size(lookback: int, rows: int) -> int:
    return ROWS + rows + 3 * lookback + 2 * highest_size(lookback)


@inner
def _spread(state: State, rows: int, high: float, low: float, volume: float) -> None:
    """Lay a bar's volume over the rows that it crosses; a volume below 0 takes it away again."""
    height = (state[TOP] - state[BOTTOM]) / rows
    first = max(0, min(int((low - state[BOTTOM]) / height), rows - 1))
    last = max(first, min(int((high - state[BOTTOM]) / height), rows - 1))
    if first == last:
        state[ROWS + first] += volume
        return
    density = volume / (high - low)
    for row in range(first, last + 1):
        floor = low if row == first else state[BOTTOM] + row * height
        ceiling = high if row == last else state[BOTTOM] + (row + 1) * height
        state[ROWS + row] += density * (ceiling - floor)


@inner
def _lay_anew(state: State, rings: State, lookback: int, rows: int) -> None:
    for row in range(rows):
        state[ROWS + row] = 0.0
    for index in range(lookback):
        _spread(state, rows, rings[index], rings[lookback + index], rings[2 * lookback + index])


@inner
def _read(state: State, rows: int, value_area: float) -> float:
    total, most = 0.0, 0
    for row in range(rows):
        total += state[ROWS + row]
        if state[ROWS + row] > state[ROWS + most]:
            most = row
    if total <= 0:
        return np.nan
    held, first, last = state[ROWS + most], most, most
    for _ in range(rows - 1):
        if held >= value_area * total:
            break
        above = state[ROWS + last + 1] if last + 1 < rows else -1.0
        below = state[ROWS + first - 1] if first > 0 else -1.0
        if above >= below:
            last += 1
            held += above
        else:
            first -= 1
            held += below
    height = (state[TOP] - state[BOTTOM]) / rows
    state[POC] = state[BOTTOM] + (most + 0.5) * height
    state[VALUE_AREA_HIGH] = state[BOTTOM] + (last + 1) * height
    state[VALUE_AREA_LOW] = state[BOTTOM] + first * height
    state[STRENGTH] = state[ROWS + most] * rows / total
    return state[POC]


@kernel("float64(float64[::1], float64, float64, float64, float64, int64, int64, float64)")
def volume_profile_update(
    state: State, high: float, low: float, close: float, volume: float, lookback: int, rows: int, value_area: float
) -> float:
    """The POC, from the ``lookback``-th bar on; NaN while nothing traded. ``value_area`` is a share, 0 to 1.

    Takes as long as there are rows; ``lookback`` times the rows of a bar where the range changes, and once in
    ``lookback`` bars, so that what adding and taking away rounds off does not pile up.
    """
    if not is_bar(high, low, close) or not 0.0 <= volume < np.inf:
        return np.nan
    rings = state[ROWS + rows : ROWS + rows + 3 * lookback]
    queues = state[ROWS + rows + 3 * lookback :]
    at = int(state[NEXT])
    gone_high, gone_low, gone = rings[at], rings[lookback + at], rings[2 * lookback + at]
    rings[at], rings[lookback + at], rings[2 * lookback + at] = high, low, volume
    state[NEXT] = at + 1 if at + 1 < lookback else 0
    size = highest_size(lookback)
    top = highest_update(queues[:size], high, lookback)
    bottom = -highest_update(queues[size:], -low, lookback)
    state[COUNT] += 1
    if state[COUNT] < lookback:
        return np.nan
    known = state[COUNT] > lookback and top == state[TOP] and bottom == state[BOTTOM]
    state[TOP], state[BOTTOM] = top, bottom
    if top == bottom:
        # All at one price: one row holds everything, wherever it is.
        state[POC] = state[VALUE_AREA_HIGH] = state[VALUE_AREA_LOW] = top
        state[STRENGTH] = rows
        return top
    if known and at + 1 < lookback:
        _spread(state, rows, gone_high, gone_low, -gone)
        _spread(state, rows, high, low, volume)
    else:
        _lay_anew(state, rings, lookback, rows)
    return _read(state, rows, value_area)


@kernel(
    "float64[:, ::1](float64[::1], float64[::1], float64[::1], float64[::1], int64, int64, float64)",
)
def volume_profile_series(
    highs: State, lows: State, closes: State, volumes: State, lookback: int, rows: int, value_area: float
) -> State:
    """POC, value area high and low, strength; shape (4, n)."""
    state, lines = np.zeros(state_size(lookback, rows)), np.empty((4, len(closes)))
    for index in range(len(closes)):
        poc = volume_profile_update(
            state, highs[index], lows[index], closes[index], volumes[index], lookback, rows, value_area
        )
        for line in range(4):
            lines[line, index] = np.nan if math.isnan(poc) else state[POC + line]
    return lines
