"""Who may switch an account between paper and real over the API, and whose books are told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from audit.models import AuditEvent
from tests.api.conftest import Cast
from trading.lifecycle import OrderState
from trading.models import Account, Membership, Order
from trading.services.accounts import membership_grant
from trading.services.orders import order_place

# Real transactions: a switch lets nobody hold its locks for two seconds, which a test on a busy machine may take.
pytestmark = pytest.mark.django_db(transaction=True)


def switch(cast: Cast, user: Any, account: Account, mode: str, **more: Any) -> Any:
    body = {"mode": mode, **more}
    return cast.client(user).post(f"/api/v1/accounts/{account.pk}/mode/", body, format="json")


def placed(account: Account, identifier: str) -> Order:
    order = order_place(
        account=Account.objects.get(pk=account.pk),
        actor="alice",
        symbol="BTCUSDT",
        side="Buy",
        order_type="Limit",
        quantity=Decimal("0.01"),
        price=Decimal(60_000),
        client_order_id=identifier,
    )
    Order.objects.filter(pk=order.pk).update(state=OrderState.CANCELLED)
    return order


def test_a_manager_switches_an_account_and_everybody_is_told_its_mode(cast: Cast) -> None:
    answer = switch(cast, cast.alice, cast.alices, "paper")
    assert answer.status_code == 200
    assert (answer.json()["mode"], answer.json()["badge"], answer.json()["equity"]) == ("paper", "PAPER", None)
    seen = cast.client(cast.vera).get(f"/api/v1/accounts/{cast.alices.pk}").json()
    assert (seen["mode"], seen["badge"], seen["environment"]) == ("paper", "PAPER", "simulator")
    untyped = switch(cast, cast.alice, cast.alices, "real")
    assert untyped.status_code == 400 and untyped.json()["error"]["fields"][0]["field"] == "confirm_name"
    wrong = switch(cast, cast.alice, cast.alices, "real", confirm_name="bob account")
    assert wrong.status_code == 400 and "'alice account' is expected" in wrong.json()["error"]["fields"][0]["rule"]
    assert switch(cast, cast.alice, cast.alices, "real", confirm_name="alice account").json()["mode"] == "real"
    assert AuditEvent.objects.filter(action="account.mode_set", actor="alice").count() == 2


def test_viewers_traders_and_strangers_do_not_switch(cast: Cast) -> None:
    membership_grant(account=cast.bobs, user=cast.charlie, role=Membership.Role.TRADER, actor="test")
    assert switch(cast, cast.vera, cast.alices, "paper").status_code == 403
    assert switch(cast, cast.charlie, cast.bobs, "paper").status_code == 403
    assert switch(cast, cast.bob, cast.alices, "paper").status_code == 404, "another tenant's does not exist"
    assert switch(cast, None, cast.alices, "paper").status_code in (401, 403)
    assert set(Account.objects.values_list("mode", flat=True)) == {"real"}
    assert not AuditEvent.objects.filter(action="account.mode_set").exists()


def test_a_bad_mode_or_an_unknown_field_is_named_and_changes_nothing(cast: Cast) -> None:
    for body in ({"mode": "live"}, {}, {"mode": "paper", "confirm": "yes"}, {"mode": ["paper"]}):
        answer = cast.client(cast.alice).post(f"/api/v1/accounts/{cast.alices.pk}/mode/", body, format="json")
        assert answer.status_code == 400 and answer.json()["error"]["fields"], body
    assert Account.objects.get(pk=cast.alices.pk).mode == "real"


def test_an_account_with_an_open_order_is_not_switched(cast: Cast) -> None:
    order = placed(cast.alices, "open-1")
    Order.objects.filter(pk=order.pk).update(state=OrderState.UNKNOWN)
    answer = switch(cast, cast.alice, cast.alices, "paper")
    assert answer.status_code == 409 and "open-1 (unknown)" in answer.json()["error"]["fields"][0]["rule"]


def test_lists_tell_the_books_of_the_accounts_mode_and_the_others_when_asked(cast: Cast) -> None:
    real = placed(cast.alices, "real-1")
    switch(cast, cast.alice, cast.alices, "paper")
    paper, bobs = placed(cast.alices, "paper-1"), placed(cast.bobs, "bob-1")

    def orders(user: Any, query: str = "") -> list[tuple[str, str]]:
        rows = cast.client(user).get(f"/api/v1/trading/orders{query}").json()["results"]
        return [(row["client_order_id"], row["mode"]) for row in rows]

    assert orders(cast.alice) == [("paper-1", "paper")]
    assert orders(cast.alice, "?mode=real") == [("real-1", "real")]
    assert orders(cast.bob, "?mode=paper") == [] and orders(cast.bob) == [("bob-1", "real")]
    client = cast.client(cast.alice)
    assert client.get(f"/api/v1/trading/order/{real.pk}").status_code == 404
    assert client.get(f"/api/v1/trading/order/{real.pk}?mode=real").json()["mode"] == "real"
    assert client.get(f"/api/v1/trading/order/{paper.pk}").json()["mode"] == "paper"
    assert client.get(f"/api/v1/trading/order/{bobs.pk}?mode=real").status_code == 404
    for path in ("trading/orders", "trading/fills", "trading/signals", "positions"):
        wrong = client.get(f"/api/v1/{path}?mode=LIVE")
        assert wrong.status_code == 400 and wrong.json()["error"]["fields"][0]["field"] == "mode", path
        assert client.get(f"/api/v1/{path}?mode=paper").status_code == 200
