"""The websockets as a client meets them: orders by websocket, public topics at their pace, private topics by category,
disconnected-cancel-all, and the limits of a connection."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import queue
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pybit._websocket_trading
import pybit.unified_trading as unified
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from tests import processes
from tests.processes import ServerProcess
from trading.simulator import websockets
from trading.simulator.clerk import Clerk
from trading.simulator.intervals import MINUTE_MS, OPEN
from trading.simulator.keys import ApiKey
from trading.simulator.limits import AddressLimits, TradeLimits
from trading.simulator.markets import Liquidation, market_of
from trading.simulator.private_topics import gathered
from trading.simulator.publisher import BookStream
from trading.simulator.rest import RestApi
from trading.simulator.signatures import Authority
from trading.simulator.venue import Venue
from trading.simulator.websockets import Websockets, active_seconds

SECONDS = 30.0
KEYS = {name: ApiKey(name, f"{name}-key", f"{name}-secret") for name in (f"user{number}" for number in range(300))}
unused = itertools.cycle(KEYS.values())
SYMBOL = "BTCUSDT"
NOW_MS = 1_800_000_000_000
Row = dict[str, Any]

SPOT_LISTING = {
    "symbol": SYMBOL,
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "status": "Trading",
    "lotSizeFilter": {
        "basePrecision": "0.000001",
        "quotePrecision": "0.0000001",
        "minOrderQty": "0.000011",
        "maxOrderQty": "83",
        "minOrderAmt": "5",
        "maxOrderAmt": "8000000",
        "maxLimitOrderQty": "83",
        "maxMarketOrderQty": "41.5",
    },
    "priceFilter": {"tickSize": "0.01"},
    "riskParameters": {"priceLimitRatioX": "0.05", "priceLimitRatioY": "0.1"},
}


class Socket:
    """A connection that keeps what comes while it waits for something else."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, **request: Any) -> None:
        await self.socket.send_json(request)

    async def next(self) -> Row:
        message = await self.socket.receive(SECONDS)
        assert message.type == WSMsgType.TEXT, message
        return json.loads(message.data)

    async def until(self, wanted: Callable[[Row], bool]) -> Row:
        async with asyncio.timeout(SECONDS):
            while True:
                message = await self.next()
                if wanted(message):
                    return message

    async def answer(self, operation: str) -> Row:
        return await self.until(lambda message: message.get("op") == operation)

    async def told(self, topic: str) -> Row:
        return await self.until(lambda message: message.get("topic") == topic)

    async def ask(self, operation: str, *arguments: Any, **more: Any) -> Row:
        await self.send(op=operation, args=list(arguments), **more)
        return await self.answer(operation)

    async def subscribe(self, *topics: str) -> None:
        answer = await self.ask("subscribe", *topics)
        assert answer["success"], answer

    async def is_cut(self) -> bool:
        async with asyncio.timeout(SECONDS):
            while (await self.socket.receive()).type == WSMsgType.TEXT:
                pass
        return self.socket.closed


class Exchange:
    """A simulator at some address, as one user sees it."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: ApiKey) -> None:
        self.session, self.url, self.key = session, url, key

    async def open(self, path: str) -> Socket:
        return Socket(await self.session.ws_connect(f"{self.url}{path}"))

    async def public(self, *topics: str, category: str = "linear") -> Socket:
        socket = await self.open(f"/v5/public/{category}")
        await socket.subscribe(*topics)
        return socket

    async def private(self, *topics: str) -> Socket:
        socket = await self.open("/v5/private")
        assert (await socket.ask("auth", *auth(self.key)))["success"]
        await socket.subscribe(*topics)
        return socket

    async def trade(self) -> Socket:
        socket = await self.open("/v5/trade")
        assert (await socket.ask("auth", *auth(self.key)))["retCode"] == 0
        return socket

    async def post(self, path: str, **fields: Any) -> Row:
        body = json.dumps(fields).encode()
        async with self.session.post(f"{self.url}{path}", data=body, headers=signed(self.key, body)) as response:
            return {**await response.json(), "headers": response.headers}

    async def statuses(self, **fields: Any) -> list[str]:
        query = "&".join(f"{name}={value}" for name, value in {"category": "linear", **fields}.items())
        headers = signed(self.key, query.encode())
        async with self.session.get(f"{self.url}/v5/order/realtime?{query}", headers=headers) as response:
            return [row["orderStatus"] for row in (await response.json())["result"]["list"]]


def auth(key: ApiKey, secret: str | None = None) -> list[Any]:
    expires = time.time_ns() // 1_000_000 + 10_000
    text = f"GET/realtime{expires}".encode()
    return [key.api_key, expires, hmac.new((secret or key.api_secret).encode(), text, hashlib.sha256).hexdigest()]


def signed(key: ApiKey, payload: bytes) -> Row:
    timestamp = str(time.time_ns() // 1_000_000)
    text = f"{timestamp}{key.api_key}5000".encode() + payload
    return {
        "X-BAPI-API-KEY": key.api_key,
        "X-BAPI-TIMESTAMP": timestamp,
        "X-BAPI-RECV-WINDOW": "5000",
        "X-BAPI-SIGN": hmac.new(key.api_secret.encode(), text, hashlib.sha256).hexdigest(),
    }


def order(**changes: Any) -> Row:
    fields = {"category": "linear", "symbol": SYMBOL, "side": "Buy", "orderType": "Limit", "qty": "0.001"}
    return {**fields, "price": "50000", "timeInForce": "GTC", **changes}


def stamped(ahead_ms: int = 0, **more: Any) -> Row:
    return {"X-BAPI-TIMESTAMP": str(time.time_ns() // 1_000_000 + ahead_ms), **more}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    rows = [
        {"user": k.user, "api_key": k.api_key, "api_secret": k.api_secret, "balance": "100000"} for k in KEYS.values()
    ]
    folder: Path = tmp_path_factory.mktemp("websockets")
    (folder / "keys.json").write_text(json.dumps(rows))
    started = processes.start_simulator(
        folder / "simulator.log", ("--symbols", "2", "--keys", str(folder / "keys.json"))
    )
    yield started
    started.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
def exchange(server: ServerProcess, session: aiohttp.ClientSession) -> Exchange:
    return Exchange(session, server.url, next(unused))


@asynccontextmanager
async def served(
    venue: Venue, addresses: AddressLimits | None = None, trade: TradeLimits | None = None
) -> AsyncIterator[str]:
    """A venue of this process over real sockets; its clock stands until the test moves it."""
    application, authority, clerk = web.Application(), Authority(KEYS), Clerk(venue)
    RestApi(venue, authority, clerk, addresses).register(application)
    Websockets(venue, authority, clerk, addresses, trade).register(application)
    server = TestServer(application)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        venue.hub.disconnect_all()
        await server.close()


@pytest.fixture
def venue() -> Venue:
    return Venue(KEYS, symbols=2)


@pytest.fixture
async def standing(venue: Venue, session: aiohttp.ClientSession) -> AsyncIterator[Exchange]:
    """An exchange whose clock the test moves through ``venue``."""
    async with served(venue) as url:
        yield Exchange(session, url, next(unused))


# Orders by websocket.


async def test_pybit_trades_by_websocket(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pybit._websocket_trading, "TRADE_WSS", f"{server.websocket_url}/v5/trade")
    key = next(unused)
    client = unified.WebSocketTrading(
        testnet=False, api_key=key.api_key, api_secret=key.api_secret, private_auth_expire=10, recv_window=8000
    )
    answers: queue.Queue[Row] = queue.Queue()
    loop = asyncio.get_running_loop()

    async def answer() -> Row:
        return await loop.run_in_executor(None, lambda: answers.get(timeout=SECONDS))

    async def each(send: Callable[..., None], **fields: Any) -> Row:
        await loop.run_in_executor(None, lambda: send(answers.put, error_callback=answers.put, **fields))
        return await answer()

    try:
        placed = await each(client.place_order, **order(orderLinkId="pybit-1"))
        assert (placed["retCode"], placed["data"]["orderLinkId"]) == (0, "pybit-1")
        amended = await each(client.amend_order, category="linear", symbol=SYMBOL, orderLinkId="pybit-1", qty="0.002")
        assert amended["data"]["orderId"] == placed["data"]["orderId"]
        assert (await each(client.amend_order, category="linear", symbol=SYMBOL, orderLinkId="x"))["retCode"] == 110001
        cancelled = await each(client.cancel_order, category="linear", symbol=SYMBOL, orderLinkId="pybit-1")
        assert cancelled["data"] == placed["data"]
        items = [{**order(), "orderLinkId": f"pybit-batch-{number}"} for number in range(2)]
        batch = await each(client.place_batch_order, category="linear", request=items)
        assert batch["retExtInfo"]["list"] == [{"code": 0, "msg": "OK"}] * 2
        names = [{"symbol": SYMBOL, "orderLinkId": item["orderLinkId"]} for item in items]
        changed = [{**name, "qty": "0.003"} for name in names]
        assert (await each(client.amend_batch_order, category="linear", request=changed))["retCode"] == 0
        gone = await each(client.cancel_batch_order, category="linear", request=[*names, {**names[0]}])
        assert [row["code"] for row in gone["retExtInfo"]["list"]] == [0, 0, 110001]
    finally:
        await loop.run_in_executor(None, client.exit)


async def test_authentication_by_key_signature_and_once(exchange: Exchange) -> None:
    socket = await exchange.open("/v5/trade")
    assert (await socket.ask("auth", *auth(exchange.key, "wrong")))["retCode"] == 10004
    assert (await socket.ask("auth", "nobody", 1, "x"))["retCode"] == 10003
    assert (await socket.ask("auth"))["retCode"] == 10001
    answer = await socket.ask("auth", *auth(exchange.key), reqId="first")
    assert answer == {"reqId": "first", "retCode": 0, "retMsg": "OK", "op": "auth", "connId": answer["connId"]}
    again = await socket.ask("auth", *auth(exchange.key))
    assert (again["retCode"], again["connId"], "reqId" in again) == (20001, answer["connId"], False)


async def test_nothing_is_traded_before_authentication(exchange: Exchange) -> None:
    socket = await exchange.open("/v5/trade")
    await socket.send(op="order.create", args=[order()], header=stamped(), reqId="early")
    assert (await socket.ask("auth", *auth(exchange.key)))["retCode"] == 0
    answer = await socket.answer("order.create")
    assert (answer["retCode"], answer["reqId"]) == (10003, "early")
    await socket.send(op="ping")
    pong = await socket.answer("pong")
    assert abs(int(pong["data"][0]) - time.time() * 1000) < 5_000 and pong["retCode"] == 0
    assert await exchange.statuses(symbol=SYMBOL) == []


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (stamped, 0),
        (lambda: {"X-BAPI-TIMESTAMP": time.time_ns() // 1_000_000}, 0),
        (lambda: stamped(-6_000), 10002),
        (lambda: stamped(-6_000, **{"X-BAPI-RECV-WINDOW": "8000"}), 0),
        (lambda: stamped(-6_000, **{"X-BAPI-RECV-WINDOW": 8000}), 0),
        (lambda: stamped(2_000), 10002),
        (dict, 10002),
        (list, 10002),
        (lambda: {"X-BAPI-TIMESTAMP": {}}, 10002),
        (lambda: {"X-BAPI-TIMESTAMP": "²"}, 10002),
    ],
)
async def test_the_time_of_a_request_must_be_near(exchange: Exchange, header: Callable[[], Any], code: int) -> None:
    socket = await exchange.trade()
    answer = await socket.ask("order.create", order(), header=header())
    assert answer["retCode"] == code
    assert await exchange.statuses(symbol=SYMBOL) == ([] if code else ["New"])


async def test_a_request_id_is_used_once_on_a_connection(exchange: Exchange) -> None:
    first, second = await exchange.trade(), await exchange.trade()
    assert (await first.ask("order.create", order(), header=stamped(), reqId="1"))["reqId"] == "1"
    again = await first.ask("order.create", order(), header=stamped(), reqId="1")
    assert (again["retCode"], again["reqId"]) == (20006, "1")
    assert (await second.ask("order.create", order(), header=stamped(), reqId="1"))["retCode"] == 0
    assert (await first.ask("order.create", order(), header=stamped(), reqId="x" * 36))["retCode"] == 0
    await first.send(op="order.create", args=[order()], header=stamped(), reqId="x" * 37)
    assert (await first.next())["retCode"] == 10001
    assert await exchange.statuses(symbol=SYMBOL) == ["New"] * 3


@pytest.mark.parametrize(
    ("operation", "arguments", "code"),
    [
        ("order.fly", [order()], 10404),
        ("order.create", [order(category="moon")], 10404),
        ("order.create", [order(category="inverse")], 10404),
        ("order.create", [{}], 10404),
        ("order.create", [], 10001),
        ("order.create", [order(), order()], 10001),
        ("order.create", ["order"], 10001),
        ("order.create", {"order": 1}, 10001),
        ("order.create", [order(qty="0.0015")], 10001),
        ("order.cancel", [{"category": "linear", "symbol": SYMBOL, "orderId": "none"}], 110001),
        ("order.create-batch", [{"category": "linear", "request": []}], 10001),
    ],
)
async def test_a_refusal_has_the_code_of_the_exchange(
    exchange: Exchange, operation: str, arguments: Any, code: int
) -> None:
    socket = await exchange.trade()
    await socket.send(op=operation, args=arguments, header=stamped(), reqId="refused")
    answer = await socket.next()
    assert (answer["retCode"], answer["op"], answer["reqId"]) == (code, operation, "refused") and answer["retMsg"]


@pytest.mark.parametrize(
    "frame",
    [
        "{broken",
        "[1]",
        "7",
        '{"op":{}}',
        '{"op":"order.create","reqId":[]}',
        '{"op":"auth","args":[[],{},null]}',
        '{"op":"auth","args":{"a":1}}',
        '{"op":"order.create","header":{},"args":' + "[" * 500 + "]" * 500 + "}",
        b"\xff\xfe",
        b"",
    ],
)
async def test_malformed_requests_are_answered_and_end_nothing(exchange: Exchange, frame: str | bytes) -> None:
    for make in (exchange.trade, lambda: exchange.open("/v5/trade")):
        socket = await make()
        await (socket.socket.send_bytes(frame) if isinstance(frame, bytes) else socket.socket.send_str(frame))
        assert (await socket.next())["retCode"] != 0
        await socket.send(op="ping", reqId="still-there")
        assert (await socket.answer("pong"))["reqId"] == "still-there"


async def test_limits_are_shared_with_rest(exchange: Exchange) -> None:
    socket = await exchange.trade()
    first = (await socket.ask("order.create", order(), header=stamped()))["header"]
    assert (first["X-Bapi-Limit"], first["X-Bapi-Limit-Status"]) == ("10", "9")
    assert abs(int(first["Timenow"]) - int(first["X-Bapi-Limit-Reset-Timestamp"])) < 1_000 and first["Traceid"]
    second = await exchange.post("/v5/order/create", **order())
    assert second["headers"]["X-Bapi-Limit-Status"] == "8"
    for _ in range(9):
        await socket.send(op="order.create", args=[order()], header=stamped())
    answers = [await socket.next() for _ in range(9)]
    assert [answer["retCode"] for answer in answers] == [0] * 8 + [10006]
    assert int(answers[-1]["header"]["X-Bapi-Limit-Reset-Timestamp"]) > int(answers[-1]["header"]["Timenow"])
    assert (await exchange.post("/v5/order/create", **order()))["retCode"] == 10006
    assert (await socket.ask("order.cancel", order(orderId="none"), header=stamped()))["retCode"] == 110001


async def test_orders_by_websocket_are_written_down_before_the_answer_and_told_after_it(
    standing: Exchange, venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    remember, settle = venue.remember, venue.settle
    monkeypatch.setattr(venue, "remember", lambda: (events.append("written"), remember()))
    monkeypatch.setattr(venue, "settle", lambda: (events.append("told"), settle()))
    private, socket = await standing.private("order"), await standing.trade()
    deliver = venue.hub.deliver
    monkeypatch.setattr(venue.hub, "deliver", lambda *given: (events.append("answered"), deliver(*given)))
    placed = await socket.ask("order.create", order(), header=stamped())
    assert (await private.told("order"))["data"][0]["orderId"] == placed["data"]["orderId"]
    assert events == ["written", "answered", "told"]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"kind": "ret_code", "value": 10019}, 10019),
        ({"kind": "http_status", "value": 429}, 10429),
        ({"kind": "http_status", "value": 502}, 10016),
        ({"kind": "duplicate_delivery"}, 110072),
        ({"kind": "delay", "value": 50}, 0),
    ],
)
async def test_faults_of_an_endpoint_hit_its_operation(exchange: Exchange, rule: Row, code: int) -> None:
    socket = await exchange.trade()
    rule = {"endpoint": "/v5/order/create", "user": exchange.key.user, **rule}
    async with exchange.session.post(f"{exchange.url}/simulator/control/faults", json=rule) as answer:
        assert (await answer.json())["retCode"] == 0
    answer = await socket.ask("order.create", order(orderLinkId="spoilt"), header=stamped())
    assert answer["retCode"] == code
    assert await exchange.statuses(symbol=SYMBOL) == (["New"] if code in (0, 110072) else [])


async def test_a_lost_answer_cuts_the_connection_and_the_order_is_there(exchange: Exchange) -> None:
    socket = await exchange.trade()
    rule = {"endpoint": "/v5/order/create", "user": exchange.key.user, "kind": "lose_answer"}
    async with exchange.session.post(f"{exchange.url}/simulator/control/faults", json=rule) as answer:
        assert (await answer.json())["retCode"] == 0
    await socket.send(op="order.create", args=[order()], header=stamped())
    assert await socket.is_cut()
    assert await exchange.statuses(symbol=SYMBOL) == ["New"]


async def test_a_rule_for_frames_hits_answers_of_trade_connections(exchange: Exchange) -> None:
    socket = await exchange.trade()
    rule = {"channel": "trade", "topic": "order.create", "user": exchange.key.user, "kind": "repeat"}
    async with exchange.session.post(f"{exchange.url}/simulator/control/faults", json=rule) as answer:
        assert (await answer.json())["retCode"] == 0
    first = await socket.ask("order.create", order(), header=stamped())
    assert await socket.next() == first and first["retCode"] == 0
    assert await exchange.statuses(symbol=SYMBOL) == ["New"]


async def test_spot_is_traded_by_websocket_with_its_own_limit(standing: Exchange, spot: Venue) -> None:
    socket = await standing.trade()
    taken = order(category="spot", qty="0.01", price="60000.01", orderLinkId="spot-ws")
    answer = await socket.ask("order.create", taken, header=stamped())
    assert (answer["retCode"], answer["header"]["X-Bapi-Limit"]) == (0, "20")
    assert spot.exchange.accounts[standing.key.user].wallets["BTC"] > 0
    gone = await socket.ask("order.cancel", {**taken, "orderLinkId": "none"}, header=stamped())
    assert gone["retCode"] == 170213


# Public topics.


async def test_liquidations_are_told_in_batches(standing: Exchange, venue: Venue) -> None:
    socket = await standing.public(f"allLiquidation.{SYMBOL}")
    rows = [("Buy", "0.5", "60000.1"), ("Sell", "2", "70000")]
    for side, quantity, price in rows:
        venue.exchange.liquidations.append(Liquidation(SYMBOL, side, Decimal(quantity), Decimal(price), NOW_MS + 1))
    venue.exchange.liquidations.append(Liquidation("ETHUSDT", "Buy", Decimal(1), Decimal(3000), NOW_MS))
    venue.tick(NOW_MS)
    message = await socket.next()
    assert message["data"] == [
        {"T": NOW_MS + 1, "s": SYMBOL, "S": side, "v": quantity, "p": price} for side, quantity, price in rows
    ]
    assert (message["topic"], message["type"], message["ts"]) == (f"allLiquidation.{SYMBOL}", "snapshot", NOW_MS)
    for step, late in ((20, "1"), (480, "2"), (500, "3")):
        venue.exchange.liquidations.append(Liquidation(SYMBOL, "Buy", Decimal(late), Decimal(1), NOW_MS))
        venue.tick(NOW_MS + step)
    # Nothing within 500 ms; then all of them together.
    assert [row["v"] for row in (await socket.next())["data"]] == ["1", "2", "3"]
    assert venue.exchange.liquidations == []


async def test_the_price_limit_is_told_when_it_changed(standing: Exchange, venue: Venue) -> None:
    market = venue.exchange.market(SYMBOL)
    market.mark_price = market.index_price = Decimal(50_000)
    socket = await standing.public(f"priceLimit.{SYMBOL}")
    limit = {"symbol": SYMBOL, "buyLmt": "52500.0", "sellLmt": "47500.0"}
    assert (await socket.next())["data"] == limit
    venue.notices.tick(NOW_MS)
    venue.notices.tick(NOW_MS + 300)
    market.mark_price = market.index_price = Decimal(60_000)
    venue.notices.tick(NOW_MS + 320)
    venue.notices.tick(NOW_MS + 600)
    told = await socket.next()
    assert (told["ts"], told["data"]["buyLmt"], told["data"]["sellLmt"]) == (NOW_MS + 600, "63000.0", "57000.0")


async def test_a_best_price_is_told_again_after_three_seconds_with_the_same_id(
    standing: Exchange, venue: Venue
) -> None:
    venue._source = None  # nobody trades
    socket = await standing.public(f"orderbook.1.{SYMBOL}")
    first = await socket.next()
    stream = venue.book_stream(f"orderbook.1.{SYMBOL}")
    assert stream is not None
    for step in range(400):
        venue.tick(NOW_MS + 20 * step)
    told = [await socket.next() for _ in range(3)]
    assert {message["type"] for message in told} == {"snapshot"}
    assert [message["data"]["u"] for message in told] == [first["data"]["u"]] * 3
    assert [message["data"]["b"] for message in told] == [first["data"]["b"]] * 3
    assert [later["ts"] - earlier["ts"] for earlier, later in itertools.pairwise(told)] == [3_000] * 2


async def test_the_best_price_is_told_after_10_ms_and_deeper_books_are_not(standing: Exchange, venue: Venue) -> None:
    venue._source = None  # nobody trades
    depths = (1, 50, 200)
    sockets = {depth: await standing.public(f"orderbook.{depth}.{SYMBOL}") for depth in depths}
    firsts = {depth: await socket.next() for depth, socket in sockets.items()}
    placed = order(price=best_but_one(venue), orderLinkId="ten")
    assert (await standing.post("/v5/order/create", **placed))["retCode"] == 0
    venue.half_tick(NOW_MS + 10)
    venue.half_tick(NOW_MS + 15)  # nothing changed any more
    venue.tick(NOW_MS + 20)
    told = await sockets[1].next()
    assert (told["type"], told["ts"], told["data"]["b"][0][0]) == ("snapshot", NOW_MS + 10, placed["price"])
    assert told["data"]["u"] == firsts[1]["data"]["u"] + 1
    delta = await sockets[50].next()
    assert (delta["type"], delta["ts"], delta["data"]["b"][0][0]) == ("delta", NOW_MS + 20, placed["price"])
    for socket in sockets.values():
        await socket.send(op="ping")
        assert (await socket.next())["op"] == "ping"


def best_but_one(venue: Venue) -> str:
    """A price for a buyer who is the best, with the best seller pushed a little away."""
    book, grids = venue.exchange.market(SYMBOL).book, venue.exchange.market(SYMBOL).grids
    assert book.asks.best is not None
    tick = book.asks.best
    book.asks.set_background(tick, 0)
    return grids.prices.text(tick)


async def test_a_quiet_market_costs_no_look_at_its_books(
    standing: Exchange, venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue._source = None  # nobody trades
    await standing.public(*(f"orderbook.{depth}.{SYMBOL}" for depth in (1, 50)))
    venue.tick(NOW_MS)
    looks: list[int] = []
    monkeypatch.setattr(BookStream, "delta", lambda stream, now: looks.append(now))
    for step in range(1, 20):
        venue.half_tick(NOW_MS + 20 * step - 10)
        venue.tick(NOW_MS + 20 * step)
    assert looks == []


async def test_sequence_numbers_order_the_books_of_all_depths_and_the_trades(standing: Exchange, venue: Venue) -> None:
    socket = await standing.public(*(f"orderbook.{depth}.{SYMBOL}" for depth in (1, 50, 200)), f"publicTrade.{SYMBOL}")
    for step in range(200):
        venue.tick(NOW_MS + 20 * step)
    await socket.send(op="ping")
    seen: dict[str, list[tuple[int, int]]] = {}
    while "topic" in (message := await socket.next()):
        if message["ts"] >= NOW_MS:
            rows = message["data"] if isinstance(message["data"], list) else [message["data"]]
            seen.setdefault(message["topic"], []).extend((message["ts"], row["seq"]) for row in rows)
    for topic, rows in seen.items():
        numbers = [number for _, number in rows]
        assert numbers == sorted(numbers)
        assert topic.startswith("publicTrade") or len(set(numbers)) == len(numbers)
    of_50 = dict(seen[f"orderbook.50.{SYMBOL}"])
    for topic in (f"orderbook.1.{SYMBOL}", f"orderbook.200.{SYMBOL}"):
        assert all(of_50[now] == number for now, number in seen[topic] if now in of_50)


class FullBook:
    """A client that keeps the whole book as Bybit's page describes it."""

    def __init__(self) -> None:
        self.buffer: list[Row] = []
        self.book: dict[str, dict[str, str]] | None = None
        self.update_id = 0

    def begin(self, snapshot: Row) -> bool:
        """Whether the snapshot fits what was buffered."""
        if not self.buffer or snapshot["seq"] < self.buffer[0]["seq"]:
            return False
        rest = [delta for delta in self.buffer if delta["seq"] >= snapshot["seq"]]
        if not rest or (rest[0]["seq"], rest[0]["u"]) != (snapshot["seq"], snapshot["u"]):
            return False
        self.book = {side: {price: size for price, size in snapshot[side]} for side in "ba"}  # noqa: C416
        self.update_id = snapshot["u"]
        for delta in rest[1:]:
            self.apply(delta)
        return True

    def apply(self, delta: Row) -> None:
        assert self.book is not None and delta["u"] == self.update_id + 1
        self.update_id = delta["u"]
        for side in "ba":
            for price, size in delta[side]:
                if size == "0":
                    del self.book[side][price]
                else:
                    self.book[side][price] = size


@pytest.mark.parametrize("category", ["linear", "spot"])
async def test_the_full_book_is_kept_from_deltas_and_its_snapshot(
    standing: Exchange, venue: Venue, category: str
) -> None:
    socket = await standing.open(f"/v5/public/{category}")
    await socket.subscribe(f"orderbook.full.{SYMBOL}")
    kept, compared, times = FullBook(), 0, []
    for step in range(600):
        venue.tick(NOW_MS + 20 * step)
        if step % 10 != 9:
            continue
        message = await socket.next()
        assert (message["type"], message["topic"]) == ("delta", f"orderbook.full.{SYMBOL}")
        times.append(message["ts"])
        snapshot = await full_orderbook(standing, category)
        if kept.book is None:
            kept.buffer.append(message["data"])
            assert kept.begin(snapshot)
            continue
        kept.apply(message["data"])
        assert (snapshot["u"], snapshot["seq"]) == (message["data"]["u"], message["data"]["seq"])
        assert kept.book == {side: dict(snapshot[side]) for side in "ba"}
        compared += 1
    assert compared == 59 and {later - earlier for earlier, later in itertools.pairwise(times)} == {200}
    bids, asks = ([Decimal(price) for price, _ in snapshot[side]] for side in "ba")
    assert bids == sorted(bids, reverse=True) and asks == sorted(asks) and len(bids) > 100


async def full_orderbook(exchange: Exchange, category: str) -> Row:
    query = f"category={category}&symbol={SYMBOL}"
    async with exchange.session.get(f"{exchange.url}/v5/market/full_orderbook?{query}") as response:
        return (await response.json())["result"]


async def test_the_full_book_has_up_to_ten_thousand_levels_a_side(standing: Exchange, venue: Venue) -> None:
    venue._source = None  # nobody trades
    bids = venue.exchange.market(SYMBOL).book.bids
    assert bids.best is not None
    for level in range(11_000):
        bids.set_background(bids.best - level, 5)
    snapshot = await full_orderbook(standing, "linear")
    assert len(snapshot["b"]) == 10_000 and {size for _, size in snapshot["b"]} == {"0.005"}


async def test_a_restarted_full_book_begins_with_an_empty_message_of_the_id_one(
    standing: Exchange, venue: Venue
) -> None:
    topic = f"orderbook.full.{SYMBOL}"
    socket = await standing.public(topic)
    message = venue.restart_book(topic)
    assert message is not None
    venue.hub.publish(topic, message)
    data = (await socket.next())["data"]
    assert (data["u"], data["b"], data["a"]) == (1, [], [])
    assert (await full_orderbook(standing, "linear"))["u"] == 1


async def test_the_ticker_of_a_contract_is_a_snapshot_then_what_changed_every_100_ms(
    standing: Exchange, venue: Venue
) -> None:
    venue._source = None  # nobody trades
    market = venue.exchange.market(SYMBOL)
    socket = await standing.public(f"tickers.{SYMBOL}")
    assert (await socket.next())["type"] == "snapshot"
    for step in range(51):
        market.mark_price = Decimal(50_000) + step
        venue.tick(NOW_MS + 20 * step)
    # The first minutes begin meanwhile: they change more than the price.
    first, *later = [await socket.next() for _ in range(10)][1:]
    assert {message["type"] for message in (first, *later)} == {"delta"}
    assert [message["data"] for message in later] == [
        {"symbol": SYMBOL, "markPrice": str(50_000 + 5 * number - 1)} for number in range(3, 11)
    ]
    assert {after["ts"] - before["ts"] for before, after in itertools.pairwise((first, *later))} == {100}


async def test_maintenance_is_announced_on_a_channel_of_its_own(exchange: Exchange) -> None:
    socket = await exchange.open("/v5/public/misc/status")
    assert not (await socket.ask("subscribe", f"tickers.{SYMBOL}"))["success"]
    await socket.subscribe("system.status")
    row = {"title": "engine", "state": "scheduled", "begin": NOW_MS, "end": NOW_MS + 60_000}
    announced = await control(exchange, "announce", row)
    message = await socket.told("system.status")
    assert message["data"] == [announced["result"]] and message.keys() == {"topic", "ts", "data"}
    over = await control(exchange, "announce", {**row, "id": announced["result"]["id"], "state": "completed"})
    assert (await socket.told("system.status"))["data"][0]["state"] == "completed"
    async with exchange.session.get(f"{exchange.url}/v5/system/status?id={over['result']['id']}") as response:
        assert (await response.json())["result"]["list"] == [over["result"]]
    assert (await control(exchange, "announce", {**row, "state": "fog"}))["retCode"] == 10001


async def control(exchange: Exchange, name: str, body: Row) -> Row:
    async with exchange.session.post(f"{exchange.url}/simulator/control/{name}", json=body) as response:
        return await response.json()


async def test_books_are_told_at_their_pace(standing: Exchange, venue: Venue) -> None:
    venue._source = None  # nobody trades
    depths = {1: 20, 50: 20, 200: 100, 1000: 200}
    market = venue.exchange.market(SYMBOL)
    sockets = {depth: await standing.public(f"orderbook.{depth}.{SYMBOL}") for depth in depths}
    for socket in sockets.values():
        assert (await socket.next())["type"] == "snapshot"
    best = market.book.bids.best
    assert best is not None
    for step in range(1, 61):
        market.book.bids.set_background(best, 1_000 + step)
        market.book.changed = True
        venue.tick(NOW_MS + 20 * step)
    for depth, pace in depths.items():
        messages = [await sockets[depth].next() for _ in range(1_200 // pace)]
        times = [message["ts"] for message in messages]
        assert {later - earlier for earlier, later in itertools.pairwise(times)} == {pace}
        ids = [message["data"]["u"] for message in messages]
        assert {later - earlier for earlier, later in itertools.pairwise(ids)} == {1}


async def test_the_ticker_tells_the_price_of_an_hour_ago(standing: Exchange, venue: Venue) -> None:
    socket = await standing.public(f"tickers.{SYMBOL}")
    message = await socket.next()
    ticker = message["data"]
    bar = venue.candles[SYMBOL].minute(message["ts"] // MINUTE_MS - 60)
    assert bar is not None
    assert ticker["prevPrice1h"] == venue.exchange.market(SYMBOL).grids.prices.text(int(bar[OPEN]))
    assert ticker["prevPrice1h"] != ticker["prevPrice24h"]


async def test_a_new_listener_takes_no_change_from_the_others(standing: Exchange, venue: Venue) -> None:
    first = await standing.public(f"tickers.{SYMBOL}")
    await first.next()
    venue._push_tickers(NOW_MS)
    await first.next()
    venue.exchange.market(SYMBOL).mark_price = Decimal("12345.6")
    second = await standing.public(f"tickers.{SYMBOL}")
    assert (await second.next())["data"]["markPrice"] == "12345.6"
    venue._push_tickers(NOW_MS + 100)
    assert (await first.next())["data"]["markPrice"] == "12345.6"


# Spot.


@pytest.fixture
def spot(venue: Venue) -> Venue:
    """The venue with a spot market, 100 levels on each side of 60000, and without anybody who trades by himself."""
    venue._source = None
    market = market_of(SPOT_LISTING, "spot")
    middle = market.grids.prices.units("60000")
    for level in range(1, 101):
        market.book.bids.set_background(middle - level, 10_000 * level)
        market.book.asks.set_background(middle + level, 10_000 * level)
    market.last_price = Decimal(60_000)
    venue.list_spot(market)
    return venue


async def test_spot_topics_are_those_of_the_spot_market(standing: Exchange, spot: Venue) -> None:
    topics = [f"{name}.{SYMBOL}" for name in ("orderbook.50", "tickers", "publicTrade", "kline.1", "priceLimit")]
    socket = await standing.open("/v5/public/spot")
    answer = await socket.ask("subscribe", *topics, req_id="spot")
    assert (answer["success"], answer["ret_msg"]) == (True, "subscribe")
    first = {message["topic"]: message for message in [await socket.next() for _ in range(3)]}
    book, ticker = first[topics[0]], first[topics[1]]
    assert (book["data"]["b"][0][0], len(book["data"]["a"])) == ("59999.99", 50)
    assert first[topics[4]]["data"] == {"symbol": SYMBOL, "buyLmt": "63000.00", "sellLmt": "57000.00"}
    assert ticker["type"] == "snapshot" and ticker["data"].keys() == {
        *("symbol", "lastPrice", "highPrice24h", "lowPrice24h", "prevPrice24h"),
        *("volume24h", "turnover24h", "price24hPcnt", "usdIndexPrice"),
    }
    linear = await standing.public(f"publicTrade.{SYMBOL}")
    taken = order(category="spot", qty="0.01", price="60000.01", orderLinkId="spot-1")
    assert (await standing.post("/v5/order/create", **taken))["retCode"] == 0
    trade = (await socket.told(f"publicTrade.{SYMBOL}"))["data"][0]
    assert (trade["S"], trade["v"], trade["p"]) == ("Buy", "0.010000", "60000.01")
    for step in range(1, 11):
        spot.tick(NOW_MS + 20 * step)
    told: dict[str, Row] = {}
    while not {topics[0], topics[1], topics[3]} <= told.keys():
        message = await socket.next()
        told.setdefault(message["topic"], message)
    assert (told[topics[1]]["type"], told[topics[1]]["data"]["lastPrice"]) == ("snapshot", "60000.01")
    assert told[topics[0]]["type"] == "delta" and told[topics[0]]["data"]["b"] == []
    assert told[topics[3]]["data"][0]["close"] == "60000.01"
    # Nothing of it was told as a contract's.
    await linear.send(op="ping")
    assert "topic" not in await linear.next()


async def test_spot_tickers_are_told_every_50_ms_when_they_changed(standing: Exchange, spot: Venue) -> None:
    market = spot.exchange.spot[SYMBOL]
    socket = await standing.public(f"tickers.{SYMBOL}", category="spot")
    await socket.next()
    for step in range(101):
        market.last_price = Decimal(60_000) + step
        (spot.half_tick if step % 2 else spot.tick)(NOW_MS + 10 * step)
    times = [(await socket.next())["ts"] - NOW_MS for _ in range(21)]
    assert times == list(range(0, 1_001, 50))


async def test_what_spot_does_not_have_is_refused(standing: Exchange, spot: Venue) -> None:
    socket = await standing.open("/v5/public/spot")
    for topic in (f"allLiquidation.{SYMBOL}", "tickers.NOPEUSDT", f"orderbook.7.{SYMBOL}", f"tickers.x.{SYMBOL}"):
        answer = await socket.ask("subscribe", topic)
        assert not answer["success"] and topic in answer["ret_msg"]
    answer = await socket.ask("subscribe", *[f"tickers.{SYMBOL}"] * 11)
    assert (answer["success"], answer["ret_msg"]) == (False, "args size >10")
    assert (await socket.ask("subscribe", *[f"tickers.{SYMBOL}"] * 10))["success"]


# Private topics.


async def test_fills_are_told_fast_with_few_fields(exchange: Exchange) -> None:
    listener = await exchange.private("execution.fast")
    taken = order(orderType="Market", timeInForce="IOC", qty="0.5", orderLinkId="fast-1")
    assert (await exchange.post("/v5/order/create", **taken))["retCode"] == 0
    fast = await listener.told("execution.fast")
    assert fast.keys() == {"topic", "creationTime", "data"}
    assert all(
        row.keys() == {
            *("category", "symbol", "execId", "execPrice", "execQty"),
            *("orderId", "isMaker", "orderLinkId", "side", "execTime", "seq"),
        }
        for row in fast["data"]
    )  # fmt: skip
    row = fast["data"][0]
    assert (row["orderLinkId"], row["isMaker"], row["side"]) == ("fast-1", False, "Buy")


async def test_a_makers_fast_fill_has_no_link_id(standing: Exchange, venue: Venue) -> None:
    maker = Exchange(standing.session, standing.url, next(unused))
    listener = await maker.private("execution.fast", "execution")
    await listener.subscribe("execution.fast.linear", "execution.fast.spot")
    best = venue.exchange.market(SYMBOL).book.asks.best
    assert best is not None
    market = venue.exchange.market(SYMBOL)
    price = market.grids.prices.text(best - 1)
    resting = order(side="Sell", price=price, orderLinkId="maker-1", timeInForce="PostOnly")
    market.book.bids.set_background(best - 1, 0)
    assert (await maker.post("/v5/order/create", **resting))["retCode"] == 0
    assert (await standing.post("/v5/order/create", **order(price=price, timeInForce="IOC")))["retCode"] == 0
    told: dict[str, Row] = {}
    while told.keys() != {"execution", "execution.fast", "execution.fast.linear"}:
        message = await listener.next()
        told[message["topic"]] = message["data"][0]
    assert told["execution"]["orderLinkId"] == "maker-1" and told["execution"]["isMaker"]
    assert told["execution.fast"]["orderLinkId"] == "" and told["execution.fast"]["isMaker"]
    assert told["execution.fast.linear"] == told["execution.fast"]
    assert told["execution.fast"]["execId"] == told["execution"]["execId"]


async def test_categorised_topics_have_only_their_rows(standing: Exchange, spot: Venue) -> None:
    every, linear = await standing.private("order"), await standing.private("order.linear", "execution.linear")
    spots = await standing.private("order.spot", "execution.spot", "position.linear")
    assert (await standing.post("/v5/order/create", **order(orderLinkId="l")))["retCode"] == 0
    told = await linear.next()
    assert (told["topic"], [row["category"] for row in told["data"]]) == ("order.linear", ["linear"])
    taken = order(category="spot", qty="0.01", price="60000.01", orderLinkId="s")
    assert (await standing.post("/v5/order/create", **taken))["retCode"] == 0
    heard = {}
    while heard.keys() != {"order.spot", "execution.spot"}:
        message = await spots.next()
        heard[message["topic"]] = message["data"]
    assert {row["orderLinkId"] for rows in heard.values() for row in rows} == {"s"}
    assert {(await every.told("order"))["data"][0]["orderLinkId"] for _ in range(2)} == {"l", "s"}
    await linear.send(op="ping")
    assert (await linear.next())["op"] == "pong"


@pytest.mark.parametrize(
    ("topics", "accepted"),
    [
        (("order", "order.linear"), False),
        (("execution.fast", "wallet", "execution.fast.linear"), False),
        (("order", "execution.linear", "execution.fast"), True),
        (("order.linear", "order.spot", "position.inverse"), True),
        (("order.moon",), False),
        (("wallet.linear",), False),
        (("dcp",), False),
        (("dcp.future", "dcp.spot", "dcp.option", "greeks"), True),
    ],
)
async def test_topics_for_all_and_for_one_category_are_not_mixed(
    exchange: Exchange, topics: tuple[str, ...], accepted: bool
) -> None:
    socket = await exchange.private()
    answer = await socket.ask("subscribe", *topics, req_id="7")
    assert (answer["success"], answer["op"], answer["req_id"]) == (accepted, "subscribe", "7")
    assert bool(answer["ret_msg"]) != accepted


async def test_the_wallet_is_told_when_it_changes_and_not_before(exchange: Exchange) -> None:
    socket = await exchange.private("wallet", "order")
    assert (await exchange.post("/v5/order/create", **order()))["retCode"] == 0
    assert (await socket.next())["topic"] == "order"
    taken = order(orderType="Market", timeInForce="IOC")
    assert (await exchange.post("/v5/order/create", **taken))["retCode"] == 0
    assert (await socket.told("wallet"))["data"][0]["accountType"] == "UNIFIED"


async def test_rows_of_one_instant_are_one_message(standing: Exchange, venue: Venue) -> None:
    for number in range(3):
        assert (await standing.post("/v5/order/create", **order(orderLinkId=f"r{number}")))["retCode"] == 0
    venue.settle()
    socket = await standing.private("order")
    await standing.post("/v5/order/cancel-all", category="linear", symbol=SYMBOL)
    message = await socket.next()
    assert [(row["orderLinkId"], row["orderStatus"]) for row in message["data"]] == [
        (f"r{number}", "Cancelled") for number in range(3)
    ]


def test_one_thing_is_once_in_a_message_and_every_topic_keeps_its_order() -> None:
    outbox: list[tuple[str, str, Row]] = [
        ("a", "order", {"orderId": 1, "n": 1}),
        ("a", "order", {"orderId": 1, "n": 1}),
        ("a", "execution", {"execId": 1}),
        ("b", "order", {"orderId": 1, "n": 2}),
        ("a", "order", {"orderId": 2, "n": 3}),
        ("a", "execution", {"execId": 2}),
        ("a", "order", {"orderId": 1, "n": 4}),
        ("a", "order", {"orderId": 3, "n": 5}),
    ]
    messages = [
        (user, topic, [row.get("n", row.get("execId")) for row in rows]) for user, topic, rows in gathered(outbox)
    ]
    assert messages == [
        ("a", "order", [1, 3]),
        ("a", "execution", [1, 2]),
        ("b", "order", [2]),
        ("a", "order", [4, 5]),
    ]


# Disconnected-cancel-all.


class Timers:
    """Stands in for the wait of the dead man's switch: what it waits for, until the test lets the time pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: dict[asyncio.TimerHandle, float] = {}
        self.changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        later = loop.call_later

        def call_later(delay: float, callback: Any, *arguments: Any, **more: Any) -> asyncio.TimerHandle:
            timer = later(delay, callback, *arguments, **more)
            if getattr(callback, "__name__", "") == "_cancel_all":
                self.waiting[timer] = delay
                self.changed.set()
            return timer

        monkeypatch.setattr(loop, "call_later", call_later)

    async def armed(self) -> tuple[asyncio.TimerHandle, float]:
        async with asyncio.timeout(SECONDS):
            await self.changed.wait()
        self.changed.clear()
        return list(self.waiting.items())[-1]


def pass_by(timer: asyncio.TimerHandle) -> None:
    """The time of a timer has come."""
    assert not timer.cancelled()
    timer._run()
    timer.cancel()


async def test_who_is_gone_has_no_orders_any_more(
    standing: Exchange, spot: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch)
    answer = await standing.post("/v5/order/disconnected-cancel-all", product="DERIVATIVES", timeWindow=3)
    assert answer["retCode"] == 0
    assert (await standing.post("/v5/order/create", **order(orderLinkId="future")))["retCode"] == 0
    taken = order(category="spot", qty="0.01", price="50000", orderLinkId="spot")
    assert (await standing.post("/v5/order/create", **taken))["retCode"] == 0
    watching = await standing.private("order")
    first, second = await standing.private("dcp.future"), await standing.private("dcp.future", "dcp.future")
    await first.socket.close()
    # The other one is still there.
    assert timers.waiting == {} and spot.hub.wanted(f"{standing.key.user}/dcp.future")
    await second.socket.close()
    timer, seconds = await timers.armed()
    assert seconds == 3
    pass_by(timer)
    (row,) = (await watching.told("order"))["data"]
    assert (row["orderLinkId"], row["orderStatus"], row["cancelType"]) == ("future", "Cancelled", "CancelByDCP")
    assert await standing.statuses(symbol=SYMBOL) == []
    assert await standing.statuses(category="spot", symbol=SYMBOL) == ["New"]
    third = await standing.private("dcp.spot")
    await third.socket.close()
    timer, _ = await timers.armed()
    pass_by(timer)
    (row,) = (await watching.told("order"))["data"]
    assert (row["orderLinkId"], row["cancelType"]) == ("spot", "CancelByDCP")


async def test_who_comes_back_in_time_keeps_the_orders(
    standing: Exchange, venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch)
    assert (await standing.post("/v5/order/create", **order()))["retCode"] == 0
    first = await standing.private("dcp.future")
    await first.socket.close()
    timer, seconds = await timers.armed()
    assert seconds == 10
    again = await standing.private("dcp.future")
    assert timer.cancelled()
    # Who takes the subscription back is not watched any more.
    assert (await again.ask("unsubscribe", "dcp.future"))["success"]
    await again.socket.close()
    other = await standing.private("order")
    await other.socket.close()
    assert len(timers.waiting) == 1 and await standing.statuses(symbol=SYMBOL) == ["New"]


# The limits of a connection.


async def test_a_connection_has_at_most_21000_characters_of_topics(exchange: Exchange) -> None:
    socket = await exchange.open("/v5/public/linear")
    venue_topics = [f"kline.{interval}.{SYMBOL}" for interval in (1, 3, 5)]
    assert (await socket.ask("subscribe", *venue_topics * 100))["success"]  # the same ones count once
    await socket.send(op="subscribe", args=[f"tickers.{'X' * 20_990}USDT"])
    assert not (await socket.answer("subscribe"))["success"]


async def test_what_was_unsubscribed_counts_no_more(
    standing: Exchange, venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.simulator.websocket_public.MOST_CHARACTERS", 40)
    socket = await standing.open("/v5/public/linear")
    assert (await socket.ask("subscribe", "tickers.BTCUSDT", "tickers.ETHUSDT"))["success"]
    refused = await socket.ask("subscribe", "priceLimit.BTCUSDT")
    assert not refused["success"] and "longer than 40 characters" in refused["ret_msg"]
    assert (await socket.ask("unsubscribe", "tickers.ETHUSDT"))["success"]
    assert not venue.hub.wanted("tickers.ETHUSDT")
    assert not (await socket.ask("subscribe", "priceLimit.BTCUSDT", "tickers.ETHUSDT"))["success"]
    assert (await socket.ask("subscribe", "priceLimit.BTCUSDT"))["success"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("30s", 30.0), ("45s", 45.0), ("600s", 600.0), ("1m", 60.0), ("10m", 600.0)),
        *((text, 600.0) for text in ("", "29s", "601s", "11m", "0m", "45", "m", "-45s", "4 5s", "²s", "9999s", "1h")),
    ],
)
def test_the_time_without_a_message_is_read_strictly(text: str, seconds: float) -> None:
    assert active_seconds(text) == seconds


@pytest.mark.parametrize("path", ["/v5/public/linear", "/v5/private", "/v5/trade"])
async def test_a_silent_connection_is_cut_and_one_that_pings_is_not(
    standing: Exchange, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(websockets, "ACTIVE_SECONDS", 1.0)
    monkeypatch.setattr(websockets, "SCAN_SECONDS", 0.05)
    began = time.monotonic()
    silent, lively = await standing.open(path), await standing.open(path)
    cut = asyncio.create_task(silent.is_cut())
    while not cut.done():
        await lively.send(op="ping")
        assert (await lively.next())["op"] in ("ping", "pong")
        await asyncio.wait([cut], timeout=0.05)
    assert cut.result() and 1 <= time.monotonic() - began < SECONDS
    await lively.send(op="ping")
    assert (await lively.next())["op"] in ("ping", "pong")


async def test_an_address_has_a_limited_number_of_public_connections(
    venue: Venue, session: aiohttp.ClientSession
) -> None:
    async with served(venue, AddressLimits(streams=2)) as url:
        exchange = Exchange(session, url, next(unused))
        opened = [await exchange.open("/v5/public/linear") for _ in range(2)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await exchange.open("/v5/public/linear")
        assert refused.value.status == 403
        opened += [await exchange.open(path) for path in ("/v5/public/spot", "/v5/private")]
        await opened[0].socket.close()
        opened.append(await exchange.open("/v5/public/linear"))
        assert [each.socket.closed for each in opened] == [True, False, False, False, False]


async def test_connections_of_every_path_count_together(venue: Venue, session: aiohttp.ClientSession) -> None:
    async with served(venue, AddressLimits(connections=3)) as url:
        exchange = Exchange(session, url, next(unused))
        for path in ("/v5/public/linear", "/v5/private", "/v5/trade"):
            await (await exchange.open(path)).socket.close()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await exchange.open("/v5/public/spot")
        assert refused.value.status == 403


async def test_an_address_makes_so_many_trade_requests_a_second(venue: Venue, session: aiohttp.ClientSession) -> None:
    async with served(venue, AddressLimits(trade_requests=20)) as url:
        exchange = Exchange(session, url, next(unused))
        sockets = [await exchange.trade() for _ in range(2)]
        for number in range(20):
            await sockets[number % 2].send(op="ping", reqId=str(number))
        codes = [(await sockets[number % 2].next())["retCode"] for number in range(20)]
        assert sorted(codes) == [0] * 18 + [10403] * 2


async def test_a_session_that_asks_too_often_is_told_so_and_goes_on(
    venue: Venue, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = venue.clock()
    async with served(venue, trade=TradeLimits(requests=3)) as url:
        exchange = Exchange(session, url, next(unused))
        monkeypatch.setattr(venue, "clock", lambda: now)
        busy, other = await exchange.trade(), await exchange.trade()
        answers = [await busy.ask("order.create", order(), header=stamped(), reqId=str(n)) for n in range(3)]
        assert [answer["retCode"] for answer in answers] == [0, 0, 20003]
        assert answers[2]["reqId"] == "2"
        assert (await other.ask("order.create", order(), header=stamped()))["retCode"] == 0
        now += 1_000
        again = await busy.ask("order.create", order(), header=stamped(), reqId="2")
        assert (again["retCode"], len(venue.exchange.accounts[exchange.key.user].working)) == (0, 4)


async def test_a_user_has_a_limited_number_of_trade_sessions(venue: Venue, session: aiohttp.ClientSession) -> None:
    async with served(venue, trade=TradeLimits(sessions=2)) as url:
        first, second = Exchange(session, url, next(unused)), Exchange(session, url, next(unused))
        opened = [await first.trade() for _ in range(2)]
        third = await first.open("/v5/trade")
        refused = await third.ask("auth", *auth(first.key))
        assert (refused["retCode"], refused["retMsg"]) == (10003, "Too many sessions under the same UID")
        await second.trade()
        await opened[0].socket.close()
        assert (await third.ask("auth", *auth(first.key)))["retCode"] == 0


# Batches.


def orders(count: int, **changes: Any) -> list[Row]:
    return [order(**changes, orderLinkId=f"batch-{number}") for number in range(count)]


async def test_of_a_batch_beyond_the_limit_the_first_orders_are_placed(exchange: Exchange) -> None:
    assert (await exchange.post("/v5/order/create", **order()))["headers"]["X-Bapi-Limit-Status"] == "9"
    first = await exchange.post("/v5/order/create-batch", category="linear", request=orders(7))
    assert (first["headers"]["X-Bapi-Limit"], first["headers"]["X-Bapi-Limit-Status"]) == ("10", "3")
    items = [order(orderLinkId=f"more-{number}") for number in range(5)]
    second = await exchange.post("/v5/order/create-batch", category="linear", request=items)
    assert second["retCode"] == 0 and second["headers"]["X-Bapi-Limit-Status"] == "0"
    assert int(second["headers"]["X-Bapi-Limit-Reset-Timestamp"]) > second["time"]
    assert [row["code"] for row in second["retExtInfo"]["list"]] == [0, 0, 0, 10006, 10006]
    assert [row["orderLinkId"] for row in second["result"]["list"]] == [item["orderLinkId"] for item in items]
    assert [bool(row["orderId"]) for row in second["result"]["list"]] == [True, True, True, False, False]
    assert [bool(row["createAt"]) for row in second["result"]["list"]] == [True, True, True, False, False]
    third = await exchange.post("/v5/order/create-batch", category="linear", request=items[3:])
    assert (third["retCode"], third["retExtInfo"]) == (10006, {})
    assert len(await exchange.statuses(symbol=SYMBOL)) == 11
    # The single endpoint was not charged for any of that.
    assert (await exchange.post("/v5/order/create", **order()))["headers"]["X-Bapi-Limit-Status"] == "8"


async def test_a_batch_by_websocket_counts_with_those_of_rest(exchange: Exchange) -> None:
    socket = await exchange.trade()
    await exchange.post("/v5/order/create-batch", category="linear", request=orders(8))
    batch = {"category": "linear", "request": [order(orderLinkId=f"more-{number}") for number in range(4)]}
    answer = await socket.ask("order.create-batch", batch, header=stamped())
    assert [row["code"] for row in answer["retExtInfo"]["list"]] == [0, 0, 10006, 10006]
    assert answer["header"]["X-Bapi-Limit-Status"] == "0"
    assert (await socket.ask("order.create", order(), header=stamped()))["header"]["X-Bapi-Limit-Status"] == "9"
    assert (await socket.ask("order.create-batch", batch, header=stamped()))["retCode"] == 10006
    assert len(await exchange.statuses(symbol=SYMBOL)) == 11


@pytest.mark.parametrize("name", ["amend", "cancel"])
async def test_amends_and_cancels_in_a_batch_fail_beyond_the_limit_one_by_one(exchange: Exchange, name: str) -> None:
    names = [{"symbol": SYMBOL, "orderLinkId": f"none-{number}", "qty": "1"} for number in range(12)]
    answer = await exchange.post(f"/v5/order/{name}-batch", category="linear", request=names)
    assert [row["code"] for row in answer["retExtInfo"]["list"]] == [110001] * 10 + [10006] * 2
    alone = await exchange.post(f"/v5/order/{name}", category="linear", **names[0])
    assert alone["headers"]["X-Bapi-Limit-Status"] == "9"


async def test_a_spot_batch_has_twice_the_limit_of_a_linear_one(standing: Exchange, spot: Venue) -> None:
    for left in (10, 0):
        items = orders(10, category="spot", qty="0.01")
        answer = await standing.post("/v5/order/create-batch", category="spot", request=items)
        limits = [answer["headers"][name] for name in ("X-Bapi-Limit", "X-Bapi-Limit-Status")]
        assert (answer["retCode"], limits) == (0, ["20", str(left)])
    linear = await standing.post("/v5/order/create-batch", category="linear", request=orders(1))
    assert linear["headers"]["X-Bapi-Limit-Status"] == "9"


@pytest.mark.parametrize(("category", "count"), [("linear", 21), ("spot", 11)])
async def test_a_batch_that_is_too_long_counts_once_and_does_nothing(
    exchange: Exchange, category: str, count: int
) -> None:
    answer = await exchange.post("/v5/order/create-batch", category=category, request=orders(count))
    left = {"linear": "9", "spot": "19"}[category]
    assert (answer["retCode"], answer["headers"]["X-Bapi-Limit-Status"]) == (10001, left)
    assert await exchange.statuses(symbol=SYMBOL) == []
