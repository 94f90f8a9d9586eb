"""Accounts on paper: the switch, its refusals, the books of two modes, and orders that would cross."""

from __future__ import annotations

import ast
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from audit.models import Alert, AuditEvent
from marketdata.selectors import instrument_by_symbol
from risk.services import risk_limit_set
from tests import builders
from tests.processes import REPOSITORY
from trading import credentials
from trading.gateways.base import OrderRequest
from trading.gateways.bybit import BybitEndpoints
from trading.lifecycle import OrderState
from trading.models import Account, Fill, KillSwitchTask, Mode, Order, Position, Wallet
from trading.reports import Submission, SubmissionResult, WalletReport
from trading.runtime import emergency
from trading.runtime.configuration import load_accounts
from trading.runtime.order_sender import submit_order
from trading.runtime.ownership import AccountLease
from trading.runtime.reconciler import resolve_order
from trading.runtime.venue_link import stored_keys, venue_link
from trading.selectors import equity_curve, visible_fills, visible_orders
from trading.serializers import account_snapshot
from trading.services.account_modes import ModeRefused, account_mode_set
from trading.services.accounts import account_create, wallet_apply
from trading.services.exposures import account_exposure
from trading.services.fills import fill_apply
from trading.services.kill_switch import kill_switch_engage
from trading.services.leases import LeaseLost
from trading.services.modes import ModeChanged
from trading.services.order_commits import order_close_intend, order_intend, order_take
from trading.services.order_refusals import OrderRefused
from trading.services.orders import order_place
from trading.services.reports import reports_apply

D = Decimal
pytestmark = pytest.mark.django_db


def switch(account: Account, mode: str = Mode.PAPER, **more: Any) -> Account:
    return account_mode_set(account=account, mode=mode, actor="alice", **({"confirm_name": account.name} | more))


def place(account: Account, **changes: Any) -> Order:
    values: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "side": "Buy",
        "order_type": "Limit",
        "quantity": D("0.01"),
        "price": D("60000"),
    }
    return order_place(account=account, actor="alice", **(values | changes))


def ended(order: Order) -> Order:
    Order.objects.filter(pk=order.pk).update(state=OrderState.CANCELLED)
    return order


def wallet_of(equity: int) -> WalletReport:
    return WalletReport(D(equity), D(equity), D(equity), D(0), D(0))


class RecordingGateway:
    """Where a mode's requests go; it keeps what reached it."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.sent: list[OrderRequest] = []

    def submit(self, request: OrderRequest) -> SubmissionResult:
        self.sent.append(request)
        return SubmissionResult(Submission.ACCEPTED, venue_order_id="venue-1")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked of the {self.mode} gateway")


# What an account begins with.


def test_accounts_of_real_venues_begin_on_paper_and_those_of_the_simulator_do_not(alice: Any) -> None:
    for environment, mode, badge in (
        ("live", "paper", "PAPER"),
        ("testnet", "paper", "PAPER"),
        ("simulator", "real", "SIMULATOR"),
    ):
        made = builders.account(alice, name=environment, environment=environment)
        assert (made.mode, made.badge) == (mode, badge)
        assert str(made) == made.label == (environment if badge == "SIMULATOR" else f"[{badge}] {environment}")
    event = AuditEvent.objects.filter(action="account.created").latest("pk")
    assert event.after["mode"] == "real"


def test_an_account_on_paper_is_opened_without_the_opt_in_that_a_live_one_needs(alice: Any) -> None:
    made = builders.account(alice, environment="live")
    assert load_accounts("live") == [made]
    switch(made, Mode.REAL)
    assert load_accounts("live") == []
    Account.objects.update(live_opt_in=True)
    assert load_accounts("live") == [made]


# Where requests go.


@given(
    mode=st.sampled_from(Mode.values),
    environment=st.sampled_from(["live", "testnet", "simulator"]),
    live_opt_in=st.booleans(),
    keys=st.lists(st.text(min_size=1, max_size=30), min_size=4, max_size=4, unique=True),
)
def test_one_function_decides_where_requests_go_and_with_which_keys(
    mode: str, environment: str, live_opt_in: bool, keys: list[str]
) -> None:
    real_key, real_secret, paper_key, paper_secret = map(credentials.encrypt, keys)
    account = Account(
        pk=1,
        name="any",
        mode=mode,
        environment=environment,
        live_opt_in=live_opt_in,
        api_key_encrypted=real_key,
        api_secret_encrypted=real_secret,
        paper_key_encrypted=paper_key,
        paper_secret_encrypted=paper_secret,
    )
    opened: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trading.runtime.venue_link.decrypt", lambda token: opened.append(token) or spied(token))
        link = venue_link(account)
    gateway = link.gateway()
    assert gateway.mode == link.mode == mode
    paper = BybitEndpoints.of_paper("http://127.0.0.1:8901")
    if mode == Mode.PAPER:
        assert (link.api_key, link.api_secret) == (keys[2], keys[3])
        assert opened == [paper_key, paper_secret], "the real keys were read"
        assert link.endpoints == paper
        assert gateway._http.endpoint == paper.rest
    else:
        assert (link.api_key, link.api_secret) == (keys[0], keys[1])
        assert opened == [real_key, real_secret]
        assert link.endpoints != paper
    assert link.api_secret not in repr(link) or len(link.api_secret) < 8


def spied(token: Any) -> str:
    return credentials.decrypt(token)


def test_nothing_but_that_function_reads_the_columns_of_keys_or_makes_a_gateway() -> None:
    columns = {"api_key_encrypted", "api_secret_encrypted", "paper_key_encrypted", "paper_secret_encrypted"}
    made = ("BybitGateway", "BybitPrivateStream")
    reads, makes = set(), set()
    for package in ("trading", "platform_site", "risk", "strategies", "marketdata", "audit", "mlops"):
        for path in (REPOSITORY / package).rglob("*.py"):
            text = path.read_text()
            if "migrations" in path.parts or not any(name in text for name in (*columns, *made)):
                continue
            for node in ast.walk(ast.parse(text)):
                name = str(path.relative_to(REPOSITORY))
                if isinstance(node, ast.Attribute) and node.attr in columns and isinstance(node.ctx, ast.Load):
                    reads.add(name)
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in made:
                    makes.add(name)
    assert reads == {"trading/runtime/venue_link.py", "trading/services/account_modes.py"}  # there: is it empty?
    assert makes == {"trading/runtime/venue_link.py", "trading/runtime/account_desk.py"}  # there: the link's stream


def test_paper_orders_can_never_be_pointed_at_a_real_venue() -> None:
    for url in (
        "https://api.bybit.com",
        "https://API.BYBIT.COM:443",
        "https://api-testnet.bybit.com",
        "https://api.bytick.com",
        "https://api.bybit.nl",
        "https://api.bybit-tr.com",
        "ftp://127.0.0.1",
        "",
    ):
        with pytest.raises(ValueError, match="PAPER_URL"):
            BybitEndpoints.of_paper(url)
    assert BybitEndpoints.of_paper("http://paper:8901").websocket == "ws://paper:8901"


def test_an_account_on_paper_leaves_no_real_keys_for_an_emergency(
    account: Account, settings: Any, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path
    emergency.export_accounts([switch(account)])
    content = (emergency.folder() / "accounts.json").read_bytes()
    account.refresh_from_db()
    assert bytes(account.api_key_encrypted) not in content and bytes(account.api_secret_encrypted) not in content
    (stored,) = emergency.stored_accounts()
    assert (stored.mode, stored.key.encode()) == ("paper", bytes(account.paper_key_encrypted))


# The switch.


def test_the_switch_makes_keys_takes_the_account_away_and_is_on_the_trail(account: Account) -> None:
    lease = AccountLease(account.pk, "an engine", "real")
    assert lease.acquire()
    before = stored_keys(account)
    switched = switch(account)
    assert switched.mode == Mode.PAPER and switched.reconciled_at is None
    assert venue_link(switched).api_key.startswith(f"paper-{account.pk}-")
    assert stored_keys(switched) != before, "an engine opens the account anew"
    event = AuditEvent.objects.get(action="account.mode_set")
    assert (event.actor, event.before, event.after) == ("alice", {"mode": "real"}, {"mode": "paper"})
    assert not lease.renew()
    assert not lease.acquire(), "who has real gateways owns no account on paper"
    assert AccountLease(account.pk, "an engine", "paper").acquire()


def test_switching_to_what_it_is_already_changes_nothing(account: Account) -> None:
    switch(account)
    keys = stored_keys(Account.objects.get())
    switch(account)
    assert stored_keys(Account.objects.get()) == keys
    assert AuditEvent.objects.filter(action="account.mode_set").count() == 1
    assert not Wallet.objects.exists()


@pytest.mark.parametrize("typed", ["", "alice", "ALICE ACCOUNT", "alice account "])
def test_to_trade_for_real_takes_the_accounts_name(account: Account, typed: str) -> None:
    switch(account)
    with pytest.raises(ModeRefused, match="type the account's name") as refused:
        switch(account, Mode.REAL, confirm_name=typed)
    assert refused.value.field == "confirm_name"
    assert Account.objects.get().mode == Mode.PAPER


def test_an_unknown_mode_is_refused(account: Account) -> None:
    with pytest.raises(ModeRefused, match="expected paper or real"):
        switch(account, "live")


@pytest.mark.parametrize(
    "state",
    ["new", "pending_submit", "submitted", "unknown", "acknowledged", "partially_filled", "pending_cancel"],
)
def test_an_account_with_an_order_that_has_not_ended_is_not_switched(account: Account, state: str) -> None:
    order = place(account, client_order_id="open-1")
    Order.objects.filter(pk=order.pk).update(state=state)
    with pytest.raises(ModeRefused, match=rf"1 orders have not ended: open-1 \({state}\)"):
        switch(account)
    assert Account.objects.get().mode == Mode.REAL


def test_an_account_with_a_position_is_not_switched(account: Account) -> None:
    fill_apply(account_id=account.pk, report=builders.fill_report())
    with pytest.raises(ModeRefused, match=r"Buy 0\.01\d* BTCUSDT; close them first"):
        switch(account)


def test_an_account_whose_kill_switch_is_being_carried_out_is_not_switched(account: Account) -> None:
    kill_switch_engage(account=account, actor="desk", reason="a test")
    with pytest.raises(ModeRefused, match="kill switch is being carried out"):
        switch(account)
    KillSwitchTask.objects.update(phase="done")
    assert switch(account).mode == Mode.PAPER, "a stopped account may be put on paper; it stays stopped"
    with pytest.raises(OrderRefused):
        place(Account.objects.get())


def test_an_account_without_real_keys_cannot_trade_for_real(alice: Any) -> None:
    made = account_create(owner=alice, name="no keys", environment="live", actor="test")
    with pytest.raises(ModeRefused, match="no keys of its real venue"):
        switch(made, Mode.REAL)


# Two books.


def test_the_books_of_one_mode_are_hidden_in_the_other_and_not_lost(account: Account, alice: Any) -> None:
    reports_apply(account_id=account.pk, reports=[wallet_of(1_000)])
    wallet_apply(account_id=account.pk, report=wallet_of(900), snapshot=True)
    real = ended(place(account))
    fill_apply(account_id=account.pk, report=builders.fill_report(client_order_id="", venue_order_id="x"))
    closing = builders.fill_report(execution_id="execution-2", side="Sell", client_order_id="", venue_order_id="x")
    fill_apply(account_id=account.pk, report=closing)
    paper = switch(account)
    assert not Wallet.objects.exists()
    assert not account_exposure(paper.pk).known
    wallet_apply(account_id=paper.pk, report=wallet_of(100_000), snapshot=True, mode="paper")
    on_paper = ended(place(paper))
    assert [order.pk for order in visible_orders(alice)] == [on_paper.pk]
    assert [order.pk for order in visible_orders(alice, "real")] == [real.pk]
    assert not visible_fills(alice).exists() and visible_fills(alice, "real").count() == 2
    assert [point.equity for point in equity_curve(paper)] == [100_000]
    snapshot = account_snapshot(paper, alice)
    assert [row["id"] for row in snapshot["orders"]] == [on_paper.pk]
    assert snapshot["fills"] == [] and len(snapshot["equity"]) == 1
    assert snapshot["account"]["mode"] == "paper" and snapshot["account"]["badge"] == "PAPER"
    assert account_exposure(paper.pk).day_pnl == 0, "a day's loss for real is none on paper"
    back = switch(paper, Mode.REAL)
    wallet = Wallet.objects.get()
    assert (wallet.equity, wallet.day_start_equity, wallet.peak_equity) == (900, 1_000, 1_000)
    assert [order.pk for order in visible_orders(alice)] == [real.pk]
    assert visible_fills(alice).count() == 2
    assert [point.equity for point in equity_curve(back)] == [900]
    switch(back)
    assert Wallet.objects.get().equity == 100_000


def test_the_same_execution_id_at_both_venues_is_two_fills(account: Account) -> None:
    for side, number in (("Buy", 1), ("Sell", 2)):
        report = builders.fill_report(side=side, execution_id=f"e-{number}", client_order_id="", venue_order_id="x")
        fill_apply(account_id=account.pk, report=report)
    switch(account)
    assert fill_apply(account_id=account.pk, report=builders.fill_report(execution_id="e-1")) is not None
    assert fill_apply(account_id=account.pk, report=builders.fill_report(execution_id="e-1")) is None
    assert sorted(Fill.objects.values_list("execution_id", "mode")) == [
        ("e-1", "paper"),
        ("e-1", "real"),
        ("e-2", "real"),
    ]


def test_what_is_at_stake_on_paper_is_not_counted_with_real_accounts(alice: Any, account: Account) -> None:
    other = switch(builders.account(alice, name="alice on paper"))
    risk_limit_set(level="user", user=alice, actor="test", max_positions=5)
    fill_apply(account_id=other.pk, report=builders.fill_report())
    assert account_exposure(account.pk).user.positions == 0
    third = switch(builders.account(alice, name="alice's third"))
    assert account_exposure(third.pk).user.positions == 1


def test_the_database_refuses_a_row_of_the_other_mode(account: Account) -> None:
    for model, values in (
        (Order, {"client_order_id": "x", "side": "Buy", "order_type": "Market", "quantity": 1, "trace_id": "x"}),
        (Position, {"side": "Buy", "quantity": 1, "entry_price": 1}),
    ):
        row = model(account=account, instrument=instrument_by_symbol("BTCUSDT"), mode="paper", **values)
        for name in ("created_at", "opened_at"):
            if hasattr(model, name):
                setattr(row, name, timezone.now())
        with pytest.raises(IntegrityError, match="cannot be made while its account is real"), transaction.atomic():
            row.save()


# What comes late.


def test_what_a_venue_tells_of_the_mode_that_was_left_is_not_booked(account: Account) -> None:
    reports = [builders.fill_report(), wallet_of(5), builders.order_report()]
    switch(account)
    for report in reports:
        with pytest.raises(ModeChanged, match="is paper now"):
            reports_apply(account_id=account.pk, reports=[report], mode="real")
    assert not Fill.objects.exists() and not Position.objects.exists()
    assert not Wallet.objects.filter(equity=5).exists()


def test_an_order_that_was_decided_before_the_switch_cannot_be_committed_after_it(account: Account) -> None:
    owner = builders.ownership(account.pk)
    switch(account)
    intent = builders.intent(account_id=account.pk)
    with pytest.raises(LeaseLost), transaction.atomic():
        order_intend(account_id=account.pk, intent=intent, signal_id=None, receive_window_ms=5_000, owner=owner)
    with pytest.raises(LeaseLost):
        order_close_intend(
            account_id=account.pk,
            symbol="BTCUSDT",
            side="Sell",
            quantity=D(1),
            client_order_id="close-1",
            strategy="x",
            actor="x",
            reason="x",
            receive_window_ms=5_000,
            owner=owner,
        )
    assert not Order.objects.exists()


def test_an_order_that_was_asked_for_on_a_page_of_the_other_mode_is_refused(account: Account) -> None:
    seen = Account.objects.get()
    switch(account)
    with pytest.raises(OrderRefused, match="was real when this was asked for"):
        place(seen)
    assert not Order.objects.exists()


def force_mode(account: Account, mode: str) -> None:
    """What no service allows: behind every lock's back."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE trading_account SET mode = %s WHERE id = %s", [mode, account.pk])


@pytest.mark.parametrize(("decided", "gateway_mode"), [("paper", "real"), ("real", "paper")])
def test_an_order_whose_account_was_switched_between_commit_and_send_is_refused_and_audited(
    account: Account, decided: str, gateway_mode: str
) -> None:
    if decided == Mode.PAPER:
        switch(account)
    owner = builders.ownership(account.pk)
    intent = builders.intent(account_id=account.pk)
    with transaction.atomic():
        order = order_intend(account_id=account.pk, intent=intent, signal_id=None, receive_window_ms=5_000, owner=owner)
    assert order.mode == decided
    force_mode(account, gateway_mode)
    other = RecordingGateway(gateway_mode)
    result = submit_order(order, other)  # type: ignore[arg-type]
    assert result.outcome is Submission.NOT_SENT
    assert other.sent == []
    order.refresh_from_db()
    assert order.state == OrderState.FAILED and f"decided {decided}" in order.refusal
    assert AuditEvent.objects.get(action="order.crossing_refused").subject == f"order:{order.pk}"
    assert Alert.objects.get(kind="mode_crossing").level == "critical"
    # Nor is anything concluded from what the other venue does not know.
    Order.objects.filter(pk=order.pk).update(state=OrderState.UNKNOWN)
    assert resolve_order(Order.objects.get(pk=order.pk), other) is None  # type: ignore[arg-type]


def test_an_intent_that_waits_while_its_account_is_switched_is_denied(account: Account) -> None:
    order = place(account)
    force_mode(account, "paper")
    taken = order_take(order_id=order.pk, refusals=[], receive_window_ms=5_000, owner=builders.ownership(account.pk))
    assert taken is not None and taken.state == OrderState.DENIED
    assert "asked for real, and the account is paper" in taken.refusal


def test_orders_in_their_own_mode_are_sent(account: Account) -> None:
    for mode in ("real", "paper"):
        switch(account, mode)
        owner = builders.ownership(account.pk)
        intent = builders.intent(account_id=account.pk, client_order_id=f"order-{mode}")
        with transaction.atomic():
            order = order_intend(
                account_id=account.pk, intent=intent, signal_id=None, receive_window_ms=5_000, owner=owner
            )
        gateway = RecordingGateway(mode)
        assert submit_order(order, gateway).outcome is Submission.ACCEPTED  # type: ignore[arg-type]
        assert len(gateway.sent) == 1
        ended(order)
