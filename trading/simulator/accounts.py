"""Users' money: positions and the wallet of a unified USDT account, exact in Decimal."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from trading.positions import FillValues, PositionState, apply_fill, pnl
from trading.simulator.orders import SimulatedOrder, price_text

ZERO = Decimal(0)
TAKER_FEE, MAKER_FEE = Decimal("0.00055"), Decimal("0.0002")
MAINTENANCE_RATE = Decimal("0.005")


@dataclass(slots=True)
class SimulatedPosition:
    symbol: str
    side: str = ""
    quantity: Decimal = ZERO
    entry_price: Decimal = ZERO
    leverage: Decimal = Decimal(10)
    take_profit: Decimal = ZERO
    stop_loss: Decimal = ZERO
    realised: Decimal = ZERO
    mark_price: Decimal = ZERO
    updated_ms: int = 0

    @property
    def unrealised(self) -> Decimal:
        return pnl(self.side, self.quantity, self.entry_price, self.mark_price) if self.quantity else ZERO

    @property
    def value(self) -> Decimal:
        return self.quantity * self.entry_price

    @property
    def initial_margin(self) -> Decimal:
        return self.value / self.leverage

    def apply(self, side: str, quantity: Decimal, price: Decimal, now_ms: int) -> tuple[Decimal, Decimal]:
        """Move by one fill; returns the realised PnL and the closed quantity."""
        before = PositionState(self.side, self.quantity, self.entry_price)
        result = apply_fill(before, FillValues(side, quantity, price))
        closed = min(before.quantity, quantity) if before.quantity and before.side != side else ZERO
        self.side, self.quantity = result.state.side, result.state.quantity
        self.entry_price = result.state.entry_price
        self.realised += result.realised_pnl
        self.updated_ms = now_ms
        if self.quantity == 0:
            self.take_profit = self.stop_loss = ZERO
        return result.realised_pnl, closed

    def liquidation_price(self, wallet: Decimal) -> Decimal:
        """Where this position alone would use the wallet up to its maintenance margin; zero when nowhere."""
        if self.quantity == 0:
            return ZERO
        room = (wallet - self.value * MAINTENANCE_RATE) / self.quantity
        price = self.entry_price - room if self.side == "Buy" else self.entry_price + room
        return max(price, ZERO)

    def as_row(self, wallet: Decimal, *, websocket: bool = False) -> dict[str, Any]:
        liquidation = self.liquidation_price(wallet)
        row: dict[str, Any] = {
            "positionIdx": 0,
            "riskId": 1,
            "riskLimitValue": "2000000",
            "symbol": self.symbol,
            "side": self.side,
            "size": f"{self.quantity:f}",
            "positionValue": f"{self.value.normalize():f}",
            "tradeMode": 0,
            "autoAddMargin": 0,
            "positionStatus": "Normal",
            "leverage": f"{self.leverage:f}",
            "markPrice": f"{self.mark_price:f}",
            "liqPrice": f"{liquidation.quantize(Decimal('0.000001')).normalize():f}" if liquidation else "",
            "bustPrice": "",
            "positionIM": f"{self.initial_margin.normalize():f}",
            "positionMM": f"{(self.value * MAINTENANCE_RATE).normalize():f}",
            "tpslMode": "Full",
            "takeProfit": price_text(self.take_profit),
            "stopLoss": price_text(self.stop_loss),
            "trailingStop": "0",
            "breakEvenPrice": "",
            "positionBalance": f"{self.initial_margin.normalize():f}",
            "positionIMByMp": f"{self.initial_margin.normalize():f}",
            "positionMMByMp": f"{(self.value * MAINTENANCE_RATE).normalize():f}",
            "sessionAvgPrice": "",
            "leverageSysUpdatedTime": "",
            "mmrSysUpdatedTime": "",
            "mmrSysUpdateTime": "",
            "unrealisedPnl": f"{self.unrealised.normalize():f}",
            "curRealisedPnl": f"{self.realised.normalize():f}",
            "cumRealisedPnl": f"{self.realised.normalize():f}",
            "adlRankIndicator": 0,
            "isReduceOnly": False,
            "seq": self.updated_ms or -1,
            "createdTime": str(self.updated_ms or 0),
            "updatedTime": str(self.updated_ms or 0),
        }
        row["entryPrice" if websocket else "avgPrice"] = f"{self.entry_price.normalize():f}" if self.quantity else "0"
        return row


@dataclass(slots=True)
class SimulatedAccount:
    """``orders`` and ``by_link`` keep every order for ever (a link id is used once), ``closed`` the ended ones in the
    order of their end, ``working`` the open ones."""

    user: str
    balance: Decimal
    positions: dict[str, SimulatedPosition] = field(default_factory=dict)
    orders: dict[str, SimulatedOrder] = field(default_factory=dict)
    by_link: dict[str, SimulatedOrder] = field(default_factory=dict)
    working: dict[str, SimulatedOrder] = field(default_factory=dict)
    closed: list[SimulatedOrder] = field(default_factory=list)
    executions: list[dict[str, Any]] = field(default_factory=list)
    executions_of: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    realised: Decimal = ZERO

    def position(self, symbol: str) -> SimulatedPosition:
        return self.positions.setdefault(symbol, SimulatedPosition(symbol))

    def open_orders(self, symbol: str | None = None) -> list[SimulatedOrder]:
        return [order for order in self.working.values() if symbol in (None, order.symbol)]

    def accept(self, order: SimulatedOrder) -> None:
        self.orders[order.order_id] = self.working[order.order_id] = order
        if order.link_id:
            self.by_link[order.link_id] = order

    def end(self, order: SimulatedOrder) -> None:
        """The order works no more; its status says why."""
        if self.working.pop(order.order_id, None) is not None:
            self.closed.append(order)

    def record_execution(self, row: dict[str, Any]) -> None:
        self.executions.append(row)
        self.executions_of.setdefault(row["orderId"], []).append(row)

    @property
    def unrealised(self) -> Decimal:
        return sum((position.unrealised for position in self.positions.values()), ZERO)

    @property
    def equity(self) -> Decimal:
        return self.balance + self.unrealised

    @property
    def position_margin(self) -> Decimal:
        return sum((position.initial_margin for position in self.positions.values()), ZERO)

    @property
    def order_margin(self) -> Decimal:
        """What the open orders reserve. Orders against a position reserve only for what would be left of them once
        the position is closed."""
        sums: dict[tuple[str, str], list[Decimal]] = {}
        for order in self.working.values():
            if not order.reduce_only:
                both = sums.setdefault((order.symbol, order.side), [ZERO, ZERO])
                both[0] += order.leaves
                both[1] += order.leaves * order.price
        reserved = ZERO
        for (symbol, side), (quantity, value) in sums.items():
            position = self.position(symbol)
            if position.quantity and position.side != side and quantity:
                value *= max(ZERO, quantity - position.quantity) / quantity
            reserved += value / position.leverage
        return reserved

    @property
    def available(self) -> Decimal:
        return max(self.equity - self.position_margin - self.order_margin, ZERO)

    def wallet_row(self) -> dict[str, Any]:
        """The account of ``wallet-balance`` and of the ``wallet`` topic."""
        initial = self.position_margin + self.order_margin
        maintenance = sum((p.value * MAINTENANCE_RATE for p in self.positions.values()), ZERO)
        equity = self.equity
        rate = initial / equity if equity > 0 else ZERO
        maintenance_rate = maintenance / equity if equity > 0 else ZERO
        coin = {
            "coin": "USDT",
            "equity": _money(equity),
            "usdValue": _money(equity),
            "walletBalance": _money(self.balance),
            "locked": "0",
            "borrowAmount": "0",
            "accruedInterest": "0",
            "totalOrderIM": _money(self.order_margin),
            "totalPositionIM": _money(self.position_margin),
            "totalPositionMM": _money(maintenance),
            "unrealisedPnl": _money(self.unrealised),
            "cumRealisedPnl": _money(self.realised),
            "bonus": "0",
            "marginCollateral": True,
            "collateralSwitch": True,
            "spotBorrow": "0",
            "availableToBorrow": "",
            "availableToWithdraw": _money(self.available),
            "spotHedgingQty": "0",
        }
        return {
            "accountType": "UNIFIED",
            "totalEquity": _money(equity),
            "totalWalletBalance": _money(self.balance),
            "totalMarginBalance": _money(equity),
            "totalAvailableBalance": _money(self.available),
            "totalPerpUPL": _money(self.unrealised),
            "totalInitialMargin": _money(initial),
            "totalMaintenanceMargin": _money(maintenance),
            "totalInitialMarginByMp": _money(initial),
            "totalMaintenanceMarginByMp": _money(maintenance),
            "accountIMRateByMp": f"{rate:.4f}",
            "accountMMRateByMp": f"{maintenance_rate:.4f}",
            "accountIMRate": f"{rate:.4f}",
            "accountMMRate": f"{maintenance_rate:.4f}",
            "accountLTV": "0",
            "coin": [coin],
        }


def _money(amount: Decimal) -> str:
    return f"{amount.quantize(Decimal('1e-8')).normalize():f}"
