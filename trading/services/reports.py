from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import transaction

from audit import bus
from audit.services import alert_raise, record, recorded_together
from trading.crash_points import reach
from trading.models import Fill, Order
from trading.report_text import Report
from trading.reports import FillReport, OrderReport, PositionReport, ReportRefused, WalletReport
from trading.services.accounts import wallet_apply
from trading.services.fills import fill_apply, order_report_apply, position_report_apply
from trading.services.modes import booking
from trading.services.outside_changes import outside_fill_note

Booked = TypeVar("Booked")


def reports_apply(*, account_id: int, reports: Sequence[Report], mode: str | None = None) -> list[tuple[Report, str]]:
    """Book what the venue told of an account in ``mode`` (None: in the one that it is in), in its order. Each report is
    booked once, however often it comes. One that contradicts what we know changes nothing and keeps no other from being
    booked: it is told, and returned with what is wrong with it.

    Raises:
        ModeChanged: the account is in the other mode by now.
    """
    refused: list[tuple[Report, str]] = []
    for report in reports:
        try:
            _apply(account_id, report, mode)
        except ReportRefused as error:
            report_refuse(account_id=account_id, report=report, reason=str(error))
            refused.append((report, str(error)))
    return refused


def _apply(account_id: int, report: Report, mode: str | None) -> None:
    match report:
        case OrderReport():
            with booking(account_id, mode):
                order_report_apply(account_id=account_id, report=report)
        case FillReport():
            reach("fill.received")
            # Together: the trail is the last row to be locked, after the alert.
            with booking(account_id, mode), recorded_together():
                fill = fill_apply(account_id=account_id, report=report)
                if fill is not None:
                    outside_fill_note(account_id=account_id, fill=fill, report=report)
            reach("fill.booked")
        case PositionReport():
            with booking(account_id, mode):
                position_report_apply(account_id=account_id, report=report)
        case WalletReport():
            wallet_apply(account_id=account_id, report=report, mode=mode)


def fill_book(*, account_id: int, report: FillReport) -> Fill | None:
    """:func:`fill_apply` for whoever asked the venue for it: what is refused is told, and is None."""
    return _booked_or_told(fill_apply, account_id, report)


def order_report_book(*, account_id: int, report: OrderReport) -> Order | None:
    """:func:`order_report_apply` for whoever asked the venue for it: what is refused is told, and is None."""
    return _booked_or_told(order_report_apply, account_id, report)


def _booked_or_told(apply: Callable[..., Booked | None], account_id: int, report: Report) -> Booked | None:
    try:
        return apply(account_id=account_id, report=report)
    except ReportRefused as error:
        report_refuse(account_id=account_id, report=report, reason=str(error))
        return None


@transaction.atomic
def frame_refuse(*, account_id: int, reason: str) -> None:
    """People are told that a message of the venue could not be read; it waits among the dead letters."""
    alert_raise(
        level="warning",
        kind="unreadable_report",
        message=f"the venue sent what cannot be read, and nothing was changed: {reason}",
        account_id=account_id,
        key=f"unreadable:{account_id}",
    )


@transaction.atomic
def report_refuse(*, account_id: int, report: Report, reason: str) -> None:
    """People are told of a report that was not booked, and it is on the trail: once while its alert is open, however
    often the venue repeats it."""
    kind = type(report).__name__
    subject = report.symbol if not isinstance(report, WalletReport) else "wallet"
    if isinstance(report, FillReport):
        subject = f"execution:{report.execution_id}"
    elif isinstance(report, OrderReport):
        subject = f"order:{report.venue_order_id}"
    alert = alert_raise(
        level="critical",
        kind="report_refused",
        message=f"the venue contradicts our books, and nothing was changed: {reason}",
        account_id=account_id,
        detail={"report": kind, "reason": reason},
        key=f"refused:{subject}"[:128],
    )
    if alert.count > 1:
        return
    record(
        actor="venue",
        action="report.refused",
        subject=subject[:128],
        account_id=account_id,
        reason=reason,
        parameters={"report": kind, "payload": getattr(report, "payload", {})},
    )
    bus.account_changed(account_id, "alert", alert.pk)
