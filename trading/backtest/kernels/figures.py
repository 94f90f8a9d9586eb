"""The figures of one run of a sweep, taken from its equity block by block, so that no curve is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import DAY_MS
from strategies.compiled import kernel
from trading.backtest.kernels.slots import Filled, Seen

PEAK, TROUGH, DRAWDOWN = int(Seen.PEAK), int(Seen.TROUGH), int(Seen.DRAWDOWN)
DAY_END, DAY_BEFORE, LAST, DAYS = int(Seen.DAY_END), int(Seen.DAY_BEFORE), int(Seen.LAST), int(Seen.DAYS)
MEAN, SQUARES, TRADES, HELD = int(Seen.MEAN), int(Seen.SQUARES), int(Seen.TRADES), int(Seen.HELD)
F_HELD = int(Filled.HELD)


@kernel("void(float64[::1], float64)")
def end_day(seen: NDArray[np.float64], equity: float) -> None:
    """A day's return: mean and squares are carried on. Nothing counts after ruin."""
    before = seen[DAY_BEFORE]
    if before <= 0.0:
        return
    gained = max(equity, 0.0) / before - 1.0
    seen[DAYS] += 1.0
    off = gained - seen[MEAN]
    seen[MEAN] += off / seen[DAYS]
    seen[SQUARES] += off * (gained - seen[MEAN])
    seen[DAY_BEFORE] = equity


@kernel("void(float64[::1], int64[::1], int64, float64[::1])")
def look(equity: NDArray[np.float64], start_ms: NDArray[np.int64], interval_ms: int, seen: NDArray[np.float64]) -> None:
    """Go on with the equity at the ends of some bars. ``seen``: ``Seen``; at first what a new run has seen."""
    peak, trough, drawdown, last = seen[PEAK], seen[TROUGH], seen[DRAWDOWN], seen[LAST]
    day_end = np.int64(seen[DAY_END])
    for bar in range(len(equity)):
        if start_ms[bar] + interval_ms > day_end:
            while start_ms[bar] + interval_ms > day_end:
                end_day(seen, last)
                day_end += DAY_MS
        last = equity[bar]
        if last > peak:
            drawdown = max(drawdown, (peak - trough) / peak)
            peak = trough = last
        elif last < trough:
            trough = last
    seen[PEAK], seen[TROUGH], seen[DRAWDOWN], seen[LAST] = peak, trough, max(drawdown, (peak - trough) / peak), last
    seen[DAY_END] = day_end


@kernel("void(int64[:, ::1], float64[::1])")
def count_trades(fills: NDArray[np.int64], seen: NDArray[np.float64]) -> None:
    """Positions that ended."""
    held = np.int64(seen[HELD])
    for row in range(len(fills)):
        after = fills[row, F_HELD]
        if held != 0 and np.sign(after) != np.sign(held):
            seen[TRADES] += 1.0
        held = after
    seen[HELD] = held
