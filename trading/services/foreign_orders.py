from __future__ import annotations

from collections.abc import Collection, Sequence

from django.db import transaction
from django.utils import timezone

from audit.services import record
from marketdata.selectors import instrument_by_symbol
from trading.models import ForeignOrder
from trading.reports import OrderReport
from trading.services.reconciliations import reconciliation_locked


@transaction.atomic
def foreign_orders_keep(*, account_id: int, reports: Sequence[OrderReport], mode: str | None = None) -> None:
    """These, and no others, are the account's flagged orders now: new ones are kept, the rest are gone."""
    mode = reconciliation_locked(account_id, mode).mode
    now = timezone.now()
    working = ForeignOrder.objects.filter(account_id=account_id, mode=mode, gone_at=None)
    known = {row.venue_order_id: row for row in working}
    for report in reports:
        row = known.pop(report.venue_order_id, None)
        if row is None:
            _flag(account_id, mode, report)
            continue
        row.quantity, row.filled_quantity, row.price = report.quantity, report.filled_quantity, report.price or None
        row.last_seen_at = now
        row.save()
    _gone(known.values())


def _flag(account_id: int, mode: str, report: OrderReport) -> None:
    now, instrument = timezone.now(), instrument_by_symbol(report.symbol)
    if instrument is None:
        raise ValueError(f"{report.symbol} is not listed; only orders in listed instruments are kept")
    row, _ = ForeignOrder.objects.update_or_create(
        account_id=account_id,
        mode=mode,
        venue_order_id=report.venue_order_id,
        defaults={
            "instrument": instrument,
            "client_order_id": report.client_order_id,
            "side": report.side,
            "order_type": report.order_type,
            "time_in_force": report.time_in_force,
            "quantity": report.quantity,
            "filled_quantity": report.filled_quantity,
            "price": report.price or None,
            "reduce_only": report.reduce_only,
            "first_seen_at": now,
            "last_seen_at": now,
            "gone_at": None,
        },
    )
    record(
        actor="reconciliation",
        action="order.flagged",
        subject=f"foreign_order:{row.pk}",
        account_id=account_id,
        parameters={
            "venue_order_id": report.venue_order_id,
            "client_order_id": report.client_order_id,
            "symbol": report.symbol,
            "side": report.side,
            "quantity": report.quantity,
        },
    )


def _gone(rows: Collection[ForeignOrder]) -> None:
    now = timezone.now()
    for row in rows:
        row.gone_at = now
        row.save(update_fields=["gone_at"])
        record(
            actor="reconciliation",
            action="order.flag_ended",
            subject=f"foreign_order:{row.pk}",
            account_id=row.account_id,
            parameters={"venue_order_id": row.venue_order_id},
        )
