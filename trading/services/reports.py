from __future__ import annotations

from collections.abc import Sequence

from trading.report_text import Report
from trading.reports import FillReport, OrderReport, PositionReport, WalletReport
from trading.services.accounts import wallet_apply
from trading.services.fills import fill_apply, order_report_apply, position_report_apply
from trading.services.modes import booking
from trading.services.outside_changes import outside_fill_note


def reports_apply(*, account_id: int, reports: Sequence[Report], mode: str | None = None) -> None:
    """Book what the venue told of an account in ``mode`` (None: in the one that it is in), in its order. Each report is
    booked once, however often it comes.

    Raises:
        ModeChanged: the account is in the other mode by now.
    """
    for report in reports:
        match report:
            case OrderReport():
                with booking(account_id, mode):
                    order_report_apply(account_id=account_id, report=report)
            case FillReport():
                with booking(account_id, mode):
                    fill = fill_apply(account_id=account_id, report=report)
                    if fill is not None:
                        outside_fill_note(account_id=account_id, fill=fill, report=report)
            case PositionReport():
                with booking(account_id, mode):
                    position_report_apply(account_id=account_id, report=report)
            case WalletReport():
                wallet_apply(account_id=account_id, report=report, mode=mode)
