"""Limits on losses where prices come one by one: a backtest stops trading as the kill switch does live."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from risk.level_checks import loss_percent
from risk.limits import Limits


class Lost(NamedTuple):
    """Too much: why nothing opens any more, and whether that is so to the end or for the day."""

    words: str
    for_good: bool


def lost_too_much(limits: Limits, equity: Decimal, *, peak: Decimal, day_start: Decimal) -> Lost | None:
    """Whether an account that is worth this has lost more than its limits allow."""
    drawdown, daily = limits.max_drawdown_percent, limits.max_daily_loss_percent
    if drawdown is not None and (lost := loss_percent(peak, equity)) >= drawdown:
        return Lost(f"{lost:.2f} % below the peak of equity; max_drawdown_percent is {drawdown:f}", True)
    if daily is not None and (lost := loss_percent(day_start, equity)) >= daily:
        return Lost(f"{lost:.2f} % lost since midnight (UTC); max_daily_loss_percent is {daily:f}", False)
    return None


class LossLimits:
    """``day`` counts days (UTC) since 1970; ``halted``: why nothing opens any more, empty while trading goes on."""

    def __init__(self, limits: Limits, balance: Decimal, day: int) -> None:
        self._limits = limits
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
        lost = lost_too_much(self._limits, equity, peak=self.peak, day_start=self.day_start)
        if lost is not None:
            self.halted, self._for_good = lost
        return lost is not None
