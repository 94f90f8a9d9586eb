"""One step in an order's life: along the table, onto its record and the trail, to whoever listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from audit import bus
from audit.services import alert_raise, as_json, insert_together, record, recorded_together
from trading.lifecycle import TERMINAL, OrderEvent, OrderState
from trading.models import Order, OrderAmendment, OrderTransition

# The venue has it on its book, as far as we know.
CONFIRMED = frozenset(
    {OrderState.ACKNOWLEDGED, OrderState.PARTIALLY_FILLED, OrderState.PENDING_REPLACE, OrderState.PENDING_CANCEL}
)


def advance(
    order: Order,
    event: OrderEvent,
    *,
    cause: str,
    payload: Mapping[str, Any] | None = None,
    actor: str = "",
) -> None:
    """Move a locked order along the life-cycle table, store the step, audit it, ring the doorbell.

    Raises:
        TransitionNotAllowed: the table has no such move. Callers that handle reports record it with
            :func:`illegal_move_record` after their transaction is gone.
    """
    source = str(order.state)
    getattr(order, event.value)()
    if order.state in TERMINAL and order.is_replacing:
        amendment_decide(order, OrderAmendment.Outcome.OVERTAKEN, f"the order ended before: {order.state}, {cause}")
    with recorded_together():
        if order._state.adding:
            insert_together(order)
        else:
            order.save()
        step_record(order, event.value, source=source, cause=cause, payload=payload, actor=actor)


def step_record(
    order: Order,
    event: str,
    *,
    cause: str,
    source: str = "",
    payload: Mapping[str, Any] | None = None,
    actor: str = "",
) -> None:
    """Keep one step of a locked order's life on its own record and on the trail, and ring the doorbell. Without a
    ``source`` the order stayed in its state."""
    insert_together(
        OrderTransition(
            order=order,
            event=event,
            source=source or str(order.state),
            target=str(order.state),
            cause=cause,
            payload=as_json(payload or {}),
            created_at=timezone.now(),
        )
    )
    record(
        actor=actor or order.actor,
        action=f"order.{event}",
        subject=f"order:{order.pk}",
        account_id=order.account_id,
        reason=cause,
        trace_id=order.trace_id,
        before={"state": source or str(order.state)},
        after={"state": str(order.state), "filled_quantity": order.filled_quantity},
    )
    bus.account_changed(order.account_id, "order", order.pk)


def open_amendment(order: Order) -> OrderAmendment | None:
    """The amendment of a locked order that is not decided yet."""
    if not order.is_replacing:
        return None
    return order.amendments.filter(outcome__in=OrderAmendment.OPEN).first()


def amendment_decide(order: Order, outcome: OrderAmendment.Outcome, cause: str) -> None:
    """Close a locked order's open amendment. The caller moves and saves the order, which asks for nothing any more."""
    amendment = open_amendment(order)
    order.replacing_quantity = order.replacing_price = None
    if amendment is None:
        return
    amendment.outcome, amendment.cause, amendment.decided_at = outcome, cause, timezone.now()
    amendment.save(update_fields=["outcome", "cause", "decided_at"])
    record(
        actor=amendment.actor,
        action=f"amendment.{outcome}",
        subject=f"order:{order.pk}",
        account_id=order.account_id,
        reason=cause,
        trace_id=order.trace_id,
        parameters={"amendment": amendment.pk, "quantity": amendment.quantity, "price": amendment.price},
        before={"quantity": amendment.quantity_before, "price": amendment.price_before},
    )


@transaction.atomic
def illegal_move_record(*, order: Order, event: OrderEvent, cause: str, payload: Mapping[str, Any]) -> None:
    """An illegal move is never ignored: it is on the trail, with what the venue sent, and people are told."""
    alert_raise(
        level="warning",
        kind="illegal_transition",
        message=f"order {order.client_order_id} is {order.state} and cannot {event.value.replace('_', ' ')}: {cause}",
        account_id=order.account_id,
        detail={"order": order.pk, "event": event.value, "state": str(order.state)},
        key=f"illegal:{order.pk}:{event.value}",
    )
    record(
        actor="engine",
        action="order.illegal_transition",
        subject=f"order:{order.pk}",
        account_id=order.account_id,
        reason=cause,
        trace_id=order.trace_id,
        parameters={"event": event.value, "state": str(order.state), "payload": payload},
    )
    bus.account_changed(order.account_id, "alert", order.pk)


def order_locked(order_id: int) -> Order:
    # `of`: the account and the instrument are shared by every order and must not be locked with it.
    return (
        Order.objects.select_for_update(of=("self",), no_key=True)
        .select_related("instrument", "account")
        .get(pk=order_id)
    )
