"""Which books an account writes to: its mode, held still while something is booked in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import connection, transaction

from audit.services import alert_raise, record
from trading.models import Account, Order


class ModeChanged(Exception):
    """The account was switched between paper and real meanwhile: what this was about belongs to the other books."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An account's mode, and why it is halted; None: it is not."""

    mode: str
    halt_reason: str | None


def standing_held(account_id: int) -> Standing:
    """How the account stands, which cannot change before the transaction ends."""
    with connection.cursor() as cursor:
        # The ORM has no FOR SHARE: many may book at once, only a switch or a halt has to wait.
        cursor.execute(
            "SELECT mode, CASE WHEN trading_state = %s THEN halt_reason END"
            " FROM trading_account WHERE id = %s FOR SHARE",
            [Account.TradingState.HALTED, account_id],
        )
        row = cursor.fetchone()
    return Standing("", None) if row is None else Standing(*row)


def mode_held(account_id: int) -> str:
    """The account's mode, which cannot be switched before the transaction ends."""
    return standing_held(account_id).mode


def mode_confirm(account_id: int, mode: str | None) -> str:
    """:func:`mode_held`, which must be ``mode`` (None: any).

    Raises:
        ModeChanged: it is not.
    """
    held = mode_held(account_id)
    if mode is not None and held != mode:
        raise ModeChanged(f"account {account_id} is {held} now; what was told of it {mode} is not booked")
    return held


def account_tag(account_id: int) -> str:
    """What a sentence about an account begins with, so that nobody takes paper for real."""
    return Account.objects.get(pk=account_id).tag


@contextmanager
def booking(account_id: int, mode: str | None) -> Iterator[None]:
    """A transaction that books what a venue told of an account in ``mode``. Raises ModeChanged."""
    with transaction.atomic():
        mode_confirm(account_id, mode)
        yield


@transaction.atomic
def crossing_record(*, order: Order, gateway_mode: str) -> str:
    """Keep, and tell, that an order of one mode nearly left through a gateway of the other; returns the sentence."""
    sentence = f"it was decided {order.mode}, and the account's gateway is {gateway_mode} by now: it is not sent"
    alert_raise(
        level="critical",
        kind="mode_crossing",
        message=f"{order.account.label}: order {order.client_order_id}: {sentence}",
        account_id=order.account_id,
        detail={"order": order.client_order_id, "order_mode": order.mode, "gateway_mode": gateway_mode},
        key=f"mode_crossing:{order.pk}",
    )
    record(
        actor=order.actor,
        action="order.crossing_refused",
        subject=f"order:{order.pk}",
        account_id=order.account_id,
        trace_id=order.trace_id,
        reason=sentence,
    )
    return sentence
