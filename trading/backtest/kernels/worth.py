"""What the account was worth at the ends of steps, looked through for a loss that is too large."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marketdata.engine.memory import load
from trading.backtest.kernels.decorators import kernel
from trading.backtest.kernels.slots import Held, HeldFigure

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


CLOSE, STEPS, FIRST, LAST, AT = (int(each) for each in Held)
SIGNED, ENTRY, ONE = (int(each) for each in HeldFigure)


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
        if held[row, STEPS] != 0:
            low, high = 0, held[row, LAST]
            while low < high:
                middle = (low + high + 1) // 2
                if load(held[row, STEPS], middle) <= first:
                    low = middle
                else:
                    high = middle - 1
            held[row, AT] = low
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
