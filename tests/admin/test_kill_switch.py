"""The kill switch in the admin: adding one engages it, re-arming is an action, and permissions are the account's."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from tests import builders
from trading.models import Account, DeadManWatch, KillSwitch
from trading.services.accounts import membership_grant
from trading.services.kill_switch import kill_switch_done, kill_switch_engage

pytestmark = pytest.mark.django_db
SWITCHES = "admin:trading_killswitch_changelist"


@pytest.fixture
def account(db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"))


def staff(name: str, *codenames: str) -> Client:
    user = builders.user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def add(client: Client, account: Account | None) -> Any:
    values = {"account": "" if account is None else account.pk, "closes_positions": "on", "reason": "seen in the admin"}
    return client.post(reverse("admin:trading_killswitch_add"), values)


def rearm(client: Client, switch: KillSwitch) -> str:
    chosen = {"action": "rearm", "_selected_action": [switch.pk]}
    answer = client.post(reverse(SWITCHES), chosen, follow=True)
    return " ".join(str(message) for message in answer.context["messages"])


def test_adding_one_stops_the_account_and_the_action_re_arms_it(account: Account) -> None:
    root = Client()
    root.force_login(builders.user("root", is_staff=True, is_superuser=True))
    assert add(root, account).status_code == 302
    switch = KillSwitch.objects.get()
    assert (switch.account, switch.engaged_by, switch.reason) == (account, "root", "seen in the admin")
    assert "not everything is closed yet" in rearm(root, switch)
    kill_switch_done(task_id=switch.tasks.get().pk, closer="test")
    rearm(root, switch)
    switch.refresh_from_db()
    assert switch.rearmed_by == "root"
    page = root.get(reverse("admin:trading_killswitch_change", args=[switch.pk])).content.decode()
    assert "seen in the admin" in page
    chosen = {"action": "stop", "_selected_action": [account.pk]}
    root.post(reverse("admin:trading_account_changelist"), chosen)
    assert KillSwitch.objects.filter(rearmed_at=None, account=account).exists()


def test_djangos_permission_alone_stops_and_re_arms_nothing(account: Account) -> None:
    clerk = staff("clerk", "add_killswitch", "view_killswitch", "view_account", "change_account", "add_deadmanwatch")
    # Of accounts without access there is none to choose.
    assert b"not one of the available choices" in add(clerk, account).content
    assert add(clerk, None).status_code == 403
    clerk.post(reverse("admin:trading_account_changelist"), {"action": "stop", "_selected_action": [account.pk]})
    assert not KillSwitch.objects.exists()
    switch = kill_switch_engage(account=account, actor="alice", reason="a test")
    kill_switch_done(task_id=switch.tasks.get().pk, closer="test")
    assert rearm(clerk, switch) == ""
    membership_grant(account=account, user=get_user_model().objects.get(username="clerk"), role="viewer", actor="alice")
    assert "you may not re-arm" in rearm(clerk, switch)
    switch.refresh_from_db()
    assert switch.rearmed_at is None
    assert add(clerk, account).status_code == 403
    values = {"account": account.pk, "policy": "close", "venue_seconds": ""}
    assert clerk.post(reverse("admin:trading_deadmanwatch_add"), values).status_code == 403
    assert not DeadManWatch.objects.exists()


def test_an_operator_stops_the_platform(account: Account) -> None:
    operator = staff("dora", "add_killswitch", "view_killswitch", "operate_platform_kill_switch")
    assert add(operator, None).status_code == 302
    switch = KillSwitch.objects.get()
    assert switch.account is None and switch.tasks.get().account == account
