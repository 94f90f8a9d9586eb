"""How symbols move, from their live mark prices: correlations of pairs and the volatility of each.

Prices are sampled once a minute of the data's time. Shorter steps understate how much symbols move together, since
trades of the two do not arrive together (Epps 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

STEP_NS = 60_000_000_000
WINDOW = 240
FEWEST = 20
MINUTES_A_DAY = 24 * 60


class KnownReturns(Protocol):
    """What :class:`Returns` answers, from wherever prices are known."""

    def add(self, symbol: str, price: float, time_ns: int) -> None: ...

    def of(self, symbol: str) -> Mapping[str, float | None]: ...

    def volatility_percent(self, symbol: str) -> float | None: ...


class ReturnSeries:
    """The running minute of one symbol. A minute without a price has no return, and neither has the one after it."""

    __slots__ = ("_closed_price", "_closed_step", "_price", "_step")

    def __init__(self) -> None:
        self._step, self._price = -1, 0.0
        self._closed_step, self._closed_price = -2, 0.0

    def add(self, price: float, time_ns: int) -> tuple[int, float] | None:
        """Take a price; where it is the first of a new minute, the number of the one that ended and its log return."""
        step = time_ns // STEP_NS
        if step <= self._step:
            if step == self._step:
                self._price = price
            return None
        ended = None
        if self._step >= 0:
            if self._closed_step == self._step - 1:
                ended = (self._step, math.log(self._price / self._closed_price))
            self._closed_step, self._closed_price = self._step, self._price
        self._step, self._price = step, price
        return ended


class Returns:
    """All symbols' returns of the last 240 minutes. What was reckoned of them is kept until a minute ends, so that
    asking again costs a look-up."""

    def __init__(self, fewest: int = FEWEST) -> None:
        self._fewest = fewest
        self._series: dict[str, ReturnSeries] = {}
        self._places: dict[str, int] = {}
        # One row a symbol, one column a minute, by its number modulo the window; NaN where there is none.
        self._table: NDArray[np.float64] = np.full((8, WINDOW), np.nan)
        self._newest = -1
        self._rows: dict[str, Mapping[str, float | None]] = {}
        self._volatilities: dict[str, float | None] = {}

    def add(self, symbol: str, price: float, time_ns: int) -> None:
        """Take a mark price at the time (ns) of its data; a price that is not above 0 is left aside."""
        if price <= 0 or not math.isfinite(price):
            return
        series = self._series.get(symbol)
        if series is None:
            series = self._series[symbol] = ReturnSeries()
            self._places[symbol] = len(self._places)
            if len(self._places) > len(self._table):
                self._table = np.vstack([self._table, np.full_like(self._table, np.nan)])
        ended = series.add(price, time_ns)
        if ended is not None:
            self._note(symbol, *ended)

    def _note(self, symbol: str, step: int, value: float) -> None:
        if step > self._newest:
            # Columns of minutes that nobody has told yet hold those of a window before.
            for stale in range(max(self._newest + 1, step - WINDOW + 1), step + 1):
                self._table[:, stale % WINDOW] = np.nan
            self._newest = step
        if step > self._newest - WINDOW:
            self._table[self._places[symbol], step % WINDOW] = value
        self._rows.clear()
        self._volatilities.clear()

    def of(self, symbol: str) -> Mapping[str, float | None]:
        """The correlation of a symbol's returns with those of each other one, -1 to 1, over the minutes that both have;
        None for too few, or a price that did not move."""
        row = self._rows.get(symbol)
        if row is None:
            row = self._rows[symbol] = self._correlations(symbol)
        return row

    def volatility_percent(self, symbol: str) -> float | None:
        """The realised volatility of a symbol, percent per day: root mean square of its minutes' returns, scaled. None
        for too few."""
        if symbol not in self._volatilities:
            self._volatilities[symbol] = self._volatility(symbol)
        return self._volatilities[symbol]

    def _volatility(self, symbol: str) -> float | None:
        place = self._places.get(symbol)
        if place is None:
            return None
        known = self._table[place][~np.isnan(self._table[place])]
        if len(known) < self._fewest:
            return None
        return math.sqrt(float(np.mean(known * known)) * MINUTES_A_DAY) * 100

    def _correlations(self, symbol: str) -> Mapping[str, float | None]:
        place = self._places.get(symbol)
        if place is None:
            return {}
        table = self._table[: len(self._places)]
        both = ~np.isnan(table) & ~np.isnan(table[place])
        counts = np.maximum(both.sum(axis=1), 1)
        others, own = np.where(both, table, 0.0), np.where(both, table[place], 0.0)
        others = np.where(both, others - others.sum(axis=1, keepdims=True) / counts[:, None], 0.0)
        own = np.where(both, own - own.sum(axis=1, keepdims=True) / counts[:, None], 0.0)
        spread = np.sqrt((others * others).sum(axis=1) * (own * own).sum(axis=1))
        known = (both.sum(axis=1) >= self._fewest) & (spread > 0)
        values = np.clip((others * own).sum(axis=1) / np.where(known, spread, 1.0), -1.0, 1.0)
        return {
            other: float(values[at]) if known[at] else None for other, at in self._places.items() if other != symbol
        }
