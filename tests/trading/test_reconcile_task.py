"""The reconciliation of all accounts: one that breaks is one that breaks."""

from __future__ import annotations

from typing import Any

import pytest

from tests import builders
from trading import tasks
from trading.models import Account, ReconciliationRun
from trading.services.reconciliations import reconciliation_record

pytestmark = pytest.mark.django_db


def test_an_account_whose_reconciliation_breaks_keeps_no_other_from_it(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    bobs = builders.account(builders.user("bob"))
    Account.objects.update(reconciled_at="2026-11-21T10:00:00Z")
    asked = []

    def reconcile(account_id: int, gateway: Any, trigger: str) -> ReconciliationRun:
        asked.append(account_id)
        if account_id == account.pk:
            raise ValueError("something that nobody thought of")
        return reconciliation_record(account_id=account_id, trigger=trigger, started_at=bobs.created_at, differences=[])

    monkeypatch.setattr(tasks, "reconcile_account", reconcile)
    assert tasks.reconcile_accounts() == 1 and asked == [account.pk, bobs.pk]
