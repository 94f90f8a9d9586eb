from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from audit import bus
from audit.services import record, recorded_together
from audit.trace import tracing
from marketdata.selectors import instrument_by_symbol
from trading.crash_points import reach
from trading.lifecycle import VENUE_EVENTS, VENUE_STATUSES, OrderEvent, OrderState, target
from trading.models import Fill, Order, OrderTransition, Position
from trading.positions import FillValues, PositionEvent, PositionState, apply_fill
from trading.reports import FillReport, OrderReport, PositionReport, ReportRefused
from trading.services.amendments import fill_proves_replaced, venue_values_apply, venue_values_known
from trading.services.modes import mode_held
from trading.services.order_steps import advance, illegal_move_record

log = logging.getLogger(__name__)

# Executions that change a position; funding and settlements arrive as executions too and change only the wallet.
TRADING_EXECUTIONS = frozenset({"Trade", "AdlTrade", "BustTrade", "Delivery", "BlockTrade", "MovePosition"})

# The venue cannot know an order that never left.
NEVER_SENT = frozenset({OrderState.NEW, OrderState.DENIED, OrderState.EXPIRED})


# What whoever trades chooses for a position, here or at the venue itself.
SET_AT_THE_VENUE = ("leverage", "take_profit", "stop_loss")


def moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def fill_apply(*, account_id: int, report: FillReport) -> Fill | None:
    """Book one execution exactly once: the fill, its order, the position, the trail. None when it was booked before
    (reports repeat: over the stream, in reconciliation, after a reconnect) or is no trade.

    Raises:
        ReportRefused: it contradicts its order, or what was booked under its id before; nothing changed.
    """
    if report.execution_type not in TRADING_EXECUTIONS:
        return None
    with transaction.atomic(), recorded_together():
        instrument = instrument_by_symbol(report.symbol)
        if instrument is None:
            raise ReportRefused(f"execution {report.execution_id} is in {report.symbol}, which we do not know")
        if not (report.quantity.is_finite() and report.price.is_finite() and report.quantity > 0 < report.price):
            raise ReportRefused(
                f"execution {report.execution_id} is of {report.quantity} at {report.price}; expected both above 0"
            )
        # Order first, then position, then the audit chain: one order of locks everywhere.
        order = _order_of(account_id, report.client_order_id, report.venue_order_id)
        if order is not None:
            _refuse_contradiction(order, report)
        mode = mode_held(account_id)
        fill = Fill(
            account_id=account_id,
            mode=mode,
            instrument=instrument,
            order=order,
            execution_id=report.execution_id,
            execution_type=report.execution_type,
            side=report.side,
            price=report.price,
            quantity=report.quantity,
            fee=report.fee,
            fee_currency=report.fee_currency,
            is_maker=report.is_maker,
            executed_at=moment(report.executed_ms),
        )
        try:
            with transaction.atomic():
                fill.save(force_insert=True)
        except IntegrityError:
            booked = Fill.objects.filter(account_id=account_id, mode=mode, execution_id=report.execution_id).first()
            if booked is None:
                raise  # not booked before, and not bookable: that must be heard of
            _refuse_other_content(booked, fill)
            _attach(order, booked)
            return None
        trace_id = order.trace_id if order is not None else ""
        position_pnl, before, after = _position_fill(fill, order)
        fill.realised_pnl = position_pnl
        fill.save(update_fields=["realised_pnl", "strategy"])
        if order is not None:
            _order_fill(order, fill)
        record(
            actor="venue",
            action="fill.booked",
            subject=f"fill:{fill.pk}",
            account_id=account_id,
            trace_id=trace_id,
            before=before,
            after=after,
            parameters={
                "execution_id": report.execution_id,
                "execution_type": report.execution_type,
                "client_order_id": report.client_order_id,
                "symbol": report.symbol,
                "side": report.side,
                "price": report.price,
                "quantity": report.quantity,
                "fee": report.fee,
                "realised_pnl": position_pnl,
            },
        )
        bus.account_changed(account_id, "fill", fill.pk)
        transaction.on_commit(partial(_log_fill, report, trace_id))
        reach("fill.booking")
        return fill


def _log_fill(report: FillReport, trace_id: str) -> None:
    with tracing(trace_id):
        log.info("order_filled %s %s %s @ %s", report.client_order_id, report.side, report.quantity, report.price)


def _refuse_other_content(booked: Fill, fill: Fill) -> None:
    for name in ("instrument_id", "side", "price", "quantity"):
        ours, theirs = getattr(booked, name), getattr(fill, name)
        if ours != theirs:
            raise ReportRefused(
                f"execution {booked.execution_id} was booked with {name} {ours} and comes again with {theirs}"
            )


def _attach(order: Order | None, fill: Fill) -> None:
    """An execution that was booked before its order was adopted counts for the order from now on."""
    if order is not None and fill.order_id is None:
        fill.order = order
        fill.save(update_fields=["order"])
        _order_fill(order, fill)


def _order_of(account_id: int, client_order_id: str, venue_order_id: str) -> Order | None:
    orders = (
        Order.objects.select_for_update(of=("self",), no_key=True)
        .select_related("instrument")
        .filter(account_id=account_id)
    )
    if client_order_id:
        return orders.filter(client_order_id=client_order_id).first()
    return orders.filter(venue_order_id=venue_order_id).first() if venue_order_id else None


def _order_fill(order: Order, fill: Fill) -> None:
    filled = order.filled_quantity + fill.quantity
    if filled > order.quantity and not fill_proves_replaced(order, filled, fill.execution_id):
        raise ReportRefused(
            f"execution {fill.execution_id} would fill {filled:f} of the {order.quantity:f} of order "
            f"{order.client_order_id}; expected at most {order.quantity - order.filled_quantity:f}"
        )
    # With an open amendment the order is complete when the larger quantity is: less may be all, or not.
    complete = filled == order.largest_quantity
    event = OrderEvent.FILL_COMPLETELY if complete else OrderEvent.FILL_PARTIALLY
    if target(event, OrderState(order.state)) is None:
        raise ReportRefused(
            f"execution {fill.execution_id} belongs to order {order.client_order_id}, which is {order.state} and "
            "cannot fill"
        )
    value = (order.average_price or Decimal(0)) * order.filled_quantity + fill.price * fill.quantity
    order.average_price = (value / filled).quantize(Decimal("1e-12"))
    order.filled_quantity = filled
    order.fees += fill.fee
    advance(order, event, cause=f"execution {fill.execution_id}", actor="venue")


def _position_fill(fill: Fill, order: Order | None) -> tuple[Decimal, dict[str, Any], dict[str, Any]]:
    """Move the position by one fill; the realised PnL (before fees), and the position before and after for the trail.
    A flip closes one row, opens another."""
    row = (
        Position.objects.select_for_update(of=("self",), no_key=True)
        .filter(account_id=fill.account_id, instrument=fill.instrument)
        .exclude(state=Position.State.CLOSED)
        .first()
    )
    before = PositionState(row.side, row.quantity, row.entry_price) if row else PositionState.flat()
    result = apply_fill(before, FillValues(fill.side, fill.quantity, fill.price))
    # What the venue closes by itself (a stop, a liquidation) is a result of the strategy that opened.
    fill.strategy = order.strategy if order else row.strategy if row else "external"
    opening_fee, closing_fee = _split_fee(fill, before)
    if row is not None:
        row.realised_pnl += result.realised_pnl
        row.fees += closing_fee if result.event in (PositionEvent.CLOSED, PositionEvent.FLIPPED) else fill.fee
        if result.event in (PositionEvent.CLOSED, PositionEvent.FLIPPED):
            row.quantity, row.state, row.closed_at = Decimal(0), Position.State.CLOSED, fill.executed_at
        else:
            row.quantity, row.entry_price = result.state.quantity, result.state.entry_price
        row.save()
        bus.account_changed(fill.account_id, "position", row.pk)
    if result.event in (PositionEvent.OPENED, PositionEvent.FLIPPED):
        opened = Position.objects.create(
            account_id=fill.account_id,
            mode=fill.mode,
            instrument=fill.instrument,
            side=result.state.side,
            quantity=result.state.quantity,
            entry_price=result.state.entry_price,
            fees=opening_fee,
            take_profit=order.take_profit if order else None,
            stop_loss=order.stop_loss if order else None,
            strategy=order.strategy if order else "external",
            trace_id=order.trace_id if order else "",
            opened_at=fill.executed_at,
        )
        bus.account_changed(fill.account_id, "position", opened.pk)
    return result.realised_pnl, _shown(before), {"event": str(result.event), **_shown(result.state)}


def _shown(state: PositionState) -> dict[str, Any]:
    if state.quantity == 0:
        return {"position": "flat"}
    return {"position": state.side, "quantity": state.quantity, "entry_price": state.entry_price}


def _split_fee(fill: Fill, before: PositionState) -> tuple[Decimal, Decimal]:
    """The fee's shares for what a fill opens and for what it closes, by quantity."""
    if before.quantity == 0 or before.side == fill.side:
        return fill.fee, Decimal(0)
    closing = min(before.quantity, fill.quantity)
    closing_fee = (fill.fee * closing / fill.quantity).quantize(Decimal("1e-18"))
    return fill.fee - closing_fee, closing_fee


def order_report_apply(*, account_id: int, report: OrderReport) -> Order | None:
    """Move an order by what the venue says of it. Fills are never taken from here: executions drive them. None when
    the order is not one of ours.

    Raises:
        ReportRefused: it contradicts the order, or says what no venue says; nothing changed.
    """
    if report.status not in VENUE_STATUSES:
        raise ReportRefused(f"status {report.status!r} of order {report.venue_order_id} is none that we know")
    with transaction.atomic():
        order = _order_of(account_id, report.client_order_id, report.venue_order_id)
        if order is None:
            return None
        _refuse_contradiction(order, report)
        if report.closes_whole and order.reduce_only:
            # How much that is the venue knows when it fills; ours says how much it was when it was decided.
            report = replace(report, quantity=order.quantity)
        if not (report.quantity.is_finite() and report.price.is_finite() and report.quantity > 0 <= report.price):
            raise ReportRefused(
                f"order {order.client_order_id} is of {report.quantity} at {report.price}; expected a quantity above 0"
            )
        if tells_nothing(order, report):
            return order
        event = VENUE_EVENTS.get(report.status)
        if order.state not in NEVER_SENT and (
            event is None or _already_there(order, event) or target(event, OrderState(order.state)) is not None
        ):
            if not order.venue_order_id:
                order.venue_order_id = report.venue_order_id
                order.save(update_fields=["venue_order_id"])
            venue_values_apply(order, report)
            if event is None or _already_there(order, event):
                return order
            if event in (OrderEvent.CANCEL, OrderEvent.REJECT):
                order.refusal = _ending(report)
            advance(order, event, cause=f"venue: {report.status} {_ending(report)}".strip(), payload=report.payload)
            return order
    illegal_move_record(
        order=order,
        event=event or OrderEvent.FILL_PARTIALLY,
        cause=f"venue: {report.status}",
        payload=report.payload,
    )
    return order


def _refuse_contradiction(order: Order, report: OrderReport | FillReport) -> None:
    """Reports name an order by our id; everything else that they say of it must be true of it."""
    found = {
        "symbol": (order.instrument.symbol, report.symbol),
        "side": (order.side, report.side),
        "orderId": (order.venue_order_id or report.venue_order_id, report.venue_order_id or order.venue_order_id),
    }
    for name, (ours, theirs) in found.items():
        if ours != theirs:
            raise ReportRefused(f"{name} of order {order.client_order_id} is {theirs!r}; expected {ours!r}")


def tells_nothing(order: Order, report: OrderReport) -> bool:
    """Whether the order's row, as it was read, says already what the venue says of it."""
    event = VENUE_EVENTS.get(report.status)
    known = event is None or _already_there(order, event)
    return bool(order.venue_order_id) and known and order.state not in NEVER_SENT and venue_values_known(order, report)


def _ending(report: OrderReport) -> str:
    reasons = (report.reject_reason, report.cancel_type)
    return " ".join(text for text in reasons if text and text not in ("EC_NoError", "UNKNOWN"))


def _already_there(order: Order, event: OrderEvent) -> bool:
    """Reports repeat, and a cancel that raced a fill is reported after it: nothing to do, nothing illegal."""
    state = OrderState(order.state)
    if event == OrderEvent.ACKNOWLEDGE:
        return state not in (OrderState.PENDING_SUBMIT, OrderState.UNKNOWN, OrderState.SUBMITTED)
    return state in (OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.FAILED)


@transaction.atomic
def order_adopt(*, account_id: int, report: OrderReport) -> Order:
    """Take a working order of the venue that is not ours into our records, so that its exposure counts."""
    now = timezone.now()
    order = Order(
        account_id=account_id,
        mode=mode_held(account_id),
        instrument=instrument_by_symbol(report.symbol),
        client_order_id=(report.client_order_id or f"venue-{report.venue_order_id}")[:36],
        venue_order_id=report.venue_order_id,
        strategy="external",
        side=report.side,
        order_type=report.order_type,
        quantity=report.quantity,
        price=report.price or None,
        time_in_force=report.time_in_force,
        reduce_only=report.reduce_only,
        state=OrderState.ACKNOWLEDGED,
        reason="found at the venue, not placed by us",
        actor="venue",
        trace_id=f"adopted-{report.venue_order_id}"[:64],
        created_at=moment(report.created_ms),
    )
    order.save(force_insert=True)
    OrderTransition.objects.create(
        order=order, event="adopt", source="", target=order.state, cause=order.reason, created_at=now
    )
    record(
        actor="reconciliation",
        action="order.adopted",
        subject=f"order:{order.pk}",
        account_id=account_id,
        trace_id=order.trace_id,
        parameters={"venue_order_id": report.venue_order_id, "symbol": report.symbol, "quantity": report.quantity},
    )
    bus.account_changed(account_id, "order", order.pk)
    return order


@transaction.atomic
def position_report_apply(*, account_id: int, report: PositionReport) -> None:
    """Keep what only the venue knows of a position: mark and liquidation price, leverage, TP and SL."""
    row = (
        Position.objects.select_for_update(of=("self",), no_key=True)
        .filter(account_id=account_id, instrument__symbol=report.symbol)
        .exclude(state=Position.State.CLOSED)
        .first()
    )
    # In hedge mode there is one of two sides: neither is the position of our books.
    if row is None or report.quantity == 0 or report.position_index:
        return
    row.mark_price, row.liquidation_price = report.mark_price, report.liquidation_price
    before = {name: getattr(row, name) for name in SET_AT_THE_VENUE}
    after = {name: getattr(report, name) for name in SET_AT_THE_VENUE}
    row.leverage, row.take_profit, row.stop_loss = report.leverage, report.take_profit, report.stop_loss
    row.save()
    if after != before:
        record(
            actor="venue",
            action="position.set",
            subject=f"position:{report.symbol}",
            account_id=account_id,
            reason="the venue holds these for the position now",
            trace_id=row.trace_id,
            before=before,
            after=after,
        )
    bus.account_changed(account_id, "position", row.pk)


@transaction.atomic
def position_correct(*, account_id: int, report: PositionReport, reason: str) -> None:
    """The venue is right about positions: make ours equal to it, and leave the difference on the trail."""
    instrument = instrument_by_symbol(report.symbol)
    row = (
        Position.objects.select_for_update(of=("self",), no_key=True)
        .filter(account_id=account_id, instrument=instrument)
        .exclude(state=Position.State.CLOSED)
        .first()
    )
    before = {"side": row.side, "quantity": row.quantity, "entry_price": row.entry_price} if row else {}
    now = timezone.now()
    if row is not None and (report.quantity == 0 or row.side != report.side):
        row.quantity, row.state, row.closed_at = Decimal(0), Position.State.CLOSED, now
        row.save()
        row = None
    if report.quantity > 0:
        if row is None:
            row = Position(
                account_id=account_id,
                mode=mode_held(account_id),
                instrument=instrument,
                side=report.side,
                opened_at=now,
                strategy="external",
            )
        row.quantity, row.entry_price = report.quantity, report.entry_price
        row.leverage, row.mark_price = report.leverage, report.mark_price
        row.save()
    record(
        actor="reconciliation",
        action="position.corrected",
        subject=f"position:{report.symbol}",
        account_id=account_id,
        reason=reason,
        before=before,
        after={"side": report.side, "quantity": report.quantity, "entry_price": report.entry_price},
    )
    bus.account_changed(account_id, "position", row.pk if row else "")
