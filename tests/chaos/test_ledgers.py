"""Both ledgers as they are read: the simulator's journal, and our database; what is planted in either is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from audit.models import AuditEvent
from platform_site.chaos import selectors
from platform_site.chaos.judge import Kind, judge
from platform_site.chaos.ledgers import read_venue
from tests import builders
from tests.simulator.loopback import START_MS
from trading.gateways.bybit_reports import fill_report, order_report
from trading.lifecycle import OrderEvent
from trading.models import Account, Fill, Order, Position, Wallet
from trading.reports import WalletReport
from trading.services.accounts import wallet_apply
from trading.services.order_steps import advance
from trading.services.orders import order_place
from trading.services.reports import reports_apply
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.stepping import SteppedClock
from trading.simulator.venue import Venue

D = Decimal
BALANCE = DEMO_KEYS["alice"].balance
pytestmark = pytest.mark.django_db


class Traded:
    """An account that bought at a venue of this process, with a journal; both sides agree."""

    def __init__(self, account: Account, state: Path) -> None:
        self.account, self.state = account, state
        self.venue = Venue(DEMO_KEYS, symbols=2, clock=SteppedClock(START_MS), state=state)
        self.order = self._buy()

    def _buy(self) -> Order:
        order = order_place(
            account=self.account,
            actor="alice",
            symbol="BTCUSDT",
            side="Buy",
            order_type="Market",
            quantity=D("0.002"),
            client_order_id="bought",
        )
        advance(order, OrderEvent.APPROVE, cause="a test")
        placed = self.at_venue("bought")
        rows = self.venue.exchange.accounts["alice"]
        reports = [
            order_report(placed.as_row()),
            *(fill_report(row) for row in rows.executions),
        ]
        reports_apply(account_id=self.account.pk, reports=reports)
        balance = rows.wallets["USDT"]
        told = WalletReport(balance, balance, balance, D(0), D(0))
        wallet_apply(account_id=self.account.pk, report=told)
        return order

    def at_venue(self, name: str) -> Any:
        request = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.002", "orderLinkId": name}
        placed = self.venue.exchange.create("alice", request, START_MS)
        self.venue.settle()
        return placed

    def violations(self) -> set[tuple[Kind, str]]:
        found = judge(
            self.account.name,
            {"bought": 201},
            read_venue(self.state, "alice", BALANCE),
            selectors.our_ledger(self.account.pk),
        )
        return {(each.kind, each.subject) for each in found}


@pytest.fixture
def traded(account: Account, tmp_path: Path) -> Iterator[Traded]:
    made = Traded(account, tmp_path / "state")
    yield made
    made.venue.journal.close()


@pytest.fixture
def account(db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"))


def test_what_was_traded_and_booked_is_equal_on_both_sides(traded: Traded) -> None:
    venue = read_venue(traded.state, "alice", BALANCE)
    assert venue.positions == {"BTCUSDT": D("0.002")} and venue.balance < BALANCE
    assert [order.client_order_id for order in venue.orders] == ["bought"]
    assert traded.violations() == set()


def test_another_tenants_ledger_is_another_one(traded: Traded) -> None:
    untouched = read_venue(traded.state, "bob", BALANCE)
    assert (untouched.orders, untouched.executions, untouched.positions) == ([], [], {})
    assert untouched.balance == BALANCE
    bobs = builders.account(builders.user("bob"))
    ours = selectors.our_ledger(bobs.pk)
    assert (ours.orders, ours.executions, ours.positions) == ([], [], {})


def fill_deleted(traded: Traded) -> None:
    Fill.objects.all().delete()


def fill_at_another_price(traded: Traded) -> None:
    Fill.objects.update(price=D(1))


def order_duplicated_at_the_venue(traded: Traded) -> None:
    traded.at_venue("bought-again")


def order_forgotten(traded: Traded) -> None:
    Fill.objects.update(order=None)
    Order.objects.all().delete()


def order_called_failed(traded: Traded) -> None:
    Order.objects.update(state="failed")


def order_left_unknown(traded: Traded) -> None:
    Order.objects.update(state="unknown")


def balance_changed(traded: Traded) -> None:
    Wallet.objects.update(wallet_balance=D(1))


def position_changed(traded: Traded) -> None:
    Position.objects.update(quantity=D("0.003"))


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (fill_deleted, {Kind.FILL_MISSED, Kind.POSITION}),
        (fill_at_another_price, {Kind.FILL_DIFFERS}),
        (order_duplicated_at_the_venue, {Kind.DUPLICATED, Kind.FILL_MISSED, Kind.POSITION, Kind.BALANCE}),
        (order_forgotten, {Kind.LOST, Kind.DUPLICATED, Kind.FILL_DIFFERS}),
        (order_called_failed, {Kind.LOST}),
        (order_left_unknown, {Kind.STUCK}),
        (balance_changed, {Kind.BALANCE}),
        (position_changed, {Kind.POSITION}),
    ],
)
def test_what_is_planted_in_a_ledger_is_found(
    traded: Traded, plant: Callable[[Traded], None], found: set[Kind]
) -> None:
    plant(traded)
    assert {kind for kind, _ in traded.violations()} == found


def test_an_order_that_was_amended_at_the_venue_only_differs_until_that_is_booked(traded: Traded) -> None:
    request = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.002", "orderLinkId": "resting"}
    price = traded.venue.exchange.markets["BTCUSDT"].last_price // 10 * 9
    order = order_place(
        account=traded.account,
        actor="alice",
        symbol="BTCUSDT",
        side="Buy",
        order_type="Limit",
        quantity=D("0.002"),
        price=price,
        client_order_id="resting",
    )
    advance(order, OrderEvent.APPROVE, cause="a test")
    placed = traded.venue.exchange.create("alice", {**request, "price": f"{price:f}"}, START_MS)
    traded.venue.settle()
    reports_apply(account_id=traded.account.pk, reports=[order_report(placed.as_row())])
    assert traded.violations() == set()
    change = {"symbol": "BTCUSDT", "orderLinkId": "resting", "qty": "0.003", "price": f"{price - 100:f}"}
    amended = traded.venue.exchange.amend("alice", change, START_MS + 1)
    traded.venue.settle()
    assert traded.violations() == {(Kind.STATE, "resting")}
    reports_apply(account_id=traded.account.pk, reports=[order_report(amended.as_row())])
    assert traded.violations() == set()


def altered(sequence: int) -> None:
    """What somebody with the database's password may do, and the trail must tell."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_auditevent DISABLE TRIGGER USER")
        cursor.execute("UPDATE audit_auditevent SET actor = 'nobody' WHERE sequence = %s", [sequence])
        cursor.execute("ALTER TABLE audit_auditevent ENABLE TRIGGER USER")


def test_an_altered_audit_event_breaks_its_chain_for_the_judge_too(traded: Traded) -> None:
    chain = f"account:{traded.account.pk}"
    assert selectors.new_chain_breaks({}) == selectors.chain_breaks() == []
    altered(2)
    (found,) = selectors.new_chain_breaks({})
    assert found == f"{chain}: event 2 does not match its hash"
    (verified,) = selectors.chain_breaks()
    assert verified.startswith(f"{chain}: event 2")


def test_between_two_runs_only_what_is_new_is_verified_and_at_the_end_everything(traded: Traded) -> None:
    heads: selectors.Heads = {}
    assert selectors.new_chain_breaks(heads) == []
    head = AuditEvent.objects.filter(chain=f"account:{traded.account.pk}").count()
    assert heads[f"account:{traded.account.pk}"][0] == head
    altered(2)
    assert selectors.new_chain_breaks(heads) == []
    assert len(selectors.chain_breaks()) == 1
