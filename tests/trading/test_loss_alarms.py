"""A loss is told once at each level, which it names; each level's alarm is armed again by itself."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from audit.models import Alert, AuditEvent
from risk.exposure import Exposure, Totals
from risk.selectors import limits_for, watched_limits
from risk.services import risk_limit_set
from strategies.services import strategy_enable
from tests import builders
from tests.trading.test_exposures import wallet
from trading.models import Account, KillSwitch, LossAlarm, Membership, Mode, Wallet
from trading.pipeline import Pipeline
from trading.runtime.position_guard import PositionGuard
from trading.selectors import shared_drawdown_peaks
from trading.services.accounts import membership_grant
from trading.services.kill_switch import kill_switch_rearm
from trading.services.loss_alarms import loss_alarm_raise, loss_alarm_rearm, loss_alarm_recovered, peak_equity_reset

pytestmark = pytest.mark.django_db
D = Decimal
DAILY, DRAWDOWN = "max_daily_loss_percent", "max_drawdown_percent"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kill switch lets the database end a transaction whose process sleeps; here one lasts for a whole test."""
    monkeypatch.setattr("trading.services.leases.IDLE_MILLISECONDS", 0)


@pytest.fixture
def account(account: Account) -> Account:
    wallet(account)
    return account


def lost(account: Account, **changes: Any) -> bool:
    values: dict[str, Any] = {"limit": DAILY, "value": D(5), "percent": D(6), "equity": D(9_400), "message": "6 % lost"}
    return loss_alarm_raise(account_id=account.pk, **(values | changes))


def test_each_level_has_its_own_alarm_for_the_same_day(account: Account) -> None:
    for level in ("account", "user", "platform"):
        assert lost(account, level=level) and not lost(account, level=level)
    alerts = Alert.objects.filter(kind="loss_limit", account_id=account.pk).order_by("pk")
    assert [alert.detail["limit"] for alert in alerts] == [DAILY, f"user.{DAILY}", f"platform.{DAILY}"]
    events = AuditEvent.objects.filter(action="risk.loss_limit_crossed").order_by("pk")
    assert [event.parameters["level"] for event in events] == ["account", "user", "platform"]
    assert KillSwitch.objects.filter(account=account, rearmed_at=None).count() == 1


def test_arming_one_level_again_leaves_the_others_as_they_are(account: Account) -> None:
    lost(account), lost(account, level="user"), lost(account, limit=DRAWDOWN)
    alarm = LossAlarm.objects.get(level="user")
    loss_alarm_rearm(alarm=alarm, actor="alice")
    assert AuditEvent.objects.get(action="risk.loss_alarm_rearmed").parameters["limit"] == f"user.{DAILY}"
    assert not lost(account) and not lost(account, limit=DRAWDOWN) and lost(account, level="user")
    alarm.refresh_from_db()
    assert alarm.rearmed_at is None and LossAlarm.objects.count() == 3


def test_an_alarm_stops_the_account_again_once_both_are_armed_again(account: Account) -> None:
    lost(account)
    kill_switch_rearm(account=account, actor="alice", reason="looked at it", force=True)
    assert not lost(account)
    loss_alarm_rearm(alarm=LossAlarm.objects.get(), actor="alice")
    assert lost(account) and KillSwitch.objects.filter(account=account, rearmed_at=None).count() == 1


def test_another_limit_another_day_and_another_peak_are_other_crossings(account: Account) -> None:
    assert lost(account) and lost(account, value=D(8), percent=D(9)) and not lost(account, value=D(8))
    LossAlarm.objects.update(day=LossAlarm.objects.get().day - timedelta(days=1))
    assert lost(account, value=D(8))
    assert lost(account, limit=DRAWDOWN) and not lost(account, limit=DRAWDOWN)
    Wallet.objects.update(peak_equity=123_456)
    assert lost(account, limit=DRAWDOWN)


def test_measuring_the_drawdown_anew_arms_it_again_and_no_daily_loss(account: Account) -> None:
    lost(account), lost(account, limit=DRAWDOWN)
    peak_equity_reset(account=account, actor="alice")
    assert LossAlarm.objects.get(limit=DRAWDOWN).rearmed_by == "alice" and not lost(account)


def test_a_users_drawdown_is_told_once_while_one_account_reaches_new_peaks(account: Account) -> None:
    """The others stay down: what was lost together is the same loss."""
    together = {"level": "user", "limit": DRAWDOWN}
    assert lost(account, **together, peak=D(300_000))
    for peak in (123_456, 150_000):
        Wallet.objects.filter(account=account).update(peak_equity=peak)
        assert not lost(account, **together, peak=D(300_000 + peak))
    assert lost(account, **together, peak=D(300_000), value=D(8)), "another limit is another crossing"
    assert not loss_alarm_recovered(account_id=account.pk, level="platform", peak=D(300_000))
    assert shared_drawdown_peaks(account.pk) == {"user": D(300_000)}
    assert not shared_drawdown_peaks(builders.account(builders.user("bob")).pk)


def test_worth_the_peak_again_the_next_drawdown_of_a_user_is_another(account: Account) -> None:
    async def at_once(work: Any) -> Any:
        return work()

    guard = PositionGuard(
        account.pk, Pipeline(lambda: "trace"), on_books=at_once, exit_recorded=None, venue_wallet=None
    )  # type: ignore[arg-type]
    together: dict[str, Any] = {"level": "user", "limit": DRAWDOWN, "peak": D(300)}
    assert lost(account, **together)
    for others, is_another in ((199, False), (200, True)):
        guard._exposure = Exposure(
            known=True, equity=D(100), wallet_balance=D(100), peak_equity=D(100), user=Totals(equity=D(others))
        )
        with pytest.raises(StopIteration):  # it waits for nothing here
            guard._end_recovered().send(None)
        assert lost(account, **together) == is_another
    assert AuditEvent.objects.filter(action="risk.loss_recovered").count() == 1


def test_alarms_of_one_mode_and_one_tenant_are_not_anothers(account: Account) -> None:
    bobs = builders.account(builders.user("bob"))
    wallet(bobs)
    lost(account)
    assert lost(bobs)
    Account.objects.filter(pk=account.pk).update(mode=Mode.PAPER)
    assert lost(account) and set(LossAlarm.objects.values_list("mode", flat=True)) == {"real", "paper"}


def test_a_strategys_loss_disables_the_strategy_and_stops_nobody_else(account: Account) -> None:
    config = strategy_enable(config=builders.strategy(account), actor="alice")
    bobs = strategy_enable(config=builders.strategy(builders.account(builders.user("bob"))), actor="bob")
    assert lost(account, level="strategy", strategy="trend", message="strategy trend lost 6 %")
    config.refresh_from_db()
    bobs.refresh_from_db()
    assert (config.enabled, bobs.enabled) == (False, True) and not KillSwitch.objects.exists()
    assert Alert.objects.get(kind="loss_limit").detail["strategy"] == "trend"
    assert AuditEvent.objects.get(action="strategy.disabled").actor == "risk"


def test_the_guard_names_the_level_that_was_crossed(account: Account) -> None:
    builders.strategy(account)
    config = builders.strategy(builders.account(account.owner, "second"))
    risk_limit_set(level="strategy", strategy=config, actor="a", max_daily_loss_percent=D(2))
    risk_limit_set(level="user", user=account.owner, actor="a", max_daily_loss_percent=D(3))
    watched = watched_limits([account, config.account])
    limits, strategies = watched[config.account_id]
    assert limits == limits_for(config.account)
    assert {name: each.max_daily_loss_percent for name, each in strategies.items()} == {"trend": D(2)}
    assert not watched[account.pk][1]
    guard = PositionGuard(
        config.account_id, Pipeline(lambda: "trace"), on_books=None, exit_recorded=None, venue_wallet=None
    )  # type: ignore[arg-type]
    guard._limits, guard._strategy_limits = limits, strategies
    today = Wallet.objects.get(account=account).day
    share = Totals(equity=D(96), day_start_equity=D(100))
    guard._exposure = Exposure(
        known=True, equity=D(94), wallet_balance=D(94), day_pnl=D(-6), day=today, peak_equity=D(100),
        strategies={"trend": share}, user=Totals(equity=D(99), day_start_equity=D(100)),
    )  # fmt: skip
    assert [loss.message for loss in guard._losses(guard.equity())] == [
        "the account lost 6.00 % since midnight (UTC); max_daily_loss_percent is 5 %",
        "the accounts of the user together lost 3.50 % since midnight (UTC); user.max_daily_loss_percent is 3 %",
        "strategy trend lost 4.00 % since midnight (UTC); strategy.max_daily_loss_percent is 2 %",
    ]


def test_only_a_manager_arms_an_alarm_again_in_the_admin(account: Account) -> None:
    lost(account)
    alarm = LossAlarm.objects.get()
    url, body = reverse("admin:trading_lossalarm_changelist"), {"action": "arm", "_selected_action": [alarm.pk]}
    bob = builders.user("bob", is_staff=True)
    builders.permit(bob, "view_lossalarm")
    client = Client()
    client.force_login(bob)
    assert account.name.encode() not in client.get(url).content
    client.post(url, body)
    membership_grant(account=account, user=bob, role=Membership.Role.TRADER, actor="alice")
    answer = client.post(url, body, follow=True)
    assert ["only a manager of" in str(message) for message in answer.context["messages"]] == [True]
    alarm.refresh_from_db()
    assert alarm.rearmed_at is None
    membership_grant(account=account, user=bob, role=Membership.Role.MANAGER, actor="alice")
    client.post(url, body)
    alarm.refresh_from_db()
    assert alarm.rearmed_by == "bob"
