"""The fence: whoever lost a symbol commits nothing about it any more, however late it notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.db import connection, connections, transaction
from django.db.models.functions import Now

from audit.models import AuditEvent
from mlops.validation import Verdict
from risk.checks import Decision
from risk.intents import OrderIntent
from strategies.models import Signal as SignalRow
from strategies.models import StrategyConfig
from strategies.signals import Signal
from tests import builders
from trading.lifecycle import OrderState
from trading.models import Account, EngineSession, Lease, Order
from trading.services.leases import (
    Holder,
    LeaseLost,
    LeaseToken,
    account_leases_take,
    accounts_without_owner,
    lease_confirm,
    leases_hand_over,
    leases_stand_by,
    leases_survey,
    leases_take,
    session_close,
    session_open,
    session_renew,
    sessions_renew,
    symbol_quote,
)
from trading.services.signals import signal_hand_over, signal_note, signal_take

D = Decimal
BTC, ETH = "symbol:BTCUSDT", "symbol:ETHUSDT"
BOTH = [BTC, ETH]
Opener = Callable[[str], int]


@pytest.fixture
def opened(db: None) -> Opener:
    return lambda name: session_open(name=name, seconds=60, resources=BOTH)


def expire(session_id: int) -> None:
    """As when its engine did not renew for long."""
    EngineSession.objects.filter(pk=session_id).update(expires_at=Now())


def test_a_free_symbol_is_taken_once(opened: Opener) -> None:
    first, second = opened("1"), opened("2")
    assert leases_take(session_id=first, resources=BOTH) == {BTC: 1, ETH: 1}
    assert leases_take(session_id=second, resources=BOTH) == {}


def test_a_session_that_was_not_renewed_in_time_is_over_for_good(opened: Opener) -> None:
    first, second = opened("1"), opened("2")
    leases_take(session_id=first, resources=[BTC])
    expire(first)
    assert session_renew(session_id=second, seconds=60, report={})
    assert leases_take(session_id=second, resources=[BTC]) == {BTC: 2}
    assert not session_renew(session_id=first, seconds=60, report={})
    assert leases_take(session_id=first, resources=[ETH]) == {}


def test_an_expired_session_confirms_nothing_even_before_anybody_took_its_symbols(opened: Opener) -> None:
    session_id = opened("1")
    token = LeaseToken(BTC, leases_take(session_id=session_id, resources=[BTC])[BTC])
    with transaction.atomic():
        lease_confirm(token)
    expire(session_id)
    with pytest.raises(LeaseLost), transaction.atomic():
        lease_confirm(token)


def test_an_engine_that_stops_frees_its_symbols_at_once(opened: Opener) -> None:
    first, second = opened("1"), opened("2")
    leases_take(session_id=first, resources=BOTH)
    session_close(session_id=first)
    assert leases_take(session_id=second, resources=BOTH) == {BTC: 2, ETH: 2}
    actions = AuditEvent.objects.order_by("sequence").values_list("actor", "action")
    assert list(actions) == [
        ("engine:1", "leases.taken"),
        ("engine:1", "leases.released"),
        ("engine:2", "leases.taken"),
    ]


def test_a_symbol_is_handed_over_only_to_whom_is_ready_for_it_and_the_old_epoch_ends(opened: Opener) -> None:
    first, second = opened("1"), opened("2")
    token = LeaseToken(BTC, leases_take(session_id=first, resources=[BTC])[BTC])
    assert leases_hand_over(session_id=first, successors={BTC: second}) == {}
    leases_stand_by(session_id=second, ready=[BTC], given_up=[])
    assert leases_survey(session_id=first, resources=BOTH).successors == {BTC: second}
    assert leases_hand_over(session_id=first, successors={BTC: second}) == {BTC: 2}
    survey = leases_survey(session_id=first, resources=BOTH)
    assert (survey.held, survey.successors) == ({BTC: second}, {})
    with pytest.raises(LeaseLost), transaction.atomic():
        lease_confirm(token)


def test_standing_by_can_be_given_up(opened: Opener) -> None:
    first, second = opened("1"), opened("2")
    leases_take(session_id=first, resources=[BTC])
    leases_stand_by(session_id=second, ready=[BTC], given_up=[])
    leases_stand_by(session_id=second, ready=[], given_up=[BTC])
    assert leases_hand_over(session_id=first, successors={BTC: second}) == {}


def test_what_the_holder_says_of_its_symbol_is_told_until_its_session_expires(opened: Opener) -> None:
    session_id = opened("1")
    leases_take(session_id=session_id, resources=[BTC])
    session_renew(session_id=session_id, seconds=60, report={"BTCUSDT": ["LIVE", "60000.5"]})
    quote = symbol_quote("BTCUSDT")
    assert quote is not None and quote.proven and quote.price == D("60000.5")
    assert symbol_quote("ETHUSDT") is None
    expire(session_id)
    assert symbol_quote("BTCUSDT") is None


@pytest.fixture
def other_connection(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    place = connection.settings_dict
    with psycopg.connect(
        host=place["HOST"], port=place["PORT"], user=place["USER"], password=place["PASSWORD"], dbname=place["NAME"]
    ) as made:
        yield made


def test_taking_over_passes_by_what_is_being_committed_and_gets_it_afterwards(
    other_connection: psycopg.Connection[Any],
) -> None:
    first = session_open(name="1", seconds=60, resources=BOTH)
    leases_take(session_id=first, resources=BOTH)
    other_connection.execute("SELECT 1 FROM trading_lease WHERE resource = %s FOR SHARE", [BTC])
    second = session_open(name="2", seconds=60, resources=BOTH)
    session_close(session_id=first)
    assert leases_take(session_id=second, resources=BOTH) == {ETH: 2}
    other_connection.commit()
    assert leases_take(session_id=second, resources=BOTH) == {BTC: 2}


def test_a_process_paused_in_the_middle_of_a_commit_does_not_keep_its_symbol(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.services.leases.IDLE_MILLISECONDS", 100)
    token = builders.lease()
    second = session_open(name="2", seconds=60, resources=[BTC])
    confirmed, done = threading.Event(), threading.Event()
    refused: list[Exception] = []

    def paused() -> None:
        try:
            with transaction.atomic():
                lease_confirm(token)
                confirmed.set()
                done.wait(20)
                Lease.objects.count()
        except Exception as error:
            refused.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=paused)
    thread.start()
    assert confirmed.wait(10)
    EngineSession.objects.filter(name="test").update(ended=True)
    # Waits for the lock, which the database takes away.
    with transaction.atomic():
        assert Lease.objects.select_for_update(no_key=True).get(pk=BTC).epoch == 1
    assert leases_take(session_id=second, resources=[BTC]) == {BTC: 2}
    done.set()
    thread.join(10)
    assert refused


@pytest.fixture
def config(account: Account) -> StrategyConfig:
    return StrategyConfig.objects.create(account=account, name="imbalance", strategy="scalping.imbalance", enabled=True)


SIGNAL = Signal("imbalance", "BTCUSDT", "Buy", 0.5, D(60_000), D(61_000), D("59500"), "why", 1_795_000_000 * 10**9)
SURE = Verdict(True, 0.9, "test", "sure")


def handed_over(config: StrategyConfig, lease: LeaseToken) -> SignalRow:
    return signal_hand_over(
        account_id=config.account_id,
        config_id=config.pk,
        signal=SIGNAL,
        verdict=SURE,
        trace_id="trace-1",
        reference_price=D("60001.5"),
        lease=lease,
    )


def answered(row: SignalRow, intent: OrderIntent) -> Order | None:
    owner = builders.ownership(row.account_id)
    return signal_take(signal=row, intent=intent, decision=Decision(True), receive_window_ms=5_000, owner=owner)


def test_a_signal_for_the_owner_of_its_account_becomes_one_order(config: StrategyConfig) -> None:
    lease = builders.lease()
    row = handed_over(config, lease)
    assert (row.outcome, row.lease_epoch, row.reference_price) == ("pending", lease.epoch, D("60001.5"))
    approved = builders.intent(account_id=config.account_id, order_type="Market", price=None)
    order = answered(row, approved)
    assert order is not None and order.state == OrderState.PENDING_SUBMIT and order.signal_id == row.pk
    # Its doorbell and the owner's timer may both find it.
    assert answered(row, approved) is None
    assert Order.objects.count() == 1
    row.refresh_from_db()
    assert row.outcome == "ordered"


def test_a_signal_whose_symbol_has_changed_hands_is_denied_by_the_owner(config: StrategyConfig) -> None:
    row = handed_over(config, builders.lease())
    EngineSession.objects.update(ended=True)
    builders.lease()
    approved = builders.intent(account_id=config.account_id)
    assert answered(row, approved) is None
    row.refresh_from_db()
    assert row.outcome == "denied" and row.refusals[0]["limit"] == "lease"
    assert not Order.objects.exists()


def test_an_engine_that_lost_the_symbol_records_no_signal(config: StrategyConfig) -> None:
    lease = builders.lease()
    EngineSession.objects.update(ended=True)
    with pytest.raises(LeaseLost):
        handed_over(config, lease)
    with pytest.raises(LeaseLost), transaction.atomic():
        signal_note(
            account_id=config.account_id,
            config_id=config.pk,
            signal=SIGNAL,
            verdict=SURE,
            decision=Decision(True),
            trace_id="trace-2",
            lease=lease,
        )
    assert not SignalRow.objects.exists()


# Many accounts at once.


def test_accounts_that_nobody_owns_are_taken_together_and_the_others_stay_with_their_owners(db: None) -> None:
    first = account_leases_take(holders={1: Holder("a"), 2: Holder("a")}, seconds=60)
    second = account_leases_take(holders={2: Holder("b"), 3: Holder("b")}, seconds=60)
    assert set(first) == {1, 2} and set(second) == {3}
    assert accounts_without_owner([1, 2, 3, 4]) == {4}
    renewed, ended = sessions_renew(session_ids=[pk for pk, _ in (*first.values(), *second.values())], seconds=60)
    assert len(renewed) == 3 and not ended


def test_one_session_that_ended_is_told_and_does_not_keep_the_others_from_living_on(db: None) -> None:
    taken = account_leases_take(holders={1: Holder("a"), 2: Holder("a")}, seconds=60)
    mine, lost = taken[1][0], taken[2][0]
    expire(lost)
    assert sessions_renew(session_ids=[mine, lost], seconds=60) == ({mine}, {lost})
    assert sessions_renew(session_ids=[mine, lost], seconds=60) == ({mine}, {lost}), "for good"
    assert set(account_leases_take(holders={1: Holder("b"), 2: Holder("b")}, seconds=60)) == {2}


@pytest.mark.django_db(transaction=True)
def test_an_account_that_is_being_seized_delays_the_renewal_of_no_other() -> None:
    taken = account_leases_take(holders={1: Holder("a"), 2: Holder("a")}, seconds=60)
    mine, seized = taken[1][0], taken[2][0]
    begun, over = threading.Event(), threading.Event()

    def seize() -> None:
        with closing(connections["default"]), transaction.atomic():
            account_leases_take(holders={2: Holder("b")}, seconds=60, evict_reason="a test wants it")
            begun.set()
            over.wait(10)

    seizing = threading.Thread(target=seize)
    seizing.start()
    try:
        assert begun.wait(10)
        assert sessions_renew(session_ids=[mine, seized], seconds=60) == ({mine}, set())
    finally:
        over.set()
        seizing.join()
    assert sessions_renew(session_ids=[mine, seized], seconds=60) == ({mine}, {seized})
