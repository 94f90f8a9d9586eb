"""Alerts: one row for a trouble that lasts, told to those who may know and to nobody else."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.models import Alert, AuditEvent
from audit.services import alert_acknowledge, alert_raise
from tests import builders
from tests.api.conftest import Cast

pytestmark = pytest.mark.django_db
URL = "/api/v1/alerts/"


def raised(**changes: Any) -> Alert:
    values: dict[str, Any] = {"level": "warning", "kind": "test", "message": "something happened"}
    return alert_raise(**(values | changes))


def test_the_same_open_key_counts_up_and_shows_what_was_said_last() -> None:
    first = raised(key="breaker", message="once")
    second = raised(key="breaker", message="again", level="critical", detail={"failures": 3})
    assert (first.pk, first.count) == (second.pk, 1)
    kept = Alert.objects.get()
    assert (kept.count, kept.message, kept.level, kept.detail) == (2, "again", "critical", {"failures": 3})
    assert kept.raised_at < kept.last_raised_at


def test_another_account_another_key_and_no_key_are_other_alerts() -> None:
    for changes in ({"key": "a"}, {"key": "a", "account_id": 1}, {"key": "a", "account_id": 2}, {"key": "b"}, {}, {}):
        raised(**changes)
    assert sorted(Alert.objects.values_list("count", flat=True)) == [1] * 6


def test_what_happens_again_after_it_was_acknowledged_is_a_new_alert() -> None:
    first = raised(key="again")
    alert_acknowledge(alert_id=first.pk, actor="alice")
    assert raised(key="again").pk != first.pk


def test_an_unknown_level_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected one of info, warning, critical"):
        raised(level="loud")


def test_an_alert_of_a_transaction_that_is_undone_was_never_raised() -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        raised()
        raise RuntimeError
    assert not Alert.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_many_who_raise_the_same_at_once_make_one_row_that_counted_them_all() -> None:
    start = threading.Barrier(8)

    def raise_it() -> None:
        start.wait()
        for _ in range(5):
            raised(key="crowd")
        connection.close()

    threads = [threading.Thread(target=raise_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Alert.objects.get().count == 40


def test_acknowledging_is_audited_once_and_names_who_did_it_first() -> None:
    alert = raised()
    alert_acknowledge(alert_id=alert.pk, actor="alice")
    assert alert_acknowledge(alert_id=alert.pk, actor="bob").acknowledged_by == "alice"
    assert AuditEvent.objects.get(action="alert.acknowledged").actor == "alice"


def test_everybody_sees_the_alerts_of_their_accounts_and_staff_those_of_the_platform(cast: Cast) -> None:
    of_alice, of_bob = raised(account_id=cast.alices.pk), raised(account_id=cast.bobs.pk)
    of_platform = raised()
    staff = builders.user("staff", is_staff=True)
    seen = {
        user.username: {row["id"] for row in cast.client(user).get(URL).json()["results"]}
        for user in (cast.alice, cast.vera, cast.bob, cast.charlie, staff)
    }
    assert seen == {
        "alice": {of_alice.pk},
        "vera": {of_alice.pk},
        "bob": {of_bob.pk},
        "charlie": set(),
        "staff": {of_platform.pk},
    }
    assert cast.client(None).get(URL).status_code == 403
    asked = cast.client(cast.bob).get(f"{URL}?account={cast.alices.pk}").json()
    assert asked["results"] == []


def test_acknowledging_needs_a_trader_of_the_account_or_staff_for_the_platform(cast: Cast) -> None:
    of_alice, of_platform = raised(account_id=cast.alices.pk), raised()
    staff = builders.user("staff", is_staff=True)

    def asked(user: Any, alert: Alert) -> int:
        return cast.client(user).post(f"{URL}{alert.pk}/acknowledge").status_code

    assert [asked(user, of_alice) for user in (cast.bob, cast.charlie, staff, cast.vera)] == [404, 404, 404, 403]
    assert [asked(user, of_platform) for user in (cast.alice, cast.bob)] == [404, 404]
    assert not Alert.objects.exclude(acknowledged_at=None).exists()
    assert [asked(cast.alice, of_alice), asked(staff, of_platform)] == [200, 200]
    assert not Alert.objects.filter(acknowledged_at=None).exists()


def test_alerts_are_narrowed_by_level_kind_state_and_time(cast: Cast) -> None:
    client, account = cast.client(cast.alice), cast.alices.pk
    old, critical, other = (
        raised(account_id=account),
        raised(account_id=account, level="critical"),
        raised(account_id=account, kind="other"),
    )
    Alert.objects.filter(pk=old.pk).update(last_raised_at=timezone.now() - timedelta(days=2))
    alert_acknowledge(alert_id=other.pk, actor="alice")
    yesterday = (timezone.now() - timedelta(days=1)).isoformat()

    def found(**query: str) -> set[int]:
        return {row["id"] for row in client.get(URL, query).json()["results"]}

    assert found(level="critical") == {critical.pk}
    assert found(kind="other") == {other.pk}
    assert found(state="open") == {old.pk, critical.pk}
    assert found(state="acknowledged") == {other.pk}
    assert found(since=yesterday) == {critical.pk, other.pk}
    # As a careless client writes it: the plus of its offset has become a space.
    assert {row["id"] for row in client.get(f"{URL}?since={yesterday}").json()["results"]} == {critical.pk, other.pk}


@pytest.mark.parametrize(
    ("field", "value"),
    [("level", "loud"), ("state", "old"), ("since", "yesterday"), ("since", "2026-01-01T00:00:00"), ("account", "x")],
)
def test_a_question_that_makes_no_sense_is_refused_by_field(
    cast: Cast,
    field: str,
    value: str,
) -> None:
    answer = cast.client(cast.alice).get(URL, {field: value})
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json()["error"]["fields"]] == [field]


def test_in_the_admin_whoever_may_acknowledge_does_so_through_the_service_and_nobody_writes() -> None:
    alert = raised()
    looker, keeper = (builders.user(name, is_staff=True) for name in ("looker", "keeper"))
    looker.user_permissions.add(Permission.objects.get(codename="view_alert"))
    keeper.user_permissions.set(Permission.objects.filter(codename__in=("view_alert", "acknowledge_alert")))
    for user in (looker, keeper):
        assert not Alert.objects.exclude(acknowledged_at=None).exists()
        client = Client()
        client.force_login(user)
        body = {"action": "acknowledge", "_selected_action": [alert.pk]}
        client.post(reverse("admin:audit_alert_changelist"), body)
        change = client.post(reverse("admin:audit_alert_change", args=[alert.pk]), {"message": "nothing happened"})
        assert change.status_code == 403
    assert Alert.objects.get().acknowledged_by == "keeper"


def test_prometheus_counts_what_was_raised_and_what_is_open(client: Client) -> None:
    raised(key="metric", kind="breaker"), raised(key="metric", kind="breaker")
    alert_acknowledge(alert_id=raised(level="info").pk, actor="alice")
    figures = client.get("/metrics").content.decode()
    assert 'alerts_raised_total{kind="breaker",level="warning"} 2.0' in figures
    assert 'alerts_raised_total{kind="test",level="info"} 1.0' in figures
    assert 'alerts_open{level="warning"} 1.0' in figures and 'alerts_open{level="info"}' not in figures
