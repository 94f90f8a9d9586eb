"""What the account has lost, by which a backtest stops trading as the kill switch does live."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from risk.limits import Limits
from trading.backtest.books import Books
from trading.backtest.kernels.slots import Held, HeldFigure
from trading.backtest.loss_limits import lost_too_much
from trading.backtest.markets import NEVER, Market

HUNDRED = Decimal(100)
# What is only estimated in floats is looked at exactly from so far away.
MARGIN = 1e-9
SLACK = 1.0 + MARGIN


class LossWatch:
    """``day`` counts days (UTC) since 1970, ``day_start`` and ``peak`` are equities. ``halted``: why nothing opens any
    more; empty while trading goes on."""

    def __init__(self, limits: Limits, balance: Decimal, books: Books, markets: Mapping[str, Market], day: int) -> None:
        from trading.backtest.kernels.worth import first_low  # noqa: PLC0415 numba: only who tests needs it

        self._limits, self._books, self._markets = limits, books, markets
        self.is_wanted = limits.max_daily_loss_percent is not None or limits.max_drawdown_percent is not None
        self.day, self.day_start, self.peak = day, balance, balance
        self.halted, self._halted_day = "", -1
        drawdown = limits.max_drawdown_percent
        self._share = math.nan if drawdown is None else float((HUNDRED - drawdown) / HUNDRED)
        self._floor = self._lowest_of_day()
        # Steps before this one have been looked at.
        self._seen = 0
        self._first_low, self._noted = first_low, -1
        self._count = 0
        self._held = np.zeros((len(markets), len(Held)), dtype=np.int64)
        self._figures = np.empty((len(markets), len(HeldFigure)))
        self._highest, self._best = np.zeros(2), np.zeros(1, dtype=np.int64)

    def prices(self, step: int) -> dict[str, Decimal]:
        """The last closes of what is held, at the end of a step."""
        return {symbol: self._markets[symbol].bars.last_close(step) for symbol in self._books.holdings}

    def equity(self, step: int) -> Decimal:
        return self._books.equity(self.prices(step))

    def begin_day(self, day: int, step: int) -> None:
        if day > self.day:
            self.day, self.day_start = day, self.equity(step)
            self._floor = self._lowest_of_day()

    def _lowest_of_day(self) -> float:
        daily = self._limits.max_daily_loss_percent
        return math.nan if daily is None else float(self.day_start * (HUNDRED - daily) / HUNDRED)

    def first_loss(self, until: int) -> int | None:
        """The first step before ``until`` at whose end the account has lost too much; each step is looked at once."""
        first, self._seen = self._seen, max(until, self._seen)
        if self.halted and self.day > self._halted_day:
            self.halted = ""
        if not self.is_wanted or first >= until or self.halted:
            return None
        if self._noted != self._books.changes:
            self._note_holdings()
        balance, highest, known = float(self._books.balance), self._highest, float(self.peak)
        highest[0] = known
        while first < until:
            suspect = self._first_low(
                self._count, self._held, self._figures, first, until, balance, self._floor, self._share, SLACK,
                highest, self._best,
            )  # fmt: skip
            if highest.item(1) > known - abs(known) * MARGIN:
                self.peak = max(self.peak, self.equity(self._best.item(0)))
                known = float(self.peak)
            if suspect < until and self._has_lost(suspect):
                self._seen = suspect + 1
                return suspect
            first = suspect + 1
        return None

    def _note_holdings(self) -> None:
        """What is held, as the kernel takes it."""
        self._noted, holdings = self._books.changes, self._books.holdings
        self._count = len(holdings)
        for row, (symbol, holding) in enumerate(holdings.items()):
            bars = self._markets[symbol].bars
            self._held[row, : Held.AT] = bars.held_row
            signed = holding.size if holding.is_long else -holding.size
            self._figures[row] = signed, holding.entry, bars.one

    def _has_lost(self, step: int) -> bool:
        equity = self.equity(step)
        lost = lost_too_much(self._limits, equity, peak=self.peak, day_start=self.day_start)
        if lost is None:
            return False
        self.halted, self._halted_day = lost.words, NEVER if lost.for_good else self.day
        return True
