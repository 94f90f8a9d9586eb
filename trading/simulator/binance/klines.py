"""Candles with Binance's intervals, rows and stream payloads."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from trading.simulator.binance.instrument import Figures, Instrument
from trading.simulator.candles import INTERVAL_MINUTES, MINUTE_MS

# Binance's names of the intervals that the simulator's candles have.
INTERVALS = {
    "1m": "1",
    "3m": "3",
    "5m": "5",
    "15m": "15",
    "30m": "30",
    "1h": "60",
    "2h": "120",
    "4h": "240",
    "6h": "360",
    "1d": "D",
}
# A start further back than so many bars is looked up by time, which goes through all of the history.
MOST_NEWEST = 2_000


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
    rows = instrument.candles.rows(INTERVALS[interval], count, None, None)
    return [_kline(instrument, figures, interval, row) for row in reversed(rows)]


def between(
    instrument: Instrument,
    figures: Figures,
    interval: str,
    limit: int,
    start_ms: int | None,
    end_ms: int | None,
    now_ms: int,
) -> list[Kline]:
    """At most ``limit`` bars that begin from ``start_ms`` to ``end_ms``, oldest first: the first of them where a start
    is given, else the last."""
    name, length = INTERVALS[interval], INTERVAL_MINUTES[INTERVALS[interval]] * MINUTE_MS
    if start_ms is None:
        rows = instrument.candles.rows(name, limit, None, end_ms)
    else:
        first = -(-start_ms // length) * length
        last = first + (limit - 1) * length
        end_ms = last if end_ms is None else min(end_ms, last)
        count = now_ms // length - first // length + 1
        if 0 < count <= MOST_NEWEST:
            rows = [row for row in instrument.candles.rows(name, count, None, None) if first <= int(row[0]) <= end_ms]
        else:
            rows = instrument.candles.rows(name, limit, first, end_ms)
    return [_kline(instrument, figures, interval, row) for row in reversed(rows)]


def _kline(instrument: Instrument, figures: Figures, interval: str, row: list[str]) -> Kline:
    minutes = INTERVAL_MINUTES[INTERVALS[interval]]
    start = int(row[0])
    end = start + minutes * MINUTE_MS
    opened, high, low, close, volume, value = (figures.number(Decimal(text)) for text in row[1:])
    lots = instrument.market.grids.quantities.units(row[5])
    tally = instrument.tape.tally(start, end)
    if tally.complete:
        # The candle of a minute ends some milliseconds after the clock's: its first trades may be the bar's before.
        bought, bought_value = figures.quantity(min(tally.bought, lots)), figures.value(tally.bought_value)
    else:
        half_value = (Decimal(row[6]) / 2).quantize(Decimal("0.00001"))
        bought, bought_value = figures.quantity(lots // 2), figures.number(half_value)
    return Kline(
        start_ms=start,
        end_ms=end - 1,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=volume,
        value=value,
        first_id=tally.first_id if tally.complete else -1,
        last_id=tally.last_id if tally.complete else -1,
        trades=tally.trades if tally.complete else minutes,
        bought=bought,
        bought_value=bought_value,
    )
