"""Changing an order over the API, and the trace that refused requests leave."""

from __future__ import annotations

import json
from typing import Any

import pytest

from audit.models import AuditEvent
from risk.checks import Refusal
from tests import builders
from tests.api.conftest import Cast
from trading.models import Order, OrderAmendment
from trading.reports import Submission, SubmissionResult
from trading.services.fills import order_report_apply
from trading.services.order_commits import order_take
from trading.services.order_outcomes import order_submission_apply

pytestmark = pytest.mark.django_db
PATH = "/api/v1/trading/order"
ORDER = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": "0.01", "price": "60000.0"}


@pytest.fixture
def order(cast: Cast) -> Order:
    """Alice's, on the venue's book."""
    placed = cast.client(cast.alice).post(PATH, ORDER | {"client_order_id": "order-1"}, format="json").json()
    owner = builders.ownership(cast.alices.pk)
    order_take(order_id=placed["id"], refusals=(), receive_window_ms=5000, owner=owner)
    order_submission_apply(order_id=placed["id"], result=SubmissionResult(Submission.ACCEPTED, "venue-1"))
    order_report_apply(account_id=cast.alices.pk, report=builders.order_report())
    return Order.objects.get()


def patch(cast: Cast, user: Any, order: Order, **body: Any) -> Any:
    return cast.client(user).patch(f"{PATH}/{order.pk}", body, format="json")


def refused() -> list[tuple[str, str, int]]:
    """Chain, actor and status of each refused request, oldest first."""
    events = AuditEvent.objects.filter(action="request.refused").order_by("pk")
    return [(event.chain, event.actor, event.parameters["status"]) for event in events]


def test_alice_changes_her_order(cast: Cast, order: Order) -> None:
    answer = patch(cast, cast.alice, order, price="59000.0", quantity="0.02", reason="further away")
    assert answer.status_code == 202
    told = answer.json()
    assert (told["state"], told["quantity"], told["replacing_quantity"], told["replacing_price"]) == (
        "pending_replace", "0.01", "0.02", "59000.0",
    )  # fmt: skip
    wish = OrderAmendment.objects.get()
    assert (wish.actor, wish.reason, wish.outcome) == ("alice", "further away", "requested")
    again = patch(cast, cast.alice, order, price="58000.0")
    assert again.status_code == 409 and "being changed already" in again.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "quantity"),
        ({"quantity": "0.0105"}, "quantity"),
        ({"price": "60000.05"}, "price"),
        ({"price": None}, "price"),
        ({"quantity": "NaN"}, "quantity"),
        ({"quantity": "-0.01"}, "quantity"),
        ({"price": "60000.0"}, "quantity"),
        ({"side": "Sell", "quantity": "0.02"}, "side"),
    ],
)
def test_a_change_that_cannot_be_is_refused_by_field_and_is_on_the_trail(
    cast: Cast, order: Order, body: dict[str, Any], field: str
) -> None:
    answer = patch(cast, cast.alice, order, **body)
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"][0]["field"] == field and answer.json()["error"]["fields"][0]["rule"]
    assert not OrderAmendment.objects.exists() and Order.objects.get().state == "acknowledged"
    assert refused() == [(f"account:{cast.alices.pk}", "alice", 400)]


def test_strangers_find_no_order_to_change_and_viewers_may_not(cast: Cast, order: Order) -> None:
    for stranger in (cast.bob, cast.charlie):
        assert patch(cast, stranger, order, price="59000.0").status_code == 404
    assert patch(cast, cast.vera, order, price="59000.0").status_code == 403
    assert patch(cast, None, order, price="59000.0").status_code in (401, 403)
    assert not OrderAmendment.objects.exists()
    # What strangers tried is nobody's account's business; a viewer's try is on the account that they see.
    mine = f"account:{cast.alices.pk}"
    assert refused() == [("platform", "bob", 404), ("platform", "charlie", 404), (mine, "vera", 403)]


def test_every_refused_order_is_on_the_trail_with_what_was_asked_and_why_not(cast: Cast) -> None:
    alice, bob, vera = (cast.client(user) for user in (cast.alice, cast.bob, cast.vera))
    alice.post(PATH, ORDER | {"quantity": "0.0105"}, format="json")
    alice.post(PATH, "{not json", content_type="application/json")
    alice.post(PATH, json.dumps(ORDER | {"reason": "\ud800\u0000"}), content_type="application/json")
    vera.post(PATH, ORDER, format="json")
    bob.post(PATH, ORDER | {"account": cast.alices.pk}, format="json")
    cast.client(None).post(PATH, ORDER, format="json")
    mine = f"account:{cast.alices.pk}"
    assert refused() == [
        (mine, "alice", 400),
        (mine, "alice", 400),
        (mine, "alice", 400),
        (mine, "vera", 403),
        ("platform", "bob", 404),
    ]
    first = AuditEvent.objects.filter(action="request.refused").order_by("pk")[0]
    assert first.subject == f"POST {PATH}" and "0.0105" in first.parameters["body"]
    assert first.parameters["fields"][0]["field"] == "quantity"
    assert not Order.objects.exists()


def test_a_client_order_id_that_was_used_for_another_body_is_refused_and_on_the_trail(cast: Cast) -> None:
    client = cast.client(cast.alice)
    client.post(PATH, ORDER | {"client_order_id": "bot-1"}, format="json")
    assert client.post(PATH, ORDER | {"client_order_id": "bot-1", "side": "Sell"}, format="json").status_code == 409
    assert refused() == [(f"account:{cast.alices.pk}", "alice", 409)] and Order.objects.count() == 1


def test_what_our_own_limits_deny_is_on_the_trail_and_in_the_order(cast: Cast) -> None:
    order = cast.client(cast.alice).post(PATH, ORDER, format="json").json()
    over = Refusal("available_balance", "10", "600", "it needs 600.00 USD margin; 10.00 is available")
    owner = builders.ownership(cast.alices.pk)
    order_take(order_id=order["id"], refusals=(over,), receive_window_ms=5000, owner=owner)
    told = cast.client(cast.alice).get(f"{PATH}/{order['id']}").json()
    assert told["state"] == "denied" and "10.00 is available" in told["refusal"]
    event = AuditEvent.objects.get(action="order.deny")
    assert (event.subject, event.chain) == (f"order:{order['id']}", f"account:{cast.alices.pk}")
