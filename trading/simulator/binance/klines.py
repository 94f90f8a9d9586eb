"""Candles with Binance's intervals, rows and stream payloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading.simulator.binance.instrument import Figures, Instrument
from trading.simulator.candles import CLOSE, HIGH, LOW, MINUTE_MS, OPEN, TURNOVER, VOLUME, CandleSeries

INTERVAL_MINUTES = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "6h": 360,
    "8h": 480,
    "12h": 720,
    "1d": 1_440,
}


@dataclass(frozen=True, slots=True)
class Kline:
    """One bar as texts, with its trades: of bars from before this run, half the volume is taken for takers' buys and
    one trade a minute is assumed, without ids (-1)."""

    start_ms: int
    end_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    value: str
    first_id: int
    last_id: int
    trades: int
    bought: str
    bought_value: str

    def row(self) -> list[Any]:
        """As REST has it."""
        return [
            self.start_ms,
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.end_ms,
            self.value,
            self.trades,
            self.bought,
            self.bought_value,
            "0",
        ]

    def event(self, symbol: str, interval: str, *, closed: bool, now_ms: int) -> dict[str, Any]:
        """As the stream has it."""
        return {
            "e": "kline",
            "E": now_ms,
            "s": symbol,
            "k": {
                "t": self.start_ms,
                "T": self.end_ms,
                "s": symbol,
                "i": interval,
                "f": self.first_id,
                "L": self.last_id,
                "o": self.open,
                "c": self.close,
                "h": self.high,
                "l": self.low,
                "v": self.volume,
                "n": self.trades,
                "x": closed,
                "q": self.value,
                "V": self.bought,
                "Q": self.bought_value,
                "B": "0",
            },
        }


def newest(instrument: Instrument, figures: Figures, interval: str, count: int) -> list[Kline]:
    """Oldest first; the last one is still open."""
    length = INTERVAL_MINUTES[interval]
    last = _open_minute(instrument.candles) // length
    return _klines(instrument, figures, length, last - count + 1, last)


def between(
    instrument: Instrument, figures: Figures, interval: str, limit: int, start_ms: int | None, end_ms: int | None
) -> list[Kline]:
    """At most ``limit`` bars that begin from ``start_ms`` to ``end_ms``, oldest first: the first of them where a start
    is given, else the last."""
    length = INTERVAL_MINUTES[interval]
    last = _open_minute(instrument.candles) // length
    if end_ms is not None:
        last = min(last, end_ms // (length * MINUTE_MS))
    if start_ms is None:
        first = last - limit + 1
    else:
        oldest = -(-instrument.candles.history()[0] // length)
        first = max(oldest, -(-start_ms // (length * MINUTE_MS)))
        last = min(last, first + limit - 1)
    return _klines(instrument, figures, length, first, last)


def _open_minute(candles: CandleSeries) -> int:
    first_minute, closed = candles.history()
    return first_minute + len(closed)


def _klines(instrument: Instrument, figures: Figures, length: int, first: int, last: int) -> list[Kline]:
    """The bars numbered ``first`` to ``last`` in their own length since 1970, as far as they are kept whole."""
    first_minute, closed = instrument.candles.history()
    first = max(first, -(-first_minute // length))
    if last < first:
        return []
    begin, end = first * length - first_minute, (last + 1) * length - first_minute
    rows = closed[begin:end]
    if end > len(closed):
        rows = np.vstack((rows, [instrument.candles.minute(first_minute + len(closed))]))
    bars = (rows[offset : offset + length] for offset in range(0, len(rows), length))
    return [_kline(instrument, figures, (first + number) * length, length, bar) for number, bar in enumerate(bars)]


def _kline(
    instrument: Instrument, figures: Figures, start_minute: int, length: int, bars: NDArray[np.float64]
) -> Kline:
    """One bar out of the minutes of it that there are."""
    start, end = start_minute * MINUTE_MS, (start_minute + length) * MINUTE_MS
    lots, value = int(bars[:, VOLUME].sum()), int(bars[:, TURNOVER].sum())
    tally = instrument.tape.tally(start, end)
    if tally.complete:
        # The candle of a minute ends some milliseconds after the clock's: its first trades may be the bar's before.
        bought, bought_value = min(tally.bought, lots), min(tally.bought_value, value)
    else:
        bought, bought_value = lots // 2, value // 2
    return Kline(
        start_ms=start,
        end_ms=end - 1,
        open=figures.price(int(bars[0, OPEN])),
        high=figures.price(int(bars[:, HIGH].max())),
        low=figures.price(int(bars[:, LOW].min())),
        close=figures.price(int(bars[-1, CLOSE])),
        volume=figures.quantity(lots),
        value=figures.value(value),
        first_id=tally.first_id if tally.complete else -1,
        last_id=tally.last_id if tally.complete else -1,
        trades=tally.trades if tally.complete else length,
        bought=figures.quantity(bought),
        bought_value=figures.value(bought_value),
    )
