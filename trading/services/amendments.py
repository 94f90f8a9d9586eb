"""Other values for a working order: wanted, committed, sent, and booked only when the venue's own report says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils import timezone

from audit import bus
from audit.services import record
from marketdata.instruments import Violation, violations
from marketdata.selectors import instrument_rules, reference_price
from risk.checks import Refusal
from trading.crash_points import reach
from trading.lifecycle import LIVE, TERMINAL, VENUE_ENDED, OrderEvent, OrderState, target
from trading.models import Order, OrderAmendment
from trading.reports import OrderReport, ReportRefused, Submission, SubmissionResult
from trading.selectors import stopped_by
from trading.services.leases import LeaseToken, lease_confirm
from trading.services.modes import standing_held
from trading.services.order_commits import INTENT_LIFETIME
from trading.services.order_gate import halt_refusal
from trading.services.order_refusals import OrderRefused, stopped_refuse
from trading.services.order_steps import advance, amendment_decide, open_amendment, order_locked, step_record

Outcome = OrderAmendment.Outcome
UNDERWAY = (Outcome.SENT, Outcome.UNKNOWN)


class OrderNotAmendable(Exception):
    """The order has ended, is not confirmed yet, or is being changed already; the message says which."""


@transaction.atomic
def order_amend_request(
    *, order: Order, actor: str, quantity: Decimal | None = None, price: Decimal | None = None, reason: str = ""
) -> Order:
    """Somebody wants another quantity (base coin, what is filled counted) or price; the engine that owns the account
    checks its risk and asks the venue.

    Raises:
        OrderNotAmendable: the order cannot be changed in its state.
        OrderRefused: the values break the instrument's grid or limits, or what is filled already.
        KillSwitchEngaged: trading is stopped, and the change does not only take something back.
    """
    order = order_locked(order.pk)
    _refuse_state(order)
    quantity = order.quantity if quantity is None else quantity
    price = order.price if price is None else price
    assert price is not None  # a limit order has one: the database says so
    _refuse_values(order, quantity, price)
    if grows(order, quantity, price) and not order.reduce_only:
        stopped_refuse(order.account_id)
    amendment = OrderAmendment.objects.create(
        order=order,
        quantity=quantity,
        price=price,
        quantity_before=order.quantity,
        price_before=order.price or price,
        actor=actor,
        reason=reason,
        created_at=timezone.now(),
    )
    order.replacing_quantity, order.replacing_price = quantity, price
    advance(
        order,
        OrderEvent.REQUEST_REPLACE,
        cause=reason or f"asked by {actor}",
        actor=actor,
        payload={
            "amendment": amendment.pk,
            "quantity": quantity,
            "price": price,
            "quantity_before": order.quantity,
            "price_before": order.price,
        },
    )
    bus.engines_command("order_amend", order.pk)
    reach("amend.requested")
    return order


def grows(order: Order, quantity: Decimal, price: Decimal) -> bool:
    """Whether these values put more at stake than the order's own: more to fill, worth more, or nearer to the market
    and beyond it."""
    if order.price is None or quantity > order.quantity:
        return True
    return price > order.price or (order.side == "Sell" and price < order.price)


def _refuse_state(order: Order) -> None:
    name = f"order {order.client_order_id}"
    if order.order_type != Order.OrderType.LIMIT:
        raise OrderNotAmendable(f"{name} is a market order: it fills at once or never, there is nothing to change")
    if order.state not in LIVE:
        raise OrderNotAmendable(f"{name} has ended: it is {order.state}")
    if order.state == OrderState.PENDING_REPLACE:
        raise OrderNotAmendable(f"{name} is being changed already; wait for the outcome")
    if order.state == OrderState.PENDING_CANCEL:
        raise OrderNotAmendable(f"{name} is being cancelled")
    if target(OrderEvent.REQUEST_REPLACE, OrderState(order.state)) is None:
        raise OrderNotAmendable(f"{name} is {order.state}: the venue has not confirmed it yet; try again in a moment")


def _refuse_values(order: Order, quantity: Decimal, price: Decimal) -> None:
    symbol = order.instrument.symbol
    rules = instrument_rules(symbol)
    if rules is None:
        raise OrderRefused([Violation("symbol", symbol, "not an instrument that this deployment trades")])
    found = list(
        violations(
            rules,
            order_type=order.order_type,
            quantity=quantity,
            price=price,
            reference_price=reference_price(symbol),
            reduce_only=order.reduce_only,
        )
    )
    if quantity <= order.filled_quantity:
        rule = f"must be above the {order.filled_quantity:f} that are filled already; cancel the rest instead"
        found.append(Violation("quantity", f"{quantity:f}", rule))
    if (quantity, price) == (order.quantity, order.price):
        found.append(Violation("quantity", f"{quantity:f}", "the order has this quantity and price already"))
    if found:
        raise OrderRefused(found)


@transaction.atomic
def order_amend_take(
    *, order_id: int, refusals: Sequence[Refusal], receive_window_ms: int, owner: LeaseToken
) -> OrderAmendment | None:
    """The account's owner takes a recorded amendment: ready to be sent when this commits. None when it may not be
    sent (risk said no, it grew too old, it is stopped), or was taken before.

    Raises:
        LeaseLost: the account is somebody else's by now, who will take it.
    """
    lease_confirm(owner)
    order = order_locked(order_id)
    amendment = open_amendment(order)
    if amendment is None or amendment.outcome != Outcome.REQUESTED:
        return None
    standing = standing_held(order.account_id)
    if order.mode != standing.mode:
        message = f"the order is {order.mode}, and the account is {standing.mode} by now"
        refusals = [*refusals, Refusal("mode", standing.mode, order.mode, message)]
    if grows(order, amendment.quantity, amendment.price) and not order.reduce_only:
        if standing.halt_reason is not None and not refusals:
            refusals = [halt_refusal(standing.halt_reason)]
        stopped = stopped_by(order.account_id)
        if stopped is not None:
            refusals = [*refusals, Refusal("kill_switch", "engaged", "new risk", stopped.sentence)]
    if timezone.now() - amendment.created_at > INTENT_LIFETIME:
        _refuse(order, Outcome.EXPIRED, f"not sent: no engine took it within {INTENT_LIFETIME.seconds} s")
    elif amendment.quantity <= order.filled_quantity:
        _refuse(order, Outcome.OVERTAKEN, f"{order.filled_quantity:f} are filled by now")
    elif refusals:
        payload = {"refusals": [{"limit": each.limit, "value": str(each.value)} for each in refusals]}
        _refuse(order, Outcome.DENIED, "; ".join(refusal.message for refusal in refusals), payload)
    else:
        amendment.outcome, amendment.sent_at = Outcome.SENT, timezone.now()
        amendment.receive_window_ms = receive_window_ms
        amendment.save(update_fields=["outcome", "sent_at", "receive_window_ms"])
        step_record(order, "send_replace", cause="risk approved", payload={"amendment": amendment.pk})
        amendment.order = order
        return amendment
    return None


@transaction.atomic
def order_amend_apply(*, amendment_id: int, result: SubmissionResult) -> Order:
    """Book what the answer to an amend proved. ACCEPTED proves nothing yet: the venue's report of the order says what
    became of it, and may have overtaken the answer."""
    order = order_locked(OrderAmendment.objects.values_list("order_id", flat=True).get(pk=amendment_id))
    amendment = open_amendment(order)
    if amendment is None or amendment.pk != amendment_id or amendment.outcome not in UNDERWAY:
        return order
    payload = {"amendment": amendment.pk, "code": result.code, "message": result.message}
    match result.outcome:
        case Submission.REJECTED | Submission.THROTTLED | Submission.CLOSED:
            _refuse(order, Outcome.REFUSED, f"{result.message} ({result.code})", payload)
        case Submission.NOT_SENT:
            _refuse(order, Outcome.FAILED, result.message, payload)
        case Submission.ACCEPTED | Submission.DUPLICATE:
            step_record(order, "accept_replace", cause="venue answered accepted", payload=payload)
        case _:
            amendment.outcome = Outcome.UNKNOWN
            amendment.save(update_fields=["outcome"])
            step_record(order, "lose_replace", cause=result.message or "no answer", payload=payload)
    return order


@transaction.atomic
def order_amend_prove_lost(*, amendment_id: int, evidence: Mapping[str, Any]) -> Order:
    """The venue has not changed the order, and cannot any more: its clock has passed the request's window."""
    order = order_locked(OrderAmendment.objects.values_list("order_id", flat=True).get(pk=amendment_id))
    amendment = open_amendment(order)
    if amendment is not None and amendment.pk == amendment_id and amendment.outcome in UNDERWAY:
        _refuse(order, Outcome.FAILED, "proven never to have taken effect", {"amendment": amendment_id, **evidence})
    return order


def _refuse(
    order: Order, outcome: OrderAmendment.Outcome, cause: str, payload: Mapping[str, Any] | None = None
) -> None:
    amendment_decide(order, outcome, cause)
    advance(order, OrderEvent.REFUSE_REPLACE, cause=cause, payload=payload)


def fill_proves_replaced(order: Order, filled: Decimal, execution_id: str) -> bool:
    """A locked order fills beyond its quantity while a larger one is on its way: the venue has taken it."""
    amendment = open_amendment(order)
    if amendment is None or amendment.outcome not in UNDERWAY or filled > amendment.quantity:
        return False
    _replace(order, amendment.quantity, amendment.price, f"execution {execution_id} proves it", {})
    return True


def venue_values_known(order: Order, report: OrderReport) -> bool:
    """Whether the quantity and price that the venue gives an order are no news, nor an answer to an amendment."""
    if order.state in TERMINAL or report.updated_ms < order.venue_updated_ms:
        return True
    price = report.price if order.price is not None and report.price > 0 else order.price
    return not order.is_replacing and (report.quantity, price) == (order.quantity, order.price)


def venue_values_apply(order: Order, report: OrderReport) -> bool:
    """Book the quantity and price that the venue gives a locked order: those of its open amendment, or what somebody
    else made of it there. True when they were news.

    Raises:
        ReportRefused: a quantity below what is filled already.
    """
    if order.state in TERMINAL or order.state == OrderState.NEW or report.updated_ms < order.venue_updated_ms:
        return False
    if report.updated_ms > order.venue_updated_ms:
        order.venue_updated_ms = report.updated_ms
        order.save(update_fields=["venue_updated_ms"])
    # The price that Bybit tells of a market order is its slippage bound.
    price = report.price if order.price is not None and report.price > 0 else order.price
    news = (report.quantity, price) != (order.quantity, order.price)
    if news:
        if report.quantity < order.filled_quantity:
            raise ReportRefused(
                f"quantity {report.quantity:f} of order {order.client_order_id} is below the "
                f"{order.filled_quantity:f} that are filled; expected at least that"
            )
        _replace(order, report.quantity, price, f"venue: {report.status}", report.payload)
    if order.is_replacing and report.status in VENUE_ENDED:
        _refuse(order, Outcome.OVERTAKEN, f"the order ended before: venue: {report.status}", report.payload)
    return news


def _replace(order: Order, quantity: Decimal, price: Decimal | None, cause: str, payload: Mapping[str, Any]) -> None:
    before = {"quantity": order.quantity, "price": order.price}
    after = {"quantity": quantity, "price": price}
    wanted = (quantity, price) == (order.replacing_quantity, order.replacing_price)
    order.quantity, order.price = quantity, price
    if wanted:
        amendment_decide(order, Outcome.APPLIED, cause)
    else:
        record(
            actor="venue",
            action="order.changed_outside",
            subject=f"order:{order.pk}",
            account_id=order.account_id,
            reason=cause,
            trace_id=order.trace_id,
            before=before,
            after=after,
        )
    advance(
        order,
        OrderEvent.REPLACE,
        cause=f"{cause}: {before['quantity']:f} at {before['price']} is now {quantity:f} at {price}",
        payload={"before": before, "after": after, "report": payload},
        actor="venue",
    )
