"""Whoever may see it finds it: the trail in the admin and over the API, traces as timelines, each tenant its own."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import transaction
from django.test import Client
from django.urls import reverse

from audit.models import AuditEvent
from audit.services import record
from audit.trace import TraceFilter, current_trace, tracing
from mlops.validation import Verdict
from risk.checks import Decision, Refusal
from strategies.signals import Signal
from tests import builders
from tests.api.conftest import Cast
from trading.models import Fill, Membership, Order, Position
from trading.reports import Submission, SubmissionResult
from trading.services.accounts import membership_grant
from trading.services.fills import fill_apply, order_report_apply
from trading.services.kill_switch import kill_switch_engage
from trading.services.order_commits import order_intend
from trading.services.order_outcomes import order_submission_apply
from trading.services.signals import signal_note

pytestmark = pytest.mark.django_db
D = Decimal
TRACE = "0123456789abcdef0123456789abcdef"
SIGNAL = Signal("supertrend", "BTCUSDT", "Buy", 0.5, D(60000), D(61000), D(59500), "the band was crossed", 10**18)


def ordered(cast: Cast) -> Order:
    """A signal of Alice's that became an order, was sent and filled."""
    with transaction.atomic():
        row = signal_note(
            account_id=cast.alices.pk,
            config_id=None,
            signal=SIGNAL,
            verdict=Verdict(True, 0.8, "none", "passed"),
            decision=Decision(True),
            trace_id=TRACE,
            lease=builders.lease(),
        )
        intent = builders.intent(account_id=cast.alices.pk, trace_id=TRACE, client_order_id="order-1")
        owner = builders.ownership(cast.alices.pk)
        order = order_intend(
            account_id=cast.alices.pk, intent=intent, signal_id=row.pk, receive_window_ms=5000, owner=owner
        )
    order_submission_apply(order_id=order.pk, result=SubmissionResult(Submission.ACCEPTED, venue_order_id="venue-1"))
    order_report_apply(account_id=cast.alices.pk, report=builders.order_report())
    fill_apply(account_id=cast.alices.pk, report=builders.fill_report())
    order.refresh_from_db()
    return order


def denied(cast: Cast, trace_id: str) -> None:
    refusal = Refusal("max_positions", "10", "11", "max_positions is 10, asked for 11")
    with transaction.atomic():
        signal_note(
            account_id=cast.alices.pk,
            config_id=None,
            signal=SIGNAL,
            verdict=Verdict(True, 0.8, "none", "passed"),
            decision=Decision(False, (refusal,)),
            trace_id=trace_id,
            lease=builders.lease(),
        )


# Traces.


def test_a_trace_is_in_every_row_from_signal_to_position(cast: Cast) -> None:
    order = ordered(cast)
    events = AuditEvent.objects.filter(trace_id=TRACE).order_by("id").values_list("action", flat=True)
    assert list(events) == [
        "signal.ordered",
        "order.intended",
        "order.approve",
        "order.submit",
        "order.acknowledge",
        "order.fill_completely",
        "fill.booked",
    ]
    booked = AuditEvent.objects.get(action="fill.booked")
    assert (booked.before, booked.after and booked.after["event"]) == ({"position": "flat"}, "opened")
    assert {order.trace_id, order.signal.trace_id, Position.objects.get().trace_id} == {TRACE}
    assert Fill.objects.get().order == order


def test_a_timeline_goes_from_signal_to_position_with_the_time_between(cast: Cast) -> None:
    ordered(cast)
    steps = cast.client(cast.alice).get(f"/api/v1/traces/{TRACE}/").json()
    kinds = [step["kind"] for step in steps if step["kind"] != "fill"]  # its time is the venue's
    assert kinds == ["signal", "verdict", "decision", "order", "sent", *["transition"] * 4, "booked"]
    assert steps[-1]["text"].startswith("position opened: flat -> Buy 0.01")
    assert all(step["gap_ms"] >= 0 for step in steps)
    assert steps[-1]["since_ms"] == pytest.approx(sum(step["gap_ms"] for step in steps), rel=1e-6)


def test_a_denied_signal_shows_which_limit_refused_it(cast: Cast) -> None:
    denied(cast, "denied-1")
    (decision,) = [s for s in cast.client(cast.alice).get("/api/v1/traces/denied-1").json() if s["kind"] == "decision"]
    assert "max_positions is 10" in decision["text"] and decision["detail"]["refusals"][0]["limit"] == "max_positions"


def test_nobody_sees_another_tenants_trace(cast: Cast) -> None:
    ordered(cast)
    for user, code in ((cast.alice, 200), (cast.vera, 200), (cast.bob, 404), (cast.charlie, 404), (None, 403)):
        assert cast.client(user).get(f"/api/v1/traces/{TRACE}").status_code == code
    assert cast.client(cast.alice).get("/api/v1/traces/nothing-of-this-name").status_code == 404


def test_a_trace_that_two_tenants_share_shows_each_their_own(cast: Cast) -> None:
    ordered(cast)
    with transaction.atomic():
        record(actor="bob", action="test", subject="x:1", account_id=cast.bobs.pk, trace_id=TRACE)
    (step,) = cast.client(cast.bob).get(f"/api/v1/traces/{TRACE}").json()
    assert step["account"] == cast.bobs.pk
    steps = cast.client(cast.alice).get(f"/api/v1/traces/{TRACE}").json()
    assert {step["account"] for step in steps} == {cast.alices.pk}


ORDER = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": "0.01", "price": "60000.0"}


def test_a_requests_id_is_the_trace_of_its_order_and_comes_back(cast: Cast) -> None:
    client = cast.client(cast.alice)
    answer = client.post("/api/v1/trading/order", ORDER, format="json", headers={"X-Request-ID": "bot-7:42"})
    assert answer["X-Request-ID"] == "bot-7:42"
    assert Order.objects.get().trace_id == "bot-7:42"
    assert AuditEvent.objects.get(action="order.intended").trace_id == "bot-7:42"
    again = client.post("/api/v1/trading/order", ORDER, format="json")
    assert Order.objects.latest("pk").trace_id == again["X-Request-ID"] != "bot-7:42"
    refused = client.post("/api/v1/trading/order", {}, format="json", headers={"X-Request-ID": "bot-7:43"})
    assert refused.json()["error"]["request_id"] == refused["X-Request-ID"] == "bot-7:43"
    assert current_trace() == ""


@pytest.mark.parametrize("hostile", ["x" * 65, 'a" b', "<script>", "ü", ""])
def test_a_requests_id_that_could_not_be_searched_for_is_replaced(cast: Cast, hostile: str) -> None:
    answer = cast.client(cast.alice).get("/api/v1/accounts", headers={"X-Request-ID": hostile})
    assert len(answer["X-Request-ID"]) == 32 and answer["X-Request-ID"] != hostile


def test_a_kill_switch_is_one_trace_whoever_carries_it_out(cast: Cast) -> None:
    with tracing("request-1"):
        switch = kill_switch_engage(account=cast.alices, actor="alice", reason="a test")
    event = AuditEvent.objects.get(action="kill_switch.engaged")
    assert (event.trace_id, event.parameters["asked_in"]) == (switch.trace_id, "request-1")
    assert cast.client(cast.alice).get(f"/api/v1/traces/{switch.trace_id}").status_code == 200


def test_every_line_of_the_log_inside_a_trace_has_it() -> None:
    line = logging.LogRecord("x", logging.INFO, "", 0, "text", None, None)
    with tracing("t-1"):
        TraceFilter().filter(line)
    assert line.trace == "[t-1] "
    TraceFilter().filter(line)
    assert line.trace == ""


def test_a_booked_fill_is_a_line_of_the_log_with_its_trace(
    cast: Cast, caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any
) -> None:
    caplog.handler.addFilter(TraceFilter())
    with caplog.at_level(logging.INFO), django_capture_on_commit_callbacks(execute=True):
        ordered(cast)
    (line,) = [each for each in caplog.records if each.message.startswith("order_filled")]
    assert line.trace == f"[{TRACE}] "


# The trail over the API.


def rows(cast: Cast, user: Any, **asked: Any) -> list[dict[str, Any]]:
    return cast.client(user).get("/api/v1/audit/", asked).json()["results"]


def test_everybody_reads_the_trail_of_their_accounts_only(cast: Cast) -> None:
    assert {row["account"] for row in rows(cast, cast.alice)} == {cast.alices.pk}
    assert {row["account"] for row in rows(cast, cast.vera)} == {cast.alices.pk}
    assert {row["account"] for row in rows(cast, cast.bob)} == {cast.bobs.pk}
    assert rows(cast, cast.charlie) == [] == rows(cast, cast.bob, account=cast.alices.pk)
    assert cast.client(None).get("/api/v1/audit/").status_code == 403


def test_the_platforms_trail_takes_a_permission(cast: Cast) -> None:
    with transaction.atomic():
        record(actor="root", action="test", subject="x:1")
    staff = builders.user("dora", is_staff=True)
    assert rows(cast, staff, account="platform") == []
    staff.user_permissions.add(Permission.objects.get(codename="view_platform_trail"))
    staff = type(staff).objects.get(pk=staff.pk)
    (row,) = rows(cast, staff, account="platform")
    assert (row["account"], row["actor"]) == (None, "root")
    assert {row["account"] for row in rows(cast, staff)} == {None}


def test_filters_narrow_and_pages_go_on_where_the_last_one_ended(cast: Cast) -> None:
    ordered(cast)
    assert rows(cast, cast.alice, trace_id=TRACE)[0]["action"] == "fill.booked"
    assert {row["actor"] for row in rows(cast, cast.alice, actor="venue")} == {"venue"}
    (intended,) = rows(cast, cast.alice, action="order.intended")
    assert len(rows(cast, cast.alice, subject=intended["subject"])) == 5
    assert intended["id"] in {row["id"] for row in rows(cast, cast.alice, since=intended["created_at"])}
    assert intended["id"] not in {row["id"] for row in rows(cast, cast.alice, until=intended["created_at"])}
    everything = [row["id"] for row in rows(cast, cast.alice)]
    paged, address = [], "/api/v1/audit/?limit=3"
    while address:
        answer = cast.client(cast.alice).get(address).json()
        paged += [row["id"] for row in answer["results"]]
        address = answer["next"]
    assert paged == everything and len(everything) > 6


@pytest.mark.parametrize(
    "asked", [{"account": "x"}, {"since": "yesterday"}, {"until": "2026-01-01"}, {"account": "9" * 30}]
)
def test_a_filter_that_is_none_is_refused_with_its_rule(cast: Cast, asked: dict[str, str]) -> None:
    answer = cast.client(cast.alice).get("/api/v1/audit/", asked)
    assert answer.status_code == 400 and answer.json()["error"]["fields"][0]["field"] == next(iter(asked))


def test_the_schema_describes_the_trail_and_traces(cast: Cast) -> None:
    schema = cast.client(cast.alice).get("/api/v1/schema/?format=json").content.decode()
    assert "/api/v1/audit" in schema and "/api/v1/traces/" in schema


# The admin.

EVENTS = "admin:audit_auditevent_changelist"


def browser(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def root(cast: Cast) -> Client:
    return browser(builders.user("root", is_staff=True, is_superuser=True))


@pytest.fixture
def staff(cast: Cast) -> Any:
    """Staff with every right to look, and Bob's account only."""
    user = builders.user("dora", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__startswith="view_").exclude(codename__endswith="_trail")
    )
    membership_grant(account=cast.bobs, user=user, role=Membership.Role.VIEWER, actor="test")
    return user


def listed(client: Client, **asked: Any) -> list[AuditEvent]:
    return list(client.get(reverse(EVENTS), asked).context["cl"].result_list)


def test_the_trail_is_searched_by_each_of_its_marks(root: Client, cast: Cast) -> None:
    order = ordered(cast)
    event = AuditEvent.objects.get(action="order.intended")
    for asked in (
        {"q": TRACE},
        {"q": f"order:{order.pk}"},
        {"q": "order.intended"},
        {"trace_id": TRACE, "action": "order.intended"},
        {"account": str(cast.alices.pk), "actor": event.actor},
        {"subject": event.subject, "since": "2020-01-01", "until": "2999-01-01 00:00"},
    ):
        found = listed(root, **asked)
        assert event in found and len(found) < AuditEvent.objects.count(), asked
    for nothing in ({"account": "x"}, {"since": "2999-01-01"}, {"until": "nonsense"}, {"q": "intended"}):
        assert listed(root, **nothing) == []
    assert {row.chain for row in listed(root, account="platform")} == {"platform"}


def test_an_event_shows_what_changed_and_leads_to_its_trace(root: Client, cast: Cast) -> None:
    order = ordered(cast)
    event = AuditEvent.objects.get(action="order.submit")
    page = root.get(reverse("admin:audit_auditevent_change", args=[event.pk])).content.decode()
    assert page.count('class="changed"') == 2 and "pending_submit" in page
    assert reverse("trace", args=[TRACE]) in page
    hostile = '"><script>alert(1)</script>'
    values = {"parameters": {hostile: hostile}, "before": {hostile: 1}, "after": {"b": hostile}}
    with transaction.atomic():
        record(actor="a", action="test", subject="x", **values)  # type: ignore[arg-type]
    newest = AuditEvent.objects.latest("id").pk
    assert "<script>alert" not in root.get(reverse("admin:audit_auditevent_change", args=[newest])).content.decode()
    for name, row in (("order", order), ("fill", Fill.objects.get()), ("position", Position.objects.get())):
        page = root.get(reverse(f"admin:trading_{name}_change", args=[row.pk])).content.decode()
        assert reverse("trace", args=[TRACE]) in page, name
    signal = reverse("admin:strategies_signal_change", args=[order.signal_id])
    assert f"trace_id={TRACE}" in root.get(signal).content.decode()
    timeline = root.get(reverse("trace", args=[TRACE])).content.decode()
    assert "position opened" in timeline and "the band was crossed" in timeline


def test_staff_see_the_trail_and_traces_of_their_accounts_only(cast: Cast, staff: Any) -> None:
    ordered(cast)
    client = browser(staff)
    assert {row.chain for row in listed(client)} == {f"account:{cast.bobs.pk}"}
    assert listed(client, account=str(cast.alices.pk)) == listed(client, account="platform") == []
    alices = AuditEvent.objects.filter(chain=f"account:{cast.alices.pk}").first()
    assert alices is not None
    assert client.get(reverse("admin:audit_auditevent_change", args=[alices.pk])).status_code == 302
    assert client.get(reverse("trace", args=[TRACE])).status_code == 404
    assert browser(cast.alice).get(reverse("trace", args=[TRACE])).status_code == 302  # no staff: to the login


def test_the_status_page_shows_the_head_of_the_trail(root: Client, cast: Cast) -> None:
    assert "platform#1=" in root.get(reverse("status")).content.decode()
