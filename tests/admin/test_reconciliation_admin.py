"""Reconciliation in the admin: what is written goes through services, and only by those who may on the account."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.models import AuditEvent
from tests import builders
from trading.models import Account, AccountReconciliation, CoinBalance, Discrepancy, Membership
from trading.reconciliation import Difference, DifferenceKind
from trading.services.accounts import membership_grant
from trading.services.ledger import coin_balances_compare
from trading.services.reconciliations import reconciliation_record

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def account(db: None) -> Account:
    builders.list_instruments()
    account = builders.account(builders.user("alice", is_staff=True))
    fee = Difference(DifferenceKind.FEE, "execution-1", "1 USDT", "2 USDT", stands=True, amount=D(1))
    reconciliation_record(account_id=account.pk, trigger="test", started_at=timezone.now(), differences=[fee])
    for balance in (D(100), D(90)):
        coin_balances_compare(account_id=account.pk, coins={"USDT": balance}, at=timezone.now(), entries=0)
    return account


def staff(user: Any) -> Client:
    """With every permission of Django's, which says nothing of single accounts."""
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="trading"))
    client = Client()
    client.force_login(user)
    return client


def act(client: Client, model: str, action: str, row: Any) -> str:
    path = reverse(f"admin:trading_{model}_changelist")
    answer = client.post(path, {"action": action, "_selected_action": [row.pk]}, follow=True)
    assert answer.status_code == 200
    return " ".join(str(message) for message in answer.context["messages"])


def test_only_a_manager_settles_accepts_and_has_the_account_compared(account: Account) -> None:
    fee, balance = Discrepancy.objects.get(), CoinBalance.objects.get()
    stranger, viewer = builders.user("bob", is_staff=True), builders.user("carol", is_staff=True)
    membership_grant(account=account, user=viewer, role=Membership.Role.VIEWER, actor="alice")
    for model, action, row in (
        ("discrepancy", "resolve", fee),
        ("coinbalance", "accept", balance),
        ("account", "reconcile", account),
    ):
        assert act(staff(stranger), model, action, row) == ""
        assert "only a" in act(staff(viewer), model, action, row)
    fee.refresh_from_db()
    balance.refresh_from_db()
    assert (fee.resolved_at, balance.opening_balance) == (None, 100)
    alice = staff(account.owner)
    act(alice, "discrepancy", "resolve", fee)
    act(alice, "coinbalance", "accept", balance)
    act(alice, "account", "reconcile", account)
    fee.refresh_from_db()
    balance.refresh_from_db()
    assert fee.resolved_at is not None and (balance.opening_balance, balance.unexplained_since) == (90, None)
    assert AccountReconciliation.objects.get().asked_at is not None
    made = {"reconciliation.resolved", "ledger.balance_accepted", "reconciliation.asked"}
    assert set(AuditEvent.objects.filter(actor="alice").values_list("action", flat=True)) >= made


def test_only_a_manager_chooses_the_policy_for_foreign_orders(account: Account) -> None:
    path = reverse("admin:trading_accountreconciliation_change", args=[AccountReconciliation.objects.get().pk])
    viewer = builders.user("carol", is_staff=True)
    membership_grant(account=account, user=viewer, role=Membership.Role.VIEWER, actor="alice")
    assert staff(viewer).post(path, {"foreign_orders": "flag"}).status_code == 403
    # To somebody without access it is not there.
    stranger = staff(builders.user("bob", is_staff=True))
    assert stranger.post(path, {"foreign_orders": "flag"}).headers["Location"] == reverse("admin:index")
    assert AccountReconciliation.objects.get().foreign_orders == "adopt"
    assert staff(account.owner).post(path, {"foreign_orders": "flag"}).status_code == 302
    assert AccountReconciliation.objects.get().foreign_orders == "flag"
    assert AuditEvent.objects.get(action="account.foreign_orders").actor == "alice"
