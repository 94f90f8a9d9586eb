"""The curve of a run's equity, made after it of what was held when."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from trading.backtest.bars import Bars
from trading.backtest.books import Books


def curve(
    books: Books, bars: Mapping[str, Bars], start_balance: Decimal, steps: int, grid_ms: int, length_ms: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """What the account was worth at the end of each bar, made of what it held when."""
    from trading.backtest.kernels.worth import add_stretch  # noqa: PLC0415 numba: only who tests needs it

    balance = np.full(steps + 1, np.nan)
    balance[0] = float(start_balance)
    if books.balances:
        at, values = zip(*books.balances, strict=True)
        # Of several at one step the last counts.
        balance[list(at)] = [float(each) for each in values]
    known = np.flatnonzero(~np.isnan(balance))
    equity = np.repeat(balance[known], np.diff(np.append(known, steps + 1)))
    last, equity = equity[-1], equity[:-1].copy()
    worth = np.zeros((2, steps))
    worth[0] = equity
    for stretch in books.stretches:
        held = bars[stretch.symbol]
        end = min(stretch.end, steps)
        add_stretch(*held.held_row, held.one, stretch.first, end, stretch.signed_quantity, stretch.entry_price, worth)
    equity, exposed = worth
    equity[-1] = last
    some = np.zeros(steps, dtype=bool)
    for each in bars.values():
        some[each.steps] = True
    times = grid_ms + (np.flatnonzero(some) + 1) * length_ms
    return times.astype(np.int64), equity[some], exposed[some]
