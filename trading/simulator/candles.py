"""Candles of one instrument: one-minute bars that end in the live present, and a past behind them; longer bars are sums
of these, so every interval agrees with every other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading.simulator.instruments import Grids
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
    Minutes,
    added,
    numbers,
)
from trading.simulator.past import Past

HISTORY_MINUTES = 40 * DAY_MINUTES
# How much of what earlier runs kept is taken up again: the memory for a year of minutes is 25 MB an instrument.
MOST_KEPT_MINUTES = 400 * DAY_MINUTES
# When the oldest contracts were listed; what has no date of its own is as old.
FIRST_LISTING_MS = 1_585_526_400_000
INTERVALS = {
    **{f"{minutes}": Interval(minutes) for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": Interval(DAY_MINUTES),
    "W": WEEK,
    "M": MONTH,
}


@dataclass(frozen=True, slots=True)
class Bar:
    """``confirm`` is True once it is over."""

    start_ms: int
    end_ms: int
    interval: str
    values: NDArray[np.float64]
    confirm: bool


class CandleSeries:
    """All bars of one instrument since its listing: one row a minute, the last one still open, and a past before the
    first of them."""

    def __init__(
        self,
        grids: Grids,
        price: Decimal,
        now_ms: int,
        *,
        volatility: float,
        lots_a_minute: float,
        rng: np.random.Generator,
        listed_ms: int = FIRST_LISTING_MS,
    ) -> None:
        self._grids, self._listed_minute = grids, listed_ms // MINUTE_MS
        self._volatility, self._lots_a_minute, self._rng = volatility, lots_a_minute, rng
        # On a day's first minute: what is before it is made of whole hours.
        self._first_minute = (now_ms // MINUTE_MS - HISTORY_MINUTES) // DAY_MINUTES * DAY_MINUTES
        self._count = now_ms // MINUTE_MS - self._first_minute
        last_tick = grids.prices.units(f"{price:f}")
        self._bars = np.zeros((2 * self._count, 6))
        self._bars[: self._count] = self._made_up(last_tick, self._count)
        self._open_bar(last_tick)
        self._past: Past | None = None
        # Of the closed bars of the last day, for so many bars: see day_change.
        self._day: tuple[int, float, float, float, float, float] | None = None
        # Interval to the number of its newest bar that was told, so that each end is told once.
        self._told: dict[str, int] = {}
        # Interval to the closed minutes of its open bar, added up: for so many minutes, one row or none.
        self._closed: dict[str, tuple[int, Bars]] = {}

    def restore(self, history: Iterable[tuple[int, NDArray[np.float64]]]) -> None:
        """Put bars of an earlier run in their places; minutes in which nobody ran lead from one run to the next."""
        self._day = self._past = None
        self._closed.clear()
        history = list(history)
        self._begin_at(min((first for first, _ in history), default=self._first_minute))
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
        """``[start, open, high, low, close, volume, turnover]`` as text, newest first, as REST has them: of the bars
        that begin from ``start_ms`` to ``end_ms`` the newest, from a start without an end the oldest."""
        bars = self._chosen(interval, self.numbers(INTERVALS[interval], limit, start_ms, end_ms, oldest=end_ms is None))
        return [[str(bar.start_ms), *self._texts(bar.values)] for bar in reversed(bars)]

    def pushes(self, interval: str, now_ms: int) -> list[dict[str, Any]]:
        """What the ``kline`` topic has to say: the end of the bar before, once, and the current bar."""
        current = INTERVALS[interval].number(self.newest_minute)
        told = self._told.get(interval, current)
        self._told[interval] = current
        bars = self._chosen(interval, range(max(told, current - 1), current)) if told < current else []
        return [self._push(bar, now_ms) for bar in [*bars, self._current(interval, current)]]

    def newest(self, interval: Interval, count: int) -> range:
        """The numbers of so many bars, the last one still open."""
        return self.numbers(interval, count, None, None, oldest=False)

    def numbers(
        self, interval: Interval, limit: int, start_ms: int | None, end_ms: int | None, *, oldest: bool
    ) -> range:
        """The numbers of at most so many bars that begin from ``start_ms`` to ``end_ms``: the last of them, or with
        ``oldest`` and a start the first."""
        return numbers(interval, self._oldest_minute, self.newest_minute, limit, start_ms, end_ms, first=oldest)

    def between(self, first: int, end: int, *, hourly: bool) -> tuple[Minutes, Bars]:
        """Bars from a minute to before another, as far as there are any, and when they begin; ``hourly`` lets those of
        the past be hours."""
        begin, end = max(first, self._oldest_minute), min(end, self.newest_minute + 1)
        present, behind = max(begin, self._first_minute), min(end, self._first_minute)
        times, rows = [], []
        if begin < behind:
            length = HOUR_MINUTES if hourly else 1
            times.append(np.arange(begin, behind, length))
            past = self._behind()
            rows.append(past.hours(begin // length, behind // length) if hourly else past.minutes(begin, behind))
        if present < end:
            times.append(np.arange(present, end))
            rows.append(self._bars[present - self._first_minute : end - self._first_minute])
        if not rows:
            return np.empty(0, dtype=np.int64), np.empty((0, 6))
        return np.concatenate(times), np.concatenate(rows)

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

    @property
    def newest_minute(self) -> int:
        """The open one."""
        return self._first_minute + self._count - 1

    @property
    def _oldest_minute(self) -> int:
        return min(self._first_minute, -(-self._listed_minute // HOUR_MINUTES) * HOUR_MINUTES)

    def _behind(self) -> Past:
        if self._past is None:
            first, end = self._oldest_minute // HOUR_MINUTES, self._first_minute // HOUR_MINUTES
            self._past = Past(first, end, self._bars[: min(self._count - 1, DAY_MINUTES)])
        return self._past

    def _begin_at(self, minute: int) -> None:
        """Make room for what earlier runs kept."""
        oldest = max(minute, self.newest_minute - MOST_KEPT_MINUTES) // DAY_MINUTES * DAY_MINUTES
        missing = self._first_minute - oldest
        if missing > 0:
            before = self._made_up(int(self._bars[0, OPEN]), missing)
            self._bars = np.concatenate((before, self._bars))
            self._first_minute, self._count = oldest, self._count + missing

    def _made_up(self, last_tick: int, minutes: int) -> Bars:
        return _past(last_tick, minutes, self._volatility, self._lots_a_minute, self._rng)

    def _chosen(self, interval: str, wanted: range) -> list[Bar]:
        if not wanted:
            return []
        kind, current = INTERVALS[interval], INTERVALS[interval].number(self.newest_minute)
        begins = [kind.start(number) for number in range(wanted.start, wanted.stop + 1)]
        times, rows = self.between(begins[0], begins[-1], hourly=kind.is_hourly)
        values = added(times, rows, np.array(begins[:-1]))
        return [
            self._bar(interval, number, values[number - wanted.start], confirm=number < current) for number in wanted
        ]

    def _current(self, interval: str, number: int) -> Bar:
        """The open bar. Its closed minutes are the same for a minute, and its topic asks every second."""
        count, closed = self._closed.get(interval, (0, np.empty((0, 6))))
        begin = INTERVALS[interval].start(number)
        if count != self._count:
            times, rows = self.between(begin, self.newest_minute, hourly=INTERVALS[interval].is_hourly)
            closed = added(times, rows, times[:1]) if len(rows) else rows
            self._closed[interval] = self._count, closed
        rows = np.vstack((closed, self._bars[self._count - 1]))
        times = np.arange(len(rows))
        return self._bar(interval, number, added(times, rows, times[:1])[0], confirm=False)

    def _bar(self, interval: str, number: int, values: Bars, *, confirm: bool) -> Bar:
        begin, end = INTERVALS[interval].start(number), INTERVALS[interval].start(number + 1)
        return Bar(begin * MINUTE_MS, end * MINUTE_MS - 1, interval, values, confirm)

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
