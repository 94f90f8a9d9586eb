"""The compiled half of the book. A side is two int64 arrays, best level first: ``keys`` (ascending; the tick for asks,
minus the tick for bids, so that both sides run the same code) and ``lots``.

Every loop is bounded: an unbounded ``while`` has been seen to miscompile when numba loads it from its cache.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.int64]


@nb.njit("int64(int64[::1], int64, int64)", cache=True, nogil=True)
def find_level(keys: Levels, count: int, key: int) -> int:
    """The index of the first of ``count`` ascending keys that is not below ``key``."""
    low, high = 0, count
    for _ in range(64):
        if low >= high:
            break
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@nb.njit("int64(int64[::1], int64[::1], int64, int64[::1], int64[::1], int64)", cache=True, nogil=True)
def apply_changes(
    keys: Levels, lots: Levels, count: int, changed_keys: Levels, changed_lots: Levels, changes: int
) -> int:
    """Set each changed level to its new quantity (0 removes it; removing an absent level is normal). Returns the new
    number of levels. The arrays must have room for ``count + changes`` levels."""
    for change in range(changes):
        key, quantity = changed_keys[change], changed_lots[change]
        index = find_level(keys, count, key)
        present = index < count and keys[index] == key
        if quantity == 0:
            if present:
                for position in range(index, count - 1):
                    keys[position] = keys[position + 1]
                    lots[position] = lots[position + 1]
                count -= 1
        elif present:
            lots[index] = quantity
        else:
            for position in range(count, index, -1):
                keys[position] = keys[position - 1]
                lots[position] = lots[position - 1]
            keys[index] = key
            lots[index] = quantity
            count += 1
    return count


@nb.njit("float64(int64[::1], int64, int64)", cache=True, nogil=True)
def sum_lots(lots: Levels, count: int, levels: int) -> float:
    """The quantity of the best ``levels`` levels, in lots."""
    total = 0
    for index in range(min(count, levels)):
        total += lots[index]
    return float(total)


@nb.njit("float64(int64[::1], int64[::1], int64, int64)", cache=True, nogil=True)
def mean_key(keys: Levels, lots: Levels, count: int, levels: int) -> float:
    """The quantity-weighted mean key of the best ``levels`` levels; NaN on an empty side."""
    total, weighted = 0.0, 0.0
    for index in range(min(count, levels)):
        total += lots[index]
        weighted += float(keys[index]) * lots[index]
    return weighted / total if total > 0 else np.nan
