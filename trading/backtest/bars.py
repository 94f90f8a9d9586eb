"""Bars of one symbol on the grid of a test's times, and bars of longer timeframes made of them."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from marketdata.candles import packing
from marketdata.candles.aggregation import longer_bars
from marketdata.candles.series import CandleSeries, interval_ms
from marketdata.events import Candle

NOTHING = Decimal(0)
NONE = np.zeros(0, dtype=np.int64)


class Bars:
    """``steps`` number the moments of a test: bar ``i`` is at step ``(start_ms[i] - grid_ms) // interval``."""

    def __init__(self, series: CandleSeries, grid_ms: int) -> None:
        from trading.backtest.kernels.bands import extremes  # noqa: PLC0415 numba: only who tests needs it

        self._extremes = extremes
        self.series, self.length = series, len(series)
        columns = (series.start_ms, series.open, series.high, series.low, series.close)
        self.start_ms, self.opened, self.high, self.low, self.closed = (
            np.ascontiguousarray(each, dtype=np.int64) for each in columns
        )
        length = series.interval_ms
        self._first = (int(series.start_ms[0]) - grid_ms) // length if self.length else 0
        last = (int(series.start_ms[-1]) - grid_ms) // length if self.length else -1
        self._whole = self.length > 0 and last - self._first == self.length - 1
        # Of whole ones nobody asks: a year of minutes of many symbols is much memory.
        self._steps = NONE if self._whole else (self.start_ms - grid_ms) // length
        # As kernels look closes up (``trading.backtest.kernels.slots.Held``).
        steps = 0 if self._whole else self._steps.ctypes.data
        self.held_row = self.closed.ctypes.data, steps, self._first, self.length - 1
        self._exponent = -series.price_decimals
        self.one = 10.0**series.price_decimals

    @property
    def steps(self) -> NDArray[np.int64] | slice:
        """The steps at which bars start, as an index."""
        return slice(self._first, self._first + self.length) if self._whole else self._steps

    def at(self, step: int) -> int | None:
        """The bar that starts at a step; None where there is none."""
        index = self.from_step(step)
        return index if index < self.length and self.step(index) == step else None

    def from_step(self, step: int) -> int:
        """The first bar that starts at a step or later."""
        if self._whole:
            return min(max(step - self._first, 0), self.length)
        return int(np.searchsorted(self._steps, step))

    def until(self, step: int) -> int:
        """The last bar that starts at a step or before; -1 where none does."""
        return self.from_step(step + 1) - 1

    def step(self, index: int) -> int:
        return self._first + index if self._whole else int(self._steps[index])

    def price(self, units: int) -> Decimal:
        return Decimal(units).scaleb(self._exponent)

    def open(self, index: int) -> Decimal:
        return Decimal(self.opened.item(index)).scaleb(self._exponent)

    def close(self, index: int) -> Decimal:
        return Decimal(self.closed.item(index)).scaleb(self._exponent)

    def range_of(self, index: int) -> tuple[float, float]:
        """Low and high, quote coin."""
        return self.low.item(index) / self.one, self.high.item(index) / self.one

    def extremes(self, first: int, end: int) -> tuple[float, float]:
        """The highest and the lowest price of the bars ``[first, end)``, quote coin."""
        highest, lowest = self._extremes(self.high, self.low, first, end)
        return highest / self.one, lowest / self.one

    def last_close(self, step: int) -> Decimal:
        """The close that is known at the end of a step."""
        index = step - self._first if self._whole and step - self._first < self.length else self.until(step)
        return Decimal(self.closed.item(index)).scaleb(self._exponent)

    def volume(self, index: int) -> Decimal:
        return Decimal(self.series.volume.item(index)).scaleb(-self.series.volume_decimals)

    def way(self, index: int) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """The points that the price goes by within a bar (docs/backtest.md, rule 2)."""
        opened, closed = self.opened.item(index), self.closed.item(index)
        high, low = self.price(self.high.item(index)), self.price(self.low.item(index))
        if closed > opened:
            return self.price(opened), low, high, self.price(closed)
        return self.price(opened), high, low, self.price(closed)


def candle_of(series: CandleSeries, index: int) -> Candle:
    """A closed bar as strategies are told it. Archives know no turnover."""
    exponent = -series.price_decimals
    opened, high, low, closed = (
        Decimal(column.item(index)).scaleb(exponent) for column in (series.open, series.high, series.low, series.close)
    )
    volume = Decimal(series.volume.item(index)).scaleb(-series.volume_decimals)
    return Candle(
        series.symbol, series.interval, series.start_ms.item(index), opened, high, low, closed, volume, NOTHING, True
    )


def longer(series: CandleSeries, interval: str) -> CandleSeries:
    """Bars of a longer timeframe, by the archive's definition: those of which all parts are there, which are the
    venue's own. Of one with a gap nobody knows what the venue made of it.

    Raises:
        ValueError: the interval is no multiple of the bars' own.
    """
    length = interval_ms(interval)
    if length % series.interval_ms:
        raise ValueError(f"bars of {interval} cannot be made of bars of {series.interval}")
    parts = packing.Bars(series.start_ms, series.open, series.high, series.low, series.close, series.volume)
    made = longer_bars(parts, series.interval_ms, length)
    return CandleSeries(
        series.venue, series.symbol, interval, series.price_decimals, series.volume_decimals, *made.columns
    )


def series_part(series: CandleSeries, first: int, end: int) -> CandleSeries:
    arrays = (series.start_ms, series.open, series.high, series.low, series.close, series.volume)
    return CandleSeries(
        series.venue,
        series.symbol,
        series.interval,
        series.price_decimals,
        series.volume_decimals,
        *(array[first:end] for array in arrays),
    )
