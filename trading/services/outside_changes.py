"""What happens to an account without us: fills of orders that are not ours, positions that our books do not explain."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from audit import bus
from audit.services import alert_raise, record
from trading.models import Fill, Position, ReconciliationRun
from trading.reconciliation import Difference, DifferenceKind, LocalPosition, position_differences
from trading.reports import FillReport, PositionReport
from trading.services.modes import account_tag, mode_held
from trading.services.reconciliations import discrepancy_note

STREAM = "stream"
# The venue's own acts: a liquidation, an auto-deleveraging.
FORCED_EXECUTIONS = frozenset({"AdlTrade", "BustTrade"})
# Orders that the venue makes for a position's take-profit, stop-loss or trailing stop.
OWN_EXITS = ("TakeProfit", "StopLoss", "TrailingStop", "PartialTakeProfit", "PartialStopLoss", "TpLimit", "SlLimit")


@transaction.atomic
def outside_fill_note(*, account_id: int, fill: Fill, report: FillReport) -> bool:
    """Keep, and tell, that a fill which the stream told is no order's of ours; False for one that is. Call it with the
    booking of the fill, in one transaction."""
    if fill.order is not None and fill.order.strategy != "external":
        return False
    if str(report.payload.get("stopOrderType") or "") in OWN_EXITS:
        return False
    text = f"{report.side} {report.quantity:f} {report.symbol} at {report.price:f}"
    forced = report.execution_type in FORCED_EXECUTIONS
    who = "the venue itself (liquidation or auto-deleveraging)" if forced else "somebody else"
    message = f"{account_tag(account_id)}{who} traded on this account: {text}"
    _difference_record(account_id, Difference(DifferenceKind.FOREIGN_FILL, report.execution_id, "none", text))
    alert_raise(
        level="critical" if forced else "warning",
        kind="position_changed_outside",
        message=message,
        account_id=account_id,
        detail={"symbol": report.symbol, "execution_id": report.execution_id, "type": report.execution_type},
        key=f"outside:{report.symbol}",
    )
    return True


@transaction.atomic
def outside_position_note(*, account_id: int, report: PositionReport) -> bool:
    """Tell that the venue's position is not ours; False when they agree. What differs is corrected, and kept, by the
    reconciliation that this asks for."""
    row = (
        Position.objects.filter(account_id=account_id, instrument__symbol=report.symbol)
        .exclude(state=Position.State.CLOSED)
        .first()
    )
    ours = {report.symbol: LocalPosition(report.symbol, row.side, row.quantity)} if row else {}
    found = position_differences(ours, [report])
    if not found:
        return False
    difference = found[0][0]
    what = f"{report.symbol} is {difference.theirs} at the venue and {difference.ours} here"
    message = f"{account_tag(account_id)}{what}: it changed without us"
    alert_raise(
        level="warning",
        kind="position_changed_outside",
        message=message,
        account_id=account_id,
        detail=difference.as_dict(),
        key=f"outside:{report.symbol}",
    )
    record(
        actor="venue",
        action="position.changed_outside",
        subject=f"position:{report.symbol}",
        account_id=account_id,
        parameters=difference.as_dict(),
    )
    return True


def _difference_record(account_id: int, difference: Difference) -> None:
    """One difference that the stream told. Not a comparison of everything: it does not make the account known, and
    says nothing of what was missed before (see reconcile_fills)."""
    now = timezone.now()
    run = ReconciliationRun.objects.create(
        account_id=account_id,
        mode=mode_held(account_id),
        trigger=STREAM,
        started_at=now,
        finished_at=now,
        succeeded=True,
        differences=[difference.as_dict()],
        complete=False,
    )
    discrepancy_note(run, difference)
    record(
        actor="venue",
        action="position.changed_outside",
        subject=f"account:{account_id}",
        account_id=account_id,
        parameters=difference.as_dict(),
    )
    bus.account_changed(account_id, "alert", run.pk)
