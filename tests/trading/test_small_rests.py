"""No position is too small to be closed: exits leave no rest that cannot be ordered, and one that is there goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from hypothesis import given
from hypothesis import strategies as st

from marketdata.models import Instrument
from risk.checks import check_intent
from risk.exits import ExitRules, exit_quantity
from risk.exposure import Exposure, PositionExposure
from risk.limits import Limits
from risk.policies import Policies
from tests import builders
from tests.simulator.paper import live_venue
from tests.trading.lone_desk import LoneDesk
from tests.trading.test_account_desk import desk, trading, until, unused, venue
from tests.trading.test_position_guard import open_position, opened, price_of
from trading.gateways.base import OrderRequest
from trading.gateways.bybit import BybitEndpoints, BybitGateway
from trading.models import Account, Order, Position
from trading.pipeline import Pipeline, PipelineConfiguration
from trading.reports import PositionReport, Submission
from trading.runtime.kill_execution import close_by_name
from trading.services.kill_switch import kill_switch_engage
from trading.services.order_refusals import OrderRefused
from trading.services.orders import order_place
from trading.simulator.keys import DEMO_KEYS

__all__ = ["desk", "venue"]
D = Decimal
# As if the venue had raised its smallest order after the position was opened.
COARSE = replace(builders.RULES, min_quantity=D("0.05"))
lots = st.integers(0, 400).map(lambda number: number * COARSE.lot_size)


@given(held=lots, taken=lots, share=st.integers(1, 100).map(lambda percent: D(percent) / 100), off=st.booleans())
def test_an_exit_closes_what_can_be_ordered_or_all_and_leaves_what_can_be_ordered_or_nothing(
    held: D, taken: D, share: D, off: bool
) -> None:
    held += D("0.0004") if off else 0
    taken = min(taken, held)
    wanted = exit_quantity(COARSE, held, taken, share)
    assert 0 <= wanted <= held - taken
    assert wanted == 0 or COARSE.orderable(wanted) or (wanted == held and taken == 0)
    left = held - taken - wanted
    if wanted and taken == 0:
        assert left == 0 or COARSE.orderable(left)
    if share == 1 and taken == 0:
        assert wanted == held


@pytest.mark.parametrize(
    ("held", "share", "expected"),
    [
        ("0.200", "0.5", "0.100"),
        ("0.120", "0.6", "0.120"),  # 0.072 would leave 0.048, which nobody could close by its number
        ("0.120", "0.5", "0.060"),
        ("0.120", "0.4", "0"),  # 0.048 cannot be ordered; the next step takes its share too
        ("0.049", "1", "0.049"),
        ("0.0604", "1", "0.0604"),
    ],
)
def test_a_part_is_rounded_up_to_all_where_it_would_leave_too_little(held: str, share: str, expected: str) -> None:
    assert exit_quantity(COARSE, D(held), D(0), D(share)) == D(expected)


def test_the_venues_largest_market_order_bounds_an_exit() -> None:
    assert exit_quantity(COARSE, D("200.01"), D(0), D(1)) == COARSE.max_market_quantity


@pytest.mark.parametrize(("quantity", "approved"), [("0.02", True), ("0.01", False), ("0.04", False)])
def test_risk_lets_a_small_order_pass_only_when_it_closes_all_that_is_held(quantity: str, approved: bool) -> None:
    held = PositionExposure("Buy", D("0.02"), D(60_000), D(60_000), D(10))
    closing = builders.intent(side="Sell", order_type="Market", price=None, quantity=D(quantity), reduce_only=True)
    exposure = Exposure(known=True, equity=D(1000), positions={"BTCUSDT": held})
    assert check_intent(closing, Limits(), exposure, COARSE, D(60_000)).approved == approved


# Against the simulator.


@pytest.fixture
def account(transactional_db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"), key=next(unused))


def raise_minimum() -> None:
    Instrument.objects.filter(symbol="BTCUSDT").update(min_quantity=COARSE.min_quantity)


def hold(account: Account, quantity: str = "0.02") -> Position:
    return Position.objects.create(
        account=account, mode=account.mode, instrument=Instrument.objects.get(symbol="BTCUSDT", category="linear"),
        side="Buy", quantity=D(quantity), entry_price=60_000, opened_at=account.created_at,
    )  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_a_person_may_close_a_small_rest_whole_and_nothing_else_of_that_size(account: Account) -> None:
    bobs = builders.account(builders.user("bob"))
    hold(account)
    raise_minimum()
    close: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Sell", "order_type": "Market", "reduce_only": True}
    refused = [
        (account, "alice", {"quantity": D("0.01")}),
        (account, "alice", {"quantity": D("0.02"), "side": "Buy"}),
        (bobs, "bob", {"quantity": D("0.02")}),  # it would close alice's position
    ]
    for of, actor, values in refused:
        with pytest.raises(OrderRefused, match=r"at least 0\.05"):
            order_place(account=of, actor=actor, **(close | values))
    assert order_place(account=account, actor="alice", quantity=D("0.02"), **close).quantity == D("0.02")


@pytest.fixture
def pipeline() -> Pipeline:
    made = Pipeline(lambda: "trace")
    policies = Policies(exits=ExitRules(reversal=False))
    made.configure(PipelineConfiguration((), {"BTCUSDT": builders.RULES}, policies=policies))
    made.update_reference_price("BTCUSDT", D(60_000))
    return made


def told(desk: LoneDesk, order: Order) -> dict[str, Any]:
    report = desk._watching_gateway.find_order("BTCUSDT", order.client_order_id)
    assert report is not None
    return dict(report.payload)


@pytest.mark.django_db(transaction=True)
async def test_an_exit_closes_a_position_that_is_smaller_than_the_smallest_order(
    account: Account, desk: LoneDesk, pipeline: Pipeline
) -> None:
    await trading(desk)
    position = await opened(account, desk)
    await sync_to_async(raise_minimum)()
    pipeline.configure(replace(pipeline._configuration, rules={"BTCUSDT": COARSE}))
    desk.on_price("BTCUSDT", price_of(position, "-3"), time.time_ns())
    await until(sync_to_async(lambda: open_position(account) is None))
    order = await sync_to_async(lambda: Order.objects.get(reduce_only=True))()
    assert (order.quantity, order.filled_quantity, order.state) == (D("0.01"), D("0.01"), "filled")
    assert (await asyncio.to_thread(told, desk, order))["closeOnTrigger"] is True


@pytest.mark.django_db(transaction=True)
async def test_a_kill_switch_closes_a_position_that_is_smaller_than_the_smallest_order(
    account: Account, desk: LoneDesk
) -> None:
    await trading(desk)
    await opened(account, desk)
    await sync_to_async(raise_minimum)()
    await sync_to_async(kill_switch_engage)(actor="alice", reason="a test", account=account)
    desk.desks.look()
    await until(sync_to_async(lambda: open_position(account) is None))
    order = await sync_to_async(lambda: Order.objects.get(strategy="kill_switch"))()
    assert (await asyncio.to_thread(told, desk, order))["closeOnTrigger"] is True


@pytest_asyncio.fixture
async def coarse() -> AsyncIterator[tuple[Callable[[str], None], BybitGateway]]:
    """A venue of this process whose smallest order can be raised, and alice's way to it."""
    async with live_venue() as live:
        market = live.venue.exchange.market("BTCUSDT")

        def smallest(quantity: str) -> None:
            market.rules = replace(market.rules, min_quantity=D(quantity))

        key = DEMO_KEYS["alice"]
        await live.tick(50)
        yield smallest, BybitGateway(BybitEndpoints(live.url, live.url), key.api_key, key.api_secret)


def order(identifier: str, side: str, quantity: str, **changes: Any) -> OrderRequest:
    values: dict[str, Any] = {"order_type": "Market", "time_in_force": "IOC", "price": None, "reduce_only": False}
    values |= {"take_profit": None, "stop_loss": None}
    return OrderRequest(identifier, "BTCUSDT", side, quantity=D(quantity), **(values | changes))


def held(gateway: BybitGateway) -> Iterator[PositionReport]:
    return (report for report in gateway.positions() if report.quantity)


async def test_what_the_venue_refuses_by_its_number_it_closes_whole(
    coarse: tuple[Callable[[str], None], BybitGateway],
) -> None:
    smallest, gateway = coarse
    assert (await asyncio.to_thread(gateway.submit, order("buy", "Buy", "0.01"))).outcome is Submission.ACCEPTED
    smallest("0.05")
    closing = order("close", "Sell", "0.01", reduce_only=True)
    refused = await asyncio.to_thread(gateway.submit, closing)
    assert refused.outcome is Submission.REJECTED and "minimum 0.05" in refused.message
    # The name is free: nothing was taken under it.
    closed = await asyncio.to_thread(gateway.submit, replace(closing, closes_position=True))
    assert closed.outcome is Submission.ACCEPTED and not await asyncio.to_thread(lambda: list(held(gateway)))


async def test_an_emergency_close_without_a_database_closes_it_too(
    coarse: tuple[Callable[[str], None], BybitGateway],
) -> None:
    smallest, gateway = coarse
    await asyncio.to_thread(gateway.submit, order("buy", "Buy", "0.01"))
    smallest("0.05")
    (position,) = await asyncio.to_thread(lambda: list(held(gateway)))
    result = await asyncio.to_thread(close_by_name, gateway, position, "kill-e1")
    assert result is not None and result.outcome is Submission.ACCEPTED
    assert not await asyncio.to_thread(lambda: list(held(gateway)))
