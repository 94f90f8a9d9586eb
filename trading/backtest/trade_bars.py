"""Bars of one symbol's trades as they are heard: what strategies of candles are told over recordings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import CandleSeries, interval_ms
from marketdata.events import Candle, Trade

# How long trades may come after the end of their bar (docs/backtest.md).
SETTLE_MS = 1_000
ZERO = Decimal(0)


class TradeBars:
    """Whole bars only: the first one starts at or after ``heard_from_ms``. One without a trade stays at the last price.

    ``closed`` keeps them all where ``keeps`` says so.
    """

    def __init__(self, symbol: str, interval: str, heard_from_ms: int, *, keeps: bool = False) -> None:
        self.symbol, self.interval, self.length = symbol, interval, interval_ms(interval)
        self.closed: list[Candle] = []
        self._keeps = keeps
        self._start = -(-heard_from_ms // self.length) * self.length
        self._last: Decimal | None = None
        self._open = self._high = self._low = ZERO
        self._volume = self._turnover = ZERO

    @property
    def due_ms(self) -> int:
        """When the bar that is being made is known, whatever is heard until then."""
        return self._start + self.length + SETTLE_MS

    def add(self, trade: Trade) -> Iterator[Candle]:
        """Take a trade; the bars that it shows to be over."""
        time_ms = trade.venue_ns // 1_000_000
        while time_ms >= self._start + self.length:
            yield from self._close()
        self._last = trade.price
        if time_ms < self._start:
            return  # before the first bar, or too late for its own
        if not self._volume:
            self._open = self._high = self._low = trade.price
        self._high, self._low = max(self._high, trade.price), min(self._low, trade.price)
        self._volume += trade.quantity
        self._turnover += trade.quantity * trade.price

    def until(self, now_ms: int) -> Iterator[Candle]:
        """The bars that are known by now."""
        while now_ms >= self.due_ms:
            yield from self._close()

    def _close(self) -> Iterator[Candle]:
        start, self._start = self._start, self._start + self.length
        last = self._last
        if last is None:
            return
        if not self._volume:
            self._open = self._high = self._low = last
        candle = Candle(
            self.symbol, self.interval, start, self._open, self._high, self._low, last, self._volume, self._turnover,
            True,
        )  # fmt: skip
        self._volume = self._turnover = ZERO
        if self._keeps:
            self.closed.append(candle)
        yield candle


def series_of_bars(venue: str, bars: TradeBars) -> CandleSeries:
    """All bars that were closed, exact."""
    closed = bars.closed
    prices = [[getattr(each, name) for each in closed] for name in ("open", "high", "low", "close")]
    price_decimals = max((_decimals(price) for column in prices for price in column), default=0)
    volume_decimals = max((_decimals(each.volume) for each in closed), default=0)
    opened, highest, lowest, last = (_units(column, price_decimals) for column in prices)
    volume = _units([each.volume for each in closed], volume_decimals)
    starts = np.array([each.start_ms for each in closed], dtype=np.int64)
    return CandleSeries(
        venue, bars.symbol, bars.interval, price_decimals, volume_decimals,
        starts, opened, highest, lowest, last, volume,
    )  # fmt: skip


def _units(numbers: Sequence[Decimal], decimals: int) -> NDArray[np.int64]:
    return np.array([int(each.scaleb(decimals)) for each in numbers], dtype=np.int64)


def _decimals(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
