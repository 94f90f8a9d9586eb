"""An account on paper from its order to its fill: the same desk and gateway, real sockets, no way to the real venue."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from asgiref.sync import sync_to_async
from django.conf import settings

from tests import builders
from tests.simulator.paper import Both, both_venues
from tests.trading.lone_desk import LoneDesk
from trading.gateways.bybit import BybitEndpoints
from trading.lifecycle import OrderState
from trading.models import Account, Fill, Mode, Order, Position, Wallet
from trading.pipeline import Pipeline, PipelineConfiguration
from trading.runtime.database import with_connection
from trading.runtime.venue_link import stored_keys, venue_link
from trading.services.account_modes import account_mode_set
from trading.services.kill_switch import kill_switch_engage
from trading.services.orders import order_place
from trading.simulator.keys import DEMO_KEYS

pytestmark = pytest.mark.django_db(transaction=True)
D = Decimal


@pytest.fixture(scope="module")
def venues() -> Iterator[Both]:
    with both_venues(settings.MASTER_KEY) as both:
        yield both


@pytest.fixture
def account(transactional_db: None, monkeypatch: pytest.MonkeyPatch, venues: Both) -> Account:
    monkeypatch.setattr(settings, "SIMULATOR_URL", venues.live.url)
    monkeypatch.setattr(settings, "PAPER_URL", venues.paper.url)
    builders.list_instruments()
    made = builders.account(builders.user("alice"), key=DEMO_KEYS["alice"])
    return account_mode_set(account=made, mode=Mode.PAPER, actor="alice")


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, venues: Both) -> set[int]:
    """The ports of this machine that anything but the venues themselves has connected to."""
    reached: set[int] = set()

    def spy(connect: Callable[..., Any]) -> Callable[..., Any]:
        def connected(self: Any, address: Any, *more: Any) -> Any:
            if isinstance(address, tuple) and threading.current_thread() is not venues.thread:
                reached.add(address[1])
            return connect(self, address, *more)

        return connected

    monkeypatch.setattr(socket.socket, "connect", spy(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", spy(socket.socket.connect_ex))
    return reached


@asynccontextmanager
async def trading_desk(account: Account, venues: Both) -> AsyncIterator[LoneDesk]:
    pipeline = Pipeline(lambda: "trace")
    pipeline.configure(PipelineConfiguration((), {"BTCUSDT": builders.RULES}))
    pipeline.update_reference_price("BTCUSDT", venues.live.venue.exchange.markets["BTCUSDT"].last_price)
    websocket = venues.live.url.replace("http", "ws", 1)
    desk = LoneDesk(account, pipeline, BybitEndpoints(venues.live.url, websocket))
    desk.begin()
    try:
        await until(lambda: desk.state == "trading")
        yield desk
    finally:
        await desk.end()


async def until(question: Callable[[], Any], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not happen within {seconds:g} s")


@sync_to_async
def place(account: Account, **changes: Any) -> Order:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Market", "quantity": D("0.01")}
    return order_place(account=Account.objects.get(pk=account.pk), actor="alice", **(values | changes))


@sync_to_async
def state_of(order: Order) -> str:
    return Order.objects.values_list("state", flat=True).get(pk=order.pk)


async def in_state(order: Order, *states: str) -> None:
    async def there() -> bool:
        return await state_of(order) in states

    await until(there)


async def test_the_whole_path_runs_on_paper_and_nothing_reaches_the_live_venue(
    account: Account, venues: Both, connections: set[int]
) -> None:
    ledger = venues.live.venue.exchange.accounts["alice"]
    before = (set(ledger.orders), len(ledger.executions), ledger.balance)
    venues.live.signed.clear()
    async with trading_desk(account, venues) as desk:
        order = await place(account)
        desk.take_up(order.pk)
        await in_state(order, OrderState.FILLED)
        resting = await place(account, order_type="Limit", price=D("30000.0"), time_in_force="PostOnly")
        desk.take_up(resting.pk)
        await in_state(resting, OrderState.ACKNOWLEDGED)
        await sync_to_async(kill_switch_engage)(account=account, actor="desk", reason="a test")
        desk.desks.look()
        await in_state(resting, OrderState.CANCELLED)

        @sync_to_async
        def flat() -> bool:
            return not Position.objects.exclude(state="closed").exists()

        await until(flat)
        assert urlsplit(venues.paper.url).port in connections and venues.live.port not in connections

    @sync_to_async
    def books() -> None:
        assert set(Order.objects.values_list("mode", flat=True)) == {"paper"}
        assert set(Fill.objects.values_list("mode", flat=True)) == {"paper"}
        assert set(Position.objects.values_list("mode", flat=True)) == {"paper"}
        assert Wallet.objects.get().wallet_balance < 100_000

    await books()
    assert venues.live.signed == [], "a private request reached the live venue"
    assert (set(ledger.orders), len(ledger.executions), ledger.balance) == before


async def test_a_desk_of_the_mode_that_was_left_never_owns_the_account_again(account: Account, venues: Both) -> None:
    switch = sync_to_async(lambda: with_connection(lambda: account_mode_set(
        account=account, mode=Mode.REAL, confirm_name=account.name, actor="alice"
    )))  # fmt: skip
    async with trading_desk(account, venues) as desk:
        keys = desk.keys
        switched = await switch()
        desk.desks.look()
        await until(lambda: not desk.owns and desk.state == "waiting")
        order = await place(switched)
        desk.take_up(order.pk)
        await desk._alone(desk.intake.take_up(order.pk))
        for _ in range(3):
            desk.desks.look()
            await asyncio.sleep(0)
        assert not desk.owns
        assert await state_of(order) == OrderState.NEW
        assert stored_keys(switched) != keys, "what tells the engine to open it anew"
    async with trading_desk(switched, venues) as real:
        assert real.mode == "real"
        real.take_up(order.pk)
        await in_state(order, OrderState.FILLED)
    assert (await sync_to_async(Order.objects.get)(pk=order.pk)).mode == "real"
    assert order.client_order_id in venues.live.venue.exchange.accounts["alice"].by_link


async def test_a_paper_key_opens_nothing_at_the_live_venue(account: Account, venues: Both) -> None:
    link = await sync_to_async(venue_link)(account)
    headers = {"X-BAPI-API-KEY": link.api_key, "X-BAPI-TIMESTAMP": "1", "X-BAPI-SIGN": "x"}
    url = f"{venues.live.url}/v5/account/wallet-balance?accountType=UNIFIED"
    answer = await asyncio.to_thread(lambda: requests.get(url, headers=headers, timeout=30).json())
    assert answer["retCode"] == 10003
