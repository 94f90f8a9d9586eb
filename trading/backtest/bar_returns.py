"""Correlations and volatilities as the live engine reckons them (``risk.returns``), read from bars when risk asks: to
tell each minute of each symbol took longer than everything else of a backtest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import MINUTE_MS
from risk.returns import FEWEST, MINUTES_A_DAY, WINDOW
from trading.backtest.bars import Bars


class BarReturns:
    """Takes the place of ``risk.returns.Returns`` in a backtest's pipeline. Bars that are not of one minute have no
    returns, as prices that are further apart than a minute have none live."""

    def __init__(self, bars: Mapping[str, Bars], grid_ms: int, length_ms: int) -> None:
        from trading.backtest.kernels.returns import correlation, fill_row  # noqa: PLC0415 numba: only who tests needs it

        self._correlation, self._fill_row = correlation, fill_row
        self._bars, self._of_minutes = bars, length_ms == MINUTE_MS
        # The end of the bar of step 0, in minutes since 1970.
        self._first_minute = grid_ms // MINUTE_MS + 1
        # The last bar of each symbol that is known, and the newest minute of any that has a return.
        self._known: dict[str, int] = {}
        self._newest = -1
        # Rows and answers are those of this moment.
        self._asked: tuple[str, ...] = ()
        self._rows: dict[str, NDArray[np.float64]] = {}
        self._found: dict[str, Mapping[str, float | None]] = {}
        self._spare: list[NDArray[np.float64]] = []
        self._room = np.empty((3, WINDOW))

    def tell(self, symbols: Iterable[str], step: int) -> None:
        """These symbols' bars are known to the end of a step; those that risk may ask about now."""
        if not self._of_minutes:
            return
        self._asked = tuple(dict.fromkeys(symbols))
        self._spare += self._rows.values()
        self._rows.clear()
        self._found.clear()
        for symbol in self._asked:
            bars = self._bars[symbol]
            last = bars.until(step)
            if last < 0:
                continue
            self._known[symbol] = last
            while last > 1 and bars.step(last - 2) != bars.step(last - 1) - 1:
                last -= 1
            if last > 1:
                self._newest = max(self._newest, bars.step(last - 1) + self._first_minute)

    def add(self, symbol: str, price: float, time_ns: int) -> None:
        """Prices are read from the bars."""

    def of(self, symbol: str) -> Mapping[str, float | None]:
        found = self._found.get(symbol)
        if found is None:
            found = self._found[symbol] = self._correlations(symbol)
        return found

    def volatility_percent(self, symbol: str) -> float | None:
        row = self._row(symbol)
        known = row[~np.isnan(row)] if row is not None else ()
        if len(known) < FEWEST:
            return None
        return math.sqrt(float(np.mean(known * known)) * MINUTES_A_DAY) * 100

    def _correlations(self, symbol: str) -> Mapping[str, float | None]:
        own = self._row(symbol)
        if own is None:
            return {}
        found: dict[str, float | None] = {}
        for other in self._asked:
            row = self._row(other) if other != symbol else None
            if row is not None:
                value = self._correlation(own, row, self._room, FEWEST)
                found[other] = None if math.isnan(value) else value
        return found

    def _row(self, symbol: str) -> NDArray[np.float64] | None:
        """A symbol's returns of the newest minutes, by minute modulo the window."""
        row = self._rows.get(symbol)
        last = self._known.get(symbol)
        if row is None and last is not None:
            bars = self._bars[symbol]
            row = self._rows[symbol] = self._spare.pop() if self._spare else np.empty(WINDOW)
            one = 10.0**bars.series.price_decimals
            self._fill_row(bars.closed, bars.start_ms, last, self._newest, one, row)
        return row
