"""Longer bars made of shorter ones."""

from __future__ import annotations

import numpy as np

from marketdata.candles.packing import Bars, no_bars


def longer_bars(bars: Bars, step_ms: int, wanted_ms: int) -> Bars:
    """Bars of ``wanted_ms``, a multiple of ``step_ms``, where all their parts are there."""
    if wanted_ms % step_ms or wanted_ms < step_ms:
        raise ValueError(f"bars of {wanted_ms} ms are not made of bars of {step_ms} ms")
    if not len(bars):
        return no_bars()
    starts = bars.start // wanted_ms * wanted_ms
    first = np.flatnonzero(np.concatenate(([True], np.diff(starts) != 0)))
    last = np.concatenate((first[1:], [len(starts)])) - 1
    whole = (last - first + 1) == wanted_ms // step_ms
    # A part that is missing is between or before others: the count alone tells, for no start is there twice.
    made = Bars(
        starts[first],
        bars.open[first],
        np.maximum.reduceat(bars.high, first),
        np.minimum.reduceat(bars.low, first),
        bars.close[last],
        np.add.reduceat(bars.volume, first),
    )
    return made if np.all(whole) else made.rows(whole)


def flat_filled(bars: Bars, step_ms: int) -> tuple[Bars, int]:
    """With flat bars (the last close, no volume) where bars are missing between others, and how many these are."""
    if not len(bars):
        return bars, 0
    starts = np.arange(bars.start[0], bars.start[-1] + step_ms, step_ms, dtype=np.int64)
    filled = len(starts) - len(bars)
    if not filled:
        return bars, 0
    source = np.searchsorted(bars.start, starts, side="right") - 1
    is_there = bars.start[source] == starts
    close, volume = bars.close[source], np.where(is_there, bars.volume[source], 0)
    prices = [np.where(is_there, column[source], close) for column in (bars.open, bars.high, bars.low)]
    opened, high, low = prices
    return Bars(starts, opened, high, low, close, volume), filled
