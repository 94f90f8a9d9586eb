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


class Bars:
    """``steps`` number the moments of a test: bar ``i`` is at step ``(start_ms[i] - grid_ms) // interval``."""

    def __init__(self, series: CandleSeries, grid_ms: int) -> None:
        self.series, self.length = series, len(series)
        self.steps: NDArray[np.int64] = (series.start_ms - grid_ms) // series.interval_ms
        self.high, self.low = (np.ascontiguousarray(each, dtype=np.int64) for each in (series.high, series.low))
        self._first = int(self.steps[0]) if self.length else 0
        self._whole = self.length > 0 and int(self.steps[-1]) - self._first == self.length - 1
        self._exponent = -series.price_decimals

    def at(self, step: int) -> int | None:
        """The bar that starts at a step; None where there is none."""
        index = self.from_step(step)
        return index if index < self.length and self.step(index) == step else None

    def from_step(self, step: int) -> int:
        """The first bar that starts at a step or later."""
        if self._whole:
            return min(max(step - self._first, 0), self.length)
        return int(np.searchsorted(self.steps, step))

    def until(self, step: int) -> int:
        """The last bar that starts at a step or before; -1 where none does."""
        return self.from_step(step + 1) - 1

    def step(self, index: int) -> int:
        return self._first + index if self._whole else int(self.steps[index])

    def price(self, units: int) -> Decimal:
        return Decimal(units).scaleb(self._exponent)

    def open(self, index: int) -> Decimal:
        return Decimal(self.series.open.item(index)).scaleb(self._exponent)

    def close(self, index: int) -> Decimal:
        return Decimal(self.series.close.item(index)).scaleb(self._exponent)

    def last_close(self, step: int) -> Decimal:
        """The close that is known at the end of a step."""
        index = step - self._first if self._whole and step - self._first < self.length else self.until(step)
        return Decimal(self.series.close.item(index)).scaleb(self._exponent)

    def volume(self, index: int) -> Decimal:
        return Decimal(self.series.volume.item(index)).scaleb(-self.series.volume_decimals)

    def way(self, index: int) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """The points that the price goes by within a bar (docs/backtest.md, rule 2)."""
        opened, closed = self.series.open.item(index), self.series.close.item(index)
        high, low = self.price(self.high.item(index)), self.price(self.low.item(index))
        if closed > opened:
            return self.price(opened), low, high, self.price(closed)
        return self.price(opened), high, low, self.price(closed)

    def closes(self, first: int, end: int) -> NDArray[np.float64]:
        """The last close at each step of ``[first, end)``, quote coin."""
        if self._whole and first >= self._first and end - self._first <= self.length:
            units = self.series.close[first - self._first : end - self._first]
        else:
            last = np.searchsorted(self.steps, np.arange(first, end), side="right") - 1
            units = self.series.close[np.maximum(last, 0)]
        return units / 10.0**self.series.price_decimals


def candle_of(series: CandleSeries, index: int) -> Candle:
    """A closed bar as strategies are told it. Archives know no turnover."""
    price = series.price
    return Candle(
        series.symbol,
        series.interval,
        int(series.start_ms[index]),
        price(series.open[index]),
        price(series.high[index]),
        price(series.low[index]),
        price(series.close[index]),
        Decimal(int(series.volume[index])).scaleb(-series.volume_decimals),
        NOTHING,
        True,
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
