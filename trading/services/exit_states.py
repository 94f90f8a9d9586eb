from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from marketdata.selectors import instrument_by_symbol
from risk.exits import ExitState
from trading.models import Account, Order, Position, PositionExit
from trading.services.orders import order_place

FIELDS = ("position_id", "best_price", "take_price", "stop_price", "partials", "reversal_ns", "updated_at")


def exit_states(account_id: int) -> dict[str, tuple[int, ExitState]]:
    """By symbol: the position that the state belongs to, and the state."""
    rows = PositionExit.objects.filter(account_id=account_id).select_related("instrument")
    return {
        row.instrument.symbol: (
            row.position_id,
            ExitState(row.best_price, row.take_price, row.stop_price, row.partials, row.reversal_ns),
        )
        for row in rows
    }


@transaction.atomic
def exit_states_save(*, account_id: int, states: Mapping[str, tuple[int, ExitState]]) -> None:
    """Keep what trails. Not on the audit trail: a level follows from the prices and the policy; the order it leads to
    is."""
    known = set(Position.objects.filter(pk__in=[pk for pk, _ in states.values()]).values_list("pk", flat=True))
    now = timezone.now()
    rows = [
        PositionExit(
            account_id=account_id,
            instrument=instrument_by_symbol(symbol),
            position_id=position_id,
            best_price=state.best_price,
            take_price=state.take_price,
            stop_price=state.stop_price,
            partials=state.partials,
            reversal_ns=state.reversal_ns,
            updated_at=now,
        )
        for symbol, (position_id, state) in sorted(states.items())
        if position_id in known
    ]
    PositionExit.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["account", "instrument"], update_fields=list(FIELDS)
    )


@transaction.atomic
def exit_order_place(
    *,
    account_id: int,
    symbol: str,
    side: str,
    quantity: Decimal,
    strategy: str,
    reason: str,
    position_id: int,
    state: ExitState,
) -> Order:
    """The durable intent of an exit, together with the state that counts it as done."""
    exit_states_save(account_id=account_id, states={symbol: (position_id, state)})
    return order_place(
        account=Account.objects.get(pk=account_id),
        actor="risk",
        symbol=symbol,
        side=side,
        order_type="Market",
        quantity=quantity,
        reduce_only=True,
        reason=reason,
        strategy=strategy,
    )
