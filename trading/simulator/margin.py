"""Cross margin: funding every interval, and liquidation of accounts whose equity no longer covers maintenance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trading.simulator.accounts import SimulatedAccount
from trading.simulator.collateral import MOST_BORROWED
from trading.simulator.liquidation import TakeOver
from trading.simulator.markets import Market
from trading.simulator.orders import ZERO

if TYPE_CHECKING:
    from trading.simulator.exchange import Exchange


class Margin:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._busy: set[str] = set()

    def pay_funding(self, market: Market, now_ms: int) -> None:
        """Every open position of a contract pays or receives once."""
        for account in self._exchange.accounts.values():
            for position in account.positions.values():
                if position.symbol == market.symbol and position.quantity:
                    self._exchange.ledger.pay_funding(market, account, position, now_ms)
        for account in self._exchange.accounts.values():
            self.watch(account, now_ms)

    def watch(self, account: SimulatedAccount, now_ms: int) -> None:
        """Close an account down while it cannot cover its maintenance margin: its orders, its other coins for what it
        owes, then position by position."""
        if account.user in self._busy:
            return
        self._busy.add(account.user)
        try:
            if account.borrowed > MOST_BORROWED:
                self._exchange.borrowing.repay(account, MOST_BORROWED, now_ms)
            if self._is_short(account):
                self._close_down(account, now_ms)
        finally:
            self._busy.discard(account.user)

    def _close_down(self, account: SimulatedAccount, now_ms: int) -> None:
        borrowing = self._exchange.borrowing
        for order in list(account.working.values()):
            # The end of one can end others: the exits that wait for it.
            if order.is_open:
                self._exchange.end(
                    order, "Cancelled", now_ms, cancel_type="CancelAllBeforeLiq", reject_reason="EC_NoError"
                )
        borrowing.repay(account, ZERO, now_ms)
        while self._is_short(account) and (held := [each for each in account.positions.values() if each.quantity]):
            largest = max(held, key=lambda each: each.maintenance_margin)
            TakeOver(self._exchange, account, largest).run(now_ms)
        if self._is_short(account) or account.balance < 0:
            borrowing.repay(account, ZERO, now_ms)
        if not any(each.quantity for each in account.positions.values()):
            borrowing.forgive(account, now_ms)

    def _is_short(self, account: SimulatedAccount) -> bool:
        maintenance = account.maintenance_margin
        return maintenance > 0 and account.margin_balance <= maintenance
