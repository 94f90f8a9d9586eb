"""Limits of a user and of the platform hold although the accounts they span are owned by different engines."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from mlops.validation import Verdict
from risk.checks import Decision
from risk.services import risk_limit_set, symbol_group_set
from strategies.models import Signal as SignalRow
from strategies.signals import Signal
from tests import builders
from tests.threads import in_thread
from trading.lifecycle import OrderState
from trading.models import Account, Order, Wallet
from trading.services.leases import LeaseToken
from trading.services.order_commits import order_take
from trading.services.orders import order_place
from trading.services.shared_limits import RiskDenied
from trading.services.signals import signal_order

pytestmark = pytest.mark.django_db(transaction=True)
D = Decimal
PRICES = {"BTCUSDT": D(60_000)}
SIGNAL = Signal("test", "BTCUSDT", "Buy", 0.9, D(60_000), D(62_000), D(59_000), "a test", 10**18)


@pytest.fixture
def accounts(transactional_db: None) -> tuple[Account, Account]:
    """Two of alice's, each owned by another engine."""
    builders.list_instruments()
    alice = builders.user("alice")
    made = builders.account(alice, "first"), builders.account(alice, "second")
    for account in made:
        known(account)
    return made


def known(account: Account) -> None:
    Wallet.objects.create(
        account=account, equity=100_000, available_balance=100_000, peak_equity=100_000, day_start_equity=100_000,
        updated_at=account.created_at,
    )  # fmt: skip


def commit(account: Account, identifier: str, owner: LeaseToken, lease: LeaseToken, **changes: Any) -> Order:
    intent = builders.intent(account_id=account.pk, client_order_id=identifier, trace_id=identifier, **changes)
    return signal_order(
        account_id=account.pk, config_id=None, signal=SIGNAL, verdict=Verdict(True, 1.0, "test", ""),
        decision=Decision(True), trace_id=identifier, lease=lease, intent=intent, receive_window_ms=5000, owner=owner,
        prices=PRICES,
    )  # fmt: skip


def test_two_engines_that_race_do_not_pass_a_users_limit_together(accounts: tuple[Account, Account]) -> None:
    first, second = accounts
    risk_limit_set(level="user", actor="admin", user=first.owner, max_open_orders=1)
    lease, owners = builders.lease(), [builders.ownership(each.pk) for each in accounts]
    denied: list[RiskDenied] = []

    def race() -> None:
        try:
            commit(second, "second", owners[1], lease)
        except RiskDenied as error:
            denied.append(error)

    with transaction.atomic():
        commit(first, "first", owners[0], lease)
        other = in_thread(race)
        # It can only wait: what the first has done is not committed yet.
        other.join(0.3)
        assert other.is_alive()
    other.join(20)
    assert list(Order.objects.values_list("client_order_id", flat=True)) == ["first"]
    (refusal,) = denied[0].refusals
    assert (refusal.limit, refusal.value, refusal.requested) == ("user.max_open_orders", "1", "2")
    assert "second" not in SignalRow.objects.values_list("trace_id", flat=True)


def test_however_many_race_the_platforms_limit_is_reached_and_not_passed(accounts: tuple[Account, Account]) -> None:
    bobs = builders.account(builders.user("bob"))
    known(bobs)
    risk_limit_set(level="platform", actor="admin", max_open_orders=5)
    lease, everybody = builders.lease(), [*accounts, bobs]
    owners = [builders.ownership(each.pk) for each in everybody]
    denied: list[RiskDenied] = []

    def trade(place: int) -> None:
        for number in range(4):
            try:
                commit(everybody[place], f"{place}-{number}", owners[place], lease)
            except RiskDenied as error:
                denied.append(error)

    threads = [in_thread(lambda place=place: trade(place)) for place in range(3)]  # type: ignore[misc]
    for thread in threads:
        thread.join(60)
    assert Order.objects.filter(state=OrderState.PENDING_SUBMIT).count() == 5 and len(denied) == 7
    assert {each.refusals[0].limit for each in denied} == {"platform.max_open_orders"}


def test_another_users_orders_do_not_count_and_closing_is_never_held_back(accounts: tuple[Account, Account]) -> None:
    bobs = builders.account(builders.user("bob"))
    known(bobs)
    risk_limit_set(level="user", actor="admin", user=accounts[0].owner, max_open_orders=1)
    lease, owner = builders.lease(), builders.ownership(accounts[0].pk)
    commit(bobs, "bobs", builders.ownership(bobs.pk), lease)
    commit(accounts[0], "first", owner, lease)
    with pytest.raises(RiskDenied):
        commit(accounts[0], "one-more", owner, lease)
    assert commit(accounts[0], "closing", owner, lease, reduce_only=True).state == OrderState.PENDING_SUBMIT


def test_a_users_limit_on_a_group_is_judged_where_orders_are_committed(accounts: tuple[Account, Account]) -> None:
    first, second = accounts
    symbol_group_set(name="majors", actor="admin", symbols=["BTCUSDT"])
    limits = {"majors": {"max_positions": 1}}
    risk_limit_set(level="user", actor="admin", user=first.owner, group_limits=limits)
    lease, owners = builders.lease(), [builders.ownership(each.pk) for each in accounts]
    commit(first, "first", owners[0], lease)
    with pytest.raises(RiskDenied) as denied:
        commit(second, "second", owners[1], lease)
    (refusal,) = denied.value.refusals
    assert (refusal.limit, refusal.value, refusal.requested) == ("user.group.majors.max_positions", "1", "2")


def test_an_order_of_a_person_is_denied_with_the_limit_its_value_and_what_was_asked(
    accounts: tuple[Account, Account],
) -> None:
    first, second = accounts
    risk_limit_set(level="user", actor="admin", user=first.owner, max_position_notional=D(700))
    commit(first, "first", builders.ownership(first.pk), builders.lease())
    order = order_place(
        account=second, actor="alice", symbol="BTCUSDT", side="Buy", order_type="Limit", quantity=D("0.01"),
        price=D("60000.0"), client_order_id="persons",
    )  # fmt: skip
    intent = builders.intent(account_id=second.pk, client_order_id="persons")
    owner = builders.ownership(second.pk)
    taken = order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=owner, shared=(intent, PRICES))
    assert taken is not None and taken.state == OrderState.DENIED
    assert "BTCUSDT could reach 1200.00 USD" in taken.refusal and "at most 700" in taken.refusal
