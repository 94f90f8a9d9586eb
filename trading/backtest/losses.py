"""What the account has lost, by which a backtest stops trading as the kill switch does live."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from risk.level_checks import loss_percent
from risk.limits import Limits
from trading.backtest.books import Books
from trading.backtest.markets import NEVER, Market

HUNDRED = Decimal(100)
# What is only estimated in floats is looked at exactly from so far away.
SLACK = 1.0 + 1e-9


class LossWatch:
    """``day`` counts days (UTC) since 1970, ``day_start`` and ``peak`` are equities. ``halted``: why nothing opens any
    more; empty while trading goes on."""

    def __init__(self, limits: Limits, balance: Decimal, books: Books, markets: Mapping[str, Market], day: int) -> None:
        self._limits, self._books, self._markets = limits, books, markets
        self.is_wanted = limits.max_daily_loss_percent is not None or limits.max_drawdown_percent is not None
        self.day, self.day_start, self.peak = day, balance, balance
        self.halted, self._halted_day = "", -1
        # Steps before this one have been looked at.
        self._seen = 0

    def prices(self, step: int) -> dict[str, Decimal]:
        """The last closes of what is held, at the end of a step."""
        return {symbol: self._markets[symbol].bars.last_close(step) for symbol in self._books.holdings}

    def equity(self, step: int) -> Decimal:
        return self._books.equity(self.prices(step))

    def begin_day(self, day: int, step: int) -> None:
        if day > self.day:
            self.day, self.day_start = day, self.equity(step)

    def first_loss(self, until: int) -> int | None:
        """The first step before ``until`` at whose end the account has lost too much; each step is looked at once."""
        first, self._seen = self._seen, max(until, self._seen)
        if self.halted and self.day > self._halted_day:
            self.halted = ""
        if not self.is_wanted or first >= until or self.halted:
            return None
        worth = self._worth(first, until)
        seen = 0
        for suspect in [*np.flatnonzero(self._low(worth)).tolist(), len(worth)]:
            part = worth[seen : suspect + 1]
            if len(part):
                self.peak = max(self.peak, self.equity(first + seen + int(part.argmax())))
            seen = suspect + 1
            if suspect < len(worth) and self._has_lost(first + suspect):
                self._seen = first + suspect + 1
                return first + suspect
        return None

    def _worth(self, first: int, until: int) -> NDArray[np.float64]:
        worth = np.full(until - first, float(self._books.balance))
        for symbol, holding in self._books.holdings.items():
            signed = float(holding.book.quantity) * (1.0 if holding.is_long else -1.0)
            worth += signed * (self._markets[symbol].bars.closes(first, until) - float(holding.book.entry_price))
        return worth

    def _low(self, worth: NDArray[np.float64]) -> NDArray[np.bool_]:
        limits = self._limits
        highest = np.maximum.accumulate(np.maximum(worth, float(self.peak)))
        low = np.zeros(len(worth), dtype=bool)
        if limits.max_daily_loss_percent is not None:
            low |= worth <= float(self.day_start * (HUNDRED - limits.max_daily_loss_percent) / HUNDRED) * SLACK
        if limits.max_drawdown_percent is not None:
            low |= worth <= highest * float((HUNDRED - limits.max_drawdown_percent) / HUNDRED) * SLACK
        return low

    def _has_lost(self, step: int) -> bool:
        equity = self.equity(step)
        daily, drawdown = self._limits.max_daily_loss_percent, self._limits.max_drawdown_percent
        if drawdown is not None and (lost := loss_percent(self.peak, equity)) >= drawdown:
            self._halted_day = NEVER
            self.halted = f"{lost:.2f} % below the peak of equity; max_drawdown_percent is {drawdown:f}"
        elif daily is not None and (lost := loss_percent(self.day_start, equity)) >= daily:
            self._halted_day = self.day
            self.halted = f"{lost:.2f} % lost since midnight (UTC); max_daily_loss_percent is {daily:f}"
        return bool(self.halted)
