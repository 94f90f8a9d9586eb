from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from audit import bus
from audit.services import record
from trading.models import Account, ReconciliationRun
from trading.reconciliation import Difference
from trading.services.modes import mode_confirm


@transaction.atomic
def reconciliation_record(
    *,
    account_id: int,
    trigger: str,
    started_at: datetime,
    differences: Sequence[Difference],
    error: str = "",
    mode: str | None = None,
) -> ReconciliationRun:
    """Keep one comparison with the venue of ``mode`` (None: the account's). Only a successful one makes the account
    known, so that it may trade.

    Raises:
        ModeChanged: the account is in the other mode by now.
    """
    mode = mode_confirm(account_id, mode)
    now = timezone.now()
    run = ReconciliationRun.objects.create(
        account_id=account_id,
        mode=mode,
        trigger=trigger,
        started_at=started_at,
        finished_at=now,
        succeeded=not error,
        error=error,
        differences=[difference.as_dict() for difference in differences],
    )
    if not error:
        Account.objects.filter(pk=account_id).update(reconciled_at=now)
    if differences or error:
        record(
            actor="reconciliation",
            action="reconciliation.failed" if error else "reconciliation.differences",
            subject=f"account:{account_id}",
            account_id=account_id,
            reason=error,
            parameters={"trigger": trigger, "differences": [difference.as_dict() for difference in differences]},
        )
        bus.account_changed(account_id, "alert", run.pk)
    return run
