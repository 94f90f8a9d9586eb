from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django_fsm import TransitionNotAllowed

from audit import bus
from audit.services import alert_raise, as_json, insert_together, record, recorded_together
from audit.trace import current_trace, new_trace_id
from marketdata.instruments import Violation, on_grid, violations
from marketdata.selectors import instrument_by_symbol, instrument_rules, reference_price
from risk.checks import Refusal
from risk.intents import OrderIntent, new_client_order_id
from trading.crash_points import reach
from trading.lifecycle import LIVE, TERMINAL, OrderEvent, OrderState
from trading.models import AbsenceReading, Account, Order, OrderAmendment, OrderTransition, Position
from trading.reports import Submission, SubmissionResult
from trading.selectors import stopped_by
from trading.services.leases import LeaseToken, lease_confirm
from trading.services.modes import ModeChanged, mode_confirm, standing_held
from trading.services.order_gate import OrderGate, halt_refusal, order_gate
from trading.services.shared_limits import RiskDenied, shared_refusals

# An intent that nobody sent within this time is worth nothing any more: prices have moved on.
INTENT_LIFETIME = timedelta(seconds=30)
BETWEEN_READS = timedelta(milliseconds=500)
# The names of closing orders follow from the kill switch: whoever took one first would keep a position open.
RESERVED_PREFIX = "kill-"
# The venue has it on its book, as far as we know.
CONFIRMED = frozenset(
    {OrderState.ACKNOWLEDGED, OrderState.PARTIALLY_FILLED, OrderState.PENDING_REPLACE, OrderState.PENDING_CANCEL}
)


class OrderRefused(Exception):
    """An order that must not be: each violation names the field, its value and the rule."""

    def __init__(self, found: Sequence[Violation]) -> None:
        self.violations = tuple(found)
        super().__init__("; ".join(f"{each.field} {each.value}: {each.rule}" for each in found))


class ClientOrderIdTaken(OrderRefused):
    """The id was used before, for something else."""


class OrderNotCancellable(Exception):
    """The order has ended, or is being cancelled already; the message says which."""


class KillSwitchEngaged(OrderRefused):
    """Trading is stopped until a person re-arms it; only orders that reduce a position pass."""


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


def order_place(
    *,
    account: Account,
    actor: str,
    symbol: str,
    side: str,
    order_type: str,
    quantity: Decimal,
    price: Decimal | None = None,
    time_in_force: str = "GTC",
    reduce_only: bool = False,
    take_profit: Decimal | None = None,
    stop_loss: Decimal | None = None,
    client_order_id: str | None = None,
    reason: str = "",
    strategy: str = "manual",
) -> Order:
    """Record a person's or a bot's intent; the engine that owns the account checks its risk and sends it.

    The same ``client_order_id`` with the same body returns the first order, however often it is asked.

    Raises:
        OrderRefused: the order breaks the instrument's grid or limits.
        ClientOrderIdTaken: the id belongs to a different order.
    """
    if order_type == Order.OrderType.MARKET:
        # The venue treats every market order so; recording it makes one request comparable with its repetition.
        time_in_force = "IOC"
    body = OrderBody(symbol, side, order_type, quantity, price, time_in_force, reduce_only, take_profit, stop_loss)
    now = timezone.now()
    if client_order_id:
        _refuse_reserved(client_order_id)
        known = _known_order(account, client_order_id, body)
        if known is not None:
            return known
    _refuse_violations(account, body)
    if not reduce_only:
        stopped_refuse(account.pk)
    identifier = client_order_id or new_client_order_id(
        int(now.timestamp() * 1000), symbol, strategy, secrets.token_hex(4)
    )
    try:
        with transaction.atomic():
            order = _insert(
                account.pk,
                body,
                identifier,
                actor=actor,
                reason=reason,
                strategy=strategy,
                now=now,
                mode=account.mode,
            )
            bus.engines_command("order_send", order.pk)
            reach("intent.in_transaction")
            return order
    except ModeChanged:
        rule = f"the account was {account.mode} when this was asked for and is not any more; look at it, then repeat"
        raise OrderRefused([Violation("account", str(account.pk), rule)]) from None
    except IntegrityError:
        # A concurrent request with the same id won; its answer is ours.
        known = _known_order(account, identifier, body)
        if known is None:
            raise
        return known


def stopped_refuse(account_id: int) -> None:
    """Call it after :func:`lease_confirm`, in the transaction that commits an order: engaging waits for the lease.

    Raises:
        KillSwitchEngaged: the account or the platform is stopped.
    """
    stopped = stopped_by(account_id)
    if stopped is not None:
        raise KillSwitchEngaged([Violation("account", str(account_id), stopped.sentence)])


def _known_order(account: Account, client_order_id: str, body: OrderBody) -> Order | None:
    known = Order.objects.select_related("instrument").filter(account=account, client_order_id=client_order_id).first()
    if known is None:
        return None
    if OrderBody.of(known) != body:
        rule = "this id belongs to another order of the account; use a new one, or repeat the first request unchanged"
        raise ClientOrderIdTaken([Violation("client_order_id", client_order_id, rule)])
    return known


def _refuse_reserved(client_order_id: str) -> None:
    if client_order_id.startswith(RESERVED_PREFIX):
        rule = f"names that begin with {RESERVED_PREFIX} are the kill switch's; use another one"
        raise OrderRefused([Violation("client_order_id", client_order_id, rule)])


def _refuse_violations(account: Account, body: OrderBody) -> None:
    rules = instrument_rules(body.symbol)
    if rules is None:
        raise OrderRefused([Violation("symbol", body.symbol, "not an instrument that this deployment trades")])
    found = list(
        violations(
            rules,
            order_type=body.order_type,
            quantity=body.quantity,
            price=body.price,
            reference_price=reference_price(body.symbol),
            reduce_only=body.reduce_only,
            closes_position=body.reduce_only and not rules.orderable(body.quantity) and _is_all_held(account, body),
        )
    )
    rule = f"must be a positive multiple of the tick size {rules.tick_size}, at most {rules.max_price:f}"
    found += [
        Violation(name, str(value), rule)
        for name, value in (("take_profit", body.take_profit), ("stop_loss", body.stop_loss))
        if value is not None and not (0 < value <= rules.max_price and on_grid(value, rules.tick_size))
    ]
    if found:
        raise OrderRefused(found)


def _is_all_held(account: Account, body: OrderBody) -> bool:
    held = Position.objects.filter(account=account, instrument__symbol=body.symbol, quantity=body.quantity)
    return held.exclude(state=Position.State.CLOSED).exclude(side=body.side).exists()


def _insert(
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


def order_intend(
    *,
    account_id: int,
    intent: OrderIntent,
    signal_id: int | None,
    receive_window_ms: int,
    owner: LeaseToken,
    gate: OrderGate | None = None,
    prices: Mapping[str, Decimal] | None = None,
) -> Order:
    """A strategy's approved intent, ready to be sent the moment the caller's transaction commits. ``gate``: where the
    caller has asked it in this transaction. ``prices``: marks, where limits span several accounts.

    Raises:
        LeaseLost: the account is somebody else's by now; nothing may be sent.
        RiskDenied: orders of other accounts have used up a limit meanwhile, the account was halted, or the strategy
            disabled.
        KillSwitchEngaged: the account is stopped, and the order does not only reduce a position.
    """
    gate = gate or order_gate(owner, account_id=account_id, symbol=intent.symbol)
    if gate.instrument is None:
        raise OrderRefused([Violation("symbol", intent.symbol, "not an instrument that this deployment trades")])
    if gate.stopped and not intent.reduce_only:
        stopped_refuse(account_id)
    refusals = gate.refusals(reduce_only=intent.reduce_only)
    if prices is not None and not refusals:
        refusals = shared_refusals(account_id=account_id, intent=intent, prices=prices)
    if refusals:
        raise RiskDenied(refusals)
    body = OrderBody(
        intent.symbol,
        intent.side,
        intent.order_type,
        intent.quantity,
        intent.price,
        intent.time_in_force if intent.order_type == "Limit" else "IOC",
        intent.reduce_only,
        intent.take_profit,
        intent.stop_loss,
    )
    now = timezone.now()
    with recorded_together():
        return _approved(account_id, body, intent, signal_id, receive_window_ms, gate, now)


def _approved(
    account_id: int,
    body: OrderBody,
    intent: OrderIntent,
    signal_id: int | None,
    receive_window_ms: int,
    gate: OrderGate,
    now: datetime,
) -> Order:
    order = _insert(
        account_id,
        body,
        intent.client_order_id,
        actor=f"strategy:{intent.strategy}",
        reason=intent.reason,
        strategy=intent.strategy,
        now=now,
        signal_id=signal_id,
        trace_id=intent.trace_id,
        gate=gate,
    )
    order.sent_at, order.receive_window_ms = now, receive_window_ms
    advance(order, OrderEvent.APPROVE, cause="risk approved")
    reach("order.in_transaction")
    return order


@transaction.atomic
def order_close_intend(
    *,
    account_id: int,
    symbol: str,
    side: str,
    quantity: Decimal,
    client_order_id: str,
    strategy: str,
    actor: str,
    reason: str,
    receive_window_ms: int,
    owner: LeaseToken,
    position_index: int = 0,
    trace_id: str = "",
) -> Order:
    """A reduce-only market order of ``quantity`` base coin, ready to be sent when this returns; no limit and no kill
    switch holds it back. ``position_index`` says which side it closes in an account in hedge mode.

    Raises:
        LeaseLost: the account is somebody else's by now; nothing may be sent.
    """
    lease_confirm(owner)
    body = OrderBody(symbol, side, "Market", quantity, None, "IOC", True, None, None)
    now = timezone.now()
    order = _insert(
        account_id,
        body,
        client_order_id,
        actor=actor,
        reason=reason,
        strategy=strategy,
        now=now,
        trace_id=trace_id,
    )
    order.sent_at, order.receive_window_ms, order.position_index = now, receive_window_ms, position_index
    advance(order, OrderEvent.APPROVE, cause=reason, actor=actor)
    reach("order.in_transaction")
    return order


@transaction.atomic
def order_send_again(*, order_id: int, owner: LeaseToken) -> Order | None:
    """Make an order whose fate is open ready to be sent once more under its id: the venue refuses a second one of the
    same id, so it can only come to exist once. None when it is not open any more.

    Raises:
        LeaseLost: the account is somebody else's by now; nothing may be sent.
    """
    lease_confirm(owner)
    order = order_locked(order_id)
    if order.state not in (OrderState.PENDING_SUBMIT, OrderState.UNKNOWN) or order.mode != order.account.mode:
        return None
    # The proof that it cannot exist any more is counted from the newest request.
    order.sent_at = timezone.now()
    order.save(update_fields=["sent_at"])
    AbsenceReading.objects.filter(order=order).delete()
    record(
        actor=order.actor,
        action="order.sent_again",
        subject=f"order:{order.pk}",
        account_id=order.account_id,
        trace_id=order.trace_id,
        reason="no answer to the first request is known; the same id cannot be taken twice",
    )
    return order


@transaction.atomic
def order_take(
    *,
    order_id: int,
    refusals: Sequence[Refusal],
    receive_window_ms: int,
    owner: LeaseToken,
    shared: tuple[OrderIntent, Mapping[str, Decimal]] | None = None,
) -> Order | None:
    """The account's owner takes a recorded intent: approved when risk had nothing to say, denied when it had. None
    when it was taken before, so that nobody sends it twice. ``shared``: the intent and marks, where limits span
    several accounts.

    Raises:
        LeaseLost: the account is somebody else's by now, who will take the intent.
    """
    lease_confirm(owner)
    order = order_locked(order_id)
    if order.state != OrderState.NEW:
        return None
    standing = standing_held(order.account_id)
    if order.mode != standing.mode:
        message = f"the order was asked for {order.mode}, and the account is {standing.mode} by now"
        refusals = [*refusals, Refusal("mode", standing.mode, order.mode, message)]
    if not order.reduce_only:
        if standing.halt_reason is not None and not refusals:
            refusals = [halt_refusal(standing.halt_reason)]
        stopped = stopped_by(order.account_id)
        if stopped is not None:
            refusals = [*refusals, Refusal("kill_switch", "engaged", "new risk", stopped.sentence)]
    if shared is not None and not refusals:
        refusals = shared_refusals(account_id=order.account_id, intent=shared[0], prices=shared[1])
    if timezone.now() - order.created_at > INTENT_LIFETIME:
        order.refusal = f"not sent: no engine took it within {INTENT_LIFETIME.seconds} s"
        advance(order, OrderEvent.EXPIRE, cause=order.refusal)
    elif refusals:
        order.refusal = "; ".join(refusal.message for refusal in refusals)
        advance(order, OrderEvent.DENY, cause=order.refusal, payload={"refusals": [_refusal(r) for r in refusals]})
    else:
        order.sent_at, order.receive_window_ms = timezone.now(), receive_window_ms
        advance(order, OrderEvent.APPROVE, cause="risk approved")
        reach("order.in_transaction")
    return order


def _refusal(refusal: Refusal) -> dict[str, str]:
    return {
        "limit": refusal.limit,
        "value": str(refusal.value),
        "requested": str(refusal.requested),
        "message": refusal.message,
    }


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
def order_cancel_request(*, order: Order, actor: str, reason: str = "") -> Order:
    """Somebody wants an order cancelled; the engine that owns the account asks the venue."""
    order = order_locked(order.pk)
    if order.state == OrderState.NEW:
        order.refusal = f"withdrawn by {actor} before it was sent"
        advance(order, OrderEvent.CANCEL, cause=order.refusal, actor=actor)
        return order
    if order.state not in LIVE:
        raise OrderNotCancellable(f"order {order.client_order_id} has ended: it is {order.state}")
    if order.state == OrderState.PENDING_CANCEL:
        raise OrderNotCancellable(f"order {order.client_order_id} is being cancelled already")
    if order.state in (OrderState.PENDING_SUBMIT, OrderState.UNKNOWN):
        raise OrderNotCancellable(
            f"order {order.client_order_id} is {order.state}: the venue has not confirmed it yet; try again in a moment"
        )
    amendment = open_amendment(order)
    if amendment is not None and amendment.outcome == OrderAmendment.Outcome.REQUESTED:
        amendment_decide(order, OrderAmendment.Outcome.OVERTAKEN, "a cancel was asked for before it was sent")
    advance(order, OrderEvent.REQUEST_CANCEL, cause=reason or f"asked by {actor}", actor=actor)
    bus.engines_command("order_cancel", order.pk)
    reach("cancel.requested")
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


__all__ = [
    "CONFIRMED",
    "ClientOrderIdTaken",
    "OrderNotCancellable",
    "OrderRefused",
    "TransitionNotAllowed",
    "advance",
    "amendment_decide",
    "illegal_move_record",
    "open_amendment",
    "order_cancel_apply",
    "order_cancel_request",
    "order_intend",
    "order_locked",
    "order_place",
    "order_prove_absent",
    "order_prove_ended",
    "order_submission_apply",
    "order_take",
    "step_record",
]
