"""What reconciliation finds beyond fills and orders: ledger, foreign orders by policy, hedge mode, late histories."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F, Sum
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from audit.models import Alert, AuditEvent
from tests import builders
from tests.processes import ServerProcess, start_simulator, until
from trading.gateways.base import OrderRequest
from trading.gateways.bybit import BybitEndpoints, BybitGateway
from trading.ledger import SETTLING, TOLERANCE, ExplainedBalance, fee_difference, funding_differences, windows
from trading.lifecycle import OrderState
from trading.models import (
    AbsenceReading,
    Account,
    AccountReconciliation,
    CoinBalance,
    Discrepancy,
    Fill,
    ForeignOrder,
    Lease,
    LedgerEntry,
    Order,
    Position,
    ReconciliationRun,
)
from trading.reconciliation import MOST_FAILURES
from trading.reports import Submission
from trading.runtime.kill_execution import KillExecution
from trading.runtime.ownership import AccountLease, kept
from trading.runtime.reconciler import reconcile_account
from trading.selectors import coin_balances_of, discrepancy_counts
from trading.services.exposures import account_exposure
from trading.services.kill_switch import kill_switch_engage
from trading.services.ledger import coin_balance_accept, coin_balances_compare
from trading.services.modes import ModeChanged
from trading.services.order_commits import order_take
from trading.services.order_outcomes import order_submission_apply
from trading.services.orders import order_place
from trading.services.owner_work import owner_work
from trading.services.reconciliations import discrepancy_resolve, foreign_orders_set, reconciliation_request
from trading.simulator.keys import ApiKey

pytestmark = pytest.mark.django_db(transaction=True)
D = Decimal
KEYS = [ApiKey(user, f"{user}-key", f"{user}-secret") for user in (f"user{number}" for number in range(20))]
unused = iter(KEYS)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("venue")
    rows = [{"user": k.user, "api_key": k.api_key, "api_secret": k.api_secret, "balance": "100000"} for k in KEYS]
    (folder / "keys.json").write_text(json.dumps(rows))
    server = start_simulator(folder / "simulator.log", ("--symbols", "3", "--keys", str(folder / "keys.json")))
    yield server
    server.stop()


def control(venue: ServerProcess, what: str, **body: Any) -> None:
    request = urllib.request.Request(f"{venue.url}/simulator/control/{what}", data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        told = json.loads(answer.read())
    assert told["retCode"] == 0, told


@pytest.fixture
def key() -> ApiKey:
    """Somebody new to the venue."""
    return next(unused)


@pytest.fixture
def account(transactional_db: None, key: ApiKey) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"), key=key)


def endpoints(venue: ServerProcess, history_delay_ms: int = 0) -> BybitEndpoints:
    return BybitEndpoints(venue.url, venue.websocket_url, history_delay_ms)


@pytest.fixture
def gateway(venue: ServerProcess, key: ApiKey) -> BybitGateway:
    return BybitGateway(endpoints(venue), key.api_key, key.api_secret)


def request(identifier: str, **changes: Any) -> OrderRequest:
    values: dict[str, Any] = {"client_order_id": identifier, "symbol": "BTCUSDT", "side": "Buy"}
    values |= {"order_type": "Limit", "time_in_force": "GTC", "quantity": D("0.001"), "price": D("50000.0")}
    values |= {"reduce_only": False, "take_profit": None, "stop_loss": None}
    return OrderRequest(**(values | changes))


def market(identifier: str, side: str = "Buy", quantity: str = "0.01", **changes: Any) -> OrderRequest:
    """A market order; at a venue that just started the other side may still be thin."""
    return request(identifier, order_type="Market", price=None, side=side, quantity=D(quantity), **changes)


def compared(account: Account, gateway: BybitGateway, trigger: str = "command") -> ReconciliationRun:
    run = reconcile_account(account.pk, gateway, trigger)
    assert run.succeeded, run.error or run.refusal
    return run


def kinds(account: Account, **filters: Any) -> list[str]:
    return list(Discrepancy.objects.filter(account=account, **filters).order_by("pk").values_list("kind", flat=True))


# The ledger.


def test_every_movement_of_money_is_kept_once_and_explains_the_balance(
    venue: ServerProcess, gateway: BybitGateway, account: Account, key: ApiKey
) -> None:
    compared(account, gateway)
    assert CoinBalance.objects.get(currency="USDT").opening_balance == 100_000
    gateway.submit(market("ledger-buy"))
    control(venue, "transfer", user=key.user, coin="USDT", amount="250.5")
    gateway.submit(market("ledger-sell", "Sell"))
    for _ in range(2):
        compared(account, gateway)
    entries = LedgerEntry.objects.filter(account=account)
    assert entries.filter(kind="TRADE").count() == Fill.objects.count() >= 2
    assert entries.get(kind="TRANSFER_IN").change == D("250.5")
    balance = CoinBalance.objects.get(currency="USDT")
    total = entries.aggregate(total=Sum("change"))["total"]
    assert balance.explained_balance == 100_000 + total
    assert abs(balance.venue_balance - balance.explained_balance) <= TOLERANCE and balance.unexplained_since is None
    assert not entries.filter(compared=False).exists() and not kinds(account, resolved_at=None)
    for entry in entries.filter(kind="TRADE"):
        assert entry.fill is not None and entry.fill.fee == entry.fee > 0


def test_funding_goes_to_its_position_apart_from_the_realised_pnl(
    venue: ServerProcess, gateway: BybitGateway, account: Account
) -> None:
    compared(account, gateway)
    gateway.submit(market("funded", quantity="0.02", symbol="ETHUSDT"))
    compared(account, gateway)
    control(venue, "funding", symbol="ETHUSDT")
    compared(account, gateway)
    paid = LedgerEntry.objects.get(account=account, kind="SETTLEMENT")
    position = Position.objects.get(account=account, instrument__symbol="ETHUSDT")
    assert paid.funding != 0 and paid.position == position
    assert (position.funding, position.realised_pnl) == (paid.funding, 0)
    control(venue, "funding", symbol="ETHUSDT")
    compared(account, gateway)
    position.refresh_from_db()
    assert position.funding == LedgerEntry.objects.filter(account=account).aggregate(all=Sum("funding"))["all"]
    assert not kinds(account, resolved_at=None)


def test_money_that_no_entry_explains_is_a_difference_with_its_amount_until_a_person_knows_it(
    venue: ServerProcess, gateway: BybitGateway, account: Account, key: ApiKey
) -> None:
    compared(account, gateway)
    control(venue, "transfer", user=key.user, coin="USDT", amount="-40", told=False)
    compared(account, gateway)
    # An entry may only be late.
    assert kinds(account) == []
    CoinBalance.objects.update(unexplained_since=timezone.now() - SETTLING)
    for _ in range(2):
        compared(account, gateway)
    found = Discrepancy.objects.get(account=account)
    assert (found.kind, found.subject, found.amount, found.sightings) == ("balance", "USDT", -40, 2)
    alert = Alert.objects.get(kind="reconciliation_balance")
    assert (alert.level, alert.count, alert.account_id) == ("critical", 1, account.pk)
    coin_balance_accept(account_id=account.pk, currency="USDT", actor="alice", reason="a gift card")
    compared(account, gateway)
    found.refresh_from_db()
    assert found.resolved_at is not None and CoinBalance.objects.get().opening_balance == 99_960


def test_an_entry_that_comes_late_explains_the_balance_after_all(
    venue: ServerProcess, gateway: BybitGateway, account: Account, key: ApiKey
) -> None:
    compared(account, gateway)
    control(venue, "transfer", user=key.user, coin="USDT", amount="7")
    compared(account, gateway)
    LedgerEntry.objects.all().delete()
    CoinBalance.objects.update(unexplained_since=timezone.now() - timedelta(minutes=30))
    # The reading goes on an hour ago, not ten minutes.
    AccountReconciliation.objects.update(ledger_read_through=timezone.now() + timedelta(minutes=30))
    compared(account, gateway)
    assert LedgerEntry.objects.get().change == 7 and kinds(account) == []


def test_a_fee_that_is_not_the_ledgers_is_a_difference_of_its_own(gateway: BybitGateway, account: Account) -> None:
    compared(account, gateway)
    gateway.submit(market("feed"))
    reconcile_account(account.pk, gateway, "beat")
    fill = Fill.objects.filter(account=account).first()
    assert fill is not None
    Fill.objects.filter(pk=fill.pk).update(fee=fill.fee + 1)
    for _ in range(2):
        compared(account, gateway)
    found = Discrepancy.objects.get(account=account, kind="fee")
    assert (found.subject, found.amount, found.sightings) == (fill.execution_id, -1, 1)
    discrepancy_resolve(discrepancy=found, actor="alice", reason="asked the venue")
    compared(account, gateway)
    assert Discrepancy.objects.filter(kind="fee", resolved_at=None).count() == 0


def test_the_ledger_is_read_once_a_minute_and_at_once_when_somebody_asks(
    gateway: BybitGateway, account: Account
) -> None:
    asked: list[int] = []
    real = gateway.ledger
    gateway.ledger = lambda *times: (asked.append(1), real(*times))[1]  # type: ignore[method-assign]
    compared(account, gateway, "beat")
    first = len(asked)
    compared(account, gateway, "beat")
    assert first >= 1 and len(asked) == first
    reconciliation_request(account=account, actor="alice")
    compared(account, gateway, "beat")
    assert len(asked) > first
    assert AuditEvent.objects.filter(action="reconciliation.asked", actor="alice").count() == 1


def test_a_long_ledger_comes_page_by_page_and_in_ever_shorter_times(
    venue: ServerProcess, gateway: BybitGateway, account: Account, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared(account, gateway)
    for _ in range(60):
        control(venue, "transfer", user=key.user, coin="USDT", amount="1")
    compared(account, gateway)
    assert LedgerEntry.objects.count() == 60 and CoinBalance.objects.get().unexplained_since is None
    LedgerEntry.objects.all().delete()
    # Two pages of fifty are too many for one question now.
    monkeypatch.setattr("trading.gateways.bybit.MAX_PAGES", 1)
    AccountReconciliation.objects.update(ledger_read_through=timezone.now())
    compared(account, gateway)
    assert LedgerEntry.objects.count() == 60


def test_money_that_moves_while_the_first_balance_is_read_does_not_spoil_it(
    venue: ServerProcess, gateway: BybitGateway, account: Account, key: ApiKey
) -> None:
    real = gateway.wallet

    def moved_meanwhile() -> Any:
        report = real()
        control(venue, "transfer", user=key.user, coin="USDT", amount="3")
        return report

    gateway.wallet = moved_meanwhile  # type: ignore[method-assign]
    compared(account, gateway)
    assert not CoinBalance.objects.exists()
    gateway.wallet = real  # type: ignore[method-assign]
    compared(account, gateway)
    assert CoinBalance.objects.get().opening_balance == 100_000


def test_the_ledger_of_one_mode_explains_nothing_of_the_other(gateway: BybitGateway, account: Account) -> None:
    compared(account, gateway)
    with pytest.raises(ModeChanged):
        coin_balances_compare(
            account_id=account.pk, coins={"USDT": D(5)}, at=timezone.now(), entries=0, mode=other_mode(account)
        )
    Account.objects.filter(pk=account.pk).update(mode=other_mode(account))
    account.refresh_from_db()
    coin_balances_compare(account_id=account.pk, coins={"USDT": D(5)}, at=timezone.now(), entries=0)
    opened = dict(CoinBalance.objects.values_list("mode", "opening_balance"))
    assert opened == {account.mode: 5, other_mode(account): 100_000}
    assert [row.opening_balance for row in coin_balances_of(account)] == [5]


def other_mode(account: Account) -> str:
    return "paper" if account.mode == "real" else "real"


moments = st.datetimes(timezones=st.just(UTC))


@given(start=moments, seconds=st.integers(0, 10**6), length=st.integers(10**4, 10**5))
def test_a_time_is_read_in_pieces_that_leave_nothing_out(start: datetime, seconds: int, length: int) -> None:
    end, most = start + timedelta(seconds=seconds), timedelta(seconds=length)
    pieces = windows(start, end, most)
    assert [since for since, _ in pieces] == [start, *(until for _, until in pieces)][: len(pieces)]
    assert (pieces[-1][1] if pieces else start) == end and all(until - since <= most for since, until in pieces)


amounts = st.decimals(-10_000, 10_000, places=8)


@given(opening=amounts, changes=st.lists(amounts, max_size=20), wrong=amounts)
def test_a_balance_is_explained_exactly_when_it_is_the_opening_and_all_changes(
    opening: Decimal, changes: list[Decimal], wrong: Decimal
) -> None:
    explained = opening + sum(changes, D(0))
    assert ExplainedBalance("USDT", explained, explained).unexplained == 0
    rest = ExplainedBalance("USDT", explained, explained + wrong).unexplained
    assert rest == (wrong if abs(wrong) > TOLERANCE else 0)


@given(ours=amounts, theirs=amounts)
def test_fees_differ_by_what_the_venue_charged_more(ours: Decimal, theirs: Decimal) -> None:
    found = fee_difference("execution", ours, theirs, "USDT")
    assert (found is None) == (abs(ours - theirs) <= TOLERANCE)
    assert found is None or found.amount == theirs - ours


def test_funding_that_was_paid_and_is_in_no_ledger_is_told() -> None:
    payment = builders.fill_report(execution_type="Funding", fee=D("0.5"), execution_id="paid")
    (found,) = funding_differences([payment], [])
    assert (found.kind, found.subject, found.theirs, found.amount) == ("funding", "paid", "no entry", D("0.5"))


# Foreign orders.


def test_a_flagged_order_stays_its_owners_counts_as_exposure_and_is_told_once(
    gateway: BybitGateway, account: Account
) -> None:
    foreign_orders_set(account=account, policy="flag", actor="alice")
    gateway.submit(request("by-hand", quantity=D("0.004")))
    for _ in range(3):
        compared(account, gateway, "beat")
    assert not Order.objects.exists() and ForeignOrder.objects.get().gone_at is None
    exposure = account_exposure(account.pk)
    assert (exposure.pending["BTCUSDT"].buy_quantity, exposure.open_orders) == (D("0.004"), 1)
    (found,) = Discrepancy.objects.filter(account=account)
    assert (found.kind, found.sightings, found.resolved_at) == ("foreign_order", 3, None)
    assert Alert.objects.get(kind="reconciliation_foreign_order").count == 1
    gateway.cancel("BTCUSDT", "by-hand", "")
    compared(account, gateway, "beat")
    found.refresh_from_db()
    assert found.resolved_at is not None and not account_exposure(account.pk).pending


def test_an_order_that_was_flagged_is_adopted_under_another_policy_and_counted_once(
    gateway: BybitGateway, account: Account
) -> None:
    foreign_orders_set(account=account, policy="flag", actor="alice")
    gateway.submit(request("first-flagged", quantity=D("0.004")))
    compared(account, gateway, "beat")
    foreign_orders_set(account=account, policy="adopt", actor="alice")
    compared(account, gateway, "beat")
    assert Order.objects.get().client_order_id == "first-flagged"
    assert account_exposure(account.pk).pending["BTCUSDT"].buy_quantity == D("0.004")
    assert kinds(account, resolved_at=None) == []
    with pytest.raises(ValueError, match="expected one of adopt, flag"):
        foreign_orders_set(account=account, policy="eat", actor="alice")


def close_whole(gateway: BybitGateway, identifier: str, price: str = "20000") -> None:
    """What a person sets at the venue: close all that is held then, whatever it is, when the price falls so far."""
    gateway._http.place_order(
        category="linear", symbol="BTCUSDT", side="Sell", orderType="Market", qty="0", reduceOnly=True,
        closeOnTrigger=True, triggerPrice=price, triggerDirection=2, orderLinkId=identifier,
    )  # fmt: skip


@pytest.mark.parametrize("policy", ["adopt", "flag"])
def test_a_waiting_order_that_closes_the_whole_position_is_told_and_left_to_its_owner(
    gateway: BybitGateway, account: Account, policy: str
) -> None:
    foreign_orders_set(account=account, policy=policy, actor="alice")
    gateway.submit(market(f"open-{policy}"))
    close_whole(gateway, f"whole-{policy}")
    gateway.submit(request(f"limit-{policy}", quantity=D("0.004")))
    for _ in range(2):
        compared(account, gateway, "beat")
    flagged = ForeignOrder.objects.get(client_order_id=f"whole-{policy}")
    assert (flagged.amount, flagged.reduce_only, flagged.gone_at) == ("the whole position", True, None)
    assert Order.objects.filter(client_order_id=f"limit-{policy}").exists() == (policy == "adopt")
    found = Discrepancy.objects.get(subject=flagged.venue_order_id)
    assert (found.theirs, found.sightings) == ("Sell the whole position of BTCUSDT, waiting for 20000", 2)
    assert found.resolved_at is None
    pending = account_exposure(account.pk).pending["BTCUSDT"]
    assert (pending.buy_quantity, pending.closing_sell) == (D("0.004"), 0)
    gateway.cancel("BTCUSDT", f"whole-{policy}", "")
    compared(account, gateway, "beat")
    found.refresh_from_db()
    flagged.refresh_from_db()
    assert found.resolved_at is not None and flagged.gone_at is not None


def test_a_kill_switch_ends_a_waiting_order_that_closes_the_whole_position(
    gateway: BybitGateway, account: Account
) -> None:
    gateway.submit(market("open-before-kill"))
    close_whole(gateway, "whole-before-kill")
    compared(account, gateway, "beat")
    kill_switch_engage(actor="alice", reason="a test", account=account)
    lease = AccountLease(account.pk, "test")
    assert lease.acquire()
    with kept(lease):
        execution = KillExecution(account.pk, gateway, lease)
        until(lambda: execution.step() is None, 20)
    assert not gateway.open_orders() and not [each for each in gateway.positions() if each.quantity]
    assert not Order.objects.filter(client_order_id="whole-before-kill").exists()


# Hedge mode.


def hedged(gateway: BybitGateway) -> None:
    """A long and a short position in one symbol."""
    gateway._http.switch_position_mode(category="linear", symbol="BTCUSDT", mode=3)
    for side, index in (("Buy", 1), ("Sell", 2)):
        sent = gateway.submit(market(f"hedge-{side}", side, "0.02", position_index=index))
        assert sent.outcome is Submission.ACCEPTED, sent
    assert {position.position_index for position in gateway.positions()} == {1, 2}


def test_an_account_in_hedge_mode_does_not_trade_and_says_why(gateway: BybitGateway, account: Account) -> None:
    hedged(gateway)
    for _ in range(2):
        run = reconcile_account(account.pk, gateway, "connect")
        assert not run.succeeded and not run.error and "hedge mode (BTCUSDT)" in run.refusal
    account.refresh_from_db()
    assert account.trading_state == "halted" and "switch the account to one-way mode" in account.halt_reason
    assert account.reconciled_at is None
    assert Alert.objects.get(kind="reconciliation_refused").count == 1


def test_hedge_mode_is_seen_in_a_flat_account_too_and_its_end_as_well(gateway: BybitGateway, account: Account) -> None:
    gateway._http.switch_position_mode(category="linear", coin="USDT", mode=3)
    assert "hedge mode" in reconcile_account(account.pk, gateway, "connect").refusal
    assert "hedge mode" in reconcile_account(account.pk, gateway, "beat").refusal
    gateway._http.switch_position_mode(category="linear", coin="USDT", mode=0)
    compared(account, gateway, "beat")
    assert AccountReconciliation.objects.get().hedge_mode is False


def test_the_kill_switch_closes_both_sides_of_a_hedged_account(
    venue: ServerProcess, gateway: BybitGateway, account: Account, key: ApiKey
) -> None:
    hedged(gateway)
    reconcile_account(account.pk, gateway, "connect")
    kill_switch_engage(account=account, actor="alice", reason="a test")
    lease = AccountLease(account.pk, "test")
    assert lease.acquire()
    with kept(lease):
        killing = BybitGateway(endpoints(venue), key.api_key, key.api_secret, fence=lease.refusal, priority="kill")
        execution = KillExecution(account.pk, killing, lease)
        until(lambda: execution.step() is None)
    assert not [position for position in gateway.positions() if position.quantity]
    orders = Order.objects.filter(strategy="kill_switch")
    assert {(order.position_index, order.side) for order in orders} == {(1, "Sell"), (2, "Buy")}
    assert not Position.objects.exclude(state="closed").exists()


# Proof of absence.


def test_an_order_that_ended_before_the_history_knows_is_not_taken_for_one_that_never_was(
    venue: ServerProcess, account: Account, key: ApiKey
) -> None:
    """Filled at once, its answer lost; then the venue restarts and forgets what closed, and its lists are behind."""
    late = BybitGateway(endpoints(venue, 60_000), key.api_key, key.api_secret)
    control(venue, "lateness", history=3_600_000, executions=3_600_000)
    try:
        control(venue, "faults", endpoint="/v5/order/create", kind="lose_answer", user=key.user)
        order = order_place(
            account=account,
            actor="alice",
            symbol="BTCUSDT",
            side="Buy",
            order_type="Market",
            quantity=D("0.002"),
            client_order_id="ended-unseen",
        )
        owner = builders.ownership(account.pk)
        order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=owner)
        order_submission_apply(order_id=order.pk, result=late.submit(market("ended-unseen", quantity="0.002")))
        assert Order.objects.get().state == OrderState.UNKNOWN
        control(venue, "restart")
        # Its window has long closed, and it is found nowhere.
        past = timezone.now() - timedelta(hours=1)
        Order.objects.update(sent_at=past)
        Lease.objects.update(changed_at=past)
        for _ in range(4):
            reconcile_account(account.pk, late, "test")
            AbsenceReading.objects.update(last_read_at=F("last_read_at") - timedelta(seconds=1))
        assert AbsenceReading.objects.get().reads == 4 and Order.objects.get().state == OrderState.UNKNOWN
    finally:
        control(venue, "lateness", history=0, executions=0)
    reconcile_account(account.pk, late, "test")
    assert Order.objects.get().state == OrderState.FILLED
    assert "never_placed" not in kinds(account)


# Failing.


def test_an_account_that_fails_again_and_again_is_told_once_and_looked_at_by_its_owner(account: Account) -> None:
    nobody = BybitGateway(BybitEndpoints("http://127.0.0.1:9", "ws://127.0.0.1:9"), "key", "secret")
    for failed in range(MOST_FAILURES + 1):
        assert owner_work([account.pk])[account.pk].doubted == (failed >= MOST_FAILURES)
        assert not reconcile_account(account.pk, nobody, "beat").succeeded
    alert = Alert.objects.get(kind="reconciliation_failed")
    assert (alert.level, alert.count) == ("critical", 1) and "does not trade" in alert.message


def test_differences_are_counted_by_kind(gateway: BybitGateway, account: Account) -> None:
    compared(account, gateway)
    gateway.submit(market("unseen"))
    gateway.submit(request("foreign"))
    compared(account, gateway, "beat")
    assert {kind: (found > 0, still) for kind, found, still in discrepancy_counts()} == {
        "missed_fill": (True, 0),
        "foreign_order": (True, 0),
    }
