"""What the tickers say of the last 24 hours and the average price of five minutes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from trading.simulator.binance.instrument import Figures, Instrument
from trading.simulator.intervals import DAY_MINUTES, MINUTE_MS, TURNOVER, VOLUME

DAY_MS = DAY_MINUTES * MINUTE_MS
AVERAGE_MINUTES = 5


@dataclass(frozen=True, slots=True)
class DayStatistics:
    """Prices in ticks, quantities in lots, ``value`` in ticks x lots. Of the minutes before this run, one trade each is
    assumed, as in the klines."""

    open: int
    high: int
    low: int
    last: int
    last_lots: int
    volume: int
    value: int
    first_id: int
    last_id: int
    opens_ms: int
    closes_ms: int

    @classmethod
    def of(cls, instrument: Instrument, now_ms: int) -> DayStatistics:
        opened, high, low, volume, value = instrument.candles.day_change()
        tape = instrument.tape
        newest = tape.newest(1)
        last = newest[0].tick if newest else instrument.market.grids.prices.units(f"{instrument.market.last_price:f}")
        return cls(
            open=int(opened),
            high=int(high),
            low=int(low),
            last=last,
            last_lots=newest[0].lots if newest else 0,
            volume=int(volume),
            value=int(value),
            first_id=tape.first_id_since(now_ms - DAY_MS),
            last_id=tape.last_id,
            opens_ms=now_ms - DAY_MS,
            closes_ms=now_ms,
        )

    @property
    def count(self) -> int:
        return self.last_id - self.first_id + 1

    @property
    def percent(self) -> str:
        return f"{100 * (self.last - self.open) / self.open:.3f}"

    def average(self, figures: Figures) -> str:
        """Weighted by volume."""
        return figures.ticks(Decimal(self.value) / max(1, self.volume))


def average_price(instrument: Instrument, figures: Figures) -> str:
    """Of the last five minutes, weighted by volume; the last price where nothing traded."""
    end = instrument.candles.newest_minute + 1
    _, bars = instrument.candles.between(end - AVERAGE_MINUTES, end, hourly=False)
    volume, value = int(bars[:, VOLUME].sum()), int(bars[:, TURNOVER].sum())
    grids = instrument.market.grids
    last = Decimal(grids.prices.units(f"{instrument.market.last_price:f}"))
    return figures.ticks(Decimal(value) / volume if volume else last)
