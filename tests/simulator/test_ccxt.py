"""Unmodified ccxt works against the simulator: the synchronous client over REST, the asynchronous one over websockets.

Only where it connects to and what it asks for at the start are set: ``urls``, and the one market type that is listed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import ccxt
import ccxt.pro
import pytest
import pytest_asyncio

from tests.processes import ServerProcess
from trading.simulator.keys import DEMO_KEYS

KEY = DEMO_KEYS["bob"]
SYMBOL, SIZE = "ETH/USDT:USDT", 0.1
SECONDS = 30.0


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    from tests import processes  # noqa: PLC0415 - the module's function is named like the fixture of conftest

    # What closed is looked for in the history at once.
    options = ("--symbols", "3", "--history-delay", "0")
    server = processes.start_simulator(tmp_path_factory.mktemp("venue") / "simulator.log", options)
    yield server
    server.stop()


class Streams(ccxt.pro.bybit):
    """ccxt's own client, which also tells when the exchange has confirmed a subscription."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.confirmed: asyncio.Queue[bool] = asyncio.Queue()

    def handle_message(self, client: Any, message: Any) -> None:
        super().handle_message(client, message)
        if isinstance(message, dict) and message.get("op") == "subscribe":
            self.confirmed.put_nowait(message["success"])

    async def listening(self) -> None:
        assert await asyncio.wait_for(self.confirmed.get(), SECONDS)


def settings(venue: ServerProcess) -> dict[str, Any]:
    """What a user of ccxt configures to trade at another address."""
    rest = dict.fromkeys(("spot", "futures", "v2", "public", "private"), venue.url)
    # Every address, used or not: a default left standing is the real exchange.
    private = f"{venue.websocket_url}/v5/private"
    public = {name: f"{venue.websocket_url}/v5/public/{name}" for name in ("spot", "linear", "inverse", "option")}
    sockets = {
        "public": public,
        "private": {
            "spot": {"unified": private, "nonUnified": private},
            "contract": private,
            "usdc": private,
            "trade": f"{venue.websocket_url}/v5/trade",
        },
    }
    return {
        "apiKey": KEY.api_key,
        "secret": KEY.api_secret,
        "timeout": int(SECONDS * 1_000),
        "urls": {"api": {**rest, "ws": sockets}},
        "options": {"defaultType": "swap", "fetchMarkets": {"types": ["linear"]}},
        # /v5/asset/coin/query-info: the simulator has no deposits and no chains.
        "has": {"fetchCurrencies": False},
    }


@pytest.fixture(scope="module")
def loaded(venue: ServerProcess) -> Any:
    exchange = ccxt.bybit(settings(venue))
    exchange.load_markets()
    return exchange


@pytest.fixture
def exchange(loaded: Any) -> Iterator[Any]:
    """A client whose user has no orders and no position."""
    flatten(loaded)
    yield loaded
    flatten(loaded)


@pytest_asyncio.fixture
async def streams(venue: ServerProcess) -> AsyncIterator[Streams]:
    client = Streams(settings(venue))
    try:
        await client.load_markets()
        yield client
    finally:
        await client.close()


def flatten(exchange: Any) -> None:
    exchange.cancel_all_orders(SYMBOL)
    for position in exchange.fetch_positions([SYMBOL]):
        if position["contracts"]:
            side = "sell" if position["side"] == "long" else "buy"
            exchange.create_order(SYMBOL, "market", side, position["contracts"], params={"reduceOnly": True})


def far_below(exchange: Any, share: float = 0.9) -> float:
    """A price at which nothing is sold during a test."""
    return float(exchange.price_to_precision(SYMBOL, exchange.fetch_ticker(SYMBOL)["last"] * share))


def test_no_address_of_the_real_exchange_is_left(venue: ServerProcess) -> None:
    assert ".com" not in str(ccxt.pro.bybit(settings(venue)).urls["api"])


def test_the_markets_are_loaded_with_their_grids(exchange: Any) -> None:
    assert set(exchange.markets) == {"BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"}
    market = exchange.market(SYMBOL)
    assert market["linear"] and market["swap"] and market["active"] and market["settle"] == "USDT"
    assert (market["precision"]["price"], market["precision"]["amount"]) == (0.01, 0.01)
    assert (market["limits"]["amount"]["min"], market["limits"]["leverage"]["max"]) == (0.01, 100.0)
    assert abs(exchange.fetch_time() - time.time() * 1_000) < 10_000


def test_the_market_is_told_by_book_ticker_trades_and_candles(exchange: Any) -> None:
    book = exchange.fetch_order_book(SYMBOL, 50)
    assert len(book["bids"]) == len(book["asks"]) == 50
    assert book["bids"][0][0] < book["asks"][0][0]
    ticker = exchange.fetch_ticker(SYMBOL)
    assert ticker["bid"] < ticker["ask"] and ticker["low"] <= ticker["last"] <= ticker["high"]
    assert ticker["markPrice"] > 0 and ticker["baseVolume"] > 0
    assert set(exchange.fetch_tickers()) == set(exchange.markets)
    hour_ms = 3_600_000
    candles = exchange.fetch_ohlcv(SYMBOL, "1h", limit=100)
    assert [row[0] for row in candles] == list(range(candles[0][0], candles[0][0] + 100 * hour_ms, hour_ms))
    assert all(low <= min(first, last) <= max(first, last) <= high for _, first, high, low, last, _ in candles)
    since = candles[10][0]
    assert exchange.fetch_ohlcv(SYMBOL, "1h", since=since, limit=20) == candles[10:30]
    mark = exchange.fetch_mark_ohlcv(SYMBOL, "1h", since=since, limit=5)
    assert [row[0] for row in mark] == [row[0] for row in candles[10:15]]
    # Somebody has to trade before trades can be told.
    exchange.create_order(SYMBOL, "market", "buy", SIZE)
    trades = exchange.fetch_trades(SYMBOL, limit=50)
    assert 1 <= len(trades) <= 50
    assert all(trade["price"] > 0 and trade["amount"] > 0 and trade["side"] in ("buy", "sell") for trade in trades)


def test_funding_open_interest_and_leverage_tiers_are_told(exchange: Any) -> None:
    rates = exchange.fetch_funding_rate_history(SYMBOL, limit=10)
    times = [rate["timestamp"] for rate in rates]
    assert len(times) == 10 and all(moment % (8 * 3_600_000) == 0 for moment in times)
    assert times == sorted(times) and all(abs(rate["fundingRate"]) <= 0.005 for rate in rates)
    assert exchange.fetch_funding_rate_history(SYMBOL, limit=10) == rates
    current = exchange.fetch_funding_rate(SYMBOL)
    assert current["fundingTimestamp"] - times[-1] == 8 * 3_600_000 and current["interval"] == "8h"
    interest = exchange.fetch_open_interest_history(SYMBOL, "1h", limit=24)
    assert len(interest) == 24 and all(row["openInterestAmount"] or row["openInterestValue"] for row in interest)
    tier = exchange.fetch_market_leverage_tiers(SYMBOL)[0]
    assert (tier["maxLeverage"], tier["maintenanceMarginRate"]) == (100.0, 0.005)


def test_a_limit_order_is_found_changed_and_cancelled(exchange: Any) -> None:
    price = far_below(exchange)
    placed = exchange.create_order(SYMBOL, "limit", "buy", SIZE, price, {"clientOrderId": "ccxt-limit"})
    (found,) = exchange.fetch_open_orders(SYMBOL)
    assert (found["id"], found["clientOrderId"], found["status"]) == (placed["id"], "ccxt-limit", "open")
    assert (found["price"], found["amount"], found["filled"], found["side"]) == (price, SIZE, 0.0, "buy")
    lower = far_below(exchange, 0.8)
    edited = exchange.edit_order(placed["id"], SYMBOL, "limit", "buy", 2 * SIZE, lower)
    assert edited["id"] == placed["id"]
    changed = exchange.fetch_open_order(placed["id"], SYMBOL)
    assert (changed["price"], changed["amount"], changed["status"]) == (lower, 2 * SIZE, "open")
    exchange.cancel_order(placed["id"], SYMBOL)
    assert exchange.fetch_open_orders(SYMBOL) == []
    closed = exchange.fetch_closed_order(placed["id"], SYMBOL)
    assert (closed["status"], closed["filled"]) == ("canceled", 0.0)
    with pytest.raises(ccxt.OrderNotFound):
        exchange.cancel_order(placed["id"], SYMBOL)


def test_a_market_order_makes_trades_a_position_and_a_balance(exchange: Any) -> None:
    before = exchange.fetch_balance()["USDT"]
    placed = exchange.create_order(SYMBOL, "market", "buy", SIZE)
    order = exchange.fetch_order(placed["id"], SYMBOL, {"acknowledged": True})
    assert (order["status"], order["filled"], order["remaining"]) == ("closed", SIZE, 0.0)
    trades = [trade for trade in exchange.fetch_my_trades(SYMBOL) if trade["order"] == placed["id"]]
    assert sum(trade["amount"] for trade in trades) == pytest.approx(SIZE)
    assert all(trade["takerOrMaker"] == "taker" and trade["fee"]["cost"] > 0 for trade in trades)
    assert sum(trade["cost"] for trade in trades) == pytest.approx(order["cost"])
    (position,) = exchange.fetch_positions([SYMBOL])
    assert (position["side"], position["contracts"]) == ("long", SIZE)
    assert position["entryPrice"] == pytest.approx(order["average"]) and position["markPrice"] > 0
    after = exchange.fetch_balance()["USDT"]
    assert before["total"] > after["total"] - 1_000 and after["used"] > before["used"]


def test_leverage_is_set_and_seen_in_the_position(exchange: Any) -> None:
    leverage = 7 if exchange.fetch_position(SYMBOL)["leverage"] != 7 else 8
    exchange.set_leverage(leverage, SYMBOL)
    assert exchange.fetch_position(SYMBOL)["leverage"] == leverage


@pytest.mark.parametrize(
    ("amount", "price", "refusal"),
    [(1_000_000, None, ccxt.BadRequest), (1_000, None, ccxt.InsufficientFunds), (0.01, 1.0, ccxt.InvalidOrder)],
)
def test_refusals_become_the_exceptions_of_ccxt(
    exchange: Any, amount: float, price: float | None, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        exchange.create_order(SYMBOL, "limit", "buy", amount, price or far_below(exchange))


def test_a_wrong_secret_is_an_authentication_error(venue: ServerProcess) -> None:
    stranger = ccxt.bybit({**settings(venue), "secret": "wrong"})
    with pytest.raises(ccxt.AuthenticationError):
        stranger.fetch_balance()


async def test_books_and_trades_are_watched(streams: Streams) -> None:
    book = await asyncio.wait_for(streams.watch_order_book(SYMBOL, 50), SECONDS)
    await streams.listening()
    times = [book["timestamp"]]
    for _ in range(5):
        book = await asyncio.wait_for(streams.watch_order_book(SYMBOL, 50), SECONDS)
        times.append(book["timestamp"])
        assert len(book["bids"]) == len(book["asks"]) == 50 and book["bids"][0][0] < book["asks"][0][0]
    assert times == sorted(times) and times[-1] > times[0]
    watched = asyncio.create_task(streams.watch_trades(SYMBOL))
    await streams.listening()
    await streams.create_order(SYMBOL, "market", "buy", SIZE)
    trades = await asyncio.wait_for(watched, SECONDS)
    assert trades and all(trade["symbol"] == SYMBOL and trade["price"] > 0 for trade in trades)
    await close_position(streams)


async def test_orders_and_my_trades_are_watched(streams: Streams) -> None:
    orders: asyncio.Queue[Any] = asyncio.Queue()
    fills: asyncio.Queue[Any] = asyncio.Queue()
    watchers = [
        asyncio.create_task(forward(streams.watch_orders, orders)),
        asyncio.create_task(forward(streams.watch_my_trades, fills)),
    ]
    try:
        await streams.listening()
        await streams.listening()
        price = float(streams.price_to_precision(SYMBOL, (await streams.fetch_ticker(SYMBOL))["last"] * 0.9))
        resting = await streams.create_order(SYMBOL, "limit", "buy", SIZE, price)
        await heard(orders, lambda order: (order["id"], order["status"]) == (resting["id"], "open"))
        await streams.cancel_order(resting["id"], SYMBOL)
        await heard(orders, lambda order: (order["id"], order["status"]) == (resting["id"], "canceled"))
        taken = await streams.create_order(SYMBOL, "market", "buy", SIZE)
        done = await heard(orders, lambda order: (order["id"], order["status"]) == (taken["id"], "closed"))
        assert done["filled"] == SIZE
        fill = await heard(fills, lambda trade: trade["order"] == taken["id"])
        assert fill["symbol"] == SYMBOL and fill["price"] > 0 and fill["fee"]["cost"] > 0
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await close_position(streams)


async def close_position(streams: Streams) -> None:
    position = await streams.fetch_position(SYMBOL)
    if position["contracts"]:
        side = "sell" if position["side"] == "long" else "buy"
        await streams.create_order(SYMBOL, "market", side, position["contracts"], params={"reduceOnly": True})


async def forward(watch: Callable[[str], Any], queue: asyncio.Queue[Any]) -> None:
    """Everything that is new, one by one."""
    while True:
        for row in await watch(SYMBOL):
            queue.put_nowait(row)


async def heard(queue: asyncio.Queue[Any], wanted: Callable[[Any], bool]) -> Any:
    async def search() -> Any:
        while True:
            row = await queue.get()
            if wanted(row):
                return row

    return await asyncio.wait_for(search(), SECONDS)
