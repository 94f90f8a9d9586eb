"""Staff see in the admin what belongs to accounts that they may see; superusers see everything."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.services import alert_raise
from risk.models import RiskLimit
from risk.services import position_policy_set, risk_limit_set
from strategies.models import StrategyConfig
from strategies.services import signal_record
from strategies.signals import Signal
from tests import builders
from trading.models import Account, DeadManWatch, KillSwitchTask, Membership, Wallet
from trading.reconciliation import Difference, DifferenceKind
from trading.services.accounts import membership_grant
from trading.services.fills import fill_apply
from trading.services.foreign_orders import foreign_orders_keep
from trading.services.kill_switch import dead_man_set, kill_switch_engage
from trading.services.ledger import coin_balances_compare
from trading.services.loss_alarms import loss_alarm_raise
from trading.services.orders import order_place
from trading.services.reconciliations import reconciliation_record

pytestmark = pytest.mark.django_db
D = Decimal
OF_ACCOUNTS = [
    "trading_account", "trading_order", "trading_fill", "trading_position", "trading_reconciliationrun",
    "trading_discrepancy", "trading_accountreconciliation", "trading_foreignorder", "trading_coinbalance",
    "trading_deadmanwatch", "trading_lossalarm", "trading_killswitch", "strategies_strategyconfig",
    "strategies_signal", "risk_risklimit", "risk_positionpolicy", "audit_alert",
]  # fmt: skip


def with_everything(account: Account) -> Account:
    """One row of each kind."""
    order_place(
        account=account, actor="t", symbol="BTCUSDT", side="Buy", order_type="Limit", quantity=D("0.01"),
        price=D(60000), client_order_id="order-1",
    )  # fmt: skip
    fill_apply(account_id=account.pk, report=builders.fill_report(client_order_id=""))
    fee = Difference(DifferenceKind.FEE, "execution-1", "1 USDT", "2 USDT", stands=True, amount=D(1))
    reconciliation_record(account_id=account.pk, trigger="test", started_at=timezone.now(), differences=[fee])
    coin_balances_compare(account_id=account.pk, coins={"USDT": D(100)}, at=timezone.now(), entries=0)
    foreign_orders_keep(account_id=account.pk, reports=[builders.order_report(client_order_id="", quantity=D(7))])
    dead_man_set(account=account, policy="alert", venue_seconds=None, actor="t")
    risk_limit_set(level="account", account=account, actor="t", max_positions=7)
    position_policy_set(account=account, actor="t", max_loss_percent=D(3))
    config = builders.strategy(account)
    signal = Signal("trend", "BTCUSDT", "Buy", 0.9, D(60_000), D(62_000), D(59_000), "why", 10**18)
    signal_record(
        account_id=account.pk, config_id=config.pk, signal=signal, outcome="vetoed", verdict={}, refusals=[],
        trace_id=f"trace-{account.pk}",
    )  # fmt: skip
    Wallet.objects.create(account=account, updated_at=timezone.now())
    lost = {"limit": "max_daily_loss_percent", "value": D(5), "percent": D(6), "equity": D(94), "message": "lost"}
    loss_alarm_raise(account_id=account.pk, **lost)  # engages the kill switch
    alert_raise(level="warning", kind="test", message=f"of {account.name}", account_id=account.pk)
    return account


@pytest.fixture
def accounts(db: None) -> tuple[Account, Account]:
    builders.list_instruments()
    return tuple(with_everything(builders.account(builders.user(name))) for name in ("alice", "bob"))


def login(name: str, **options: Any) -> Client:
    user = builders.user(name, is_staff=True, **options)
    user.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(user)
    return client


def member(account: Account, name: str, role: str) -> Client:
    client = login(name)
    user = account.memberships.model._meta.get_field("user").related_model.objects.get(username=name)
    membership_grant(account=account, user=user, role=role, actor="test")
    return client


def shown(client: Client, model: str) -> list[Any]:
    answer = client.get(reverse(f"admin:{model}_changelist") + ("?books=all" if "alarm" in model else ""))
    assert answer.status_code == 200, model
    return list(answer.context["cl"].queryset)


def account_of(row: Any) -> int | None:
    return row.pk if isinstance(row, Account) else row.account_id


def test_staff_without_access_to_an_account_see_nothing_of_it(accounts: tuple[Account, Account]) -> None:
    alices, bobs = accounts
    viewer = member(alices, "vera", Membership.Role.VIEWER)
    root, stranger = login("root", is_superuser=True), login("nobody")
    for model in OF_ACCOUNTS:
        rows = shown(root, model)
        assert {alices.pk, bobs.pk} <= {account_of(row) for row in rows}, model
        assert {account_of(row) for row in shown(viewer, model)} == {alices.pk}, model
        assert shown(stranger, model) == [], model
        hidden = next(row for row in rows if account_of(row) == bobs.pk)
        detail = reverse(f"admin:{model}_change", args=[hidden.pk])
        assert viewer.get(detail).status_code == 302 and root.get(detail).status_code == 200, model


def test_nor_do_filters_choices_and_searches_tell_of_it(accounts: tuple[Account, Account]) -> None:
    alices, bobs = accounts
    viewer = member(alices, "vera", Membership.Role.MANAGER)
    for page in (
        reverse("admin:trading_order_changelist"),
        reverse("admin:strategies_strategyconfig_changelist"),
        reverse("admin:trading_killswitch_add"),
        reverse("admin:trading_deadmanwatch_add"),
    ):
        text = viewer.get(page).content.decode()
        assert bobs.name not in text, page
    found = viewer.get(
        reverse("admin:autocomplete"),
        {"app_label": "risk", "model_name": "risklimit", "field_name": "account", "term": "account"},
    )
    assert [row["text"] for row in found.json()["results"]] == [alices.name]


def test_the_platforms_stop_is_everybodys_to_see_and_its_progress_for_their_own_accounts(
    accounts: tuple[Account, Account],
) -> None:
    alices, bobs = accounts
    switch = kill_switch_engage(account=None, actor="root", reason="all of it")
    assert KillSwitchTask.objects.filter(switch=switch).count() == 2
    viewer = member(alices, "vera", Membership.Role.VIEWER)
    for page in (reverse("admin:trading_killswitch_changelist"), f"/admin/trading/killswitch/{switch.pk}/change/"):
        text = viewer.get(page).content.decode()
        assert alices.name in text and bobs.name not in text


def test_djangos_permission_changes_nothing_without_a_managers_role(accounts: tuple[Account, Account]) -> None:
    alices, bobs = accounts
    trader, manager = member(alices, "tom", Membership.Role.TRADER), member(alices, "mia", Membership.Role.MANAGER)
    limit = RiskLimit.objects.get(account=alices)
    changed = {"trading_enabled": "on", "max_positions": "9", "group_limits": "{}"}
    path = reverse("admin:risk_risklimit_change", args=[limit.pk])
    assert trader.post(path, changed).status_code == 403
    assert manager.post(path, changed).status_code == 302
    limit.refresh_from_db()
    assert limit.max_positions == 9
    own = {"level": "strategy", "strategy": StrategyConfig.objects.get(account=alices).pk, **changed}
    assert trader.post(reverse("admin:risk_risklimit_add"), own).status_code == 403
    assert not RiskLimit.objects.filter(level="strategy").exists()
    foreign = {"level": "account", "account": bobs.pk, **changed}
    RiskLimit.objects.filter(account=bobs).delete()
    assert b"not one of the available choices" in manager.post(reverse("admin:risk_risklimit_add"), foreign).content
    config = StrategyConfig.objects.get(account=alices)
    chosen = {"action": "enable", "_selected_action": [config.pk]}
    for client, enabled in ((trader, False), (manager, True)):
        client.post(reverse("admin:strategies_strategyconfig_changelist"), chosen)
        config.refresh_from_db()
        assert config.enabled == enabled
    keys = {"api_key": "k", "api_secret": "s", "memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    account_page = reverse("admin:trading_account_change", args=[alices.pk])
    assert trader.post(account_page, keys).status_code == 403
    assert manager.post(account_page, keys).status_code == 302


def test_only_who_may_trade_halts_an_account_and_only_a_manager_lets_it_go_on(
    accounts: tuple[Account, Account],
) -> None:
    alices, _ = accounts
    viewer, trader = member(alices, "vera", Membership.Role.VIEWER), member(alices, "tom", Membership.Role.TRADER)
    manager, stranger = member(alices, "mia", Membership.Role.MANAGER), login("nobody")
    for client, action, state in (
        (stranger, "halt", "active"), (viewer, "halt", "active"), (trader, "halt", "halted"),
        (trader, "resume", "halted"), (manager, "resume", "active"),
    ):  # fmt: skip
        client.post(reverse("admin:trading_account_changelist"), {"action": action, "_selected_action": [alices.pk]})
        alices.refresh_from_db()
        assert alices.trading_state == state
    assert DeadManWatch.objects.count() == 2
