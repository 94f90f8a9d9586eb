"""The row of an order, and what makes two requests the same one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from audit import bus
from audit.services import record
from audit.trace import current_trace, new_trace_id
from marketdata.selectors import instrument_by_symbol
from trading.models import Order
from trading.services.modes import mode_confirm
from trading.services.order_gate import OrderGate


@dataclass(frozen=True, slots=True)
class OrderBody:
    """What makes two requests under one client order id the same request."""

    symbol: str
    side: str
    order_type: str
    quantity: Decimal
    price: Decimal | None
    time_in_force: str
    reduce_only: bool
    take_profit: Decimal | None
    stop_loss: Decimal | None

    @classmethod
    def of(cls, order: Order) -> OrderBody:
        return cls(
            order.instrument.symbol,
            order.side,
            order.order_type,
            order.quantity,
            order.price,
            order.time_in_force,
            order.reduce_only,
            order.take_profit,
            order.stop_loss,
        )


def order_insert(
    account_id: int,
    body: OrderBody,
    client_order_id: str,
    *,
    actor: str,
    reason: str,
    strategy: str,
    now: datetime,
    signal_id: int | None = None,
    trace_id: str = "",
    gate: OrderGate | None = None,
    mode: str | None = None,
) -> Order:
    order = Order(
        pk=gate.order_id if gate is not None else None,
        account_id=account_id,
        mode=gate.mode if gate is not None else mode_confirm(account_id, mode),
        instrument=gate.instrument if gate is not None else instrument_by_symbol(body.symbol),
        client_order_id=client_order_id,
        signal_id=signal_id,
        strategy=strategy,
        side=body.side,
        order_type=body.order_type,
        quantity=body.quantity,
        price=body.price,
        time_in_force=body.time_in_force,
        reduce_only=body.reduce_only,
        take_profit=body.take_profit,
        stop_loss=body.stop_loss,
        reason=reason,
        actor=actor,
        trace_id=trace_id or current_trace() or new_trace_id(),
        created_at=now,
    )
    if gate is None:
        order.save(force_insert=True)
    record(
        actor=actor,
        action="order.intended",
        subject=f"order:{order.pk}",
        account_id=account_id,
        reason=reason,
        trace_id=order.trace_id,
        parameters={"client_order_id": client_order_id, **_body_as_parameters(body)},
    )
    bus.account_changed(account_id, "order", order.pk)
    return order


def _body_as_parameters(body: OrderBody) -> dict[str, Any]:
    return {name: getattr(body, name) for name in OrderBody.__slots__ if getattr(body, name) is not None}
