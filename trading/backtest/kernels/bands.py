"""Looks for the next bar that a position must be shown: all others change nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import kernel


@kernel("int64(int64[::1], int64[::1], int64, int64, int64, int64)")
def leaves_band(high: NDArray[np.int64], low: NDArray[np.int64], first: int, end: int, bottom: int, top: int) -> int:
    """The first bar of ``[first, end)`` whose range reaches ``bottom`` or ``top``; ``end`` where none does."""
    for index in range(first, end):
        if low[index] <= bottom or high[index] >= top:
            return index
    return end


@kernel("UniTuple(int64, 2)(int64[::1], int64[::1], int64, int64)")
def extremes(high: NDArray[np.int64], low: NDArray[np.int64], first: int, end: int) -> tuple[int, int]:
    """The highest and the lowest price of the bars ``[first, end)``, of which there is one at least."""
    highest, lowest = high[first], low[first]
    for value in high[first:end]:
        highest = max(highest, value)
    for value in low[first:end]:
        lowest = min(lowest, value)
    return highest, lowest
