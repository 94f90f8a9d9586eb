"""How strategies' kernels write a signal: one that ``strategies.signals.Signal`` accepts, or none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strategies.candle_strategy import PRICE_DECIMALS, Slot
from strategies.compiled import inner
from strategies.signals import MINIMUM_REWARD_RISK

DIRECTION, STRENGTH, TAKE_PROFIT, STOP_LOSS = (int(slot) for slot in list(Slot)[:4])
NOTES = int(Slot.NOTES)
# What the kernels of strategies take and give, see ``strategies.candle_strategy.CandleKernel``.
DECIDE = "boolean(float64[::1], float64[::1], int64, float64, float64, float64, float64, float64, float64[::1])"
RUN = (
    "int64(float64[::1], float64[::1], int64[::1], float64[::1], float64[::1], float64[::1], float64[::1], "
    "float64[::1], int64[::1], float64[:, ::1])"
)
_REWARD_RISK = float(MINIMUM_REWARD_RISK)
# Prices are rounded to a grid, and floats of large prices are coarser than that grid. So much of a price, and so many
# steps, is more than all that rounding can do to a ratio of two distances.
_GRID = 10.0**-PRICE_DECIMALS
_FLOAT_ERROR = 2e-15


@inner
def is_a_bar(open_: float, high: float, low: float, close: float, volume: float) -> bool:
    """Whether a bar can be: one that cannot would stay in every running sum, so strategies pass it over."""
    return bool(0.0 < low <= open_ <= high < np.inf and low <= close <= high and 0.0 <= volume < np.inf)


@inner
def clamped_stop(distance: float, close: float, nearest_percent: float, farthest_percent: float) -> float:
    """A stop's distance, kept within a band of distances; the far bound wins where both cannot be."""
    return min(max(distance, close * nearest_percent / 100.0), close * farthest_percent / 100.0)


@inner
def fill_row(
    row: NDArray[np.float64],
    direction: int,
    strength: float,
    close: float,
    stop_distance: float,
    target_distance: float,
) -> bool:
    """Write a signal at ``close``: False where there can be none, as with a stop or target below 0 or no number.

    The target is at least 1.5 times as far as the stop, also after both are rounded: it is moved by what is missing.
    """
    if not (0.0 <= stop_distance < np.inf and 0.0 <= target_distance < np.inf):
        return False
    step = 2.0 * _GRID + close * _FLOAT_ERROR
    stop_distance = max(stop_distance, step)
    target_distance = max(target_distance, _REWARD_RISK * stop_distance + step)
    stop = close - direction * stop_distance
    target = close + direction * target_distance
    # Also False for NaN.
    if not (step < stop < np.inf and step < target < np.inf):
        return False
    row[DIRECTION] = direction
    row[STRENGTH] = min(strength, 1.0) if strength > 0.0 else 0.0
    row[TAKE_PROFIT] = target
    row[STOP_LOSS] = stop
    return True
