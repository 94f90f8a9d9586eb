"""Orders that people and bots ask for."""

from __future__ import annotations

import secrets
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.utils import timezone

from audit import bus
from marketdata.instruments import Violation, on_grid, violations
from marketdata.selectors import instrument_rules, reference_price
from risk.intents import new_client_order_id
from trading.crash_points import reach
from trading.lifecycle import LIVE, OrderEvent, OrderState
from trading.models import Account, Order, OrderAmendment, Position
from trading.services.modes import ModeChanged
from trading.services.order_refusals import ClientOrderIdTaken, OrderNotCancellable, OrderRefused, stopped_refuse
from trading.services.order_rows import OrderBody, order_insert
from trading.services.order_steps import advance, amendment_decide, open_amendment, order_locked

# The names of closing orders follow from the kill switch: whoever took one first would keep a position open.
RESERVED_PREFIX = "kill-"


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
            order = order_insert(
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
