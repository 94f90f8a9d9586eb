"""Cross margin: funding every interval, and liquidation of accounts whose equity no longer covers maintenance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trading.simulator.accounts import SimulatedAccount
from trading.simulator.liquidation import TakeOver
from trading.simulator.markets import Market

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
        """Close an account down, position by position, while it cannot cover its maintenance margin."""
        if account.user in self._busy or not self._is_short(account):
            return
        self._busy.add(account.user)
        try:
            for order in list(account.open_orders()):
                self._exchange.end(
                    order, "Cancelled", now_ms, cancel_type="CancelAllBeforeLiq", reject_reason="EC_NoError"
                )
            while self._is_short(account):
                open_positions = [position for position in account.positions.values() if position.quantity]
                largest = max(open_positions, key=lambda each: each.maintenance_margin)
                TakeOver(self._exchange, account, largest).run(now_ms)
        finally:
            self._busy.discard(account.user)

    def _is_short(self, account: SimulatedAccount) -> bool:
        maintenance = account.maintenance_margin
        return maintenance > 0 and account.equity <= maintenance
