"""Everything that touches capital, configuration or access leaves its event on the trail, with who and what."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from rest_framework.authtoken.models import Token

from audit.models import AuditEvent
from audit.selectors import trail_breaks
from risk.services import position_policy_set, risk_limit_set, symbol_group_set
from strategies.services import strategy_config_update, strategy_disable, strategy_enable
from tests import builders
from tests.api.conftest import Cast
from trading.models import Membership, Order
from trading.reports import PositionReport
from trading.services import accounts, fills, kill_switch, order_commits, orders

pytestmark = pytest.mark.django_db
D = Decimal


def place(cast: Cast, name: str = "order-1", **changes: Any) -> Order:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "price": D(60000)}
    values |= {"account": cast.alices, "actor": "alice", "quantity": D("0.01"), "client_order_id": name}
    return orders.order_place(**(values | changes))


def a_fill(cast: Cast) -> None:
    fills.fill_apply(account_id=cast.alices.pk, report=builders.fill_report(client_order_id=""))


def position_report(**changes: Any) -> PositionReport:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "quantity": D("0.01"), "entry_price": D(60000)}
    values |= {
        "leverage": D(10),
        "mark_price": D(60000),
        "liquidation_price": None,
        "take_profit": None,
        "updated_ms": 1,
    }
    return PositionReport(**(values | {"stop_loss": None} | changes))


def stops_set(cast: Cast) -> None:
    a_fill(cast)
    fills.position_report_apply(account_id=cast.alices.pk, report=position_report(stop_loss=D(59000)))
    fills.position_report_apply(account_id=cast.alices.pk, report=position_report(stop_loss=D(59000)))


def closing(cast: Cast) -> None:
    order_commits.order_close_intend(
        account_id=cast.alices.pk,
        symbol="BTCUSDT",
        side="Sell",
        quantity=D("0.01"),
        client_order_id="close-1",
        strategy="kill_switch",
        actor="alice",
        reason="a test",
        receive_window_ms=5000,
        owner=builders.ownership(cast.alices.pk),
    )


def killed(cast: Cast) -> None:
    kill_switch.kill_switch_engage(account=cast.alices, actor="alice", reason="a test")
    kill_switch.kill_switch_rearm(account=cast.alices, actor="alice", reason="checked", force=True)


def member(cast: Cast) -> None:
    accounts.membership_grant(account=cast.alices, user=cast.charlie, role=Membership.Role.TRADER, actor="alice")
    accounts.membership_revoke(account=cast.alices, user=cast.charlie, actor="alice")


def live(cast: Cast) -> None:
    accounts.account_live_opt_in_set(account=cast.alices, opted_in=True, actor="alice")
    accounts.account_keys_replace(account=cast.alices, api_key="k", api_secret="s", actor="alice")
    accounts.account_halt(account=cast.alices, actor="alice", reason="a test")
    accounts.account_resume(account=cast.alices, actor="alice")


def leverage(cast: Cast) -> None:
    accounts.leverage_note(account_id=cast.alices.pk, symbol="BTCUSDT", leverage=D(5), before=D(10))


def limits(cast: Cast) -> None:
    risk_limit_set(level="account", account=cast.alices, actor="alice", max_positions=3)


def dead_man(cast: Cast) -> None:
    kill_switch.dead_man_set(account=cast.alices, policy="cancel", venue_seconds=None, actor="alice")


def strategy_life(cast: Cast) -> None:
    config = strategy_config_update(config=builders.strategy(cast.alices, actor="alice"), actor="alice", leverage=D(5))
    strategy_disable(config=strategy_enable(config=config, actor="alice"), actor="alice")


ACCOUNT_ACTIONS: list[tuple[Callable[[Cast], Any], list[str]]] = [
    (place, ["order.intended"]),
    (lambda cast: orders.order_cancel_request(order=place(cast), actor="alice"), ["order.intended", "order.cancel"]),
    (closing, ["order.intended", "order.approve"]),
    (a_fill, ["fill.booked"]),
    (stops_set, ["fill.booked", "position.set"]),
    (leverage, ["leverage.set"]),
    (
        lambda cast: risk_limit_set(level="account", account=cast.alices, actor="alice", max_positions=3),
        ["risk_limit.set"],
    ),
    (lambda cast: position_policy_set(account=cast.alices, actor="alice"), ["position_policy.set"]),
    (strategy_life, ["strategy.created", "strategy.changed", "strategy.enabled", "strategy.disabled"]),
    (killed, ["kill_switch.engaged", "kill_switch.rearmed"]),
    (dead_man, ["dead_man.set"]),
    (live, ["account.live_opt_in", "account.keys_replaced", "account.halted", "account.resumed"]),
    (member, ["membership.granted", "membership.revoked"]),
]


@pytest.mark.parametrize(("act", "expected"), ACCOUNT_ACTIONS, ids=[names[-1] for _, names in ACCOUNT_ACTIONS])
def test_what_touches_an_account_is_on_its_chain(cast: Cast, act: Callable[[Cast], Any], expected: list[str]) -> None:
    newest = AuditEvent.objects.order_by("-id").values_list("id", flat=True)[0]
    act(cast)
    events = AuditEvent.objects.filter(id__gt=newest).exclude(action__startswith="leases.").order_by("id")
    assert [event.action for event in events] == expected
    assert {event.chain for event in events} == {f"account:{cast.alices.pk}"}
    assert {event.actor for event in events} <= {"alice", "venue", "engine"}
    assert not any(trail_breaks().values())


def test_a_changed_stop_shows_before_and_after(cast: Cast) -> None:
    stops_set(cast)
    event = AuditEvent.objects.get(action="position.set")
    assert event.before is not None and event.before["stop_loss"] is None
    assert event.after is not None and D(event.after["stop_loss"]) == 59000


def test_symbol_groups_are_the_platforms(cast: Cast) -> None:
    symbol_group_set(name="majors", actor="alice", symbols=["BTCUSDT"])
    assert AuditEvent.objects.get(action="symbol_group.set").chain == "platform"


# Access.


@pytest.fixture
def root(cast: Cast) -> Client:
    client = Client(REMOTE_ADDR="10.0.0.7")
    client.force_login(builders.user("root", is_staff=True, is_superuser=True))
    return client


def told(**wanted: Any) -> list[str]:
    """The actions of the platform's chain, oldest first."""
    rows = AuditEvent.objects.filter(chain="platform", **wanted).order_by("id")
    return list(rows.values_list("action", flat=True))


def test_logins_by_page_and_their_ends_and_failures_are_told_and_never_a_password(cast: Cast, client: Client) -> None:
    client.post(reverse("login"), {"username": "alice", "password": "wrong-secret"}, REMOTE_ADDR="10.0.0.9")
    client.post(reverse("login"), {"username": "alice", "password": "alice-password"}, REMOTE_ADDR="10.0.0.9")
    client.post(reverse("logout"))
    assert told(subject="user:alice") == ["login.failed", "login.succeeded", "login.ended"]
    failed = AuditEvent.objects.get(action="login.failed")
    assert (failed.actor, failed.parameters) == ("anonymous", {"address": "10.0.0.9"})
    assert not any(
        "secret" in str(list(row)) or "alice-password" in str(list(row)) for row in AuditEvent.objects.values_list()
    )


def test_somebody_who_guesses_passwords_does_not_fill_the_trail(cast: Cast, client: Client) -> None:
    for _ in range(35):
        client.post(reverse("login"), {"username": "alice", "password": "guess"})
    assert told() == ["login.failed"] * 30


@pytest.mark.parametrize("name", [b"x" * 3_000, rb"a\ud800b", b"<script>", rb"a\u0000b"])
def test_a_hostile_name_is_refused_and_told(cast: Cast, name: bytes) -> None:
    body = b'{"username": "%s", "password": "x"}' % name
    answer = cast.client(None).generic("POST", "/api/v1/auth/token", body, "application/json")
    assert answer.status_code == 400
    assert told() in (["login.failed"], [])


def test_a_token_is_made_told_and_revoked(cast: Cast) -> None:
    client = cast.client(None)
    body = {"username": "alice", "password": "alice-password"}
    key = client.post("/api/v1/auth/token", body, format="json").json()["token"]
    assert client.post("/api/v1/auth/token", body, format="json").json()["token"] == key
    client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
    assert client.get("/api/v1/accounts").status_code == 200
    assert client.delete("/api/v1/auth/token").status_code == 204
    assert client.get("/api/v1/accounts").status_code in (401, 403)
    assert client.delete("/api/v1/auth/token").status_code in (401, 403)
    assert told() == ["api_token.made", "api_token.told", "api_token.revoked"]
    assert key not in str(list(AuditEvent.objects.values_list("parameters", "before", "after")))


def test_users_roles_and_groups_are_told_with_what_changed(root: Client, cast: Cast) -> None:
    body = {"username": "dora", "password1": "a-long-word-1", "password2": "a-long-word-1", "usable_password": "true"}
    root.post(reverse("admin:auth_user_add"), body)
    permission = Permission.objects.get(codename="view_order")
    root.post(reverse("admin:auth_group_add"), {"name": "desk", "permissions": [permission.pk]})
    page = reverse("admin:auth_user_change", args=[cast.bob.pk])
    joined = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    body = {"username": "bob", "is_active": "on", "is_staff": "on", "groups": [Group.objects.get().pk], **joined}
    assert root.post(page, body).status_code == 302
    passwords = {"password1": "another-word-1", "password2": "another-word-1", "usable_password": "true"}
    root.post(reverse("admin:auth_user_password_change", args=[cast.bob.pk]), passwords)
    root.post(reverse("admin:auth_group_change", args=[Group.objects.get().pk]), {"name": "desk", "permissions": []})
    root.post(reverse("admin:auth_group_delete", args=[Group.objects.get().pk]), {"post": "yes"})
    root.post(reverse("admin:auth_user_delete", args=[cast.charlie.pk]), {"post": "yes"})
    assert told(actor="root") == [
        "login.succeeded",
        "user.created",
        "group.created",
        "user.changed",
        "user.password_changed",
        "group.changed",
        "group.deleted",
        "user.deleted",
    ]
    event = AuditEvent.objects.get(action="user.changed")
    assert event.before is not None and event.after is not None
    assert (event.before["is_staff"], event.after["is_staff"], event.after["groups"]) == (False, True, ["desk"])


def test_tokens_in_the_admin_and_schedules_are_told(root: Client, cast: Cast) -> None:
    root.post(reverse("admin:authtoken_tokenproxy_add"), {"user": cast.bob.pk})
    assert Token.objects.filter(user=cast.bob).exists()
    root.post(reverse("admin:authtoken_tokenproxy_delete", args=[cast.bob.pk]), {"post": "yes"})
    every = IntervalSchedule.objects.create(every=5, period="seconds")
    task = PeriodicTask.objects.create(name="watch", task="trading.tasks.watch_engines", interval=every)
    body = {"name": "watch", "task": task.task, "interval": every.pk, "args": "[]", "kwargs": "{}", "headers": "{}"}
    answer = root.post(reverse("admin:django_celery_beat_periodictask_change", args=[task.pk]), body)
    assert answer.status_code == 302, answer.context["errors"]
    root.post(reverse("admin:django_celery_beat_periodictask_delete", args=[task.pk]), {"post": "yes"})
    assert told(actor="root")[1:] == ["api_token.made", "api_token.revoked", "schedule.changed", "schedule.deleted"]
    event = AuditEvent.objects.get(action="schedule.changed")
    assert event.before is not None and event.after is not None
    assert (event.before["enabled"], event.after["enabled"]) == ("True", "False")


def test_ones_own_password_is_told(root: Client) -> None:
    body = {"old_password": "root-password", "new_password1": "another-word-1", "new_password2": "another-word-1"}
    assert root.post("/admin/password_change/", body).status_code == 302
    assert root.post("/admin/password_change/", body).status_code == 200
    assert told(actor="root").count("user.password_changed") == 1
