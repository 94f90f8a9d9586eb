"""Groups, policies and peaks are changed in the admin through their services."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from audit.models import AuditEvent
from risk.models import PositionPolicy, SymbolGroup
from risk.services import POLICY_FIELDS
from tests import builders
from trading.models import Account, Wallet
from trading.reports import WalletReport
from trading.services.accounts import wallet_apply

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def account() -> Account:
    builders.list_instruments()
    made = builders.account(builders.user("alice"))
    wallet_apply(account_id=made.pk, report=WalletReport(D(100), D(100), D(100), D(0), D(0)))
    Wallet.objects.update(peak_equity=D(900))
    return made


@pytest.fixture
def client() -> Client:
    made = Client()
    made.force_login(builders.user("desk", is_staff=True, is_superuser=True))
    return made


def test_a_group_is_changed_through_its_service(client: Client) -> None:
    url = reverse("admin:risk_symbolgroup_change", args=[SymbolGroup.objects.get(name="defi").pk])
    assert client.post(url, {"symbols": '["AAVEUSDT"]', "max_positions": "2"}).status_code == 302
    assert SymbolGroup.objects.get(name="defi").symbols == ["AAVEUSDT"]
    assert AuditEvent.objects.get(action="symbol_group.set").actor == "desk"
    bad = client.post(url, {"symbols": '["aave"]', "max_positions": "200"})
    assert bad.status_code == 200 and b"is no symbol" in bad.content and b"expected 1 to 100" in bad.content


def test_a_policy_is_made_and_refused_through_its_service(client: Client, account: Account) -> None:
    empty = PositionPolicy()
    body: dict[str, Any] = {name: getattr(empty, name) for name in POLICY_FIELDS}
    body |= {"account": account.pk, "partial_exits": '[["1.5", "50"]]', "trailing_stop_distances": "[]"}
    url = reverse("admin:risk_positionpolicy_add")
    bad = client.post(url, body | {"max_loss_percent": "0"})
    assert bad.status_code == 200 and b"expected 0.1 to 100" in bad.content
    assert client.post(url, body).status_code == 302
    assert PositionPolicy.objects.get().account == account
    assert AuditEvent.objects.get(action="position_policy.set").actor == "desk"


def test_only_an_accounts_manager_measures_its_drawdown_anew(client: Client, account: Account) -> None:
    url = reverse("admin:trading_account_changelist")
    body = {"action": "measure_anew", "_selected_action": [account.pk]}
    bob = builders.user("bob", is_staff=True)
    bob.user_permissions.add(*Permission.objects.filter(codename__in=["change_account", "view_account"]))
    stranger = Client()
    stranger.force_login(bob)
    stranger.post(url, body)
    assert Wallet.objects.get().peak_equity == D(900)
    client.post(url, body)
    assert Wallet.objects.get().peak_equity == D(100)
    assert AuditEvent.objects.get(action="account.peak_equity_reset").actor == "desk"
