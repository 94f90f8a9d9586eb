"""What the venue's answers, or its silence, prove of an order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from trading.crash_points import reach
from trading.lifecycle import OrderEvent, OrderState
from trading.models import AbsenceReading, Order
from trading.reports import Submission, SubmissionResult
from trading.services.order_steps import CONFIRMED, advance, order_locked

BETWEEN_READS = timedelta(milliseconds=500)


@transaction.atomic
def order_submission_apply(*, order_id: int, result: SubmissionResult) -> Order:
    """Book what the answer to a create proved. Reports may have overtaken it: then there is nothing left to do."""
    order = Order.objects.select_for_update(no_key=True).get(pk=order_id)
    news = bool(result.venue_order_id and not order.venue_order_id)
    if news:
        order.venue_order_id = result.venue_order_id
    if order.state not in (OrderState.PENDING_SUBMIT, OrderState.UNKNOWN):
        if news:
            order.save(update_fields=["venue_order_id"])
        return order
    payload = {"code": result.code, "message": result.message}
    match result.outcome:
        case Submission.ACCEPTED | Submission.DUPLICATE:
            advance(order, OrderEvent.SUBMIT, cause=f"venue answered {result.outcome}", payload=payload)
        case Submission.REJECTED | Submission.THROTTLED:
            order.refusal = f"{result.message} ({result.code})"
            advance(order, OrderEvent.REJECT, cause=order.refusal, payload=payload)
        case Submission.NOT_SENT:
            order.refusal = result.message
            advance(order, OrderEvent.FAIL, cause=result.message, payload=payload)
        case _ if order.state == OrderState.PENDING_SUBMIT:
            advance(order, OrderEvent.LOSE, cause=result.message or "no answer", payload=payload)
    reach("order.booking")
    return order


@transaction.atomic
def order_cancel_apply(*, order_id: int, result: SubmissionResult) -> Order:
    """Book what the answer to a cancel proved. ACCEPTED proves nothing yet: the order stream says how it ended."""
    order = order_locked(order_id)
    if order.state == OrderState.PENDING_CANCEL and result.outcome in (Submission.REJECTED, Submission.THROTTLED):
        advance(
            order,
            OrderEvent.REFUSE_CANCEL,
            cause=f"{result.message} ({result.code})",
            payload={"code": result.code, "message": result.message},
        )
    return order


@transaction.atomic
def absence_read(*, order_id: int) -> AbsenceReading:
    """The venue has said once more that it has no such order, which it cannot accept any more. Two answers within
    ``BETWEEN_READS`` are one."""
    now = timezone.now()
    fresh = AbsenceReading(order_id=order_id, reads=1, first_read_at=now, last_read_at=now)
    AbsenceReading.objects.bulk_create([fresh], ignore_conflicts=True)
    reading = AbsenceReading.objects.select_for_update(no_key=True).get(order_id=order_id)
    if now - reading.last_read_at >= BETWEEN_READS:
        reading.reads, reading.last_read_at = reading.reads + 1, now
        reading.save()
    return reading


@transaction.atomic
def order_prove_absent(*, order_id: int, evidence: Mapping[str, Any]) -> Order:
    """The venue never took the order, and cannot any more: its clock has passed the request's window."""
    order = order_locked(order_id)
    if order.state in (OrderState.UNKNOWN, OrderState.PENDING_SUBMIT, OrderState.SUBMITTED):
        order.refusal = "proven never to have reached the venue"
        advance(order, OrderEvent.FAIL, cause=order.refusal, payload=evidence)
    return order


@transaction.atomic
def order_prove_ended(*, order_id: int, evidence: Mapping[str, Any]) -> Order:
    """The venue has it neither open nor among those it remembers: it was cancelled there, longer ago than that."""
    order = order_locked(order_id)
    if order.state in CONFIRMED:
        order.refusal = "the venue has no such open order any more"
        advance(order, OrderEvent.CANCEL, cause=order.refusal, payload=evidence)
    return order
