"""Returns of minutes and correlations of pairs, read from bars when somebody asks: to the last digit what
``risk.returns.Returns`` makes of the same minutes when it is told them one by one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import MINUTE_MS
from marketdata.engine.memory import load
from trading.backtest.kernels.decorators import inner, kernel
from trading.backtest.kernels.slots import Known

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# Those of risk/returns.py (a test compares them): kernels are not compiled anew when that file changes.
WINDOW, FEWEST = 240, 20
NOTHING = math.nan
HALF = WINDOW // 2
# numpy sums so many at once, and a row of more in two halves of whole eights.
LANES = 8
assert WINDOW % (2 * LANES) == 0 and HALF <= 128 < WINDOW
CLOSE, START, LENGTH, LAST, DONE, NEWEST = (int(each) for each in Known)


@kernel("void(int64[::1], int64, int64[:, ::1], int64[::1])")
def note(asked: Ints, time_ms: int, known: Ints, newest: Ints) -> None:
    """These symbols are known to this time: the bars that end there or before. ``newest``: the newest minute of any
    symbol that has a return; the last one has none yet, the next ends it."""
    for symbol in asked:
        start, last = known[symbol, START], known[symbol, LAST]
        low, high = last, known[symbol, LENGTH] - 1
        while low < high:
            middle = (low + high + 1) // 2
            if load(start, middle) + MINUTE_MS <= time_ms:
                low = middle
            else:
                high = middle - 1
        if low < 0 or load(start, low) + MINUTE_MS > time_ms:
            continue
        known[symbol, LAST] = low
        bar = low - 1
        while bar > 0 and load(start, bar) - load(start, bar - 1) != MINUTE_MS:
            bar -= 1
        if bar > 0:
            newest[0] = max(newest[0], load(start, bar) // MINUTE_MS + 1)


@inner
def fill_row(symbol: int, known: Ints, one: float, newest: int, row: Floats) -> None:
    """The log returns of the window that ends with minute ``newest``, each at its minute modulo the window, NaN where
    there is none; those that the row has already stay. Bars count for the minute at which they end."""
    before, done, last = known[symbol, NEWEST], known[symbol, DONE], known[symbol, LAST]
    for minute in range(max(before + 1, newest - WINDOW + 1), newest + 1):
        row[minute % WINDOW] = NOTHING
    close, start = known[symbol, CLOSE], known[symbol, START]
    for bar in range(last - 1, max(done, 0), -1):
        minute = load(start, bar) // MINUTE_MS + 1
        if minute <= newest - WINDOW:
            break
        price, earlier = load(close, bar), load(close, bar - 1)
        if minute <= newest and load(start, bar) - load(start, bar - 1) == MINUTE_MS and earlier > 0 and price > 0:
            row[minute % WINDOW] = math.log((price / one) / (earlier / one))
    known[symbol, NEWEST], known[symbol, DONE] = newest, last - 1


@inner
def total(values: Floats) -> float:
    """As numpy sums a row: eight by eight, in two halves."""
    found = 0.0
    for base in (0, HALF):
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
        # The first half is added to nothing.
        found += ((a + b) + (c + d)) + ((e + f) + (g + h))
    return found


@inner
def correlation(own: Floats, other: Floats, room: Floats) -> float:
    """Of two rows over the minutes that both have, -1 to 1; NaN for too few, or one that did not move."""
    count = 0
    for at in range(WINDOW):
        # NaN is not what it is itself.
        both = own[at] == own[at] and other[at] == other[at]
        count += both
        room[0, at], room[1, at] = own[at] if both else 0.0, other[at] if both else 0.0
    if count < FEWEST:
        return NOTHING
    own_mean, other_mean = total(room[0]) / count, total(room[1]) / count
    for at in range(WINDOW):
        both = own[at] == own[at] and other[at] == other[at]
        first = room[0, at] - own_mean if both else 0.0
        second = room[1, at] - other_mean if both else 0.0
        room[0, at], room[1, at], room[2, at] = first * first, second * second, first * second
    spread = math.sqrt(total(room[1]) * total(room[0]))
    if not spread > 0.0:
        return NOTHING
    return min(max(total(room[2]) / spread, -1.0), 1.0)


@kernel("void(int64, int64[::1], int64[:, ::1], float64[::1], int64, float64[:, ::1], float64[:, ::1], float64[::1])")
def correlations(
    symbol: int, asked: Ints, known: Ints, ones: Floats, newest: int, rows: Floats, room: Floats, found: Floats
) -> None:
    """Of a symbol with each that is asked, into ``found``; ``rows`` of all symbols are brought up to date for it.
    ``ones``: units of a price; ``room``: three rows that it may use."""
    if known[symbol, LAST] >= 0:
        fill_row(symbol, known, ones[symbol], newest, rows[symbol])
    for at in range(len(asked)):
        other, found[at] = asked[at], NOTHING
        if other != symbol and known[other, LAST] >= 0 and known[symbol, LAST] >= 0:
            fill_row(other, known, ones[other], newest, rows[other])
            found[at] = correlation(rows[symbol], rows[other], room)
