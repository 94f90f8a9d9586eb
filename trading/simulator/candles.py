"""Candles of one instrument: a seeded past of one-minute bars that joins the live present; longer bars are sums of
these, so every interval agrees with every other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading.simulator.instruments import Grids

MINUTE_MS = 60_000
HISTORY_MINUTES = 40 * 24 * 60
INTERVAL_MINUTES = {"1": 1, "3": 3, "5": 5, "15": 15, "30": 30, "60": 60, "120": 120, "240": 240, "360": 360, "D": 1440}
# Columns of a bar: prices in ticks, volume in lots, turnover in ticks x lots.
OPEN, HIGH, LOW, CLOSE, VOLUME, TURNOVER = range(6)


@dataclass(frozen=True, slots=True)
class Bar:
    """``confirm`` is True once it is over."""

    start_ms: int
    end_ms: int
    interval: str
    values: NDArray[np.float64]
    confirm: bool


class CandleSeries:
    """All bars of one instrument, one row a minute, the last one still open."""

    def __init__(
        self,
        grids: Grids,
        price: Decimal,
        now_ms: int,
        *,
        volatility: float,
        lots_a_minute: float,
        rng: np.random.Generator,
    ) -> None:
        self._grids = grids
        self._first_minute = now_ms // MINUTE_MS - HISTORY_MINUTES
        last_tick = grids.prices.units(f"{price:f}")
        self._bars = np.zeros((2 * HISTORY_MINUTES, 6))
        self._bars[:HISTORY_MINUTES] = _past(last_tick, HISTORY_MINUTES, volatility, lots_a_minute, rng)
        self._count = HISTORY_MINUTES
        self._open_bar(last_tick)
        # Of the closed bars of the last day, for so many bars: see day_change.
        self._day: tuple[int, float, float, float, float, float] | None = None
        # Interval to the start of its newest bar that was told, so that each end is told once.
        self._told: dict[str, int] = {}

    def restore(self, history: Iterable[tuple[int, NDArray[np.float64]]]) -> None:
        """Put bars of an earlier run in their places; minutes in which nobody ran lead from one run to the next."""
        self._day = None
        kept = np.zeros(self._count, dtype=np.bool_)
        for first_minute, bars in history:
            first = first_minute - self._first_minute
            begin, end = max(0, first), min(self._count - 1, first + len(bars))
            if begin < end:
                self._bars[begin:end], kept[begin:end] = bars[begin - first : end - first], True
        kept[-1] = True  # the open bar: it begins at the price of now
        edges = np.flatnonzero(np.diff(kept.astype(np.int8), prepend=1))
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            _lead(self._bars, int(first), int(end))

    def history(self) -> tuple[int, NDArray[np.float64]]:
        """All closed bars: the minute of the first, and (minutes x 6)."""
        return self._first_minute, self._bars[: self._count - 1]

    def minute(self, number: int) -> list[float] | None:
        """One bar by its minute since 1970."""
        index = number - self._first_minute
        return self._bars[index].tolist() if 0 <= index < self._count else None

    def trade(self, tick: int, lots: int) -> None:
        bar = self._bars[self._count - 1]
        bar[HIGH], bar[LOW], bar[CLOSE] = max(bar[HIGH], tick), min(bar[LOW], tick), tick
        bar[VOLUME] += lots
        bar[TURNOVER] += float(tick) * lots

    def trades(self, ticks: NDArray[np.int64], lots: NDArray[np.int64]) -> None:
        """Like :meth:`trade` for each; all of the open bar, oldest first."""
        if not len(ticks):
            return
        bar = self._bars[self._count - 1]
        bar[HIGH], bar[LOW], bar[CLOSE] = max(bar[HIGH], ticks.max()), min(bar[LOW], ticks.min()), ticks[-1]
        bar[VOLUME] += int(lots.sum())
        # Whole numbers below 2**53: a sum of floats one by one would be the same.
        bar[TURNOVER] += int((ticks * lots).sum())

    def advance(self, now_ms: int) -> int | None:
        """Open the bar of the current minute; returns the minute that closed, or None."""
        minute = now_ms // MINUTE_MS
        closed = None
        while self._first_minute + self._count - 1 < minute:
            closed = self._first_minute + self._count - 1
            self._open_bar(int(self._bars[self._count - 1][CLOSE]))
        return closed

    def rows(self, interval: str, limit: int, start_ms: int | None, end_ms: int | None) -> list[list[str]]:
        """``[start, open, high, low, close, volume, turnover]`` as text, newest first, as REST has them."""
        bars = self._grouped(interval, limit if start_ms is None and end_ms is None else None)
        chosen = [
            bar
            for bar in bars
            if (start_ms is None or bar.start_ms >= start_ms) and (end_ms is None or bar.start_ms <= end_ms)
        ]
        return [[str(bar.start_ms), *self._texts(bar.values)] for bar in reversed(chosen[-limit:])]

    def pushes(self, interval: str, now_ms: int) -> list[dict[str, Any]]:
        """What the ``kline`` topic has to say: the end of the bar before, once, and the current bar."""
        bars = self._grouped(interval, 2)
        current = bars[-1]
        told = self._told.get(interval)
        self._told[interval] = current.start_ms
        ended = [bar for bar in bars[:-1] if told is not None and bar.start_ms >= told]
        return [self._push(bar, now_ms) for bar in [*ended, current]]

    def day_change(self) -> tuple[float, float, float, float, float]:
        """Of the last 24 hours: first open, high, low (ticks), volume (lots), turnover (ticks x lots)."""
        bars, count = self._bars, self._count
        if self._day is None or self._day[0] != count:
            closed = bars[max(0, count - 1_440) : count - 1]
            # The closed bars are the same for a minute, and everybody's ticker asks ten times a second.
            self._day = (
                count,
                float(closed[0, OPEN]),
                float(closed[:, HIGH].max()),
                float(closed[:, LOW].min()),
                float(closed[:, VOLUME].sum()),
                float(closed[:, TURNOVER].sum()),
            )
        _, first, high, low, volume, turnover = self._day
        _, bar_high, bar_low, _, bar_volume, bar_turnover = bars[count - 1].tolist()
        return first, max(high, bar_high), min(low, bar_low), volume + bar_volume, turnover + bar_turnover

    def _open_bar(self, tick: int) -> None:
        if self._count == len(self._bars):
            self._bars = np.concatenate((self._bars, np.zeros((HISTORY_MINUTES, 6))))
        self._bars[self._count] = (tick, tick, tick, tick, 0, 0)
        self._count += 1

    def _grouped(self, interval: str, newest: int | None) -> list[Bar]:
        minutes = INTERVAL_MINUTES[interval]
        last_minute = self._first_minute + self._count - 1
        last_group = last_minute // minutes
        first_group = -(-self._first_minute // minutes)
        if newest is not None:
            first_group = max(first_group, last_group - newest + 1)
        offset = first_group * minutes - self._first_minute
        rows = self._bars[offset : self._count]
        starts = np.arange(0, len(rows), minutes)
        ends = np.append(starts[1:], len(rows)) - 1
        values = np.column_stack(
            (
                rows[starts, OPEN],
                np.maximum.reduceat(rows[:, HIGH], starts),
                np.minimum.reduceat(rows[:, LOW], starts),
                rows[ends, CLOSE],
                np.add.reduceat(rows[:, VOLUME], starts),
                np.add.reduceat(rows[:, TURNOVER], starts),
            )
        )
        length_ms = minutes * MINUTE_MS
        return [
            Bar(
                start_ms=(first_group + index) * length_ms,
                end_ms=(first_group + index + 1) * length_ms - 1,
                interval=interval,
                values=values[index],
                confirm=first_group + index < last_group,
            )
            for index in range(len(values))
        ]

    def _texts(self, values: NDArray[np.float64]) -> list[str]:
        price, quantity = self._grids.prices.text, self._grids.quantities
        turnover = Decimal(int(values[TURNOVER])) * self._grids.prices.step * quantity.step
        return [
            *(price(int(values[column])) for column in (OPEN, HIGH, LOW, CLOSE)),
            quantity.text(int(values[VOLUME])),
            f"{turnover:f}",
        ]

    def _push(self, bar: Bar, now_ms: int) -> dict[str, Any]:
        opened, high, low, close, volume, turnover = self._texts(bar.values)
        return {
            "start": bar.start_ms,
            "end": bar.end_ms,
            "interval": bar.interval,
            "open": opened,
            "close": close,
            "high": high,
            "low": low,
            "volume": volume,
            "turnover": turnover,
            "confirm": bar.confirm,
            "timestamp": now_ms,
        }


def _lead(bars: NDArray[np.float64], first: int, end: int) -> None:
    """Bend made-up bars ``first`` to ``end`` so that they begin where the bar before ends and end where the bar at
    ``end`` begins."""
    last_factor = bars[end, OPEN] / bars[end - 1, CLOSE]
    first_factor = bars[first - 1, CLOSE] / bars[first, OPEN] if first else last_factor
    factors = np.geomspace(first_factor, last_factor, end - first)
    bars[first:end, :4] = np.maximum(1, np.rint(bars[first:end, :4] * factors[:, None]))
    bars[first + 1 : end, OPEN] = bars[first : end - 1, CLOSE]
    bars[first:end, HIGH] = bars[first:end, :4].max(axis=1)
    bars[first:end, LOW] = bars[first:end, :4].min(axis=1)
    bars[first:end, TURNOVER] *= factors


def _past(
    last_tick: int, minutes: int, volatility: float, lots_a_minute: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Minute bars that end at a price: a random walk with slow swings of volatility and trend, made backwards."""
    swing = np.exp(0.5 * np.sin(np.linspace(0, minutes / 300, minutes)) + 0.2 * rng.standard_normal(minutes))
    trend = 0.15 * volatility * np.sin(np.linspace(0, minutes / 170, minutes) + rng.uniform(0, 6))
    returns = volatility * swing * rng.standard_normal(minutes) + trend
    closes = last_tick * np.exp(-np.cumsum(returns[::-1])[::-1] + returns)
    closes = np.append(closes[1:], last_tick)
    opens = np.append(closes[:1], closes[:-1])
    wicks = np.abs(rng.standard_normal((2, minutes))) * volatility * swing * 0.5
    bars = np.empty((minutes, 6))
    bars[:, OPEN], bars[:, CLOSE] = opens, closes
    bars[:, HIGH] = np.maximum(opens, closes) * (1 + wicks[0])
    bars[:, LOW] = np.minimum(opens, closes) * (1 - wicks[1])
    bars[:, :4] = np.maximum(1, np.rint(bars[:, :4]))
    bars[:, VOLUME] = np.rint(lots_a_minute * swing * rng.lognormal(0, 0.5, minutes))
    bars[:, TURNOVER] = bars[:, VOLUME] * np.rint((bars[:, OPEN] + bars[:, CLOSE]) / 2)
    return bars
