"""A halted account and a disabled strategy count for the very next order, whatever an engine still believes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from mlops.validation import Verdict
from risk.checks import Decision
from strategies.models import Signal as SignalRow
from strategies.models import StrategyConfig
from strategies.services import strategy_disable, strategy_enable
from strategies.signals import Signal
from tests import builders
from tests.threads import in_thread
from tests.trading.test_lock_order import wait_for_a_waiting_one
from trading.lifecycle import OrderState
from trading.models import Account, Order, OrderAmendment
from trading.reports import Submission, SubmissionResult
from trading.services.accounts import account_halt, account_resume
from trading.services.amendments import order_amend_request, order_amend_take
from trading.services.fills import order_report_apply
from trading.services.leases import LeaseToken
from trading.services.order_commits import order_take
from trading.services.order_outcomes import order_submission_apply
from trading.services.orders import order_place
from trading.services.shared_limits import RiskDenied
from trading.services.signals import signal_hand_over, signal_order, signal_take

pytestmark = pytest.mark.django_db(transaction=True)
D = Decimal
SIGNAL = Signal("trend", "BTCUSDT", "Buy", 0.9, D(60_000), D(62_000), D(59_000), "a test", 10**18)
SURE = Verdict(True, 1.0, "test", "")


@pytest.fixture
def account(transactional_db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"))


@pytest.fixture
def strategy(account: Account) -> StrategyConfig:
    return strategy_enable(config=builders.strategy(account), actor="alice")


@pytest.fixture
def leases(account: Account) -> tuple[LeaseToken, LeaseToken]:
    """The account's and the symbol's."""
    return builders.ownership(account.pk), builders.lease()


def commit(config: StrategyConfig, leases: tuple[LeaseToken, LeaseToken], name: str, **changes: Any) -> Order:
    owner, lease = leases
    intent = builders.intent(account_id=config.account_id, client_order_id=name, trace_id=name, **changes)
    return signal_order(
        account_id=config.account_id, config_id=config.pk, signal=SIGNAL, verdict=SURE, decision=Decision(True),
        trace_id=name, lease=lease, intent=intent, receive_window_ms=5000, owner=owner,
    )  # fmt: skip


def test_a_disabled_strategy_gets_no_further_order(
    strategy: StrategyConfig, leases: tuple[LeaseToken, LeaseToken]
) -> None:
    assert commit(strategy, leases, "first").state == OrderState.PENDING_SUBMIT
    strategy_disable(config=strategy, actor="alice")
    with pytest.raises(RiskDenied) as denied:
        commit(strategy, leases, "second")
    (refusal,) = denied.value.refusals
    assert (refusal.limit, refusal.message) == ("strategy", "trend is not enabled any more")
    with pytest.raises(RiskDenied):
        commit(strategy, leases, "closing", reduce_only=True)
    assert list(SignalRow.objects.values_list("trace_id", flat=True)) == ["first"]


def test_a_strategy_that_was_removed_gets_no_order(
    strategy: StrategyConfig, leases: tuple[LeaseToken, LeaseToken]
) -> None:
    removed = StrategyConfig(pk=strategy.pk, account_id=strategy.account_id)
    strategy.delete()
    with pytest.raises(RiskDenied, match="a strategy that was removed is not enabled any more"):
        commit(removed, leases, "first")


def test_a_halted_account_takes_only_orders_that_reduce(
    account: Account, strategy: StrategyConfig, leases: tuple[LeaseToken, LeaseToken]
) -> None:
    account_halt(account=account, actor="alice", reason="the news")
    with pytest.raises(RiskDenied, match="the account is halted: the news"):
        commit(strategy, leases, "first")
    assert commit(strategy, leases, "closing", reduce_only=True).state == OrderState.PENDING_SUBMIT
    account_resume(account=account, actor="alice")
    assert commit(strategy, leases, "second").state == OrderState.PENDING_SUBMIT


def test_another_tenants_halt_and_strategies_change_nothing(
    strategy: StrategyConfig, leases: tuple[LeaseToken, LeaseToken]
) -> None:
    bobs = builders.account(builders.user("bob"))
    account_halt(account=bobs, actor="bob", reason="his own")
    strategy_disable(config=strategy_enable(config=builders.strategy(bobs), actor="bob"), actor="bob")
    assert commit(strategy, leases, "first").state == OrderState.PENDING_SUBMIT


@pytest.mark.parametrize("what", ["halt", "disable"])
def test_what_is_being_said_while_an_order_is_committed_is_heard_by_it_or_waits_for_it(
    account: Account, strategy: StrategyConfig, leases: tuple[LeaseToken, LeaseToken], what: str
) -> None:
    def say() -> None:
        if what == "halt":
            account_halt(account=account, actor="alice", reason="now")
        else:
            strategy_disable(config=strategy, actor="alice")

    with transaction.atomic():
        commit(strategy, leases, "first")
        waiting = in_thread(say)
        wait_for_a_waiting_one()
    waiting.join(20)
    denied: list[RiskDenied] = []

    def order() -> None:
        try:
            commit(strategy, leases, "second")
        except RiskDenied as error:
            denied.append(error)

    account_resume(account=account, actor="alice")
    strategy_enable(config=strategy, actor="alice")
    with transaction.atomic():
        say()
        hearing = in_thread(order)
        wait_for_a_waiting_one()
    hearing.join(20)
    assert len(denied) == 1 and list(Order.objects.values_list("client_order_id", flat=True)) == ["first"]


@pytest.mark.parametrize(("what", "limit"), [("halt", "trading_state"), ("disable", "strategy")])
def test_a_signal_of_another_engine_is_answered_with_it(
    account: Account, strategy: StrategyConfig, leases: tuple[LeaseToken, LeaseToken], what: str, limit: str
) -> None:
    owner, lease = leases
    row = signal_hand_over(
        account_id=account.pk, config_id=strategy.pk, signal=SIGNAL, verdict=SURE, trace_id="handed",
        reference_price=D(60_000), lease=lease,
    )  # fmt: skip
    if what == "halt":
        account_halt(account=account, actor="alice", reason="the news")
    else:
        strategy_disable(config=strategy, actor="alice")
    intent = builders.intent(account_id=account.pk)
    assert signal_take(signal=row, intent=intent, decision=Decision(True), receive_window_ms=5000, owner=owner) is None
    row.refresh_from_db()
    assert row.outcome == "denied" and row.refusals[0]["limit"] == limit


def test_a_persons_order_and_change_that_risk_approved_are_denied_on_an_account_halted_since(
    account: Account, leases: tuple[LeaseToken, LeaseToken]
) -> None:
    owner, _ = leases
    working, late = (
        order_place(
            account=account, actor="alice", symbol="BTCUSDT", side="Buy", order_type="Limit", quantity=D("0.01"),
            price=D("60000.0"), client_order_id=name,
        )
        for name in ("working", "late")
    )  # fmt: skip
    order_take(order_id=working.pk, refusals=(), receive_window_ms=5000, owner=owner)
    order_submission_apply(order_id=working.pk, result=SubmissionResult(Submission.ACCEPTED, "venue-1"))
    order_report_apply(account_id=account.pk, report=builders.order_report(client_order_id="working"))
    order_amend_request(order=working, actor="alice", quantity=D("0.02"))
    account_halt(account=account, actor="alice", reason="the news")
    denied = order_take(order_id=late.pk, refusals=(), receive_window_ms=5000, owner=owner)
    assert denied is not None and (denied.state, denied.refusal) == (
        OrderState.DENIED,
        "the account is halted: the news",
    )
    assert order_amend_take(order_id=working.pk, refusals=(), receive_window_ms=5000, owner=owner) is None
    amendment = OrderAmendment.objects.get()
    assert (amendment.outcome, amendment.cause) == ("denied", "the account is halted: the news")
