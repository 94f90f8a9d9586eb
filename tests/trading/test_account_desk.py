"""One owner per account: nobody else acts, nothing ends its work, and it trades only what is proven."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone

from mlops.validation import Verdict
from risk.checks import Decision
from risk.exposure import Exposure
from risk.limits import Limits
from risk.models import RiskLimit
from strategies.models import Signal as SignalRow
from strategies.signals import Signal
from tests import builders, processes
from tests.processes import ServerProcess
from tests.trading.lone_desk import LoneDesk
from trading.credentials import decrypt
from trading.gateways.bybit import BybitEndpoints, BybitGateway
from trading.lifecycle import OrderState
from trading.models import Account, Order, OrderAmendment, ReconciliationRun
from trading.pipeline import Pipeline, PipelineConfiguration, PipelineResult, RunningStrategy
from trading.reconciliation import MOST_FAILURES
from trading.runtime import account_desk, ownership
from trading.runtime.cancellation import end_tasks
from trading.runtime.database import with_connection
from trading.runtime.engine import Engine
from trading.runtime.ownership import AccountLease, kept
from trading.services import reports as booking
from trading.services.accounts import account_keys_replace
from trading.services.amendments import order_amend_request
from trading.services.leases import LeaseLost
from trading.services.order_commits import order_take
from trading.services.orders import order_cancel_request, order_place
from trading.services.owner_work import owner_work
from trading.services.reconciliations import reconciliation_record
from trading.simulator.keys import ApiKey

pytestmark = pytest.mark.django_db(transaction=True)
D = Decimal


async def until(question: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not happen within {seconds:g} s")


async def control(venue: ServerProcess, what: str, method: str = "POST", **body: Any) -> None:
    url = f"{venue.url}/simulator/control/{what}"
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method=method)
    await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=30).close())


KEYS = [ApiKey(user, f"{user}-key", f"{user}-secret") for user in (f"user{number}" for number in range(120))]
unused = iter(KEYS)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("venue")
    rows = [{"user": k.user, "api_key": k.api_key, "api_secret": k.api_secret, "balance": "100000"} for k in KEYS]
    (folder / "keys.json").write_text(json.dumps(rows))
    options = ("--symbols", "3", "--keys", str(folder / "keys.json"))
    server = processes.start_simulator(folder / "simulator.log", options)
    yield server
    server.stop()


@pytest.fixture
def account(transactional_db: None) -> Account:
    """Somebody new to the venue: nobody else's orders, position or rate limit."""
    builders.list_instruments()
    return builders.account(builders.user("alice"), key=next(unused))


@pytest.fixture
def pipeline() -> Pipeline:
    made = Pipeline(lambda: "trace")
    made.configure(PipelineConfiguration((), {"BTCUSDT": builders.RULES}))
    made.update_reference_price("BTCUSDT", D(60_000))
    return made


@pytest_asyncio.fixture
async def desk(account: Account, pipeline: Pipeline, venue: ServerProcess) -> AsyncIterator[LoneDesk]:
    """Not started yet."""
    made = LoneDesk(account, pipeline, BybitEndpoints(venue.url, venue.websocket_url))
    yield made
    await made.end()


@pytest.fixture
def other_owner(account: Account) -> Any:
    """Another engine that owns the account."""
    lease = AccountLease(account.pk, "other")
    assert lease.acquire()
    with kept(lease):
        yield lease


@sync_to_async
def place(account: Account, identifier: str, **changes: Any) -> Order:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": D("0.001")}
    values |= {"price": D("50000.0"), "client_order_id": identifier}
    return order_place(account=account, actor="alice", **(values | changes))


@sync_to_async
def state_of(order: Order) -> str:
    return Order.objects.values_list("state", flat=True).get(pk=order.pk)


async def trading(desk: LoneDesk) -> None:
    desk.begin()
    await until(lambda: desk.state == "trading")


async def test_whoever_does_not_own_the_account_leaves_its_orders_to_the_owner(
    account: Account, desk: LoneDesk, other_owner: AccountLease
) -> None:
    desk.begin()
    order = await place(account, "for-the-owner")
    await desk.intake.take_up(order.pk)
    assert await state_of(order) == OrderState.NEW


async def test_a_reconciliation_does_not_make_an_owner(
    desk: LoneDesk, pipeline: Pipeline, other_owner: AccountLease
) -> None:
    desk.begin()
    await desk._on_connected()
    assert desk.state == "waiting" and pipeline.exposure(desk.account_id) == Exposure()


async def test_an_account_that_somebody_else_took_is_the_end_of_trading_until_it_is_free_again(
    account: Account, desk: LoneDesk, pipeline: Pipeline
) -> None:
    await trading(desk)
    other = AccountLease(account.pk, "other")
    assert await asyncio.to_thread(with_connection, lambda: other.acquire("a test wants it"))
    await until(lambda: desk.state == "waiting")
    await desk._on_connected()
    assert desk.state == "waiting" and not pipeline.exposure(desk.account_id).known
    await asyncio.to_thread(with_connection, other.release)
    desk.desks.look()
    await until(lambda: desk.state == "trading")


async def test_a_database_that_does_not_answer_ends_the_ownership_by_the_clock_alone(
    desk: LoneDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trading(desk)
    with monkeypatch.context() as away:

        def broken(**values: Any) -> None:
            raise OperationalError("the connection is lost")

        away.setattr(ownership, "sessions_renew", broken)
        await until(lambda: not desk.owns)
        await until(lambda: desk.state == "waiting")
    await until(lambda: desk.state == "trading")


async def test_a_failed_reconciliation_is_tried_again(
    desk: LoneDesk, venue: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_desk, "RECONCILIATION_RETRY_SECONDS", 0.0)
    await control(venue, "faults", endpoint="/v5/position/list", kind="http_status", value=502, count=3)
    desk.begin()
    await until(lambda: desk.state == "refused")
    await until(lambda: desk.state == "trading")


async def test_a_reconciliation_that_breaks_is_tried_again_too(desk: LoneDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_desk, "RECONCILIATION_RETRY_SECONDS", 0.0)
    right, broken = account_desk.reconcile_account, [True]

    def breaks_once(*arguments: Any) -> ReconciliationRun:
        if broken:
            broken.pop()
            raise psycopg.errors.AdminShutdown("terminating connection due to administrator command")
        return right(*arguments)

    monkeypatch.setattr(account_desk, "reconcile_account", breaks_once)
    desk.begin()
    await until(lambda: not broken)
    await until(lambda: desk.state == "trading")
    assert desk.stream_connected


async def test_comparisons_that_fail_elsewhere_make_the_owner_look_for_itself(
    desk: LoneDesk, account: Account, venue: ServerProcess
) -> None:
    await trading(desk)
    fail = partial(reconciliation_record, account_id=account.pk, trigger="beat", started_at=timezone.now())
    for _ in range(MOST_FAILURES):
        await sync_to_async(fail)(differences=(), error="no answer")
    looked = ReconciliationRun.objects.filter(account=account, trigger="doubt", succeeded=True)
    await until(sync_to_async(looked.exists))
    work = await sync_to_async(owner_work)([account.pk])
    assert desk.state == "trading" and not work[account.pk].doubted


async def test_an_account_in_hedge_mode_is_refused_with_the_reason_on_its_orders(
    desk: LoneDesk, account: Account, venue: ServerProcess
) -> None:
    keys = decrypt(account.api_key_encrypted), decrypt(account.api_secret_encrypted)
    http = BybitGateway(BybitEndpoints(venue.url, venue.websocket_url), *keys)._http
    await asyncio.to_thread(partial(http.switch_position_mode, category="linear", coin="USDT", mode=3))
    desk.begin()
    await until(lambda: desk.state == "refused")
    assert "hedge mode" in desk.reason
    order = await place(account, "hedged")
    desk.take_up(order.pk)
    await until(sync_to_async(Order.objects.filter(pk=order.pk, state=OrderState.DENIED).exists))
    await sync_to_async(order.refresh_from_db)()
    assert "hedge mode" in order.refusal


async def test_an_account_whose_stream_is_away_does_not_trade_however_well_it_reconciles(desk: LoneDesk) -> None:
    await trading(desk)
    desk._on_disconnected("gone")
    await desk._reconcile("command")
    assert desk.state == "reconciling" and "stream" in desk.reason


async def test_reports_that_cannot_be_booked_are_asked_for_again(
    account: Account, desk: LoneDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trading(desk)
    right, broken = booking.order_report_apply, [True]

    def breaks_once(**values: Any) -> Any:
        if broken:
            broken.pop()
            raise ValueError("not a report")
        return right(**values)

    monkeypatch.setattr(booking, "order_report_apply", breaks_once)
    order = await place(account, "unbooked")
    desk.take_up(order.pk)
    await until(lambda: not broken)
    acknowledged = lambda: Order.objects.filter(pk=order.pk, state=OrderState.ACKNOWLEDGED).exists()  # noqa: E731
    await until(sync_to_async(acknowledged))
    await until(lambda: desk.state == "trading")


async def test_a_cancel_that_the_venue_took_is_not_sent_again_every_second(
    account: Account, desk: LoneDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trading(desk)
    order = await place(account, "cancel-once")
    desk.take_up(order.pk)
    await until(sync_to_async(lambda: Order.objects.filter(pk=order.pk, state=OrderState.ACKNOWLEDGED).exists()))
    # Its end is never told, so that it goes on looking as if it were still to be cancelled.
    monkeypatch.setattr(booking, "order_report_apply", lambda **values: None)
    asked, right = [], desk._gateway.cancel
    monkeypatch.setattr(desk._gateway, "cancel", lambda *names: asked.append(names) or right(*names))
    await sync_to_async(order_cancel_request)(order=order, actor="alice")
    for _ in range(3):
        await desk._sweep((await sync_to_async(owner_work)([account.pk]))[account.pk])
    assert len(asked) == 1


@sync_to_async
def amendment_of(order: Order) -> tuple[str, str, Decimal, Decimal | None]:
    """The newest one's outcome, and the order as it is."""
    amendment = OrderAmendment.objects.filter(order=order).first()
    order.refresh_from_db()
    return amendment.outcome if amendment else "", order.state, order.quantity, order.price


async def acknowledged(desk: LoneDesk, account: Account, identifier: str) -> Order:
    order = await place(account, identifier)
    desk.take_up(order.pk)
    await until(sync_to_async(lambda: Order.objects.filter(pk=order.pk, state=OrderState.ACKNOWLEDGED).exists()))
    return order


async def changed(order: Order, **values: Any) -> None:
    await sync_to_async(order_amend_request)(order=order, actor="alice", **values)


async def test_the_owner_sends_a_change_and_the_stream_brings_its_outcome(account: Account, desk: LoneDesk) -> None:
    await trading(desk)
    order = await acknowledged(desk, account, "changed")
    await changed(order, quantity=D("0.002"), price=D("49000.0"))
    desk.take_up(order.pk)
    wanted = ("applied", OrderState.ACKNOWLEDGED, D("0.002"), D(49000))
    await until(lambda: _is(order, wanted))
    found = await asyncio.to_thread(desk._watching_gateway.find_order, "BTCUSDT", "changed")
    assert found is not None and (found.quantity, found.price) == (D("0.002"), D(49000))


async def _is(order: Order, wanted: Any) -> bool:
    return await amendment_of(order) == wanted


async def test_a_change_is_judged_by_what_it_adds_and_not_by_the_whole_order(
    account: Account, desk: LoneDesk, pipeline: Pipeline
) -> None:
    """The order uses 50 of the 70 USD that are free; 60 in its place need only 10 more, 80 need 30."""
    await trading(desk)
    order = await acknowledged(desk, account, "by-the-difference")
    free = desk.intake._exposure_without

    async def little_is_free(order: Order) -> Exposure:
        exposure = await free(order)
        return replace(exposure, available_balance=D(70))

    desk.intake._exposure_without = little_is_free  # type: ignore[method-assign]
    await changed(order, price=D("60000.0"))
    desk.take_up(order.pk)
    await until(lambda: _is(order, ("applied", OrderState.ACKNOWLEDGED, D("0.001"), D(60000))))
    await changed(order, quantity=D("0.002"), price=D("40000.0"))
    desk.take_up(order.pk)
    await until(lambda: _is(order, ("denied", OrderState.ACKNOWLEDGED, D("0.001"), D(60000))))
    refused = await sync_to_async(lambda: OrderAmendment.objects.filter(outcome="denied").get().cause)()
    assert "80.00 USD margin; 70.00 is available" in refused


async def test_an_order_of_a_person_is_denied_while_the_venue_holds_more_leverage_than_is_allowed(
    account: Account, desk: LoneDesk
) -> None:
    await sync_to_async(RiskLimit.objects.create)(level="account", account=account, max_leverage=D(5))
    await trading(desk)
    await asyncio.to_thread(desk._gateway.set_leverage, "BTCUSDT", D(20))
    order = await place(account, "much-leverage")
    desk.take_up(order.pk)
    await until(sync_to_async(lambda: Order.objects.filter(pk=order.pk, state=OrderState.DENIED).exists()))
    await sync_to_async(order.refresh_from_db)()
    assert "leverage 20 of BTCUSDT at the venue is above the allowed 5" in order.refusal
    await asyncio.to_thread(desk._gateway.set_leverage, "BTCUSDT", D(5))
    await acknowledged(desk, account, "little-leverage")


async def test_a_change_whose_answer_was_lost_is_read_and_never_sent_again(
    account: Account, desk: LoneDesk, venue: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trading(desk)
    order = await acknowledged(desk, account, "change-lost")
    # Nobody tells the outcome: neither the answer nor the stream.
    monkeypatch.setattr(booking, "_apply", lambda account_id, report: None)
    asked, right = [], desk._gateway.amend
    monkeypatch.setattr(desk._gateway, "amend", lambda request: asked.append(request) or right(request))
    await control(venue, "faults", endpoint="/v5/order/amend", kind="lose_answer")
    await changed(order, quantity=D("0.002"))
    desk.take_up(order.pk)
    await until(lambda: _is(order, ("applied", OrderState.ACKNOWLEDGED, D("0.002"), D(50000))))
    assert len(asked) == 1


async def test_an_order_that_waited_too_long_between_commit_and_sending_is_not_sent(
    account: Account, desk: LoneDesk
) -> None:
    """Its absence may have been concluded from the time in its row: a late request would be an order nobody counts."""
    order = await place(account, "late")
    owner = await sync_to_async(builders.ownership)(account.pk)
    await sync_to_async(order_take)(order_id=order.pk, refusals=(), receive_window_ms=5_000, owner=owner)
    long_ago = timezone.now() - timedelta(seconds=30)
    await sync_to_async(Order.objects.filter(pk=order.pk).update)(sent_at=long_ago)
    await sync_to_async(lambda: desk.orders.submit(Order.objects.select_related("instrument").get(pk=order.pk)))()
    assert await state_of(order) == OrderState.FAILED
    assert await asyncio.to_thread(desk._gateway.find_order, "BTCUSDT", "late") is None


async def test_an_owner_that_was_paused_after_its_commit_sends_nothing_when_it_wakes_up(
    account: Account, desk: LoneDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trading(desk)
    order = await place(account, "paused")
    token = desk.lease.token
    assert token is not None
    taken = await sync_to_async(order_take)(order_id=order.pk, refusals=(), receive_window_ms=5_000, owner=token)
    assert taken is not None and taken.state == OrderState.PENDING_SUBMIT
    awake = ownership.elapsed
    with monkeypatch.context() as later:
        later.setattr(ownership, "elapsed", lambda: awake() + 15)
        later.setattr(desk.lease, "renew", lambda: True)  # it has not asked anybody yet
        assert not desk.owns
        await desk.threads.on_sender(lambda: desk.orders.submit(taken))
    assert await state_of(order) == OrderState.FAILED
    assert await asyncio.to_thread(desk._gateway.find_order, "BTCUSDT", "paused") is None
    late = await place(account, "decided-before-the-pause")
    await sync_to_async(builders.ownership)(account.pk)
    with pytest.raises(LeaseLost):
        await sync_to_async(order_take)(order_id=late.pk, refusals=(), receive_window_ms=5_000, owner=token)


async def test_an_intent_goes_from_its_commit_to_the_venue_without_another_order_in_between(
    account: Account, desk: LoneDesk
) -> None:
    await trading(desk)
    order = await place(account, "in-one-go")
    between: list[str] = []
    seen = sync_to_async(lambda: between.append(Order.objects.get(pk=order.pk).state))
    desk.take_up(order.pk)
    while not between or between[-1] == OrderState.NEW:
        await desk.threads.on_sender(lambda: None)
        await seen()
    # Whatever else the sender's thread does comes before its commit or after its answer.
    assert OrderState.PENDING_SUBMIT not in between


async def test_a_signal_that_waited_too_long_for_the_venue_is_denied_and_told(
    account: Account, desk: LoneDesk, pipeline: Pipeline
) -> None:
    running = RunningStrategy(
        1, 1, account.pk, "imbalance", "scalping.imbalance", ("BTCUSDT",), {}, "percent", D(1), D(10), True, Limits()
    )
    signal = Signal("imbalance", "BTCUSDT", "Buy", 0.5, D(60_000), D(61_000), D("59500"), "why", 10**18)
    intent = builders.intent(account_id=account.pk, client_order_id="stale")
    running = replace(running, config_id=None)  # type: ignore[arg-type]
    result = PipelineResult(running, signal, Verdict(True, 1.0, "test", ""), intent, Decision(True), "trace")
    lease = await sync_to_async(builders.lease)()
    owner = await sync_to_async(builders.ownership)(account.pk)
    await asyncio.to_thread(desk.orders.place, result, intent, time.time_ns() - 60 * 10**9, lease, owner)
    kept = await sync_to_async(SignalRow.objects.get)()
    assert kept.outcome == "denied" and kept.refusals[0]["limit"] == "signal_age"
    assert not await sync_to_async(Order.objects.exists)()


async def test_replaced_keys_open_the_desk_anew(
    account: Account, venue: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "SIMULATOR_URL", venue.url)
    engine = Engine("keys")
    await engine._open_desks()
    first = engine.desks[account.pk]
    await engine._open_desks()
    assert engine.desks[account.pk] is first
    key = next(unused)
    await sync_to_async(account_keys_replace)(
        account=account, api_key=key.api_key, api_secret=key.api_secret, actor="alice"
    )
    await engine._open_desks()
    second = engine.desks[account.pk]
    assert second is not first
    keeping = asyncio.create_task(engine.desks.keep_leases())
    await until(lambda: second.state == "trading")
    await end_tasks([keeping])
    await engine.desks.close()
    await engine._rest.close()


async def test_books_that_were_read_before_the_account_was_proven_do_not_refuse_its_orders(
    account: Account, desk: LoneDesk, pipeline: Pipeline
) -> None:
    early = await sync_to_async(owner_work)([account.pk])
    began = time.monotonic()
    assert not early[account.pk].exposure.known
    await trading(desk)
    await desk._attending if desk._attending is not None else None
    desk.attend(early[account.pk], set(), began)
    await desk._attending
    assert pipeline.exposure(account.pk).known
