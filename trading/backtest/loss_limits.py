"""Limits on losses where prices come one by one: a backtest stops trading as the kill switch does live."""

from __future__ import annotations

from decimal import Decimal

from risk.level_checks import loss_percent
from risk.limits import Limits


class LossLimits:
    """``day`` counts days (UTC) since 1970; ``halted``: why nothing opens any more, empty while trading goes on."""

    def __init__(self, limits: Limits, balance: Decimal, day: int) -> None:
        self._daily, self._drawdown = limits.max_daily_loss_percent, limits.max_drawdown_percent
        self.day, self.day_start, self.peak = day, balance, balance
        self.halted, self._for_good = "", False

    def begin_day(self, day: int, equity: Decimal) -> None:
        """What was lost yesterday is no loss of today."""
        if day > self.day:
            self.day, self.day_start = day, equity
            if not self._for_good:
                self.halted = ""

    def note(self, equity: Decimal) -> bool:
        """Take what the account is worth now; True where it has lost too much just now."""
        self.peak = max(self.peak, equity)
        if self.halted:
            return False
        if self._drawdown is not None and (lost := loss_percent(self.peak, equity)) >= self._drawdown:
            self.halted = f"{lost:.2f} % below the peak of equity; max_drawdown_percent is {self._drawdown:f}"
            self._for_good = True
        elif self._daily is not None and (lost := loss_percent(self.day_start, equity)) >= self._daily:
            self.halted = f"{lost:.2f} % lost since midnight (UTC); max_daily_loss_percent is {self._daily:f}"
        return bool(self.halted)
