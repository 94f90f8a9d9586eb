"""Positions end by their rules, losses raise one alarm, and what others do to the account is noticed and followed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from pybit.unified_trading import HTTP

from audit.models import Alert, AuditEvent
from risk.exits import ExitRules
from risk.exposure import Totals
from risk.policies import Policies
from risk.selectors import limits_for
from tests import builders
from tests.processes import ServerProcess
from tests.trading.lone_desk import LoneDesk
from tests.trading.test_account_desk import control, desk, place, trading, until, unused, venue
from trading.models import Account, Order, Position, PositionExit, ReconciliationRun, Wallet
from trading.pipeline import Pipeline, PipelineConfiguration
from trading.runtime import position_guard
from trading.runtime.position_guard import PositionGuard
from trading.services.exit_states import exit_states
from trading.services.exposures import account_exposure
from trading.services.loss_alarms import peak_equity_raise, peak_equity_reset
from trading.simulator.keys import ApiKey

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
D = Decimal
SYMBOL = "BTCUSDT"
ONE_PERCENT = D("0.01")


__all__ = ["desk", "venue"]


@pytest.fixture
def key() -> ApiKey:
    """Somebody new to the venue."""
    return next(unused)


@pytest.fixture
def account(transactional_db: None, key: ApiKey) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"), key=key)


def configured(exits: ExitRules) -> Pipeline:
    made = Pipeline(lambda: "trace")
    made.configure(PipelineConfiguration((), {SYMBOL: builders.RULES}, policies=Policies(exits=exits)))
    made.update_reference_price(SYMBOL, D(60_000))
    return made


@pytest.fixture
def pipeline() -> Pipeline:
    return configured(ExitRules(reversal=False))


def ask(question: Callable[[], Any]) -> Callable[[], Any]:
    return sync_to_async(question)


def open_position(account: Account) -> Position | None:
    return Position.objects.filter(account=account).exclude(state="closed").first()


async def opened(account: Account, desk: LoneDesk, quantity: str = "0.01") -> Position:
    order = await place(account, "open-it", order_type="Market", price=None, quantity=D(quantity))
    desk.take_up(order.pk)
    position = await until(ask(lambda: open_position(account)))
    await until(lambda: SYMBOL in desk.guard._exposure.positions)
    return position


def price_of(position: Position, profit_percent: str) -> D:
    return position.entry_price * (1 + D(profit_percent) * ONE_PERCENT)


@pytest.fixture
def other_client(venue: ServerProcess, key: ApiKey) -> HTTP:
    """Somebody else with the account's keys."""
    made = HTTP(api_key=key.api_key, api_secret=key.api_secret)
    made.endpoint = venue.url
    return made


async def test_a_loss_at_its_limit_closes_the_position_by_a_recorded_reduce_only_order(
    account: Account, desk: LoneDesk
) -> None:
    await trading(desk)
    position = await opened(account, desk)
    desk.on_price(SYMBOL, price_of(position, "-1.99"), 1)
    assert not desk.guard._asked
    for _ in range(5):  # prices go on arriving while it is being closed
        desk.on_price(SYMBOL, price_of(position, "-2.1"), 2)
    await until(ask(lambda: open_position(account) is None))
    (exit_order,) = await ask(lambda: list(Order.objects.filter(reduce_only=True)))()
    assert (exit_order.side, exit_order.quantity, exit_order.order_type) == ("Sell", D("0.01"), "Market")
    assert exit_order.reason.startswith("max_loss: the loss of 2.10 %")
    assert (exit_order.actor, exit_order.strategy) == ("risk", "manual")
    event = await ask(lambda: AuditEvent.objects.get(action="order.intended", subject=f"order:{exit_order.pk}"))()
    assert event.actor == "risk" and event.reason == exit_order.reason


async def test_a_trailing_stop_survives_the_end_of_its_process(
    account: Account, desk: LoneDesk, pipeline: Pipeline
) -> None:
    await trading(desk)
    position = await opened(account, desk)
    pipeline.configure(
        PipelineConfiguration(
            (),
            {SYMBOL: builders.RULES},
            policies=Policies(exits=ExitRules(reversal=False, trailing_take_profit=False)),
        )
    )
    desk.on_price(SYMBOL, price_of(position, "6"), 1)
    expected = price_of(position, "4.5")
    await until(ask(lambda: PositionExit.objects.filter(stop_price=expected).exists()))
    # Another engine, which has seen no price of it: what was stored is all it knows.
    exposure = await ask(lambda: account_exposure(account.pk))()
    recorded: list[int] = []
    successor = PositionGuard(
        account.pk,
        pipeline,
        on_books=lambda work: asyncio.to_thread(closing_connection(work)),
        exit_recorded=recorded.append,
        venue_wallet=desk.guard._venue_wallet,
    )
    await successor.follow(exposure)
    successor.on_price(SYMBOL, price_of(position, "4.51"), 2)
    assert not successor._asked
    successor.on_price(SYMBOL, price_of(position, "4.49"), 3)
    await until(lambda: recorded)
    order = await ask(lambda: Order.objects.get(pk=recorded[0]))()
    assert order.reason.startswith("trailing_stop:") and order.quantity == D("0.01")
    await successor.stop()


def closing_connection(work: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    return run


async def test_a_partial_exit_closes_its_share_once(account: Account, desk: LoneDesk, pipeline: Pipeline) -> None:
    rules = ExitRules(
        reversal=False, trailing_take_profit=False, trailing_stop=False, partial_exits=((D(1), D(40)), (D(2), D(40)))
    )
    pipeline.configure(PipelineConfiguration((), {SYMBOL: builders.RULES}, policies=Policies(exits=rules)))
    await trading(desk)
    position = await opened(account, desk)
    desk.on_price(SYMBOL, price_of(position, "1.2"), 1)
    await until(lambda: desk.guard._exposure.positions[SYMBOL].quantity == D("0.006"))
    desk.on_price(SYMBOL, price_of(position, "1.4"), 2)
    await until(ask(lambda: [state.partials for _, state in exit_states(account.pk).values()] == [1]))
    desk.on_price(SYMBOL, price_of(position, "2.2"), 3)
    await until(lambda: desk.guard._exposure.positions[SYMBOL].quantity == D("0.002"))
    assert await ask(lambda: Order.objects.filter(reduce_only=True).count())() == 2


async def test_an_exit_that_cannot_be_is_not_tried_at_every_price(
    account: Account, desk: LoneDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trading(desk)
    position = await opened(account, desk)
    taken: list[int] = []
    monkeypatch.setattr(desk.guard, "_exit_recorded", taken.append)  # as if no one sent it
    for number in range(200):
        desk.on_price(SYMBOL, price_of(position, "-3"), number)
        await asyncio.sleep(0)
    await until(lambda: taken)
    assert len(taken) == 1


@pytest.mark.parametrize(
    ("fields", "limit"),
    [({"day_start_equity": 2}, "max_daily_loss_percent"), ({"peak_equity": 2}, "max_drawdown_percent")],
)
async def test_too_large_a_loss_raises_one_alarm_and_stops_the_account(
    account: Account, desk: LoneDesk, fields: dict[str, int], limit: str
) -> None:
    await trading(desk)
    await opened(account, desk)
    equity = (await ask(lambda: Wallet.objects.get(account=account))()).equity
    changed = {name: equity * times for name, times in fields.items()}
    await ask(lambda: Wallet.objects.filter(account=account).update(**changed))()
    alerts = Alert.objects.filter(kind="loss_limit", account_id=account.pk)
    alert = await until(ask(lambda: alerts.first()))
    assert alert.level == "critical" and limit in alert.message
    for number in range(50):
        desk.on_price(SYMBOL, D(60_000) + number, number)
        await asyncio.sleep(0.01)
    assert [each.count for each in await ask(lambda: list(alerts))()] == [1]
    event = await ask(lambda: AuditEvent.objects.get(action="risk.loss_limit_crossed"))()
    assert event.parameters["limit"] == limit
    # After a restart too: the crossing is remembered, not the process that saw it.
    desk.guard._alarmed.clear()
    desk.guard._confirm_at = 0.0
    desk.guard._watch_losses()
    await until(lambda: desk.guard._alarmed)
    assert [each.count for each in await ask(lambda: list(alerts))()] == [1]


async def test_a_loss_that_the_venue_does_not_confirm_raises_no_alarm(account: Account, desk: LoneDesk) -> None:
    await trading(desk)
    await opened(account, desk)
    await desk.guard.tick(await ask(lambda: limits_for(account))(), may_exit=True)
    # A mark price that only we have seen: the account would be worth nothing at it.
    desk.guard._exposure = replace(desk.guard._exposure, wallet_balance=D(0))
    desk.guard._watch_losses()
    assert desk.guard._confirm_at > time.monotonic()
    await desk.guard.stop()
    assert not desk.guard._alarmed
    assert not await ask(lambda: Alert.objects.filter(kind="loss_limit").exists())()


async def test_a_users_loss_over_all_accounts_counts(account: Account, desk: LoneDesk) -> None:
    await trading(desk)
    guard = desk.guard
    await until(lambda: guard._exposure.known)
    await guard.tick(await ask(lambda: limits_for(account))(), may_exit=True)
    guard._limits = replace(guard._limits, other_levels=(("user", replace(guard._limits, max_drawdown_percent=None)),))
    lost = Totals(equity=D(0), day_start_equity=guard._exposure.equity)
    guard._exposure = replace(guard._exposure, user=lost)
    assert [loss.named for loss in guard._losses(guard.equity())] == ["user.max_daily_loss_percent"]
    # Yesterday's loss is not today's, as long as the day has no first report.
    guard._exposure = replace(guard._exposure, day=date(2026, 1, 1))
    assert list(guard._losses(guard.equity())) == []


async def test_a_person_may_measure_the_drawdown_anew(account: Account, desk: LoneDesk) -> None:
    await trading(desk)
    await ask(lambda: Wallet.objects.update(peak_equity=10**9))()
    wallet = await ask(lambda: peak_equity_reset(account=account, actor="alice"))()
    assert wallet.peak_equity == wallet.equity
    assert await ask(lambda: AuditEvent.objects.filter(action="account.peak_equity_reset", actor="alice").exists())()


async def test_a_trade_of_somebody_else_is_told_recorded_and_followed(
    account: Account, desk: LoneDesk, other_client: HTTP
) -> None:
    await trading(desk)
    position = await opened(account, desk)
    body = {"category": "linear", "symbol": SYMBOL, "side": "Buy", "orderType": "Market", "qty": "0.02"}
    await asyncio.to_thread(other_client.place_order, **body)
    run = await until(ask(lambda: ReconciliationRun.objects.filter(trigger="stream").first()))
    assert run.differences[0]["kind"] == "foreign_fill" and "Buy 0.020 BTCUSDT" in run.differences[0]["theirs"]
    alert = await ask(lambda: Alert.objects.get(kind="position_changed_outside"))()
    assert alert.account_id == account.pk and "somebody else" in alert.message
    assert await ask(lambda: AuditEvent.objects.filter(action="position.changed_outside").exists())()
    # Its exits follow what is held now, at its new entry price.
    await until(lambda: desk.guard._exposure.positions[SYMBOL].quantity == D("0.03"))
    position = await ask(lambda: Position.objects.get(pk=position.pk))()
    desk.on_price(SYMBOL, price_of(position, "-2.5"), 1)
    await until(ask(lambda: open_position(account) is None))
    closed = await ask(lambda: Order.objects.get(reduce_only=True))()
    assert closed.quantity == D("0.03")
    # Our own exit is no change from outside.
    assert await ask(lambda: ReconciliationRun.objects.filter(trigger="stream", complete=False).count())() == 1


async def test_a_position_that_somebody_else_closed_is_not_closed_again(
    account: Account, desk: LoneDesk, other_client: HTTP
) -> None:
    await trading(desk)
    position = await opened(account, desk)
    body = {"category": "linear", "symbol": SYMBOL, "side": "Sell", "orderType": "Market", "qty": "0.01"}
    await asyncio.to_thread(other_client.place_order, reduceOnly=True, **body)
    await until(lambda: SYMBOL not in desk.guard._exposure.positions)
    desk.on_price(SYMBOL, price_of(position, "-5"), 1)
    assert not desk.guard._asked


async def test_a_position_that_our_books_do_not_explain_is_corrected_by_what_the_stream_tells(
    account: Account, desk: LoneDesk, other_client: HTTP
) -> None:
    await trading(desk)
    position = await opened(account, desk)
    # As if an execution had never reached us.
    await ask(lambda: Position.objects.filter(pk=position.pk).update(quantity=D("0.004")))()
    stop = {"category": "linear", "symbol": SYMBOL, "positionIdx": 0, "stopLoss": "40000"}
    await asyncio.to_thread(other_client.set_trading_stop, **stop)
    run = await until(ask(lambda: ReconciliationRun.objects.filter(trigger="stream", complete=True).first()))
    assert [each["kind"] for each in run.differences] == ["position"]
    assert (await ask(lambda: Position.objects.get(pk=position.pk))()).quantity == D("0.01")
    alert = await ask(lambda: Alert.objects.get(kind="position_changed_outside"))()
    assert "Buy 0.010 at the venue and Buy 0.004 here" in alert.message
    await until(lambda: desk.guard._exposure.positions[SYMBOL].quantity == D("0.01"))


async def test_the_venues_own_exit_at_our_take_profit_is_no_change_from_outside(
    account: Account, desk: LoneDesk, other_client: HTTP, venue: ServerProcess
) -> None:
    """The venue's order for it carries none of our ids."""
    await trading(desk)
    position = await opened(account, desk)
    near = {"category": "linear", "symbol": SYMBOL, "positionIdx": 0}
    near["takeProfit"] = f"{position.entry_price * D('1.001'):.1f}"
    near["stopLoss"] = f"{position.entry_price * D('0.999'):.1f}"
    await asyncio.to_thread(other_client.set_trading_stop, **near)
    await control(venue, "move", symbol=SYMBOL, percent=0.3)
    await until(ask(lambda: open_position(account) is None), 60)
    assert not await ask(lambda: Alert.objects.filter(kind="position_changed_outside").exists())()


async def test_a_profit_that_only_mark_prices_have_seen_is_the_peak_that_a_drawdown_is_measured_from(
    account: Account, desk: LoneDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(position_guard, "PEAK_SETTLE_SECONDS", 0.0)
    await trading(desk)
    position = await opened(account, desk)

    async def risen() -> bool:
        desk.on_price(SYMBOL, price_of(position, "0.9"), 1)
        wallet = await ask(lambda: Wallet.objects.get(account=account))()
        return wallet.peak_equity >= wallet.wallet_balance + position.quantity * price_of(position, "0.89") - (
            position.quantity * position.entry_price
        )

    await until(risen)
    seen = desk.guard.peak_equity
    desk.on_price(SYMBOL, price_of(position, "-0.9"), 2)
    assert desk.guard.peak_equity == seen and desk.guard.equity() < seen
    await ask(lambda: peak_equity_reset(account=account, actor="alice"))()
    await until(lambda: desk.guard.peak_equity < seen)


def test_a_peak_that_a_person_has_set_anew_is_not_raised_again_by_what_was_seen_before(account: Account) -> None:
    wallet = Wallet.objects.create(account=account, equity=90, peak_equity=90, updated_at=account.created_at)
    assert not peak_equity_raise(account_id=account.pk, equity=D(120), seen=D(100))
    assert peak_equity_raise(account_id=account.pk, equity=D(95), seen=D(90))
    wallet.refresh_from_db()
    assert wallet.peak_equity == 95
