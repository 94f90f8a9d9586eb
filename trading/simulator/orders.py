"""An order as the exchange keeps it, and as REST and websocket show it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

ZERO = Decimal(0)
OPEN_STATUSES = frozenset({"New", "PartiallyFilled", "Untriggered"})


@dataclass(slots=True, eq=False)
class SimulatedOrder:
    """``tick`` and ``lots`` are price and quantity on the instrument's grids (``tick`` None: a market order).

    ``whole_position`` marks one that closes whatever the position is when it triggers. ``trailing`` is the distance
    of a trailing stop, ``active_price`` where it begins to follow (zero: at once). ``quote_budget`` is what a spot
    market buy may spend when its quantity was given in the quote coin. ``entry`` is its handle while it rests;
    ``reserved`` and ``counted`` are how it is part of its account's sums.
    """

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
    category: str = "linear"
    position_index: int = 0
    close_on_trigger: bool = False
    trigger_price: Decimal = ZERO
    trigger_direction: int = 0
    trigger_by: str = ""
    take_profit: Decimal = ZERO
    stop_loss: Decimal = ZERO
    tpsl_mode: str = ""
    tp_trigger_by: str = ""
    sl_trigger_by: str = ""
    tp_order_type: str = ""
    sl_order_type: str = ""
    tp_limit_price: Decimal = ZERO
    sl_limit_price: Decimal = ZERO
    whole_position: bool = False
    trailing: Decimal = ZERO
    active_price: Decimal = ZERO
    smp_type: str = "None"
    smp_order_id: str = ""
    parent_link_id: str = ""
    market_unit: str = ""
    quote_budget: Decimal = ZERO
    slippage_type: str = ""
    slippage_tolerance: Decimal = ZERO
    create_type: str = "CreateByUser"
    stop_order_type: str = ""
    status: str = "New"
    leaves_lots: int = 0
    filled: Decimal = ZERO
    filled_value: Decimal = ZERO
    fees: Decimal = ZERO
    fee_currency: str = ""
    closed_pnl: Decimal = ZERO
    last_price_on_created: Decimal = ZERO
    reject_reason: str = "EC_NoError"
    cancel_type: str = "UNKNOWN"
    updated_ms: int = 0
    entry: int | None = None
    reserved: Decimal = ZERO
    counted: tuple[str, str, bool] | None = None

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    @property
    def leaves(self) -> Decimal:
        return self.quantity - self.filled if self.is_open else ZERO

    @property
    def is_exit(self) -> bool:
        """A take-profit, stop-loss or trailing stop that belongs to a position."""
        return self.stop_order_type not in ("", "Stop", "tpslOrder")

    def as_row(self) -> dict[str, Any]:
        """The order object of REST."""
        average = self.filled_value / self.filled if self.filled else None
        return {
            "orderId": self.order_id,
            "orderLinkId": self.link_id,
            "parentOrderLinkId": self.parent_link_id,
            "blockTradeId": "",
            "symbol": self.symbol,
            "price": f"{self.price:f}",
            "qty": f"{self.quantity:f}",
            "side": self.side,
            "isLeverage": "0" if self.category == "spot" else "",
            "positionIdx": self.position_index,
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
            "cumFeeDetail": {self.fee_currency: f"{self.fees:f}"} if self.fees else {},
            "timeInForce": self.time_in_force,
            "orderType": self.order_type,
            "stopOrderType": self.stop_order_type,
            "marketUnit": self.market_unit,
            "slippageToleranceType": self.slippage_type or "UNKNOWN",
            "slippageTolerance": f"{self.slippage_tolerance:f}" if self.slippage_type else "",
            "orderIv": "",
            "triggerPrice": price_text(self.trigger_price),
            "takeProfit": price_text(self.take_profit),
            "stopLoss": price_text(self.stop_loss),
            "tpslMode": self.tpsl_mode,
            "tpTriggerBy": self.tp_trigger_by,
            "slTriggerBy": self.sl_trigger_by,
            "tpLimitPrice": price_text(self.tp_limit_price),
            "slLimitPrice": price_text(self.sl_limit_price),
            "triggerDirection": self.trigger_direction,
            "triggerBy": self.trigger_by,
            "lastPriceOnCreated": price_text(self.last_price_on_created),
            "reduceOnly": self.reduce_only,
            "closeOnTrigger": self.close_on_trigger,
            "placeType": "",
            "smpType": self.smp_type,
            "smpGroup": 0,
            "smpOrderId": self.smp_order_id,
            "createdTime": str(self.created_ms),
            "updatedTime": str(self.updated_ms or self.created_ms),
        }

    def as_message(self) -> dict[str, Any]:
        """The row of the private ``order`` topic."""
        row = self.as_row()
        row["category"] = self.category
        row["closedPnl"] = f"{self.closed_pnl.normalize():f}"
        row["feeCurrency"] = self.fee_currency
        row["rpiTakerAccess"], row["rpiMatchedQty"] = False, "0"
        return row


def price_text(price: Decimal) -> str:
    """A price that need not be set; empty when it is not."""
    return f"{price:f}" if price else ""
