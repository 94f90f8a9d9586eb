"""Orders made ready to be sent the moment a transaction commits, by the owner of their account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from audit.services import record, recorded_together
from marketdata.instruments import Violation
from risk.checks import Refusal
from risk.intents import OrderIntent
from trading.crash_points import reach
from trading.lifecycle import OrderEvent, OrderState
from trading.models import AbsenceReading, Order
from trading.selectors import stopped_by
from trading.services.leases import LeaseToken, lease_confirm
from trading.services.modes import standing_held
from trading.services.order_gate import OrderGate, halt_refusal, order_gate
from trading.services.order_refusals import OrderRefused, stopped_refuse
from trading.services.order_rows import OrderBody, order_insert
from trading.services.order_steps import advance, order_locked
from trading.services.shared_limits import RiskDenied, shared_refusals

# An intent that nobody sent within this time is worth nothing any more: prices have moved on.
INTENT_LIFETIME = timedelta(seconds=30)


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
    order = order_insert(
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
    order = order_insert(
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
