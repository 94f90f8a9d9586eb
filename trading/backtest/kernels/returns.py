"""What correlations and volatilities are made of (risk/returns.py), read from bars when somebody asks: to the last digit
what telling every minute to ``risk.returns.Returns`` gives."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import MINUTE_MS
from risk.returns import WINDOW
from trading.backtest.kernels.decorators import inner, kernel

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NOTHING = math.nan
HALF = WINDOW // 2
# numpy sums so many at once, and a row of more in two halves of whole eights.
LANES = 8
assert WINDOW % (2 * LANES) == 0 and HALF <= 128 < WINDOW


@kernel("void(int64[::1], int64[::1], int64, int64, float64, float64[::1])")
def fill_row(close: Ints, start_ms: Ints, last: int, newest: int, one: float, row: Floats) -> None:
    """The log returns of the window that ends with minute ``newest``, each at its minute modulo the window, NaN where
    there is none. Bars count for the minute at which they end; bar ``last`` is known, its return is not: the next
    minute ends it. ``one``: units of a price."""
    row[:] = NOTHING
    for bar in range(last - 1, 0, -1):
        minute = start_ms[bar] // MINUTE_MS + 1
        if minute <= newest - WINDOW:
            break
        if (
            minute <= newest
            and start_ms[bar] - start_ms[bar - 1] == MINUTE_MS
            and close[bar - 1] > 0
            and close[bar] > 0
        ):
            row[minute % WINDOW] = math.log((close[bar] / one) / (close[bar - 1] / one))


@inner
def total(values: Floats) -> float:
    """As numpy sums a row: eight by eight, in two halves."""
    first, second = 0.0, 0.0
    for half in range(2):
        base = half * HALF
        a, b, c, d = values[base], values[base + 1], values[base + 2], values[base + 3]
        e, f, g, h = values[base + 4], values[base + 5], values[base + 6], values[base + 7]
        for at in range(base + LANES, base + HALF, LANES):
            a += values[at]
            b += values[at + 1]
            c += values[at + 2]
            d += values[at + 3]
            e += values[at + 4]
            f += values[at + 5]
            g += values[at + 6]
            h += values[at + 7]
        found = ((a + b) + (c + d)) + ((e + f) + (g + h))
        if half == 0:
            first = found
        else:
            second = found
    return first + second


@kernel("float64(float64[::1], float64[::1], float64[:, ::1], int64)")
def correlation(own: Floats, other: Floats, room: Floats, fewest: int) -> float:
    """Of two rows over the minutes that both have, -1 to 1; NaN for fewer than ``fewest``, or one that did not move.
    ``room``: two rows that it may use."""
    count = 0
    for at in range(WINDOW):
        both = own[at] == own[at] and other[at] == other[at]
        count += both
        room[0, at], room[1, at] = own[at] if both else 0.0, other[at] if both else 0.0
    if count < fewest:
        return NOTHING
    own_mean, other_mean = total(room[0]) / count, total(room[1]) / count
    for at in range(WINDOW):
        both = own[at] == own[at] and other[at] == other[at]
        room[0, at] = room[0, at] - own_mean if both else 0.0
        room[1, at] = room[1, at] - other_mean if both else 0.0
    for at in range(WINDOW):
        first, second = room[0, at], room[1, at]
        room[0, at], room[1, at], room[2, at] = first * first, second * second, first * second
    spread = math.sqrt(total(room[1]) * total(room[0]))
    if not spread > 0.0:
        return NOTHING
    return min(max(total(room[2]) / spread, -1.0), 1.0)
