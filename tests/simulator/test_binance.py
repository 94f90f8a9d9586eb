"""Binance's public side of the simulator: books that can be kept by the guides, weights, refusals, subscriptions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer

from tests.processes import ServerProcess
from tests.simulator.binance_book import Gap, StrictBook, sides, ticker_best
from trading.simulator.binance.endpoints import FUTURES_ENDPOINTS, SPOT_ENDPOINTS, Call, Endpoint
from trading.simulator.binance.products import Futures, Pace, Spot
from trading.simulator.binance.side import BinanceSide
from trading.simulator.binance.streams import tier
from trading.simulator.binance.websockets import CONNECTIONS_WINDOW_MS, MOST_CONNECTIONS
from trading.simulator.binance.weights import RequestWeights
from trading.simulator.faults.rules import Known, rules_of
from trading.simulator.hub import Client
from trading.simulator.limits import AddressLimit
from trading.simulator.markets import Liquidation
from trading.simulator.rest_market import ENDPOINTS as BYBIT_ENDPOINTS
from trading.simulator.venue import Venue, now_ms

PATHS = {"spot": "/api/v3", "futures": "/fapi/v1"}
PRODUCTS = ("spot", "futures")
ENDPOINTS: dict[str, Endpoint] = {**SPOT_ENDPOINTS, **FUTURES_ENDPOINTS}
DEPTH_STREAMS = (
    ("spot", "depth@100ms"),
    ("spot", "depth"),
    ("futures", "depth@100ms"),
    ("futures", "depth"),
    ("futures", "depth@500ms"),
)
NOW_MS = 1_800_000_000_000


# Over the network, with a simulator of its own process.


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def rest(http: aiohttp.ClientSession, server: ServerProcess, product: str, path: str, **query: Any) -> Any:
    async with http.get(f"{server.url}{PATHS[product]}/{path}", params=query) as response:
        assert response.status == 200, await response.text()
        return await response.json()


def streams(http: aiohttp.ClientSession, server: ServerProcess, base: str, *names: str) -> Any:
    return http.ws_connect(f"{server.websocket_url}/{base}/stream?streams={'/'.join(names)}")


async def synchronised(
    socket: aiohttp.ClientWebSocketResponse, http: aiohttp.ClientSession, server: ServerProcess, product: str
) -> StrictBook:
    """A book from a snapshot and the events around it, as the guide says: a snapshot that fits none is fetched anew."""
    book = StrictBook(product)
    for _ in range(50):
        book.begin(await rest(http, server, product, "depth", symbol="BTCUSDT", limit=1000))
        try:
            while not book.apply((await socket.receive_json())["data"]):
                pass
        except Gap:
            continue
        return book
    raise AssertionError("no snapshot ever fell into an event")


@pytest.mark.parametrize("product", PRODUCTS)
async def test_a_book_kept_by_the_guide_equals_later_snapshots(
    product: str, simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    waiting: dict[int, Any] = {}
    equal = 0
    async with streams(http, simulator, product, "btcusdt@depth@100ms") as socket:
        book = await synchronised(socket, http, simulator, product)
        for _ in range(40):
            snapshot = await rest(http, simulator, product, "depth", symbol="BTCUSDT", limit=1000)
            waiting[snapshot["lastUpdateId"]] = snapshot
            if book.update_id in waiting:
                assert (book.bids, book.asks) == sides(waiting[book.update_id])
                equal += 1
            assert book.apply((await socket.receive_json())["data"])
    assert equal >= 5


@pytest.mark.parametrize("product", PRODUCTS)
async def test_best_prices_of_the_book_are_those_of_the_book_ticker_with_the_same_id(
    product: str, simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    tickers, bests = {}, {}
    async with streams(http, simulator, product, "btcusdt@depth@100ms") as socket:
        book = await synchronised(socket, http, simulator, product)
        await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 1})
        # The best prices change in a tenth of the market's steps: most ids of one stream are not among the other's.
        while len(tickers.keys() & bests.keys()) < 4:
            message = await socket.receive_json()
            data = message.get("data")
            if message.get("stream") == "btcusdt@bookTicker":
                tickers[data["u"]] = ticker_best(data)
            elif data is not None:
                book.apply(data)
                bests[book.update_id] = book.best
    both = tickers.keys() & bests.keys()
    assert all(tickers[update_id] == bests[update_id] for update_id in both)


@pytest.mark.parametrize("product", PRODUCTS)
async def test_a_lost_update_is_a_gap_that_a_strict_client_sees(
    product: str, fresh_simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    async with streams(http, fresh_simulator, product, "btcusdt@depth@100ms") as socket:
        book = await synchronised(socket, http, fresh_simulator, product)
        body = orjson.dumps({"symbol": "BTCUSDT"})
        async with http.post(f"{fresh_simulator.url}/simulator/control/skip_update", data=body) as response:
            assert (await response.json())["result"] == {"streams": 1}
        with pytest.raises(Gap):
            for _ in range(10):
                book.apply((await socket.receive_json())["data"])


async def test_limits_are_binances_own_and_who_goes_on_regardless_is_banned(
    fresh_simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    refused = []
    for _ in range(400):
        async with http.get(f"{fresh_simulator.url}/fapi/v1/depth?symbol=BTCUSDT&limit=1000") as response:
            used = int(response.headers["X-MBX-USED-WEIGHT-1M"])
            assert (response.status == 200) == (used <= 2400 and not refused)
            if response.status != 200:
                refused.append(response.status)
                assert (await response.json())["code"] == -1003
                assert 1 <= int(response.headers["Retry-After"]) <= (60 if response.status == 429 else 120)
            if response.status == 418:
                break
    assert refused == [429] * 10 + [418]
    spot = await rest(http, fresh_simulator, "spot", "ping")
    assert spot == {}


@pytest.mark.parametrize("product", PRODUCTS)
async def test_aggregate_trades_are_sums_of_the_trades_they_name(
    product: str, simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    async with streams(http, simulator, product, "btcusdt@aggTrade") as socket:
        events = [(await socket.receive_json())["data"] for _ in range(10)]
    assert all(after["a"] == before["a"] + 1 and after["f"] == before["l"] + 1 for before, after in pairwise(events))
    rows = await rest(http, simulator, product, "aggTrades", symbol="BTCUSDT", fromId=events[0]["a"], limit=10)
    assert [{name: event[name] for name in row} for event, row in zip(events, rows, strict=True)] == rows
    trades = {row["id"]: row for row in await rest(http, simulator, product, "trades", symbol="BTCUSDT", limit=1000)}
    for row in rows:
        parts = [trades[number] for number in range(row["f"], row["l"] + 1)]
        assert sum(Decimal(part["qty"]) for part in parts) == Decimal(row["q"])
        assert {part["price"] for part in parts} == {row["p"]}
        assert {part["isBuyerMaker"] for part in parts} == {row["m"]}


@pytest.mark.parametrize("product", PRODUCTS)
async def test_klines_are_the_same_from_a_start_as_from_the_end(
    product: str, simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    newest = await rest(http, simulator, product, "klines", symbol="ETHUSDT", interval="1h", limit=10)
    starts = [row[0] for row in newest]
    assert len(newest) == 10
    assert all(after - before == 3_600_000 for before, after in pairwise(starts))
    assert all(row[6] == row[0] + 3_599_999 and Decimal(row[9]) <= Decimal(row[5]) for row in newest)
    window = {"startTime": starts[2] - 1, "endTime": starts[5]}
    found = await rest(http, simulator, product, "klines", symbol="ETHUSDT", interval="1h", **window)
    assert found == newest[2:6]
    first = await rest(http, simulator, product, "klines", symbol="ETHUSDT", interval="1h", limit=2, **window)
    assert first == newest[2:4]
    before = await rest(http, simulator, product, "klines", symbol="ETHUSDT", interval="1m", limit=3, endTime=1)
    assert before == []
    oldest = await rest(http, simulator, product, "klines", symbol="ETHUSDT", interval="1m", limit=3, startTime=0)
    assert [row[0] - oldest[0][0] for row in oldest] == [0, 60_000, 120_000]
    assert oldest[2][0] < starts[0]


async def test_klines_of_every_interval_are_those_of_the_other_exchange(
    simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    names = {"1m": "1", "5m": "5", "1h": "60", "6h": "360", "12h": "720", "1d": "D", "1w": "W", "1M": "M"}
    for interval, name in names.items():
        query = {"symbol": "BTCUSDT", "interval": name, "limit": "20", "category": "linear"}
        async with http.get(f"{simulator.url}/v5/market/kline", params=query) as response:
            theirs = list(reversed((await response.json())["result"]["list"]))
        mine = await rest(http, simulator, "futures", "klines", symbol="BTCUSDT", interval=interval, limit=21)
        closed = {row[0]: row for row in mine[:-1]}
        compared = [row for row in theirs[:-1] if int(row[0]) in closed]
        assert len(compared) >= 18
        for row in compared:
            assert closed[int(row[0])][1:6] == row[1:6]
            assert Decimal(closed[int(row[0])][7]) == Decimal(row[6])


async def test_a_bar_of_three_days_is_made_of_three_days(simulator: ServerProcess, http: aiohttp.ClientSession) -> None:
    days = await rest(http, simulator, "spot", "klines", symbol="BTCUSDT", interval="1d", limit=1000)
    bars = await rest(http, simulator, "spot", "klines", symbol="BTCUSDT", interval="3d", limit=1000)
    assert all(bar[6] == bar[0] + 3 * 86_400_000 - 1 and bar[0] % (3 * 86_400_000) == 0 for bar in bars)
    assert len(days) == 1_000 and len(bars) > 700
    for bar in bars[-300:-1]:
        parts = [day for day in days if bar[0] <= day[0] < bar[6]]
        assert len(parts) == 3 and sum(Decimal(day[5]) for day in parts) == Decimal(bar[5])
        assert (parts[0][1], parts[2][4], max(Decimal(day[2]) for day in parts)) == (bar[1], bar[4], Decimal(bar[2]))


async def test_payloads_have_the_fields_and_types_of_each_product(
    simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    spot, futures = [await rest(http, simulator, product, "depth", symbol="SOLUSDT", limit=5) for product in PRODUCTS]
    assert list(spot) == ["lastUpdateId", "bids", "asks"]
    assert list(futures) == ["lastUpdateId", "E", "T", "bids", "asks"]
    assert len(spot["bids"]) == len(futures["asks"]) == 5
    assert all(len(text.partition(".")[2]) == 8 for row in spot["bids"] for text in row)
    assert all(
        len(price.partition(".")[2]) == 2 and len(size.partition(".")[2]) == 1 for price, size in futures["asks"]
    )
    info = await rest(http, simulator, "spot", "exchangeInfo", symbols='["SOLUSDT","BTCUSDT"]')
    assert [row["symbol"] for row in info["symbols"]] == ["SOLUSDT", "BTCUSDT"]
    filters = {row["filterType"]: row for row in info["symbols"][0]["filters"]}
    assert (filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]) == ("0.01000000", "0.10000000")
    info = await rest(http, simulator, "futures", "exchangeInfo")
    sol = next(row for row in info["symbols"] if row["symbol"] == "SOLUSDT")
    assert (sol["contractType"], sol["pricePrecision"], sol["quantityPrecision"]) == ("PERPETUAL", 2, 1)
    names = "solusdt@depth5@100ms", "solusdt@bookTicker", "solusdt@kline_1m"
    seen: dict[str, Any] = {}
    async with streams(http, simulator, "futures", *names, "solusdt@markPrice@1s") as socket:
        while len(seen) < 4:
            message = await socket.receive_json()
            seen[message["stream"]] = message["data"]
    assert list(seen["solusdt@depth5@100ms"]) == ["e", "E", "T", "s", "U", "u", "pu", "b", "a"]
    assert set(seen["solusdt@bookTicker"]) == {"e", "u", "s", "b", "B", "a", "A", "T", "E"}
    assert set(seen["solusdt@markPrice@1s"]) == {"e", "E", "s", "p", "i", "P", "r", "T"}
    assert list(seen["solusdt@kline_1m"]["k"]) == list("tTsifLochlvnxqVQB")
    async with streams(http, simulator, "spot", *names, "solusdt@trade") as socket:
        seen = {}
        while len(seen) < 4:
            message = await socket.receive_json()
            seen[message["stream"]] = message["data"]
    assert list(seen["solusdt@depth5@100ms"]) == ["lastUpdateId", "bids", "asks"]
    assert list(seen["solusdt@bookTicker"]) == ["u", "s", "b", "B", "a", "A"]
    assert list(seen["solusdt@trade"]) == ["e", "E", "s", "t", "p", "q", "T", "m", "M"]


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/api/v3/depth", -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ("/fapi/v1/depth?symbol=", -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ("/api/v3/depth?symbol=NOPE", -1121, "Invalid symbol."),
        ("/fapi/v1/klines?symbol=NOPE&interval=1m", -1121, "Invalid symbol."),
        ("/api/v3/depth?symbol=btcusdt", -1100, "parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'."),
        ("/api/v3/depth?symbol=BTCUSDT&limit=many", -1100, "parameter 'limit'; legal range is '^[0-9]{1,20}$'."),
        ("/api/v3/depth?symbol=BTCUSDT&limit=-5", -1100, "parameter 'limit'"),
        ("/api/v3/depth?symbol=BTCUSDT&limit=0", -1130, "Data sent for parameter 'limit' is not valid."),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=25", -4021, "25 is not valid depth limit"),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1501", -1130, "'limit' is not valid."),
        ("/fapi/v1/trades?symbol=BTCUSDT&limit=1001", -1130, "'limit' is not valid."),
        ("/api/v3/klines?symbol=BTCUSDT", -1102, "'interval'"),
        ("/api/v3/klines?symbol=BTCUSDT&interval=7m", -1120, "Invalid interval."),
        ("/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime=yesterday", -1100, "'startTime'"),
        ("/api/v3/aggTrades?symbol=BTCUSDT&fromId=1&startTime=2", -1128, "Combination"),
        ("/api/v3/exchangeInfo?symbol=NOPE", -1121, "Invalid symbol."),
        ("/api/v3/exchangeInfo?symbols=BTCUSDT", -1100, "'symbols'"),
        ("/api/v3/ticker/bookTicker?symbol=BTCUSDT&symbols=[]", -1128, "Combination"),
    ],
)
async def test_bad_parameters_are_named(
    path: str, code: int, words: str, simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    async with http.get(simulator.url + path) as response:
        body = await response.json()
    assert (response.status, set(body), body["code"]) == (400, {"code", "msg"}, code)
    assert words in body["msg"]


# Connections.


@pytest.mark.parametrize("product", PRODUCTS)
async def test_subscriptions_are_listed_and_what_is_left_falls_silent(
    product: str, simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(f"{simulator.websocket_url}/{product}/ws/btcusdt@bookTicker") as socket:
        assert (await socket.receive_json())["s"] == "BTCUSDT"
        await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms", "no@stream"], "id": 1})
        assert await answer(socket, 1) == {"result": None, "id": 1}
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        names = ["btcusdt@bookTicker", "btcusdt@depth@100ms", "no@stream"]
        assert await answer(socket, 2) == {"result": names, "id": 2}
        await socket.send_json({"method": "UNSUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 3})
        assert await answer(socket, 3) == {"result": None, "id": 3}
        later = [await socket.receive_json() for _ in range(10)]
        assert {message["e"] for message in later} == {"depthUpdate"}


async def test_the_wrapper_is_a_property_of_the_connection(
    simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    async with streams(http, simulator, "spot", "btcusdt@depth@100ms") as socket:
        assert (await socket.receive_json())["stream"] == "btcusdt@depth@100ms"
        await socket.send_json({"method": "GET_PROPERTY", "params": ["combined"], "id": "a-1"})
        assert await answer(socket, "a-1") == {"result": True, "id": "a-1"}
        await socket.send_json({"method": "SET_PROPERTY", "params": ["combined", False], "id": None})
        assert await answer(socket, None) == {"result": None, "id": None}
        assert (await socket.receive_json())["e"] == "depthUpdate"


async def test_futures_addresses_serve_their_own_streams_only(
    simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    names = "btcusdt@aggTrade", "btcusdt@depth@100ms", "btcusdt@markPrice@1s", "btcusdt@bookTicker"
    seen = {}
    for base, messages in (("futures/public", 40), ("futures/market", 12)):
        async with streams(http, simulator, base, *names) as socket:
            seen[base] = {(await socket.receive_json())["stream"] for _ in range(messages)}
    assert seen["futures/public"] == {"btcusdt@depth@100ms", "btcusdt@bookTicker"}
    assert seen["futures/market"] == {"btcusdt@aggTrade", "btcusdt@markPrice@1s"}
    async with streams(http, simulator, "futures/private", *names) as socket:
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 9})
        assert await socket.receive_json() == {"result": list(names), "id": 9}


@pytest.mark.parametrize(
    ("frame", "code", "words"),
    [
        ("{", 3, "Invalid JSON: expected value at line 1 column"),
        ("", 3, "Invalid JSON"),
        ("\x00\xff", 3, "Invalid JSON"),
        ("[1, 2]", 2, "Invalid request: expected an object"),
        ("null", 2, "Invalid request: expected an object"),
        ('{"id": 1}', 2, "Invalid request: missing field `method`"),
        ('{"method": "LOGIN", "id": 1}', 2, "unknown variant `LOGIN`, expected one of `SUBSCRIBE`, `UNSUBSCRIBE`"),
        ('{"method": {"a": 1}, "id": 1}', 2, "unknown variant"),
        ('{"method": "SUBSCRIBE", "params": "btcusdt@depth", "id": 1}', 2, "params must be an array"),
        ('{"method": "SUBSCRIBE", "params": [7], "id": 1}', 2, "Invalid request: invalid stream"),
        ('{"method": "SUBSCRIBE", "params": ["not a stream"], "id": 1}', 2, "Invalid request: invalid stream"),
        ('{"method": "LIST_SUBSCRIPTIONS", "params": ["x"], "id": 1}', 2, "Invalid request: too many parameters"),
        ('{"method": "SET_PROPERTY", "params": ["speed", true], "id": 1}', 0, "Unknown property"),
        ('{"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1}', 1, "Invalid value type: expected Boolean"),
        ('{"method": "GET_PROPERTY", "params": [], "id": 1}', 2, "property name must be a string"),
        ('{"method": "SUBSCRIBE", "params": [], "id": 1.5}', 2, "request ID must be an unsigned integer"),
    ],
)
async def test_malformed_messages_are_answered_and_end_nothing(
    frame: str, code: int, words: str, simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(f"{simulator.websocket_url}/spot/ws") as socket:
        await socket.send_str(frame)
        error = (await socket.receive_json())["error"]
        assert error["code"] == code
        assert words in error["msg"]
        await socket.send_bytes(b'{"method": "LIST_SUBSCRIPTIONS", "id": 5}')
        assert await socket.receive_json() == {"result": [], "id": 5}


async def test_futures_want_unsigned_ids_and_hang_up_on_what_is_no_json(
    simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(f"{simulator.websocket_url}/futures/ws") as socket:
        for request_id in ("text", None, -1, True):
            await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": request_id})
            assert "unsigned integer" in (await socket.receive_json())["error"]["msg"]
        await socket.send_str("not json")
        assert (await socket.receive_json())["error"]["code"] == 3
        assert (await socket.receive()).type is WSMsgType.CLOSE
    assert await rest(http, simulator, "futures", "ping") == {}


@pytest.mark.parametrize(("product", "allowed"), [("spot", 5), ("futures", 10)])
async def test_who_sends_too_many_messages_a_second_is_cut(
    product: str, allowed: int, simulator: ServerProcess, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(f"{simulator.websocket_url}/{product}/ws") as socket:
        for number in range(allowed):
            await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
            assert (await socket.receive_json())["id"] == number
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 99})
        message = await socket.receive()
    assert (message.type, message.data) == (WSMsgType.CLOSE, aiohttp.WSCloseCode.POLICY_VIOLATION)


async def test_a_connection_has_at_most_1024_streams(simulator: ServerProcess, http: aiohttp.ClientSession) -> None:
    names = [f"a{number}@depth" for number in range(1_024)]
    async with http.ws_connect(f"{simulator.websocket_url}/spot/ws") as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": names, "id": 1})
        assert await socket.receive_json() == {"result": None, "id": 1}
        await socket.send_json({"method": "SUBSCRIBE", "params": [names[0], "b@depth"], "id": 2})
        assert "1024" in (await socket.receive_json())["error"]["msg"]
        await socket.send_json({"method": "SUBSCRIBE", "params": [names[0]], "id": 3})
        assert await socket.receive_json() == {"result": None, "id": 3}


async def answer(socket: aiohttp.ClientWebSocketResponse, request_id: Any) -> Any:
    """The answer to a request, past the streams' messages before it."""
    while True:
        message = await socket.receive_json()
        if "result" in message and message["id"] == request_id:
            return message


# In this process, where the limits can be small and time stands still.


@pytest.fixture
def venue() -> Iterator[Venue]:
    made = Venue({}, symbols=2)
    yield made
    made.journal.close()


@asynccontextmanager
async def served(side: BinanceSide) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    application = web.Application()
    side.register(application)
    async with TestClient(TestServer(application)) as client:
        yield client


async def test_used_weight_is_told_with_every_answer(venue: Venue) -> None:
    async with served(BinanceSide(venue, spot_weights=RequestWeights(10**9))) as client:
        before = 0
        for path, weight in (("ping", 1), ("exchangeInfo", 20), ("depth?symbol=BTCUSDT&limit=500", 25), ("depth", 5)):
            response = await client.get(f"/api/v3/{path}")
            used = int(response.headers["X-MBX-USED-WEIGHT-1M"])
            assert response.headers["X-MBX-USED-WEIGHT"] == str(used)
            assert used in (before + weight, weight)  # a new minute may begin in between
            before = used
        response = await client.get("/fapi/v1/ping")
        assert "X-MBX-USED-WEIGHT" not in response.headers


@pytest.mark.parametrize(
    ("path", "limit", "weight"),
    [
        *[("/api/v3/depth", *each) for each in ((None, 5), (1, 5), (100, 5), (101, 25), (500, 25), (501, 50))],
        *[("/api/v3/depth", *each) for each in ((1000, 50), (1001, 250), (5000, 250), (9999, 250), ("x", 5))],
        *[("/fapi/v1/depth", *each) for each in ((None, 10), (5, 2), (50, 2), (100, 5), (500, 10), (1000, 20))],
        *[("/fapi/v1/klines", *each) for each in ((99, 1), (100, 2), (499, 2), (500, 5), (1000, 5), (1500, 10))],
        *[(path, None, weight) for path, weight in (("/api/v3/trades", 25), ("/fapi/v1/aggTrades", 20))],
    ],
)
def test_requests_weigh_what_they_weigh_at_binance(path: str, limit: Any, weight: int) -> None:
    query = {} if limit is None else {"limit": str(limit)}
    assert ENDPOINTS[path].weight(query) == weight


def test_weight_is_refused_beyond_the_minutes_limit_and_bans_grow() -> None:
    weights = RequestWeights(10, tolerated=2, first_ban_s=100, longest_ban_s=300)
    now = 60_000 * 1_000 + 15_000
    assert [weights.spend("a", 5, now).status for _ in range(3)] == [200, 200, 429]
    assert weights.spend("a", 5, now).retry_after_s == 45
    assert weights.spend("b", 5, now).status == 200
    ban = weights.spend("a", 5, now)
    assert (ban.status, ban.retry_after_s, ban.banned_until_ms) == (418, 100, now + 100_000)
    assert weights.spend("a", 1, now + 60_000).status == 418  # a new minute does not end a ban
    assert weights.spend("a", 1, now + 60_000).retry_after_s == 40
    assert weights.spend("a", 1, now + 60_000).retry_after_s == 200
    assert [weights.spend("a", 1, now + 60_000).retry_after_s for _ in range(3)] == [200, 200, 300]
    assert weights.spend("a", 5, now + 400_000).status == 200


async def test_the_ban_is_told_as_binance_tells_it(venue: Venue) -> None:
    weights = RequestWeights(0, tolerated=1, first_ban_s=7)
    async with served(BinanceSide(venue, futures_weights=weights)) as client:
        first, second = [await client.get("/fapi/v1/time") for _ in range(2)]
        assert (first.status, second.status, second.headers["Retry-After"]) == (429, 418, "7")
        assert "current limit is 0 request weight per 1 MINUTE" in (await first.json())["msg"]
        assert "IP banned until" in (await second.json())["msg"]
        assert (await client.get("/api/v3/time")).status == 200


async def test_faults_strike_the_endpoints_too(venue: Venue) -> None:
    path = "/api/v3/depth"
    async with served(BinanceSide(venue)) as client:
        for kind, value, expected in (("http_status", 503, (503, -1000)), ("ret_code", -1007, (400, -1007))):
            spoil(venue, path, kind, value=value, **({"message": "backend timeout"} if kind == "ret_code" else {}))
            response = await client.get(path, params={"symbol": "BTCUSDT"})
            assert (response.status, (await response.json())["code"]) == expected
        spoil(venue, path, "lose_answer")
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.get(path, params={"symbol": "BTCUSDT"})
        spoil(venue, path, "delay", value=10)
        assert (await client.get(path, params={"symbol": "BTCUSDT"})).status == 200
        assert [row["spent"] for row in venue.faults.rows()] == [True] * 4


def spoil(venue: Venue, path: str, kind: str, **more: Any) -> None:
    known = Known(frozenset({path}), frozenset())
    venue.faults.add(rules_of({"endpoint": path, "kind": kind, **more}, known))


async def test_pings_carry_a_payload_and_who_does_not_answer_is_cut(venue: Venue) -> None:
    async with served(BinanceSide(venue, pace=Pace(ping=0.02, pong=0.2))) as client:
        socket = await client.ws_connect("/spot/ws", autoping=False)
        heard = [await socket.receive()]
        while heard[-1].type is not WSMsgType.CLOSED:
            heard.append(await socket.receive())
        pings = heard[:-1]
        assert pings and all(ping.type is WSMsgType.PING and ping.data.isdigit() for ping in pings)


class Listener:
    """Stands for a connection: keeps what it is sent."""

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.sent: list[bytes] = []
        self.frames: list[bytes] = []

    def send_frame(self, frame: bytes) -> None:
        self.frames.append(frame)
        header = {126: 4, 127: 10}.get(frame[1], 2)
        self.sent.append(frame[header:])


def listening(side: BinanceSide, product: str, *names: str, combined: bool = False) -> Any:
    listener: Any = Listener()
    client: Client = listener
    for name in names:
        side.feed.listen(client, product, name, combined=combined)
    return listener


async def test_a_connection_lives_no_longer_than_it_may(venue: Venue) -> None:
    async with served(BinanceSide(venue, pace=Pace(ping=60, pong=60, life=0.05))) as client:
        socket = await client.ws_connect("/spot/ws")
        assert (await socket.receive()).type is WSMsgType.CLOSED
    assert (Spot.PACE, Futures.PACE.life) == (Pace(ping=20, pong=60, life=86_400), 86_400)


async def test_who_answers_pings_stays(venue: Venue) -> None:
    async with served(BinanceSide(venue, pace=Pace(ping=0.01, pong=0.2))) as client:
        socket = await client.ws_connect("/spot/ws", autoping=False)
        # As often as a client may send at all: five messages a second.
        for _ in range(3):
            ping = await socket.receive()
            await socket.pong(ping.data)
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 1})
        while (message := await socket.receive()).type is WSMsgType.PING:
            pass
        assert json.loads(message.data) == {"result": [], "id": 1}


async def test_a_shutdown_is_announced_to_every_spot_connection(venue: Venue) -> None:
    side = BinanceSide(venue)
    async with served(side) as client:
        raw, combined = await client.ws_connect("/spot/ws"), await client.ws_connect("/spot/stream")
        futures = await client.ws_connect("/futures/ws")
        assert side.announce_shutdown() == 2
        event = await raw.receive_json()
        assert event.keys() == {"e", "E"} and event["e"] == "serverShutdown"
        wrapped = await combined.receive_json()
        assert (wrapped["stream"], wrapped["data"]["e"]) == ("!serverShutdown", "serverShutdown")
        await futures.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 1})
        assert (await futures.receive_json())["id"] == 1


async def test_an_address_begins_a_limited_number_of_connections(venue: Venue) -> None:
    async with served(BinanceSide(venue, connections=AddressLimit(2, 300_000))) as client:
        for path in ("/spot/ws", "/futures/stream"):
            await (await client.ws_connect(path)).close()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect("/spot/ws")
        assert refused.value.status == 429
    assert (MOST_CONNECTIONS, CONNECTIONS_WINDOW_MS) == (300, 5 * 60_000)


@pytest.mark.parametrize(("product", "speed_ms"), [("spot", 1_000), ("futures", 2_000)])
def test_tickers_of_a_symbol_come_at_their_pace_with_the_figures_of_rest(product: str, speed_ms: int) -> None:
    venue = Venue({}, symbols=2, clock=lambda: NOW_MS)  # a minute begins: the 24 hours stay the same ones
    side = BinanceSide(venue)
    listener = listening(side, product, "btcusdt@ticker")
    minis = listening(side, product, "btcusdt@miniTicker")
    run(venue, 1_000)
    tickers = [json.loads(message) for message in listener.sent]
    assert paced([ticker["E"] for ticker in tickers], speed_ms)
    last, mini = tickers[-1], json.loads(minis.sent[-1])
    row = asked(side, product, "ticker/24hr", now_ms=last["E"], symbol="BTCUSDT")
    if product == "spot":
        assert (last["x"], Decimal(last["b"]) < Decimal(last["a"])) == (row["prevClosePrice"], True)
    assert (last["o"], last["F"], last["P"][-4]) == (row["openPrice"], row["firstId"], ".")
    assert last["n"] == last["L"] - last["F"] + 1 and last["C"] - last["O"] == 86_400_000
    assert Decimal(last["c"]) - Decimal(last["o"]) == Decimal(last["p"])
    assert Decimal(last["l"]) <= Decimal(last["w"]) <= Decimal(last["h"])
    assert {name: last[name] for name in "sohlvqc"} == {name: mini[name] for name in "sohlvqc"}


@pytest.mark.parametrize("product", PRODUCTS)
def test_tickers_of_all_symbols_are_one_message_of_those_that_changed(product: str, venue: Venue) -> None:
    side = BinanceSide(venue)
    names = ("!ticker@arr", "!miniTicker@arr")
    listeners = [listening(side, product, name) for name in names]
    run(venue, 250)
    for listener, event in zip(listeners, ("24hrTicker", "24hrMiniTicker"), strict=True):
        messages = [json.loads(message) for message in listener.sent]
        assert {row["e"] for message in messages for row in message} == {event}
        assert [row["s"] for row in messages[0]] == ["BTCUSDT", "ETHUSDT"]
        assert paced([message[0]["E"] for message in messages], 1_000)
    venue._source = None  # nobody trades
    run(venue, 60, first=250)
    heard = [len(listener.sent) for listener in listeners]
    run(venue, 100, first=310)
    assert [len(listener.sent) for listener in listeners] == heard


def test_mark_prices_and_best_prices_of_all_contracts(venue: Venue) -> None:
    side = BinanceSide(venue)
    marks = listening(side, "futures", "!markPrice@arr@1s")
    slow = listening(side, "futures", "!markPrice@arr")
    books = listening(side, "futures", "!bookTicker")
    nobody = listening(side, "spot", "!bookTicker", "!markPrice@arr", "btcusdt@forceOrder")
    run(venue, 520)
    rows = [json.loads(message) for message in marks.sent]
    assert [row["s"] for row in rows[0]] == ["BTCUSDT", "ETHUSDT"]
    assert paced([row[0]["E"] for row in rows], 1_000)
    assert 3 <= len(slow.sent) <= 5
    best = [json.loads(message) for message in books.sent]
    assert {row["e"] for row in best} == {"bookTicker"} and {row["s"] for row in best} == {"BTCUSDT", "ETHUSDT"}
    assert all(Decimal(row["b"]) < Decimal(row["a"]) for row in best)
    assert nobody.sent == []


def test_the_last_liquidation_of_a_second_is_told(venue: Venue) -> None:
    side = BinanceSide(venue)
    one, every = listening(side, "futures", "btcusdt@forceOrder"), listening(side, "futures", "!forceOrder@arr")
    run(venue, 60)
    for symbol, taker, quantity in (("BTCUSDT", "Buy", "0.5"), ("ETHUSDT", "Sell", "2"), ("BTCUSDT", "Buy", "0.7")):
        row = Liquidation(symbol, taker, Decimal(quantity), Decimal("1234.5"), NOW_MS)
        venue.exchange.liquidations.append(row)
    run(venue, 120, first=60)
    (event,) = (json.loads(message) for message in one.sent)
    order = event["o"]
    assert (order["s"], order["S"], order["q"], order["p"], order["T"]) == (
        "BTCUSDT",
        "SELL",
        "0.700",
        "1234.5",
        NOW_MS,
    )
    told = {json.loads(message)["o"]["s"]: json.loads(message)["o"]["S"] for message in every.sent}
    assert told == {"BTCUSDT": "SELL", "ETHUSDT": "BUY"} and len(every.sent) == 2


def test_each_stream_of_futures_has_its_address() -> None:
    market = ("btcusdt@ticker", "!ticker@arr", "!miniTicker@arr", "btcusdt@forceOrder", "!forceOrder@arr")
    assert {tier(name) for name in (*market, "!markPrice@arr@1s", "btcusdt@kline_1M")} == {"market"}
    assert {tier(name) for name in ("!bookTicker", "btcusdt@depth20@500ms", "btcusdt@bookTicker")} == {"public"}


def test_funding_is_that_of_the_other_exchange(venue: Venue) -> None:
    side, query = BinanceSide(venue), {"category": "linear", "symbol": "BTCUSDT", "limit": "50"}
    mine = asked(side, "futures", "fundingRate", now_ms=now_ms(), symbol="BTCUSDT", limit="50")
    theirs = BYBIT_ENDPOINTS["/v5/market/funding/history"](venue, query)["list"]
    assert [(row["fundingTime"], Decimal(row["fundingRate"])) for row in reversed(mine)] == [
        (int(row["fundingRateTimestamp"]), Decimal(row["fundingRate"])) for row in theirs
    ]
    start = mine[10]["fundingTime"]
    first = asked(side, "futures", "fundingRate", now_ms=now_ms(), symbol="BTCUSDT", startTime=str(start), limit="3")
    assert first == mine[10:13]
    premium = asked(side, "futures", "premiumIndex", now_ms=now_ms(), symbol="BTCUSDT")
    assert premium["nextFundingTime"] == mine[-1]["fundingTime"] + 8 * 3_600_000
    assert Decimal(premium["lastFundingRate"]) == venue.exchange.market("BTCUSDT").funding_rate
    assert [row["symbol"] for row in asked(side, "futures", "premiumIndex", now_ms=now_ms())] == ["BTCUSDT", "ETHUSDT"]
    interest = asked(side, "futures", "openInterest", now_ms=now_ms(), symbol="BTCUSDT")["openInterest"]
    assert interest == venue.tickers["BTCUSDT"].values(now_ms())["openInterest"]


def test_prices_of_one_and_of_all(venue: Venue) -> None:
    side = BinanceSide(venue)
    run(venue, 500)
    for product in PRODUCTS:
        one = asked(side, product, "ticker/price", symbol="BTCUSDT")
        assert one in asked(side, product, "ticker/price") and ("time" in one) == (product == "futures")
        assert Decimal(one["price"]) == venue.exchange.market("BTCUSDT").last_price
        days = asked(side, product, "ticker/24hr")
        assert [row["symbol"] for row in days] == ["BTCUSDT", "ETHUSDT"]
    mini = asked(side, "spot", "ticker/24hr", symbols='["ETHUSDT"]', type="MINI")
    assert "bidPrice" not in mini[0] and "lastPrice" in mini[0]
    average = asked(side, "spot", "avgPrice", symbol="BTCUSDT")
    assert average["mins"] == 5 and Decimal(average["price"]) == pytest.approx(
        Decimal(one["price"]), rel=Decimal("0.02")
    )


def paced(times: list[int], speed_ms: int) -> bool:
    """Whether these are so far apart, or several times as far where nothing traded; the first one came at once."""
    return len(times) > 3 and all((after - before) % speed_ms == 0 for before, after in pairwise(times[1:]))


def asked(side: BinanceSide, product: str, path: str, *, now_ms: int = NOW_MS, **query: str) -> Any:
    return ENDPOINTS[f"{PATHS[product]}/{path}"].answer(Call(side.products[product], query, 1, now_ms))


def test_a_message_is_made_once_for_all_its_listeners(venue: Venue) -> None:
    side = BinanceSide(venue)
    first, second = (listening(side, "spot", "btcusdt@depth@100ms") for _ in range(2))
    wrapped = listening(side, "spot", "btcusdt@depth@100ms", combined=True)
    run(venue, 5)
    assert first.frames[0] is second.frames[0]
    assert json.loads(wrapped.sent[0]) == {"stream": "btcusdt@depth@100ms", "data": json.loads(first.sent[0])}


def test_books_are_compared_only_while_somebody_listens(venue: Venue) -> None:
    side = BinanceSide(venue)
    ledgers = {symbol: side.instruments[symbol].ledger for symbol in ("BTCUSDT", "ETHUSDT")}
    before = {symbol: ledger.count for symbol, ledger in ledgers.items()}
    listener = listening(side, "futures", "btcusdt@depth@100ms")
    run(venue, 50)
    assert ledgers["ETHUSDT"].count == before["ETHUSDT"]
    assert ledgers["BTCUSDT"].count > before["BTCUSDT"]
    venue.hub.remove(listener)
    run(venue, 5)
    settled = ledgers["BTCUSDT"].count
    run(venue, 50)
    assert ledgers["BTCUSDT"].count == settled


@pytest.mark.parametrize(("product", "kind"), DEPTH_STREAMS)
def test_every_speed_tells_the_same_book_for_minutes(product: str, kind: str, venue: Venue) -> None:
    side = BinanceSide(venue)
    listener = listening(side, product, f"btcusdt@{kind}")
    book, equal, events = StrictBook(product), 0, 0
    fetched: dict[int, Any] = {}
    synchronised = False
    for tick in range(5_000):  # 100 seconds
        run(venue, 1, first=tick)
        if not synchronised or tick % 7 == 0:
            snapshot = depth(side, product)
            fetched[snapshot["lastUpdateId"]] = snapshot
            if not synchronised and not listener.sent:
                book.begin(snapshot)
        while listener.sent:
            event = json.loads(listener.sent.pop(0))
            try:
                synchronised = book.apply(event)
            except Gap:
                assert not synchronised
                book.begin(snapshot)
                continue
            events += 1
            if book.update_id in fetched:
                assert (book.bids, book.asks) == sides(fetched[book.update_id])
                equal += 1
    assert synchronised
    assert events >= 90
    assert equal >= 5


def test_a_bar_ends_once_on_its_stream(venue: Venue) -> None:
    side = BinanceSide(venue)
    listener = listening(side, "futures", "btcusdt@kline_1m")
    run(venue, 4_000)
    bars = [json.loads(message)["k"] for message in listener.sent]
    starts = sorted({bar["t"] for bar in bars})
    assert len(starts) >= 2
    assert [bar["t"] for bar in bars if bar["x"]] == starts[:-1]
    assert all(Decimal(bar["V"]) <= Decimal(bar["v"]) for bar in bars)
    assert all(Decimal(bar["l"]) <= Decimal(bar["c"]) <= Decimal(bar["h"]) for bar in bars)


def depth(side: BinanceSide, product: str) -> Any:
    query = {"symbol": "BTCUSDT", "limit": "1000"}
    return ENDPOINTS[f"{PATHS[product]}/depth"].answer(Call(side.products[product], query, 1, NOW_MS))


def run(venue: Venue, ticks: int, first: int = 0) -> None:
    """Let so many 20 ms ticks pass at once."""
    for tick in range(first, first + ticks):
        venue.tick(venue.started_ms + tick * 20)
