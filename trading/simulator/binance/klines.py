"""Candles with Binance's intervals, rows and stream payloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trading.simulator.binance.instrument import Figures, Instrument
from trading.simulator.intervals import (
    CLOSE,
    DAY_MINUTES,
    HIGH,
    HOUR_MINUTES,
    LOW,
    MINUTE_MS,
    MONTH,
    OPEN,
    TURNOVER,
    VOLUME,
    WEEK,
    Bars,
    Interval,
    added,
)

INTERVALS = {
    **{f"{minutes}m": Interval(minutes) for minutes in (1, 3, 5, 15, 30)},
    **{f"{hours}h": Interval(hours * HOUR_MINUTES) for hours in (1, 2, 4, 6, 8, 12)},
    "1d": Interval(DAY_MINUTES),
    "3d": Interval(3 * DAY_MINUTES),
    "1w": WEEK,
    "1M": MONTH,
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
    kind = INTERVALS[interval]
    return _klines(instrument, figures, kind, instrument.candles.newest(kind, count))


def between(
    instrument: Instrument, figures: Figures, interval: str, limit: int, start_ms: int | None, end_ms: int | None
) -> list[Kline]:
    """At most ``limit`` bars that begin from ``start_ms`` to ``end_ms``, oldest first: the first of them where a start
    is given, else the last."""
    kind = INTERVALS[interval]
    numbers = instrument.candles.numbers(kind, limit, start_ms, end_ms, oldest=True)
    return _klines(instrument, figures, kind, numbers)


def _klines(instrument: Instrument, figures: Figures, kind: Interval, numbers: range) -> list[Kline]:
    if not numbers:
        return []
    begins = [kind.start(number) for number in range(numbers.start, numbers.stop + 1)]
    times, rows = instrument.candles.between(begins[0], begins[-1], hourly=kind.is_hourly)
    bars = added(times, rows, np.array(begins[:-1]))
    return [
        _kline(instrument, figures, begin, end, bar) for begin, end, bar in zip(begins, begins[1:], bars, strict=False)
    ]


def _kline(instrument: Instrument, figures: Figures, begin: int, end_minute: int, bar: Bars) -> Kline:
    """One bar, from a minute to before another."""
    start, end = begin * MINUTE_MS, end_minute * MINUTE_MS
    lots, value = int(bar[VOLUME]), int(bar[TURNOVER])
    tally = instrument.tape.tally(start, end)
    if tally.complete:
        # The candle of a minute ends some milliseconds after the clock's: its first trades may be the bar's before.
        bought, bought_value = min(tally.bought, lots), min(tally.bought_value, value)
    else:
        bought, bought_value = lots // 2, value // 2
    return Kline(
        start_ms=start,
        end_ms=end - 1,
        open=figures.price(int(bar[OPEN])),
        high=figures.price(int(bar[HIGH])),
        low=figures.price(int(bar[LOW])),
        close=figures.price(int(bar[CLOSE])),
        volume=figures.quantity(lots),
        value=figures.value(value),
        first_id=tally.first_id if tally.complete else -1,
        last_id=tally.last_id if tally.complete else -1,
        trades=tally.trades if tally.complete else end_minute - begin,
        bought=figures.quantity(bought),
        bought_value=figures.value(bought_value),
    )
