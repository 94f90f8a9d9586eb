"""An account on paper from its order to its fill: the same desk and gateway, real sockets, no way to the real venue."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
import requests
from asgiref.sync import sync_to_async

from tests import builders, processes
from tests.processes import ServerProcess
from trading.gateways.bybit import BybitEndpoints
from trading.lifecycle import OrderState
from trading.models import Account, Fill, Mode, Order, Position, Wallet
from trading.pipeline import Pipeline, PipelineConfiguration
from trading.runtime.account_desk import AccountDesk
from trading.runtime.database import with_connection
from trading.runtime.venue_link import stored_keys, venue_link
from trading.services.account_modes import account_mode_set
from trading.services.kill_switch import kill_switch_engage
from trading.services.orders import order_place
from trading.simulator.keys import DEMO_KEYS

pytestmark = pytest.mark.django_db(transaction=True)
D = Decimal


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = processes.start_simulator(tmp_path_factory.mktemp("live") / "live.log", ("--symbols", "1"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def paper(live: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("paper") / "paper.log"
    server = processes.start_simulator(log, ("--follow", live.url))
    yield server
    server.stop()


@pytest.fixture
def account(transactional_db: None, settings: Any, live: ServerProcess, paper: ServerProcess) -> Account:
    settings.SIMULATOR_URL, settings.PAPER_URL = live.url, paper.url
    builders.list_instruments()
    made = builders.account(builders.user("alice"), key=DEMO_KEYS["alice"])
    return account_mode_set(account=made, mode=Mode.PAPER, actor="alice")


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The ports of this machine that anything in this process has connected to."""
    reached: set[int] = set()

    def spy(connect: Callable[..., Any]) -> Callable[..., Any]:
        def connected(self: Any, address: Any, *more: Any) -> Any:
            if isinstance(address, tuple):
                reached.add(address[1])
            return connect(self, address, *more)

        return connected

    # asyncio's own loop connects through socket.connect too.
    monkeypatch.setattr(socket.socket, "connect", spy(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", spy(socket.socket.connect_ex))
    return reached


@asynccontextmanager
async def trading_desk(account: Account, live: ServerProcess) -> AsyncIterator[AccountDesk]:
    pipeline = Pipeline(lambda: "trace")
    pipeline.configure(PipelineConfiguration((), {"BTCUSDT": builders.RULES}))
    price = (await asyncio.to_thread(ask, live, "/v5/market/tickers?category=linear&symbol=BTCUSDT"))["list"][0]
    pipeline.update_reference_price("BTCUSDT", D(price["lastPrice"]))
    desk = AccountDesk(account, pipeline, BybitEndpoints(live.url, live.websocket_url))
    desk.start()
    try:
        await until(lambda: desk.state == "trading")
        yield desk
    finally:
        await desk.stop()


def ask(venue: ServerProcess, path: str) -> Any:
    with urllib.request.urlopen(f"{venue.url}{path}", timeout=30) as answer:
        content = json.loads(answer.read())
    return content.get("result", content)


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


def executions(live: ServerProcess) -> int:
    status = ask(live, "/simulator/status")
    return int(status["executions"]) + int(status["open_orders"])


async def test_the_whole_path_runs_on_paper_and_nothing_reaches_the_live_venue(
    account: Account, live: ServerProcess, paper: ServerProcess, connections: set[int]
) -> None:
    before = await asyncio.to_thread(executions, live)
    async with trading_desk(account, live) as desk:
        connections.clear()  # the test itself has asked the live venue for its price
        order = await place(account)
        desk.take_up(order.pk)
        await in_state(order, OrderState.FILLED)
        resting = await place(account, order_type="Limit", price=D("30000.0"), time_in_force="PostOnly")
        desk.take_up(resting.pk)
        await in_state(resting, OrderState.ACKNOWLEDGED)
        await sync_to_async(kill_switch_engage)(account=account, actor="desk", reason="a test")
        desk.look()
        await in_state(resting, OrderState.CANCELLED)

        @sync_to_async
        def flat() -> bool:
            return not Position.objects.exclude(state="closed").exists()

        await until(flat)
        assert paper.port in connections and live.port not in connections

    @sync_to_async
    def books() -> None:
        assert set(Order.objects.values_list("mode", flat=True)) == {"paper"}
        assert set(Fill.objects.values_list("mode", flat=True)) == {"paper"}
        assert set(Position.objects.values_list("mode", flat=True)) == {"paper"}
        assert Wallet.objects.get().wallet_balance < 100_000

    await books()
    assert await asyncio.to_thread(executions, live) == before


async def test_a_desk_of_the_mode_that_was_left_never_owns_the_account_again(
    account: Account, live: ServerProcess
) -> None:
    switch = sync_to_async(lambda: with_connection(lambda: account_mode_set(
        account=account, mode=Mode.REAL, confirm_name=account.name, actor="alice"
    )))  # fmt: skip
    async with trading_desk(account, live) as desk:
        keys = desk.keys
        switched = await switch()
        desk.look()
        await until(lambda: not desk.owns and desk.state == "waiting")
        order = await place(switched)
        desk.take_up(order.pk)
        await desk._alone(desk._take_up(order.pk))
        for _ in range(3):
            desk.look()
            await asyncio.sleep(0)
        assert not desk.owns
        assert await state_of(order) == OrderState.NEW
        assert stored_keys(switched) != keys, "what tells the engine to open it anew"
    async with trading_desk(switched, live) as real:
        assert real.mode == "real"
        real.take_up(order.pk)
        await in_state(order, OrderState.FILLED)
    assert (await sync_to_async(Order.objects.get)(pk=order.pk)).mode == "real"


async def test_a_paper_key_opens_nothing_at_the_live_venue(account: Account, live: ServerProcess) -> None:
    link = await sync_to_async(venue_link)(account)
    headers = {"X-BAPI-API-KEY": link.api_key, "X-BAPI-TIMESTAMP": "1", "X-BAPI-SIGN": "x"}
    url = f"{live.url}/v5/account/wallet-balance?accountType=UNIFIED"
    answer = await asyncio.to_thread(lambda: requests.get(url, headers=headers, timeout=30).json())
    assert answer["retCode"] == 10003
