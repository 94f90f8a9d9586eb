"""What an account has at stake, as a value that trading builds and risk reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class PositionExposure:
    side: str
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal
    leverage: Decimal

    @property
    def signed_quantity(self) -> Decimal:
        return self.quantity if self.side == "Buy" else -self.quantity


@dataclass(frozen=True, slots=True)
class PendingExposure:
    """Orders that may still fill, those of UNKNOWN fate counted: quantities in base coin, by side."""

    buy_quantity: Decimal = ZERO
    sell_quantity: Decimal = ZERO

    def plus(self, side: str, quantity: Decimal) -> PendingExposure:
        if side == "Buy":
            return replace(self, buy_quantity=self.buy_quantity + quantity)
        return replace(self, sell_quantity=self.sell_quantity + quantity)


@dataclass(frozen=True, slots=True)
class Exposure:
    """``equity``, ``available_balance`` and ``day_pnl`` in USD. ``known`` is False before the first reconciliation:
    then nothing may trade."""

    known: bool = False
    equity: Decimal = ZERO
    available_balance: Decimal = ZERO
    day_pnl: Decimal = ZERO
    positions: Mapping[str, PositionExposure] = field(default_factory=lambda: MappingProxyType({}))
    pending: Mapping[str, PendingExposure] = field(default_factory=lambda: MappingProxyType({}))
    open_orders: int = 0
    orders_last_second: int = 0

    def with_pending(self, symbol: str, side: str, quantity: Decimal) -> Exposure:
        """The exposure once one more order is on its way: the next intent must see it before any report comes."""
        pending = dict(self.pending)
        pending[symbol] = pending.get(symbol, PendingExposure()).plus(side, quantity)
        return replace(
            self,
            pending=MappingProxyType(pending),
            open_orders=self.open_orders + 1,
            orders_last_second=self.orders_last_second + 1,
        )

    def signed_quantity(self, symbol: str) -> Decimal:
        position = self.positions.get(symbol)
        return position.signed_quantity if position else ZERO

    def worst_quantity(self, symbol: str, side: str, quantity: Decimal) -> Decimal:
        """The largest position, long or short, that the symbol could reach if this order and all pending ones on
        either side fill while the other side's do not."""
        pending = self.pending.get(symbol, PendingExposure()).plus(side, quantity)
        held = self.signed_quantity(symbol)
        return max(abs(held + pending.buy_quantity), abs(held - pending.sell_quantity))
