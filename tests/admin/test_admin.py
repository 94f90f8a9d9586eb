"""The admin: every page opens, what must not be written cannot be, and what is written goes through services."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from audit.models import AuditEvent
from risk.models import RiskLimit
from tests import builders
from trading.credentials import decrypt
from trading.models import Account, Order
from trading.services.accounts import membership_grant
from trading.services.fills import fill_apply
from trading.services.orders import order_place

pytestmark = pytest.mark.django_db
OWN_APPS = {"audit", "marketdata", "strategies", "risk", "trading"}
READ_ONLY = ["order", "fill", "position", "reconciliationrun", "discrepancy", "ledgerentry", "coinbalance"]


@pytest.fixture
def client(db: None) -> Client:
    builders.list_instruments()
    made = Client()
    made.force_login(builders.user("desk", is_staff=True, is_superuser=True))
    return made


@pytest.fixture
def account(client: Client) -> Account:
    account = builders.account(builders.user("alice"))
    order_place(
        account=account,
        actor="alice",
        symbol="BTCUSDT",
        side="Buy",
        order_type="Limit",
        quantity=Decimal("0.01"),
        price=Decimal(60000),
        client_order_id="order-1",
    )
    fill_apply(account_id=account.pk, report=builders.fill_report(client_order_id=""))
    return account


def test_every_list_and_every_detail_page_opens(client: Client, account: Account) -> None:
    builders.strategy(account)
    opened = 0
    for model in admin.site._registry:
        prefix = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        assert client.get(reverse(f"{prefix}_changelist")).status_code == 200, model
        row = model._default_manager.first()
        if row is not None:
            assert client.get(reverse(f"{prefix}_change", args=[row.pk])).status_code == 200, model
            opened += 1
    assert opened >= 8


@pytest.mark.parametrize("name", READ_ONLY)
def test_what_only_the_platform_writes_cannot_be_added_changed_or_deleted(
    client: Client, account: Account, name: str
) -> None:
    assert client.get(reverse(f"admin:trading_{name}_add")).status_code == 403
    order = Order.objects.get()
    assert client.post(reverse("admin:trading_order_change", args=[order.pk]), {"state": "filled"}).status_code == 403
    assert client.post(reverse("admin:trading_order_delete", args=[order.pk]), {"post": "yes"}).status_code == 403
    order.refresh_from_db()
    assert order.state == "new"


def test_the_audit_trail_cannot_be_touched(client: Client, account: Account) -> None:
    event = AuditEvent.objects.first()
    assert event is not None
    assert client.get(reverse("admin:audit_auditevent_add")).status_code == 403
    assert client.post(reverse("admin:audit_auditevent_delete", args=[event.pk]), {"post": "yes"}).status_code == 403


def test_stored_keys_are_never_shown_and_can_be_replaced(client: Client, account: Account) -> None:
    url = reverse("admin:trading_account_change", args=[account.pk])
    page = client.get(url).content.decode()
    assert "secret" not in page.replace("api_secret", "").replace("Api secret", "").replace("the secret", "").replace(
        "its secret", ""
    )
    inline = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    half = client.post(url, {"api_key": "only-the-key", **inline})
    assert half.status_code == 200 and b"together" in half.content
    assert client.post(url, {"api_key": "new-key", "api_secret": "new-secret", **inline}).status_code == 302
    account.refresh_from_db()
    assert (decrypt(account.api_key_encrypted), decrypt(account.api_secret_encrypted)) == ("new-key", "new-secret")
    event = AuditEvent.objects.get(action="account.keys_replaced")
    assert "new-" not in str(event.parameters) + str(event.after)


def test_halting_an_account_is_audited(client: Client, account: Account) -> None:
    url = reverse("admin:trading_account_changelist")
    client.post(url, {"action": "halt", "_selected_action": [account.pk]})
    account.refresh_from_db()
    assert account.trading_state == "halted"
    assert AuditEvent.objects.get(action="account.halted").actor == "desk"


def test_limits_are_set_through_the_service(client: Client, account: Account) -> None:
    body: dict[str, Any] = {"level": "account", "account": account.pk, "trading_enabled": "on", "max_positions": "3"}
    assert client.post(reverse("admin:risk_risklimit_add"), body).status_code == 302
    limit = RiskLimit.objects.get()
    assert (limit.max_positions, limit.account) == (3, account)
    assert AuditEvent.objects.get(action="risk_limit.set").actor == "desk"
    bad = client.post(reverse("admin:risk_risklimit_change", args=[limit.pk]), {"max_positions": "0"})
    assert bad.status_code == 200 and b"expected 1 to 100" in bad.content


def test_strategy_parameters_are_fields_with_their_ranges(client: Client, account: Account) -> None:
    config = builders.strategy(account)
    url = reverse("admin:strategies_strategyconfig_change", args=[config.pk])
    page = client.get(url).content.decode()
    assert "parameter_period" in page and "2 to 200" in page
    body = {"symbols": '["ETHUSDT"]', "sizing_mode": "percent", "sizing_value": "2", "leverage": "5"}
    body |= {"parameter_timeframe": "5", "parameter_period": "20", "parameter_multiplier": "2.5"}
    answer = client.post(url, body)
    assert answer.status_code == 302, answer.context["errors"]
    config.refresh_from_db()
    assert (config.symbols, config.parameters["period"], config.parameters["timeframe"]) == (["ETHUSDT"], 20, "5")
    assert config.version == 2 and AuditEvent.objects.filter(action="strategy.changed").exists()
    refused = client.post(url, body | {"parameter_period": "1"})
    assert refused.status_code == 200
    unknown = client.post(url, body | {"symbols": '["NOPEUSDT"]'})
    assert unknown.status_code == 200 and b"NOPEUSDT" in unknown.content


def test_orders_are_cancelled_through_the_service(client: Client, account: Account) -> None:
    order = Order.objects.get()
    client.post(reverse("admin:trading_order_changelist"), {"action": "cancel_orders", "_selected_action": [order.pk]})
    order.refresh_from_db()
    assert order.state == "cancelled" and "desk" in order.refusal


def test_staff_who_may_only_look_neither_halt_nor_enable_nor_cancel(account: Account) -> None:
    config, order = builders.strategy(account), Order.objects.get()
    looker = builders.user("looker", is_staff=True)
    looker.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(looker)
    for page, action, row in (
        ("trading_account", "halt", account.pk),
        ("trading_order", "cancel_orders", order.pk),
        ("strategies_strategyconfig", "enable", config.pk),
    ):
        client.post(reverse(f"admin:{page}_changelist"), {"action": action, "_selected_action": [row]})
    account.refresh_from_db()
    config.refresh_from_db()
    assert (account.trading_state, config.enabled, Order.objects.get().state) == ("active", False, "new")


def test_another_person_in_a_members_row_takes_the_first_ones_access(client: Client, account: Account) -> None:
    vera, bob = builders.user("vera"), builders.user("bob")
    member = membership_grant(account=account, user=vera, role="trader", actor="test")
    form = {
        "api_key": "",
        "api_secret": "",
        "memberships-TOTAL_FORMS": 1,
        "memberships-INITIAL_FORMS": 1,
        "memberships-0-id": member.pk,
        "memberships-0-account": account.pk,
        "memberships-0-user": bob.pk,
        "memberships-0-role": "trader",
    }
    answer = client.post(reverse("admin:trading_account_change", args=[account.pk]), form)
    assert answer.status_code == 302
    assert [each.user for each in account.memberships.all()] == [bob]
    assert AuditEvent.objects.filter(action="membership.revoked").exists()
