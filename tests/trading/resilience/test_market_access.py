"""Public market REST passes the breakers and the shared budget: what a venue says to one process, all of them heed."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aiohttp import web
from django.conf import settings

from marketdata.feeds.binance_rest import USDM, BinanceRest
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.protocol import VenueError
from trading.gateways.binance_limits import binance_ending, binance_endpoint
from trading.gateways.bybit_limits import market_ending, market_endpoint
from trading.resilience.breaker import BreakerState
from trading.resilience.guard import BREAKERS, CallGuard, Endpoint, breakers_of
from trading.resilience.rate_budget import BudgetExhausted, SharedBudget
from trading.runtime.market_access import GuardedGate, bybit_gate

BOOK = '{"retCode": 0, "result": {"s": "BTCUSDT", "b": [], "a": []}}'


class Venue:
    """Answers every question in the same way, and counts them."""

    def __init__(self) -> None:
        self.url, self.asked = "", 0
        self.status, self.body, self.headers = 200, BOOK, dict[str, str]()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.status, text=self.body, headers=self.headers)

    def says(self, status: int, body: str = "{}", **headers: str) -> None:
        self.status, self.body = status, body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@pytest_asyncio.fixture
async def venue() -> AsyncIterator[Venue]:
    made, application = Venue(), web.Application()
    application.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def process() -> Callable[[], CallGuard]:
    """The guard of one process: its own breakers, the budget of all."""
    prefix = f"market-{uuid.uuid4().hex}"
    return lambda: CallGuard(breakers_of("venue"), SharedBudget(settings.REDIS_URL, prefix))


def bybit(venue: Venue, guard: CallGuard) -> BybitPublicRest:
    gate = GuardedGate(guard, market_endpoint(urlsplit(venue.url).netloc), market_ending)
    return BybitPublicRest(venue.url, gate)


def wait_of(guard: CallGuard, endpoint: Endpoint) -> float:
    """In how many seconds a call of another process may leave."""
    with pytest.raises(BudgetExhausted, match="no room for") as refusal:
        guard.budget.take(endpoint.buckets, "normal", 0.0)
    found = re.search(r"no room for ([0-9.]+) s", str(refusal.value))
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize(
    ("status", "body"), [(403, "{}"), (429, "{}"), (200, '{"retCode": 10006, "retMsg": "Too many visits!"}')]
)
async def test_a_refusal_of_the_address_stops_every_process(
    venue: Venue, process: Callable[[], CallGuard], status: int, body: str
) -> None:
    one, other = process(), process()
    refused = bybit(venue, one)
    venue.says(status, body)
    try:
        with pytest.raises(VenueError):
            await refused.orderbook("BTCUSDT", 1)
        assert one.breakers["market"].state is BreakerState.CLOSED
        assert wait_of(other, market_endpoint(urlsplit(venue.url).netloc)) > 0.3
    finally:
        await refused.close()


async def test_a_venue_that_does_not_answer_opens_the_breaker_and_is_left_alone(
    venue: Venue, process: Callable[[], CallGuard]
) -> None:
    guard = process()
    rest = bybit(venue, guard)
    venue.says(502)
    failures = BREAKERS["market"].failures
    try:
        for _ in range(failures):
            with pytest.raises(VenueError, match="HTTP 502"):
                await rest.orderbook("BTCUSDT", 1)
        with pytest.raises(VenueError, match="not asked: the breaker of venue market is open"):
            await rest.orderbook("BTCUSDT", 1)
        assert venue.asked == failures and guard.breakers["market"].state is BreakerState.OPEN
    finally:
        await rest.close()


async def test_answers_and_refusals_of_one_question_are_no_failures(
    venue: Venue, process: Callable[[], CallGuard]
) -> None:
    guard = process()
    rest = bybit(venue, guard)
    try:
        assert (await rest.orderbook("BTCUSDT", 1))["s"] == "BTCUSDT"
        venue.says(200, '{"retCode": 10001, "retMsg": "symbol invalid"}')
        for _ in range(BREAKERS["market"].failures + 1):
            with pytest.raises(VenueError, match="symbol invalid"):
                await rest.orderbook("NOSUCH", 1)
        assert guard.breakers["market"].state is BreakerState.CLOSED
    finally:
        await rest.close()


async def test_binances_retry_after_stops_every_process_for_as_long(
    venue: Venue, process: Callable[[], CallGuard]
) -> None:
    endpoint = binance_endpoint(urlsplit(venue.url).netloc)
    one, other = process(), process()
    rest = BinanceRest(venue.url, USDM, GuardedGate(one, endpoint, binance_ending))
    venue.says(418, "banned", Retry_After="120")
    try:
        with pytest.raises(VenueError, match="HTTP 418"):
            await rest.snapshot("BTCUSDT")
        assert 115 < wait_of(other, endpoint) <= 120
    finally:
        await rest.close()


async def test_a_deployments_gate_shares_the_address_with_the_accounts_requests(venue: Venue) -> None:
    rest = BybitPublicRest(venue.url, bybit_gate(venue.url))
    try:
        assert (await rest.orderbook("BTCUSDT", 1))["s"] == "BTCUSDT"
    finally:
        await rest.close()
