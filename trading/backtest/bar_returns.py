"""Correlations and volatilities as the live engine reckons them (``risk.returns``), read from bars when risk asks: to
tell each minute of each symbol took longer than everything else of a backtest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from marketdata.candles.series import MINUTE_MS
from risk.returns import FEWEST, MINUTES_A_DAY, WINDOW
from trading.backtest.bars import Bars
from trading.backtest.kernels.slots import Known


class BarReturns:
    """Takes the place of ``risk.returns.Returns`` in a backtest's pipeline. Bars that are not of one minute have no
    returns, as prices that are further apart than a minute have none live."""

    def __init__(self, bars: Mapping[str, Bars], length_ms: int) -> None:
        from trading.backtest.kernels.returns import correlations, note  # noqa: PLC0415 numba: only who tests needs it

        self._correlations, self._note = correlations, note
        self._symbols, self._of_minutes = tuple(bars), length_ms == MINUTE_MS
        self._ranks = {symbol: rank for rank, symbol in enumerate(bars)}
        self._bars = tuple(bars.values())
        self._known = np.full((len(bars), len(Known)), -1, dtype=np.int64)
        for rank, each in enumerate(self._bars):
            self._known[rank, :3] = each.closed.ctypes.data, each.start_ms.ctypes.data, each.length
        self._ones = np.array([10.0**each.series.price_decimals for each in self._bars])
        self._rows = np.full((len(bars), WINDOW), np.nan)
        self._newest = np.full(1, -1, dtype=np.int64)
        self._asked = np.zeros(0, dtype=np.int64)
        self._names: tuple[str, ...] = ()
        self._found: dict[str, Mapping[str, float | None]] = {}
        self._room, self._values = np.empty((3, WINDOW)), np.empty(len(bars))
        # A symbol that is alone is only looked at when somebody asks.
        self._alone = len(bars) == 1
        self._time_ms = 0

    def tell(self, symbols: Sequence[str], time_ms: int) -> None:
        """These symbols' bars are known to a time: those that risk may ask about now."""
        if self._alone:
            self._time_ms = time_ms
        elif self._of_minutes:
            self._names = tuple(dict.fromkeys(symbols))
            self._asked = np.array([self._ranks[symbol] for symbol in self._names], dtype=np.int64)
            self._found.clear()
            self._note(self._asked, time_ms, self._known, self._newest)

    def add(self, symbol: str, price: float, time_ns: int) -> None:
        """Prices are read from the bars."""

    def of(self, symbol: str) -> Mapping[str, float | None]:
        if self._alone:
            return {}
        found = self._found.get(symbol)
        if found is None:
            self._reckon(symbol)
            values = self._values[: len(self._names)].tolist()
            found = self._found[symbol] = {
                name: None if math.isnan(value) else value for name, value in zip(self._names, values, strict=True)
            }
        return found

    def volatility_percent(self, symbol: str) -> float | None:
        if self._alone and self._of_minutes:
            self._note(np.zeros(1, dtype=np.int64), self._time_ms, self._known, self._newest)
        self._reckon(symbol)
        row = self._rows[self._ranks[symbol]]
        known = row[~np.isnan(row)]
        if len(known) < FEWEST:
            return None
        return math.sqrt(float(np.mean(known * known)) * MINUTES_A_DAY) * 100

    def _reckon(self, symbol: str) -> None:
        self._correlations(
            self._ranks[symbol], self._asked, self._known, self._ones, int(self._newest[0]), self._rows, self._room,
            self._values,
        )  # fmt: skip
