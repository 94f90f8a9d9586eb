"""A user's order, as the exchange keeps and shows it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from trading.simulator.book import Entry

ZERO = Decimal(0)
OPEN_STATUSES = frozenset({"New", "PartiallyFilled", "Untriggered"})


@dataclass(slots=True, eq=False)
class SimulatedOrder:
    """``tick`` is None for a market order. Zero stands for "no price" in ``price``, ``take_profit``, ``stop_loss``."""

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
    closed_pnl: Decimal = ZERO
    trigger_price: Decimal = ZERO
    last_price_on_created: Decimal = ZERO
    close_on_trigger: bool = False

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
            "leavesValue": f"{(self.leaves * self.price).normalize():f}",
            "cumExecQty": f"{self.filled:f}",
            "cumExecValue": f"{self.filled_value.normalize():f}",
            "cumExecFee": f"{self.fees.normalize():f}",
            "cumFeeDetail": {"USDT": f"{self.fees.normalize():f}"} if self.fees else {},
            "timeInForce": self.time_in_force,
            "orderType": self.order_type,
            "stopOrderType": self.stop_order_type or "UNKNOWN",
            "orderIv": "",
            "lastPriceOnCreated": price_text(self.last_price_on_created),
            "reduceOnly": self.reduce_only,
            "closeOnTrigger": self.close_on_trigger,
            "placeType": "",
            "smpType": "None",
            "smpGroup": 0,
            "smpOrderId": "",
            "slippageToleranceType": "UNKNOWN",
            "slippageTolerance": "",
            "extraFees": "",
            "rpiTakerAccess": False,
            "rpiMatchedQty": "0",
            **self._trigger_fields(),
            "createdTime": str(self.created_ms),
            "updatedTime": str(self.updated_ms or self.created_ms),
        }

    def _trigger_fields(self) -> dict[str, Any]:
        return {
            "triggerPrice": price_text(self.trigger_price),
            "triggerDirection": 0,
            "triggerBy": "LastPrice" if self.trigger_price else "",
            "takeProfit": price_text(self.take_profit),
            "stopLoss": price_text(self.stop_loss),
            "tpslMode": "Full" if self.take_profit or self.stop_loss else "",
            "tpLimitPrice": "",
            "slLimitPrice": "",
            "tpTriggerBy": "LastPrice" if self.take_profit else "",
            "slTriggerBy": "LastPrice" if self.stop_loss else "",
        }


def price_text(price: Decimal) -> str:
    """A price that may be absent; empty then."""
    return f"{price:f}" if price else ""
