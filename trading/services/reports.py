from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from trading.crash_points import reach
from trading.report_text import Report
from trading.reports import FillReport, OrderReport, PositionReport, WalletReport
from trading.services.accounts import wallet_apply
from trading.services.fills import fill_apply, order_report_apply, position_report_apply
from trading.services.outside_changes import outside_fill_note


def reports_apply(*, account_id: int, reports: Sequence[Report]) -> None:
    """Book what the venue told of an account, in its order. Each report is booked once, however often it comes."""
    for report in reports:
        match report:
            case OrderReport():
                order_report_apply(account_id=account_id, report=report)
            case FillReport():
                reach("fill.received")
                with transaction.atomic():
                    fill = fill_apply(account_id=account_id, report=report)
                    if fill is not None:
                        outside_fill_note(account_id=account_id, fill=fill, report=report)
                reach("fill.booked")
            case PositionReport():
                position_report_apply(account_id=account_id, report=report)
            case WalletReport():
                wallet_apply(account_id=account_id, report=report)
