"""Rows that others recorded, as the values that are judged."""

from __future__ import annotations

from risk.intents import OrderIntent
from strategies.models import Signal as SignalRow
from strategies.signals import Signal
from trading.models import Order


def as_value(row: SignalRow) -> Signal:
    return Signal(
        strategy=row.strategy,
        symbol=row.symbol,
        side=row.side,
        strength=row.strength,
        entry_price=row.entry_price,
        take_profit=row.take_profit,
        stop_loss=row.stop_loss,
        reason=row.reason,
        time_ns=int(row.signalled_at.timestamp() * 1_000) * 1_000_000,
    )


def as_intent(order: Order) -> OrderIntent:
    return OrderIntent(
        account_id=order.account_id,
        symbol=order.instrument.symbol,
        side=order.side,
        order_type=order.order_type,
        quantity=order.quantity,
        price=order.price,
        time_in_force=order.time_in_force,
        reduce_only=order.reduce_only,
        take_profit=order.take_profit,
        stop_loss=order.stop_loss,
        strategy=order.strategy,
        client_order_id=order.client_order_id,
        reason=order.reason,
        trace_id=order.trace_id,
    )
