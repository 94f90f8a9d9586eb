"""Sums, means and variances over the last bars, in constant time a bar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.compiled import inner, plain

State = NDArray[np.float64]

# Slots of a rolling sum; its ring of values follows.
COUNT, NEXT, SUM, CARRY, RING = range(5)
# Slots of rolling moments: sums of the distances from an anchor near the mean, and of their squares.
M_COUNT, M_NEXT, ANCHOR, M_SUM, M_CARRY, SQUARES, SQUARES_CARRY, MEAN, VARIANCE, M_RING = range(10)
# Variances keep ten digits: where one is so much smaller than the squares that it is made of, the anchor moves.
CANCELLED = 1e-6


@plain
def sum_size(period: int) -> int:
    """The state of :func:`sum_update`."""
    return RING + period


@plain
def moments_size(period: int) -> int:
    """The state of :func:`moments_update`."""
    return M_RING + period


@inner
def add(state: State, at: int, value: float) -> None:
    """Add to the sum in slot ``at``; what rounding loses goes to the slot behind it."""
    total = state[at]
    state[at] = total + value
    if abs(total) >= abs(value):
        state[at + 1] += (total - state[at]) + value
    else:
        state[at + 1] += (value - state[at]) + total


@inner
def sum_update(state: State, value: float, period: int) -> float:
    """The sum of the last ``period`` values, NaN before there are as many."""
    at = int(state[NEXT])
    if state[COUNT] == period:
        add(state, SUM, -state[RING + at])
    else:
        state[COUNT] += 1
    state[RING + at] = value
    state[NEXT] = at + 1 if at + 1 < period else 0
    add(state, SUM, value)
    return state[SUM] + state[CARRY] if state[COUNT] == period else np.nan


@inner
def moments_update(state: State, value: float, period: int) -> float:
    """The mean of the last ``period`` values, NaN before there are as many; ``VARIANCE`` is that of a population."""
    at = int(state[M_NEXT])
    if state[M_COUNT] == 0:
        state[ANCHOR] = value
    if state[M_COUNT] == period:
        gone = state[M_RING + at] - state[ANCHOR]
        add(state, M_SUM, -gone)
        add(state, SQUARES, -gone * gone)
    else:
        state[M_COUNT] += 1
    state[M_RING + at] = value
    state[M_NEXT] = at + 1 if at + 1 < period else 0
    come = value - state[ANCHOR]
    add(state, M_SUM, come)
    add(state, SQUARES, come * come)
    if state[M_COUNT] < period:
        return np.nan
    _read(state, period)
    if state[VARIANCE] < CANCELLED * (state[SQUARES] + state[SQUARES_CARRY]) / period:
        _anchor(state, period)
        _read(state, period)
    return state[MEAN]


@inner
def _read(state: State, period: int) -> None:
    offset = (state[M_SUM] + state[M_CARRY]) / period
    state[MEAN] = state[ANCHOR] + offset
    state[VARIANCE] = max(0.0, (state[SQUARES] + state[SQUARES_CARRY]) / period - offset * offset)


@inner
def _anchor(state: State, period: int) -> None:
    """Sum anew around the mean. Rare: a price must first go a thousand deviations away."""
    state[ANCHOR] = state[MEAN]
    state[M_SUM] = state[M_CARRY] = state[SQUARES] = state[SQUARES_CARRY] = 0.0
    for index in range(period):
        distance = state[M_RING + index] - state[ANCHOR]
        add(state, M_SUM, distance)
        add(state, SQUARES, distance * distance)
