"""What the account was worth at the ends of steps, looked through for a loss that is too large."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marketdata.engine.memory import load
from trading.backtest.kernels.decorators import inner, kernel
from trading.backtest.kernels.slots import Held, HeldFigure

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


CLOSE, STEPS, FIRST, LAST, AT = (int(each) for each in Held)
SIGNED, ENTRY, ONE = (int(each) for each in HeldFigure)


@inner
def bar_at(steps: int, first: int, last: int, step: int) -> int:
    """The bar whose close is the last at the end of a step; the first where none is."""
    if steps == 0:
        return min(max(step - first, 0), last)
    low, high = 0, last
    while low < high:
        middle = (low + high + 1) // 2
        if load(steps, middle) <= step:
            low = middle
        else:
            high = middle - 1
    return low


@kernel("void(int64, int64, int64, int64, float64, int64, int64, float64, float64, float64[:, ::1])")
def add_stretch(
    close: int, steps: int, first: int, last: int, one: float, begin: int, end: int, signed: float, entry: float,
    worth: Floats,
) -> None:  # fmt: skip
    """What is held of a symbol at the ends of the steps ``[begin, end)``: the profit is added to the first row of
    ``worth``, what it is worth to the second. The symbol as in ``Held``, ``one``: units of a price."""
    bar = bar_at(steps, first, last, begin)
    for step in range(begin, end):
        if steps == 0:
            bar = min(max(step - first, 0), last)
        else:
            while bar < last and load(steps, bar + 1) <= step:
                bar += 1
        price = load(close, bar) / one
        worth[0, step] += signed * (price - entry)
        worth[1, step] += abs(signed) * price


@kernel(
    "int64(int64, int64[:, ::1], float64[:, ::1], int64, int64, float64, float64, float64, float64, float64[::1], "
    "int64[::1])"
)
def first_low(
    count: int,
    held: Ints,
    figures: Floats,
    first: int,
    until: int,
    balance: float,
    floor: float,
    share: float,
    slack: float,
    highest: Floats,
    best: Ints,
) -> int:
    """The first step of ``[first, until)`` at whose end the account is not above ``floor``, or ``share`` of what was
    ``highest`` before (NaN: such a limit is not set), both widened by ``slack``; ``until`` where there is none. The
    highest worth of the way goes into ``highest[1]``, its step into ``best``; ``highest[0]`` keeps the peak."""
    for row in range(count):
        held[row, AT] = bar_at(held[row, STEPS], held[row, FIRST], held[row, LAST], first)
    peak, most = highest[0], -np.inf
    for step in range(first, until):
        worth = balance
        for row in range(count):
            last = held[row, LAST]
            if held[row, STEPS] == 0:
                bar = min(max(step - held[row, FIRST], 0), last)
            else:
                bar = held[row, AT]
                while bar < last and load(held[row, STEPS], bar + 1) <= step:
                    bar += 1
                held[row, AT] = bar
            worth += figures[row, SIGNED] * (load(held[row, CLOSE], bar) / figures[row, ONE] - figures[row, ENTRY])
        if worth > most:
            most = worth
            best[0] = step
        peak = max(peak, worth)
        if worth <= floor * slack or worth <= peak * share * slack:
            highest[0], highest[1] = peak, most
            return step
    highest[0], highest[1] = peak, most
    return until
