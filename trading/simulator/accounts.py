"""Users' money: orders, executions, positions and the wallet of a unified USDT account, exact in Decimal."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from trading.positions import FillValues, PositionState, apply_fill, pnl
from trading.simulator.book import Entry

ZERO = Decimal(0)
TAKER_FEE, MAKER_FEE = Decimal("0.00055"), Decimal("0.0002")
MAINTENANCE_RATE = Decimal("0.005")
OPEN_STATUSES = frozenset({"New", "PartiallyFilled", "Untriggered"})


@dataclass(slots=True, eq=False)
class SimulatedOrder:
    order_id: str
    link_id: str
    user: str
    symbol: str
    side: str
    order_type: str
    time_in_force: str
    quantity: Decimal
    price: Decimal
    tick: int | None
    lots: int
    reduce_only: bool
    created_ms: int
    take_profit: Decimal = ZERO
    stop_loss: Decimal = ZERO
    create_type: str = "CreateByUser"
    stop_order_type: str = ""
    status: str = "New"
    leaves_lots: int = 0
    filled: Decimal = ZERO
    filled_value: Decimal = ZERO
    fees: Decimal = ZERO
    reject_reason: str = "EC_NoError"
    cancel_type: str = "UNKNOWN"
    updated_ms: int = 0
    entry: Entry | None = None

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    @property
    def leaves(self) -> Decimal:
        return self.quantity - self.filled if self.is_open else ZERO

    def as_row(self) -> dict[str, Any]:
        """The order object of REST and websocket."""
        average = self.filled_value / self.filled if self.filled else None
        return {
            "orderId": self.order_id,
            "orderLinkId": self.link_id,
            "blockTradeId": "",
            "symbol": self.symbol,
            "price": f"{self.price:f}",
            "qty": f"{self.quantity:f}",
            "side": self.side,
            "isLeverage": "",
            "positionIdx": 0,
            "orderStatus": self.status,
            "createType": self.create_type,
            "cancelType": self.cancel_type,
            "rejectReason": self.reject_reason,
            "avgPrice": "" if average is None else f"{average.normalize():f}",
            "leavesQty": f"{self.leaves:f}",
            "leavesValue": f"{self.leaves * self.price:f}",
            "cumExecQty": f"{self.filled:f}",
            "cumExecValue": f"{self.filled_value:f}",
            "cumExecFee": f"{self.fees:f}",
            "timeInForce": self.time_in_force,
            "orderType": self.order_type,
            "stopOrderType": self.stop_order_type,
            "orderIv": "",
            "triggerPrice": "",
            "takeProfit": price_text(self.take_profit),
            "stopLoss": price_text(self.stop_loss),
            "tpslMode": "Full" if self.take_profit or self.stop_loss else "",
            "tpTriggerBy": "LastPrice" if self.take_profit else "",
            "slTriggerBy": "LastPrice" if self.stop_loss else "",
            "triggerDirection": 0,
            "triggerBy": "",
            "lastPriceOnCreated": "",
            "reduceOnly": self.reduce_only,
            "closeOnTrigger": False,
            "placeType": "",
            "smpType": "None",
            "smpGroup": 0,
            "smpOrderId": "",
            "createdTime": str(self.created_ms),
            "updatedTime": str(self.updated_ms or self.created_ms),
        }


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
    user: str
    balance: Decimal
    positions: dict[str, SimulatedPosition] = field(default_factory=dict)
    orders: dict[str, SimulatedOrder] = field(default_factory=dict)
    by_link: dict[str, SimulatedOrder] = field(default_factory=dict)
    working: dict[str, SimulatedOrder] = field(default_factory=dict)
    executions: list[dict[str, Any]] = field(default_factory=list)
    realised: Decimal = ZERO

    def position(self, symbol: str) -> SimulatedPosition:
        return self.positions.setdefault(symbol, SimulatedPosition(symbol))

    def open_orders(self, symbol: str | None = None) -> list[SimulatedOrder]:
        return [order for order in self.working.values() if symbol in (None, order.symbol)]

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
        return sum(
            (
                order.leaves * order.price / self.position(order.symbol).leverage
                for order in self.working.values()
                if not order.reduce_only
            ),
            ZERO,
        )

    @property
    def available(self) -> Decimal:
        return max(self.equity - self.position_margin - self.order_margin, ZERO)

    def wallet_row(self) -> dict[str, Any]:
        """The account of ``wallet-balance`` and of the ``wallet`` topic."""
        initial = self.position_margin + self.order_margin
        maintenance = sum((p.value * MAINTENANCE_RATE for p in self.positions.values()), ZERO)
        rate = initial / self.equity if self.equity > 0 else ZERO
        coin = {
            "coin": "USDT",
            "equity": _money(self.equity),
            "usdValue": _money(self.equity),
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
        }
        return {
            "accountType": "UNIFIED",
            "totalEquity": _money(self.equity),
            "totalWalletBalance": _money(self.balance),
            "totalMarginBalance": _money(self.equity),
            "totalAvailableBalance": _money(self.available),
            "totalPerpUPL": _money(self.unrealised),
            "totalInitialMargin": _money(initial),
            "totalMaintenanceMargin": _money(maintenance),
            "accountIMRate": f"{rate:.4f}",
            "accountMMRate": f"{(maintenance / self.equity if self.equity > 0 else ZERO):.4f}",
            "accountLTV": "0",
            "coin": [coin],
        }


def price_text(price: Decimal) -> str:
    """A TP or SL price; empty when it is not set."""
    return f"{price:f}" if price else ""


def _money(amount: Decimal) -> str:
    return f"{amount.quantize(Decimal('1e-8')).normalize():f}"
