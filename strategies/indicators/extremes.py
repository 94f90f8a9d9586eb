"""The highest of the last bars, in constant time a bar on average: a queue of falling values, whose first is the
highest. The lowest is the highest of the negatives, negated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import inner, plain

State = NDArray[np.float64]

# Slots; the ring of the queue's values follows, then that of their bars' numbers.
BARS, HEAD, LENGTH, RING = range(4)


@plain
def highest_size(period: int) -> int:
    """The state of :func:`highest_update`."""
    return RING + 2 * period


@inner
def highest_update(state: State, value: float, period: int) -> float:
    """The highest of the last ``period`` values, or of those there are."""
    head, length = int(state[HEAD]), int(state[LENGTH])
    if length > 0 and state[RING + period + head] <= state[BARS] - period:
        head = head + 1 if head + 1 < period else 0
        length -= 1
    # Bounded: an unbounded while has been seen to miscompile when numba loads it from its cache.
    for _ in range(period):
        if length == 0:
            break
        last = head + length - 1
        last = last - period if last >= period else last
        if state[RING + last] > value:
            break
        length -= 1
    last = head + length
    last = last - period if last >= period else last
    state[RING + last], state[RING + period + last] = value, state[BARS]
    state[BARS] += 1
    state[HEAD], state[LENGTH] = head, length + 1
    return state[RING + head]
