"""Differences, the ledger, and comparing on demand, over the API: what tenants see, and what they may do."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from audit.models import AuditEvent
from tests.api.conftest import Cast
from trading.ledger import SETTLING
from trading.models import Account, AccountReconciliation, CoinBalance, Discrepancy
from trading.reconciliation import MOST_FAILURES, Difference, DifferenceKind
from trading.reports import LedgerReport
from trading.services.ledger import coin_balances_compare, ledger_book
from trading.services.reconciliations import reconciliation_record

D = Decimal


def run(account: Account, *differences: Difference, error: str = "", refusal: str = "") -> None:
    reconciliation_record(
        account_id=account.pk,
        trigger="test",
        started_at=timezone.now(),
        differences=differences,
        error=error,
        refusal=refusal,
        ledger_compared=True,
    )


def entry(**changes: Any) -> LedgerReport:
    zero = D(0)
    values: dict[str, Any] = {"venue_id": "one", "kind": "TRANSFER_IN", "category": "", "symbol": "", "side": "None"}
    values |= {"currency": "USDT", "quantity": zero, "price": zero, "cash_flow": D(5), "funding": zero, "fee": zero}
    values |= {"change": D(5), "balance": D(105), "execution_id": "", "venue_order_id": "", "client_order_id": ""}
    return LedgerReport(**(values | {"booked_ms": 1_795_000_000_000} | changes))


FEE = Difference(DifferenceKind.FEE, "execution-1", "1 USDT", "2 USDT", stands=True, amount=D(1))
FILL = Difference(DifferenceKind.MISSED_FILL, "execution-2", "none", "Buy 1 BTCUSDT at 60000")


def test_differences_are_listed_by_kind_state_and_time_to_those_who_see_the_account(cast: Cast) -> None:
    run(cast.alices, FEE, FILL)
    alice = cast.client(cast.alice)
    rows = alice.get("/api/v1/reconciliation/").json()["results"]
    assert {(row["kind"], row["amount"], row["resolution"]) for row in rows} == {
        ("fee", "1", ""),
        ("missed_fill", None, "booked"),
    }
    for query, kinds in (("kind=fee", ["fee"]), ("state=open", ["fee"]), ("state=resolved", ["missed_fill"])):
        found = alice.get(f"/api/v1/reconciliation/?{query}&account={cast.alices.pk}").json()["results"]
        assert [row["kind"] for row in found] == kinds
    assert alice.get("/api/v1/reconciliation/?since=2100-01-01T00:00:00Z").json()["results"] == []
    assert [row["succeeded"] for row in alice.get("/api/v1/reconciliation/runs").json()["results"]] == [True]
    for user in (cast.bob, cast.charlie):
        for path in ("reconciliation/", "reconciliation/runs", "ledger"):
            assert cast.client(user).get(f"/api/v1/{path}").json()["results"] == []
    assert APIClient().get("/api/v1/reconciliation/").status_code == 403


@pytest.mark.parametrize("query", ["kind=nonsense", "state=maybe", "since=yesterday", "account=mine"])
def test_a_wrong_filter_is_named(cast: Cast, query: str) -> None:
    answer = cast.client(cast.alice).get(f"/api/v1/reconciliation/?{query}")
    assert answer.status_code == 400 and query.split("=")[0] in str(answer.json())


def test_a_trader_has_an_account_compared_and_nobody_else(cast: Cast) -> None:
    path = f"/api/v1/accounts/{cast.alices.pk}/reconcile/"
    for user, status in ((cast.vera, 403), (cast.bob, 404), (cast.charlie, 404)):
        assert cast.client(user).post(path).status_code == status
    assert not AccountReconciliation.objects.filter(asked_at__isnull=False).exists()
    answer = cast.client(cast.alice).post(path)
    assert answer.status_code == 202 and answer.json()["asked_at"]
    assert AuditEvent.objects.get(action="reconciliation.asked").actor == "alice"


def test_only_a_manager_chooses_what_becomes_of_foreign_orders(cast: Cast) -> None:
    path = f"/api/v1/accounts/{cast.alices.pk}/reconciliation/"
    alice = cast.client(cast.alice)
    assert alice.get(path).json()["foreign_orders"] == "adopt"
    for user, status in ((cast.vera, 403), (cast.bob, 404)):
        assert cast.client(user).put(path, {"foreign_orders": "flag"}, format="json").status_code == status
    assert alice.put(path, {"foreign_orders": "burn"}, format="json").status_code == 400
    assert alice.put(path, {"foreign_orders": "flag"}, format="json").json()["foreign_orders"] == "flag"
    event = AuditEvent.objects.get(action="account.foreign_orders")
    assert (event.before, event.after) == ({"foreign_orders": "adopt"}, {"foreign_orders": "flag"})


def test_a_manager_settles_a_difference_once_with_a_reason(cast: Cast) -> None:
    run(cast.alices, FEE)
    path = f"/api/v1/reconciliation/{Discrepancy.objects.get().pk}/resolve/"
    for user, status in ((cast.vera, 403), (cast.bob, 404)):
        assert cast.client(user).post(path, {"reason": "mine"}, format="json").status_code == status
    alice = cast.client(cast.alice)
    assert alice.post(path, {}, format="json").status_code == 400
    for reason in ("the venue's mistake", "later"):
        answer = alice.post(path, {"reason": reason}, format="json").json()
        assert answer["resolution"] == "alice: the venue's mistake"


def test_the_account_says_why_it_does_not_trade(cast: Cast) -> None:
    alice, path = cast.client(cast.alice), f"/api/v1/accounts/{cast.alices.pk}"
    run(cast.alices, FEE, error="no answer")
    assert alice.get(path).json()["reconciliation"] == {
        "failures": 1,
        "trouble": "",
        "foreign_orders": "adopt",
        "open_differences": 1,
    }
    for _ in range(MOST_FAILURES - 1):
        run(cast.alices, error="no answer")
    assert alice.get(path).json()["reconciliation"]["trouble"] == "no answer"
    run(cast.alices)
    assert alice.get(path).json()["reconciliation"]["trouble"] == ""
    run(cast.alices, refusal="it is in hedge mode")
    told = alice.get(path).json()
    assert told["reconciliation"]["trouble"] == told["halt_reason"] == "it is in hedge mode"


def test_ledger_and_balances_are_exact_text_for_those_who_see_the_account(cast: Cast) -> None:
    coin_balances_compare(account_id=cast.alices.pk, coins={"USDT": D("100.5")}, at=timezone.now(), entries=0)
    ledger_book(account_id=cast.alices.pk, reports=[entry(), entry(), entry(venue_id="two", change=D("4.000001"))])
    later = timezone.now() + SETTLING + timedelta(seconds=1)
    coin_balances_compare(account_id=cast.alices.pk, coins={"USDT": D("109.500001")}, at=later, entries=2)
    alice = cast.client(cast.alice)
    rows = alice.get("/api/v1/ledger?kind=TRANSFER_IN&currency=USDT").json()["results"]
    assert sorted((row["venue_id"], row["change"]) for row in rows) == [("one", "5"), ("two", "4.000001")]
    (balance,) = alice.get(f"/api/v1/accounts/{cast.alices.pk}/balances").json()
    assert (balance["opening_balance"], balance["explained_balance"]) == ("100.5", "109.500001")
    assert CoinBalance.objects.get().unexplained_since is None
    assert cast.client(cast.bob).get(f"/api/v1/accounts/{cast.alices.pk}/balances").status_code == 404


def test_prometheus_counts_differences_by_kind(cast: Cast) -> None:
    run(cast.alices, FEE, FILL)
    run(cast.bobs, FILL)
    text = APIClient().get("/metrics").content.decode()
    assert 'reconciliation_discrepancies_total{kind="missed_fill"} 2.0' in text
    assert 'reconciliation_discrepancies_open{kind="fee"} 1.0' in text
