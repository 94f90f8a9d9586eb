"""Faults as a client meets them: over real HTTP and real websockets, by rule, by seed, and without ending the venue."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import websocket
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import processes
from tests.processes import ServerProcess
from tests.recordings import bybit_session
from trading.simulator.faults.engine import Faults
from trading.simulator.faults.errors import FaultError
from trading.simulator.faults.kinds import FRAME_KINDS, REQUEST_KINDS, RET_MESSAGES
from trading.simulator.faults.rules import Known, rule_of, rules_of
from trading.simulator.keys import ApiKey
from trading.simulator.limits import AddressLimit, RateLimits, limit_of
from trading.simulator.rest_private import COMMANDS, QUERIES

USERS = tuple(f"user{number}" for number in range(80))
# Who sends what no client would: their orders and their rate limits are nobody else's.
STRANGERS = tuple(f"stranger{number}" for number in range(40))
KEYS = {user: ApiKey(user, f"{user}-key", f"{user}-secret") for user in USERS + STRANGERS}
SECONDS = 30.0
CREATE, TIME = "/v5/order/create", "/v5/market/time"
BOOK = "orderbook.50.BTCUSDT"
CONTROL = "/simulator/control"
KNOWN = Known(frozenset({CREATE, TIME, "/v5/order/cancel"}), frozenset({"alice", "bob"}))
Row = dict[str, Any]


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"user": k.user, "api_key": k.api_key, "api_secret": k.api_secret, "balance": "100000"} for k in KEYS.values()
    ]
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory, keys_file: Path) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("venue") / "simulator.log"
    server = processes.start_simulator(log, ("--symbols", "3", "--keys", str(keys_file)))
    yield server
    server.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    # A connection a request: one that a fault closed must not be found again by the next.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as made:
        yield made


# Every test trades as somebody new: nobody else's orders, and a rate limit of its own.
unused = itertools.cycle(USERS)


@pytest.fixture
async def trader(venue: ServerProcess, session: aiohttp.ClientSession) -> AsyncIterator[Trader]:
    made = Trader(venue, session, KEYS[next(unused)])
    await made.control("faults", "DELETE")
    yield made
    await made.control("faults", "DELETE")


class Trader:
    """A client that retries nothing and hides nothing."""

    def __init__(self, venue: ServerProcess, session: aiohttp.ClientSession, key: ApiKey) -> None:
        self.venue, self.session, self.key = venue, session, key

    async def post(self, path: str, **fields: Any) -> Reply:
        body = json.dumps(fields).encode()
        return await self.ask("POST", path, body, signed(self.key, body))

    async def get(self, path: str, **fields: Any) -> Reply:
        query = urlencode(fields)
        return await self.ask("GET", f"{path}?{query}" if query else path, None, signed(self.key, query.encode()))

    async def order(self, link_id: str = "", **changes: Any) -> Reply:
        fields = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.001"}
        return await self.post(CREATE, **fields | {"price": "50000", "orderLinkId": link_id} | changes)

    async def order_statuses(self) -> list[str]:
        reply = await self.get("/v5/order/realtime", category="linear", symbol="BTCUSDT")
        return [row["orderStatus"] for row in reply.json["result"]["list"]]

    async def ask(self, method: str, path: str, body: bytes | None = None, headers: Row | None = None) -> Reply:
        async with asyncio.timeout(SECONDS):
            async with self.session.request(method, self.venue.url + path, data=body, headers=headers) as response:
                return Reply(response.status, dict(response.headers), await response.read())

    async def control(self, what: str, method: str = "POST", body: Any = None) -> Row:
        content = None if body is None else json.dumps(body).encode()
        return (await self.ask(method, f"{CONTROL}/{what}", content)).json

    async def fault(self, **rule: Any) -> None:
        answer = await self.control("faults", "POST", rule)
        assert answer["retCode"] == 0, answer

    async def hits(self) -> list[int]:
        return [rule["hits"] for rule in (await self.control("faults", "GET"))["result"]["rules"]]

    async def listen(self, topic: str = BOOK) -> Listener:
        """A public stream after its first message."""
        socket = await self.session.ws_connect(f"{self.venue.websocket_url}/v5/public/linear")
        listener = Listener(socket)
        await socket.send_json({"op": "subscribe", "args": [topic]})
        assert (await listener.answer("subscribe"))["success"]
        return listener

    async def listen_privately(self, *topics: str) -> Listener:
        socket = await self.session.ws_connect(f"{self.venue.websocket_url}/v5/private")
        listener = Listener(socket)
        await socket.send_json({"op": "auth", "args": auth_arguments(self.key)})
        assert (await listener.answer("auth"))["success"]
        await socket.send_json({"op": "subscribe", "args": list(topics)})
        assert (await listener.answer("subscribe"))["success"]
        return listener


class Reply:
    def __init__(self, status: int, headers: Row, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Row:
        return json.loads(self.body)

    @property
    def code(self) -> int:
        return self.json["retCode"]


class Listener:
    """Frames as they come, with the time of each."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def frame(self) -> aiohttp.WSMessage:
        return await self.socket.receive(SECONDS)

    async def text(self) -> str:
        message = await self.frame()
        assert message.type == aiohttp.WSMsgType.TEXT, message
        return message.data

    async def json(self) -> Row:
        return json.loads(await self.text())

    async def answer(self, operation: str) -> Row:
        return await self.until(lambda message: message.get("op") == operation)

    async def until(self, wanted: Callable[[Row], bool]) -> Row:
        async with asyncio.timeout(SECONDS):
            while True:
                message = await self.json()
                if wanted(message):
                    return message

    async def order(self, status: str) -> Row:
        message = await self.until(lambda m: m.get("topic") == "order" and m["data"][0]["orderStatus"] == status)
        return message["data"][0]

    async def update_ids(self, enough: Callable[[list[int]], bool]) -> list[int]:
        ids: list[int] = []
        async with asyncio.timeout(SECONDS):
            while not enough(ids):
                ids.append((await self.json())["data"]["u"])
        return ids

    async def closed(self) -> bool:
        """Whether the connection ends, after whatever still comes."""
        async with asyncio.timeout(SECONDS):
            while (await self.frame()).type == aiohttp.WSMsgType.TEXT:
                pass
        return self.socket.closed


def signed(key: ApiKey, payload: bytes) -> Row:
    timestamp = str(time.time_ns() // 1_000_000)
    text = f"{timestamp}{key.api_key}5000".encode() + payload
    return {
        "X-BAPI-API-KEY": key.api_key,
        "X-BAPI-TIMESTAMP": timestamp,
        "X-BAPI-RECV-WINDOW": "5000",
        "X-BAPI-SIGN": hmac.new(key.api_secret.encode(), text, hashlib.sha256).hexdigest(),
        "Content-Type": "application/json",
    }


def auth_arguments(key: ApiKey) -> list[Any]:
    expires = time.time_ns() // 1_000_000 + 10_000
    sign = hmac.new(key.api_secret.encode(), f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
    return [key.api_key, expires, sign]


def steps(ids: list[int]) -> list[int]:
    return [after - before for before, after in itertools.pairwise(ids)]


# REST.


@pytest.mark.parametrize(("kind", "statuses"), [("lose_answer", ["New"]), ("lose_request", [])])
async def test_a_lost_connection_says_nothing_about_the_order(trader: Trader, kind: str, statuses: list[str]) -> None:
    await trader.fault(endpoint=CREATE, kind=kind)
    with pytest.raises(aiohttp.ClientError):
        await trader.order("lost")
    assert await trader.order_statuses() == statuses
    assert (await trader.order("next")).code == 0


async def test_a_delayed_answer_comes_after_its_delay(trader: Trader) -> None:
    await trader.fault(endpoint=CREATE, kind="delay", value=1_000)
    began = time.monotonic()
    slow = asyncio.create_task(trader.order("slow"))
    async with asyncio.timeout(SECONDS):
        while not (statuses := await trader.order_statuses()):
            pass
    assert statuses == ["New"] and not slow.done()
    assert (await slow).code == 0 and time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (403, "access too frequent"),
        (429, "System level frequency protection"),
        (500, "Internal Server Error"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
    ],
)
async def test_a_status_is_answered_in_plain_text_and_nothing_is_done(trader: Trader, status: int, text: str) -> None:
    await trader.fault(endpoint=CREATE, kind="http_status", value=status)
    reply = await trader.order("refused")
    assert (reply.status, reply.body.decode()) == (status, text)
    assert await trader.order_statuses() == []


@pytest.mark.parametrize("code", [10000, 10002, 10006, 10016, 10019, 110001, 170007])
async def test_a_code_comes_with_bybits_words_and_nothing_is_done(trader: Trader, code: int) -> None:
    await trader.fault(endpoint=CREATE, kind="ret_code", value=code)
    reply = await trader.order("refused")
    assert (reply.status, reply.code, reply.json["retMsg"]) == (200, code, RET_MESSAGES[code])
    assert await trader.order_statuses() == []
    if code == 10006:
        assert reply.headers["X-Bapi-Limit-Status"] == "0"
        assert int(reply.headers["X-Bapi-Limit-Reset-Timestamp"]) > reply.json["time"]


async def test_a_code_of_ones_own_needs_words_of_ones_own(trader: Trader) -> None:
    await trader.fault(endpoint=CREATE, kind="ret_code", value=12345, message="the moon is in the wrong house")
    assert (await trader.order()).json["retMsg"] == "the moon is in the wrong house"


@pytest.mark.parametrize("how", ["truncated", "html", "binary", "empty"])
async def test_a_garbage_answer_cannot_be_read_but_the_order_is_there(trader: Trader, how: str) -> None:
    await trader.fault(endpoint=CREATE, kind="garbage", value=how)
    reply = await trader.order("garbled")
    assert reply.status == 200
    with pytest.raises(ValueError):
        reply.json  # noqa: B018 - the property reads the body
    assert await trader.order_statuses() == ["New"]


@pytest.mark.parametrize(("answer", "code"), [("second", 110072), ("first", 0)])
async def test_a_request_delivered_twice_makes_one_order_with_a_link_id(trader: Trader, answer: str, code: int) -> None:
    await trader.fault(endpoint=CREATE, kind="duplicate_delivery", value=answer)
    reply = await trader.order("twice")
    assert reply.code == code
    assert await trader.order_statuses() == ["New"]
    assert reply.headers["X-Bapi-Limit-Status"] == ("8" if answer == "second" else "9")


async def test_a_request_delivered_twice_makes_two_orders_without_a_link_id(trader: Trader) -> None:
    await trader.fault(endpoint=CREATE, kind="duplicate_delivery")
    assert (await trader.order()).code == 0
    assert await trader.order_statuses() == ["New", "New"]


async def test_the_private_message_can_come_before_the_answer(trader: Trader) -> None:
    listener = await trader.listen_privately("order")
    await trader.fault(endpoint=CREATE, kind="answer_after_private", value=1_000)
    answer = asyncio.create_task(trader.order("early"))
    told = await listener.order("New")
    assert told["orderLinkId"] == "early" and not answer.done()
    assert (await answer).json["result"]["orderId"] == told["orderId"]


async def test_a_skewed_clock_is_told_and_refuses_signatures(trader: Trader) -> None:
    await trader.fault(endpoint="*", kind="clock_skew", value=60_000, probability=1)
    reply = await trader.get(TIME)
    ahead_ms = int(reply.json["result"]["timeNano"]) / 1e6 - time.time() * 1000
    assert 50_000 < ahead_ms <= 60_000
    refused = await trader.order("late")
    assert refused.code == 10002 and str(refused.json["time"])[:-5] in refused.json["retMsg"]
    socket = await trader.session.ws_connect(f"{trader.venue.websocket_url}/v5/private")
    await socket.send_json({"op": "auth", "args": auth_arguments(trader.key)})
    assert (await Listener(socket).answer("auth"))["ret_msg"] == "Request expired"
    await trader.control("faults", "DELETE")
    assert (await trader.order("in time")).code == 10001  # a space in the link id: the signature was accepted
    assert (await trader.order("in-time")).code == 0


async def test_delay_skew_and_an_outcome_go_together(trader: Trader) -> None:
    await trader.fault(endpoint=TIME, kind="delay", value=60)
    await trader.fault(endpoint=TIME, kind="delay", value=60)
    await trader.fault(endpoint=TIME, kind="http_status", value=503)
    await trader.fault(endpoint=TIME, kind="http_status", value=502)
    began = time.monotonic()
    assert (await trader.get(TIME)).status == 503 and time.monotonic() - began >= 0.12
    assert (await trader.get(TIME)).status == 502  # the second outcome waited for its turn
    assert (await trader.get(TIME)).status == 200


async def test_a_rule_for_one_user_leaves_the_others_alone(trader: Trader) -> None:
    other = Trader(trader.venue, trader.session, KEYS[next(unused)])
    await trader.fault(endpoint="*", user=trader.key.user, kind="ret_code", value=10016, probability=1)
    assert (await other.order("mine")).code == 0 and (await other.get(TIME)).code == 0
    assert (await trader.order("mine")).code == 10016


async def test_every_count_and_time_say_when(trader: Trader) -> None:
    async def statuses(requests: int) -> list[int]:
        return [(await trader.get(TIME)).status for _ in range(requests)]

    await trader.fault(endpoint=TIME, kind="http_status", value=502, every=3, count=2)
    assert await statuses(10) == [200, 200, 502, 200, 200, 502, 200, 200, 200, 200]
    await trader.fault(endpoint=TIME, kind="http_status", value=502, probability=1, until_ms=1)
    await trader.fault(endpoint=TIME, kind="http_status", value=502, probability=1, from_ms=86_400_000)
    assert await statuses(3) == [200, 200, 200]
    await trader.fault(endpoint=TIME, kind="http_status", value=503, probability=1, from_ms=1, until_ms=86_400_000)
    assert await statuses(3) == [503, 503, 503]


async def test_rules_are_listed_with_their_hits_and_cleared(trader: Trader) -> None:
    rules = [
        {"endpoint": TIME, "kind": "delay", "value": 1, "every": 2},
        {"channel": "public", "topic": "orderbook.*", "kind": "drop", "probability": 0.5},
    ]
    assert (await trader.control("faults", "POST", rules))["result"] == {"added": 2}
    for _ in range(5):
        await trader.get(TIME)
    listed = (await trader.control("faults", "GET"))["result"]["rules"]
    assert listed[0] == {**rules[0], "user": "*", "seen": 5, "hits": 2, "spent": False}
    assert listed[1] == {**rules[1], "user": "*", "seen": 0, "hits": 0, "spent": False}
    assert (await trader.control("faults", "DELETE"))["result"] == {"cleared": 2}
    assert await trader.hits() == []


async def test_the_control_interface_is_for_this_machine_only(venue: ServerProcess) -> None:
    elsewhere = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=elsewhere) as session:
        for method, what in (("GET", "faults"), ("POST", "faults"), ("DELETE", "faults"), ("POST", "restart")):
            async with session.request(method, f"{venue.url}{CONTROL}/{what}", data=b"[]") as response:
                assert response.status == 403


# Websockets.


async def test_a_connection_is_cut_instead_of_a_frame(trader: Trader) -> None:
    private, public = await trader.listen_privately("order"), await trader.listen()
    await trader.fault(channel="private", topic="order", user=trader.key.user, kind="disconnect")
    assert (await trader.order("unheard")).code == 0
    assert await private.closed()
    assert (await public.json())["topic"] == BOOK
    again = await trader.listen_privately("order")
    await trader.post("/v5/order/cancel", category="linear", symbol="BTCUSDT", orderLinkId="unheard")
    assert (await again.order("Cancelled"))["orderLinkId"] == "unheard"


async def test_a_dropped_frame_leaves_a_gap(trader: Trader) -> None:
    listener = await trader.listen()
    await trader.fault(channel="public", topic=BOOK, kind="drop", count=1, every=3)
    ids = await listener.update_ids(lambda ids: sum(steps(ids)) != len(ids) - 1 if ids else False)
    assert steps(ids)[-1] == 2 and set(steps(ids)[:-1]) <= {1}
    assert await trader.hits() == [1]


async def test_a_repeated_frame_comes_twice_and_is_the_same(trader: Trader) -> None:
    listener = await trader.listen()
    await trader.fault(channel="public", topic="orderbook.50.*", kind="repeat")
    texts = [await listener.text()]
    async with asyncio.timeout(SECONDS):
        while len(texts) < 2 or texts[-1] != texts[-2]:
            texts.append(await listener.text())
    following = await listener.json()
    assert following["data"]["u"] == json.loads(texts[-1])["data"]["u"] + 1


async def test_reordered_frames_change_places(trader: Trader) -> None:
    listener = await trader.listen()
    await trader.fault(channel="public", topic=BOOK, kind="reorder")
    ids = await listener.update_ids(lambda ids: -1 in steps(ids)[:-1])
    assert steps(ids)[-3:] == [2, -1, 2] and set(steps(ids)[:-3]) <= {1}


@pytest.mark.parametrize("left", [None, 40])
async def test_a_truncated_frame_cannot_be_read_and_the_next_can(trader: Trader, left: int | None) -> None:
    listener = await trader.listen()
    await trader.fault(channel="public", topic=BOOK, kind="truncate", **({"value": left} if left else {}))
    async with asyncio.timeout(SECONDS):
        while True:
            text = await listener.text()
            try:
                json.loads(text)
            except ValueError:
                break
    assert text.startswith('{"topic":"orderbook.50.BTCUSDT"') and (left is None or len(text) == left)
    assert (await listener.json())["type"] == "delta"


async def test_a_delayed_frame_delays_those_behind_it_and_none_is_lost(trader: Trader) -> None:
    listener = await trader.listen()
    await trader.fault(channel="public", topic=BOOK, kind="delay", value=400)
    ids, waits, last = [], [0.0], time.monotonic()
    async with asyncio.timeout(SECONDS):
        while max(waits) < 0.3 or len(ids) < 5:
            ids.append((await listener.json())["data"]["u"])
            waits.append(time.monotonic() - last)
            last = time.monotonic()
    assert set(steps(ids)) == {1} and max(waits) < 10


async def test_a_book_that_restarts_does_so_for_everyone(trader: Trader) -> None:
    first, second = await trader.listen(), await trader.listen()
    other = await trader.listen("orderbook.50.ETHUSDT")
    await trader.fault(channel="public", topic=BOOK, kind="restart_u")
    for listener in (first, second):
        snapshot = await listener.until(lambda message: message["data"]["u"] == 1)
        assert snapshot["type"] == "snapshot" and len(snapshot["data"]["b"]) == 50
        delta = await listener.json()
        assert (delta["type"], delta["data"]["u"]) == ("delta", 2)
    assert (await other.json())["data"]["u"] > 1


@pytest.mark.recording
async def test_a_recorded_book_restarts_too(
    start_simulator: Callable[..., ServerProcess], session: aiohttp.ClientSession
) -> None:
    trader = Trader(start_simulator("--market", str(bybit_session())), session, KEYS["user0"])
    topic = "orderbook.200.BTCUSDT"
    listener = await trader.listen(topic)
    await trader.fault(channel="public", topic=topic, kind="restart_u")
    snapshot = await listener.until(lambda message: message["data"]["u"] == 1)
    assert snapshot["type"] == "snapshot" and len(snapshot["data"]["b"]) == 200
    assert [(await listener.json())["data"]["u"] for _ in range(3)] == [2, 3, 4]


async def test_a_client_that_is_not_served_any_more_is_cut_when_its_queue_is_full(trader: Trader) -> None:
    slow, quick = await trader.listen(), await trader.listen()
    await trader.fault(channel="public", topic=BOOK, kind="slow_consumer", value=4)
    assert await slow.closed()
    assert await trader.hits() == [1]
    assert set(steps(await quick.update_ids(lambda ids: len(ids) > 10))) == {1}


async def test_a_fill_that_raced_a_cancel_is_told_twice(trader: Trader) -> None:
    listener = await trader.listen_privately("order")
    await trader.fault(channel="private", topic="order", kind="double_filled")
    await trader.order("raced", orderType="Market")
    first, second = await listener.order("Filled"), await listener.order("Filled")
    assert (first["cancelType"], first["rejectReason"]) == ("UNKNOWN", "EC_NoError")
    assert (second["cancelType"], second["rejectReason"]) == ("CancelByUser", "EC_OrigClOrdIDDoesNotExist")
    assert {**second, "cancelType": "UNKNOWN", "rejectReason": "EC_NoError"} == first
    # The order's "New" came first and could not be hit: it is neither seen nor counted.
    assert [rule["seen"] for rule in (await trader.control("faults", "GET"))["result"]["rules"]] == [1]


# Restarts and limits.


async def test_a_restart_cuts_everyone_and_begins_the_books_at_one(
    fresh_simulator: ServerProcess, session: aiohttp.ClientSession
) -> None:
    trader = Trader(fresh_simulator, session, ApiKey("alice", "simulator-alice-key", "simulator-alice-secret"))
    public, private = await trader.listen(), await trader.listen_privately("order")
    assert (await public.json())["data"]["u"] > 1
    before = (await trader.ask("GET", "/simulator/status")).json
    assert (await trader.control("restart"))["result"] == {"cut": 2}
    assert await public.closed() and await private.closed()
    after = (await trader.ask("GET", "/simulator/status")).json
    assert before["restarted_ms"] == 0 and after["restarted_ms"] >= after["started_ms"]
    for topic in (BOOK, "orderbook.200.SOLUSDT"):
        again = await trader.listen(topic)
        snapshot = await again.json()
        assert (snapshot["type"], snapshot["data"]["u"]) == ("snapshot", 1)
        assert (await again.json())["data"]["u"] == 2


async def test_every_signed_answer_tells_what_is_left(trader: Trader) -> None:
    replies = [await trader.get("/v5/account/fee-rate", category="linear") for _ in range(5)]
    assert [reply.headers["X-Bapi-Limit-Status"] for reply in replies] == ["4", "3", "2", "1", "0"]
    refused = await trader.get("/v5/account/fee-rate", category="linear")
    assert refused.code == 10006 and refused.headers["X-Bapi-Limit"] == "5"
    assert int(refused.headers["X-Bapi-Limit-Reset-Timestamp"]) > refused.json["time"]
    invalid = await trader.ask("POST", CREATE, b"{broken", signed(trader.key, b"{broken"))
    assert (invalid.code, invalid.headers["X-Bapi-Limit"], invalid.headers["X-Bapi-Limit-Status"]) == (10001, "10", "9")


def test_the_reset_is_told_a_little_late() -> None:
    limits = RateLimits()
    taken = [limits.take("alice", CREATE, 1_000) for _ in range(11)]
    assert taken[9] == (10, 0, 1_000, 1) and taken[10] == (10, 0, 2_100, 0)
    assert limits.take("bob", CREATE, 1_000).remaining == limits.take("alice", CREATE, 2_000).remaining == 9


# The table of the documentation for an account without VIP level: requests a second of inverse, linear, option, spot;
# None where the endpoint has no such category.
DOCUMENTED_LIMITS = {
    "/v5/order/create": (10, 10, 10, 20),
    "/v5/order/amend": (10, 10, 10, 10),
    "/v5/order/cancel": (10, 10, 10, 20),
    "/v5/order/cancel-all": (10, 10, 1, 20),
    "/v5/order/create-batch": (10, 10, 10, 20),
    "/v5/order/amend-batch": (10, 10, 10, 20),
    "/v5/order/cancel-batch": (10, 10, 10, 20),
    "/v5/order/disconnected-cancel-all": (5, 5, 5, 5),
    "/v5/order/pre-check": (10, 10, 10, 20),
    "/v5/order/realtime": (50, 50, 50, 50),
    "/v5/order/history": (50, 50, 50, 50),
    "/v5/execution/list": (50, 50, 50, 50),
    "/v5/order/spot-borrow-check": (None, None, None, 50),
    "/v5/position/list": (50, 50, 50, None),
    "/v5/position/closed-pnl": (50, 50, None, None),
    "/v5/position/set-leverage": (10, 10, None, None),
    "/v5/position/switch-mode": (None, 10, None, None),
    "/v5/position/trading-stop": (10, 10, 10, None),
    "/v5/account/wallet-balance": (50, 50, 50, 50),
    "/v5/account/transaction-log": (25, 25, 25, 25),
    "/v5/account/fee-rate": (5, 5, 5, 5),
    "/v5/account/info": (50, 50, 50, 50),
    "/v5/account/query-dcp-info": (5, 5, 5, 5),
    "/v5/account/smp-group": (5, 5, 5, 5),
}


@pytest.mark.parametrize("endpoint", DOCUMENTED_LIMITS)
def test_limits_are_the_documented_ones(endpoint: str) -> None:
    documented = DOCUMENTED_LIMITS[endpoint]
    here = [limit_of(endpoint, category) for category in ("inverse", "linear", "option", "spot")]
    assert all(limit in (None, given) for limit, given in zip(documented, here, strict=True)), here


def test_an_address_that_asked_too_often_waits_out_its_ban() -> None:
    limit = AddressLimit(2, window_ms=1_000, ban_ms=5_000)
    assert [limit.admits("here", at) for at in (0, 1, 2, 2_000, 5_001, 5_002)] == [
        True,
        True,
        False,
        False,
        False,
        True,
    ]
    assert limit.admits("there", 2)


async def test_an_address_is_limited_where_that_is_asked_for(
    start_simulator: Callable[..., ServerProcess], session: aiohttp.ClientSession
) -> None:
    trader = Trader(start_simulator("--ip-limit", "--symbols", "1"), session, KEYS["user0"])
    url = f"{trader.venue.websocket_url}/v5/public/linear"
    for _ in range(500):
        await (await session.ws_connect(url)).close()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await session.ws_connect(url)
    assert refused.value.status == 403
    replies = await asyncio.gather(*(trader.get(TIME) for _ in range(610)))
    assert [reply.status for reply in replies].count(403) >= 10
    last = await trader.get(TIME)
    assert (last.status, last.body) == (403, b"access too frequent")


# Seeds.


async def outcomes(venue: ServerProcess, session: aiohttp.ClientSession, rules: list[Row]) -> list[int]:
    """What sixty requests met: their status, or 0 for a connection that closed."""
    trader = Trader(venue, session, KEYS["user0"])
    assert (await trader.control("faults", "POST", rules))["retCode"] == 0
    met = []
    for _ in range(60):
        try:
            # No GET: aiohttp asks again when a connection closed under one.
            met.append((await trader.ask("POST", CREATE, b"{}")).status)
        except aiohttp.ClientError:
            met.append(0)
    return met


async def test_the_seed_decides_which_requests_are_hit(
    start_simulator: Callable[..., ServerProcess], session: aiohttp.ClientSession
) -> None:
    rules = [
        {"endpoint": CREATE, "kind": "http_status", "value": 404, "probability": 0.3},
        {"endpoint": "*", "kind": "lose_request", "probability": 0.2},
    ]
    seeds = (("--fault-seed", "5"), ("--seed", "5"), ("--seed", "6"))
    met = [await outcomes(start_simulator("--symbols", "1", *seed), session, rules) for seed in seeds]
    assert met[0] == met[1] != met[2]
    assert all(set(each) == {200, 404, 0} for each in met)


async def test_rules_of_a_file_are_there_from_the_start(
    start_simulator: Callable[..., ServerProcess], session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    path = tmp_path / "faults.json"
    path.write_text(json.dumps([{"endpoint": "/v5/market/tickers", "kind": "http_status", "value": 503, "every": 2}]))
    trader = Trader(start_simulator("--symbols", "1", "--faults", str(path)), session, KEYS["user0"])
    assert [(await trader.get("/v5/market/tickers")).status for _ in range(4)] == [200, 503, 200, 503]
    assert await trader.hits() == [2]


def rule(**fields: Any) -> Row:
    return {"endpoint": CREATE, "kind": "lose_answer", **fields}


def hits_of(seed: int, wanted: Row, *others: Row) -> list[bool]:
    """Which of 200 requests one rule hits beside others."""
    faults = Faults(seed)
    faults.add(rules_of([*others, wanted], KNOWN))
    before, hit = 0, []
    for _ in range(200):
        faults.request(CREATE, "alice")
        now = faults.rows()[-1]["hits"]
        hit.append(now > before)
        before = now
    return hit


def test_rules_do_not_disturb_each_other() -> None:
    wanted = rule(kind="delay", value=5, probability=0.4)
    alone = hits_of(7, wanted)
    assert alone == hits_of(7, wanted, rule(probability=0.5), rule(kind="clock_skew", value=3, probability=0.5))
    assert alone != hits_of(8, wanted) and alone != hits_of(7, wanted, wanted)
    assert 50 < sum(alone) < 110


def test_the_seed_decides_which_frames_are_hit() -> None:
    def kinds(seed: int) -> list[str]:
        faults = Faults(seed)
        chances = {"drop": 0.2, "repeat": 0.1, "delay": 0.05}
        rows = [{"channel": "public", "kind": kind, "probability": p} for kind, p in chances.items()]
        faults.add(rules_of([row | ({"value": 5} if row["kind"] == "delay" else {}) for row in rows], KNOWN))
        hits = (faults.frame("public", BOOK, None, b"{}") for _ in range(300))
        return [hit.kind if hit is not None else "" for hit in hits]

    assert kinds(3) == kinds(3) != kinds(4)
    assert set(kinds(3)) == {"", "drop", "repeat", "delay"}


def test_frames_are_hit_by_channel_topic_and_user() -> None:
    faults = Faults(1)
    faults.add(
        rules_of({"channel": "private", "topic": "ord*", "user": "bob", "kind": "drop", "probability": 1}, KNOWN)
    )
    frames = [
        ("private", "order", "bob"),
        ("private", "order", "alice"),
        ("private", "wallet", "bob"),
        ("public", "order", None),
    ]
    assert [faults.frame(*frame, b"{}") is not None for frame in frames] == [True, False, False, False]
    assert not faults.on_requests and faults.on_frames
    faults.clear()
    assert not faults.on_frames


# Rules that cannot be.

BAD_RULES: list[tuple[Any, list[str]]] = [
    (7, ["faults are int"]),
    ([rule(), 7], ["rule 2", "expected an object"]),
    ({"kind": "drop"}, ["endpoint", "channel"]),
    ({"kind": "drop", "endpoint": "*", "channel": "public"}, ["either endpoint"]),
    (rule(kind="explode"), ["kind is 'explode'", "lose_answer", "clock_skew"]),
    (rule(kind="drop"), ["kind is 'drop'", "lose_request"]),
    (rule(kind=["x"]), ["kind is ['x']"]),
    (rule(endpoint="/v5/order/creat"), ["endpoint is '/v5/order/creat'", CREATE]),
    (rule(endpoint=None), ["endpoint is None"]),
    (rule(user="mallory"), ["user is 'mallory'", "alice, bob"]),
    (rule(probability=1.5), ["probability is 1.5", "0 to 1"]),
    (rule(probability="often"), ["probability is 'often'"]),
    (rule(probability=True), ["probability is True"]),
    (rule(every=0), ["every is 0", "from 1"]),
    (rule(every=2.5), ["every is 2.5"]),
    (rule(count=-1), ["count is -1"]),
    (rule(count=10**30), ["count is 1000"]),
    (rule(every=2, probability=0.5), ["probability and every"]),
    (rule(from_ms=5, until_ms=5), ["until_ms is 5", "above from_ms"]),
    (rule(value=3), ["value is 3", "no value"]),
    (rule(kind="delay"), ["value is None", "ms"]),
    (rule(kind="delay", value=10**9), ["value is 1000000000", "600000"]),
    (rule(kind="delay", value="soon"), ["value is 'soon'"]),
    (rule(kind="http_status", value=200), ["value is 200", "403", "503"]),
    (rule(kind="http_status", value=True), ["value is True"]),
    (rule(kind="ret_code", value=4242), ["value is 4242", "message", "10006"]),
    (rule(kind="ret_code", value=10006, message=5), ["message is 5"]),
    (rule(kind="garbage", value="jpeg"), ["value is 'jpeg'", "truncated"]),
    (rule(message="hello"), ["message is 'hello'"]),
    (rule(colour="red"), ["a field is 'colour'", "probability"]),
    (rule(topic="order"), ["a field is 'topic'"]),
    ({"channel": "secret", "kind": "drop"}, ["channel is 'secret'", "public, private, trade"]),
    ({"channel": "public", "kind": "drop", "topic": ""}, ["topic is ''"]),
    ({"channel": "public", "kind": "lose_answer"}, ["kind is 'lose_answer'", "restart_u"]),
    ({"channel": "public", "kind": "restart_u", "user": "bob"}, ["user is 'bob'", "everyone"]),
    ({"channel": "public", "kind": "slow_consumer", "value": 0}, ["value is 0", "1 to 5000"]),
]


@pytest.mark.parametrize(("bad", "words"), BAD_RULES)
def test_a_rule_that_cannot_be_is_refused_with_a_sentence(bad: Any, words: list[str]) -> None:
    with pytest.raises(FaultError) as refused:
        rules_of(bad, KNOWN)
    assert all(word in str(refused.value) for word in words), str(refused.value)


async def test_of_a_list_with_a_bad_rule_none_is_taken(trader: Trader) -> None:
    answer = await trader.control("faults", "POST", [rule(), rule(kind="explode")])
    assert answer["retCode"] == 10001 and "rule 2: kind is 'explode'" in answer["retMsg"]
    assert await trader.hits() == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"kind": "delay"}]', "rule 1: a rule has either endpoint"),
        ("{not json", "is not JSON"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_used_stops_the_command_with_a_sentence(
    tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "faults.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CommandError, match=words) as refused:
        call_command("runsimulator", "--port", "0", "--symbols", "1", "--faults", str(path))
    assert str(path) in str(refused.value)


def test_a_rule_that_was_listed_can_be_given_again() -> None:
    values = {"delay": 1, "http_status": 502, "ret_code": 10016, "clock_skew": -5}
    for kind in REQUEST_KINDS:
        made = rule_of(rule(kind=kind, probability=0.5, **({"value": values[kind]} if kind in values else {})), KNOWN)
        assert rule_of(made.as_row(), KNOWN) == made
    for kind in FRAME_KINDS:
        row = {"channel": "public", "kind": kind, "every": 3, **({"value": 9} if kind == "delay" else {})}
        assert rule_of(rule_of(row, KNOWN).as_row(), KNOWN) == rule_of(row, KNOWN)


# Whatever is sent, the venue goes on.

texts = st.text(max_size=20)
words = st.sampled_from(
    ["linear", "spot", "BTCUSDT", "Buy", "Market", "Limit", "0.001", "50000", "-1", "NaN", "²", "1e9"]
)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | texts | words
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))
NAMES = (
    *("symbol", "side", "orderType", "qty", "price", "orderLinkId", "orderId", "timeInForce", "cursor", "limit"),
    *("startTime", "endTime", "takeProfit", "stopLoss", "buyLeverage", "sellLeverage", "openOnly", "settleCoin"),
)
GOOD_ORDER = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "1", "price": "9"}
names = st.sampled_from(NAMES)
almost_orders = st.dictionaries(names, leaves | trees, max_size=4).map(lambda changes: GOOD_ORDER | changes)
bodies = st.binary(max_size=200) | (trees | almost_orders).map(lambda tree: json.dumps(tree).encode())
queries = st.dictionaries(names, texts | words, max_size=4).map(lambda fields: {"category": "linear", **fields})
unhurried = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def plainly(venue: ServerProcess, method: str, path: str, body: bytes | None, headers: Row) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", venue.port, timeout=SECONDS)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@unhurried
@given(path=st.sampled_from(sorted(COMMANDS)), body=bodies, user=st.sampled_from(STRANGERS))
def test_no_body_ends_the_venue(venue: ServerProcess, path: str, body: bytes, user: str) -> None:
    status, content = plainly(venue, "POST", path, body, signed(KEYS[user], body))
    assert status == 200 and "retCode" in json.loads(content)


@unhurried
@given(path=st.sampled_from(sorted(QUERIES)), fields=queries, user=st.sampled_from(STRANGERS))
def test_no_query_ends_the_venue(venue: ServerProcess, path: str, fields: Row, user: str) -> None:
    query = urlencode(fields)
    status, content = plainly(venue, "GET", f"{path}?{query}", None, signed(KEYS[user], query.encode()))
    assert status == 200 and "retCode" in json.loads(content)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-BAPI-API-KEY": "stranger0-key", "X-BAPI-TIMESTAMP": "9" * 6000},
        {"X-BAPI-API-KEY": "stranger0-key", "X-BAPI-TIMESTAMP": "²".encode()},
        {"X-BAPI-API-KEY": b"\xff\xfe"},
        {**signed(KEYS["stranger0"], b"{}"), "X-BAPI-SIGN": "ü".encode()},
        {**signed(KEYS["stranger0"], b"{}"), "X-BAPI-SIGN": b"\xff"},
        {**signed(KEYS["stranger0"], b"{}"), "X-BAPI-RECV-WINDOW": b"\xff"},
        {**signed(KEYS["stranger0"], b"{}"), "X-BAPI-RECV-WINDOW": "9" * 5000},
    ],
)
def test_no_header_ends_the_venue(venue: ServerProcess, headers: Row) -> None:
    status, content = plainly(venue, "POST", CREATE, b"{}", headers)
    assert status == 200 and json.loads(content)["retCode"] in (10002, 10003, 10004)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * 200_000, 413),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, 200),
        (b"[" * 60_000, 200),
        (b'{"qty":' + b"9" * 60_000 + b"}", 200),
        (b'{"price":"\xed\xa0\x80"}', 200),
    ],
)
def test_huge_and_deep_bodies_are_refused(venue: ServerProcess, body: bytes, status: int) -> None:
    for path in (CREATE, f"{CONTROL}/faults"):
        answered, content = plainly(venue, "POST", path, body, signed(KEYS["stranger1"], body))
        assert answered == status
        if status == 200:
            assert json.loads(content)["retCode"] == 10001


def answers(venue: ServerProcess, path: str, frame: str | bytes) -> bool:
    """Whether a connection answers a ping after a frame, or was closed by it in an orderly way."""
    socket = websocket.create_connection(f"{venue.websocket_url}{path}", timeout=SECONDS)
    try:
        opcode = websocket.ABNF.OPCODE_BINARY if isinstance(frame, bytes) else websocket.ABNF.OPCODE_TEXT
        socket.send(frame, opcode)
        socket.send('{"op":"ping","req_id":"last","reqId":"last"}')
        while True:
            kind, content = socket.recv_data()
            if kind == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(content[:2]) in (1003, 1007, 1009)
            if b'"last"' in content:
                return True
    finally:
        socket.close()


@unhurried
@given(frame=bodies | texts, path=st.sampled_from(["/v5/public/linear", "/v5/private", "/v5/trade"]))
def test_no_frame_ends_the_connection(venue: ServerProcess, frame: str | bytes, path: str) -> None:
    assert answers(venue, path, frame)


@pytest.mark.parametrize(
    "frame",
    [
        "[" * 60_000,
        '{"op":' + "[" * 1_000 + "]" * 1_000 + "}",
        '{"op":"subscribe","args":[' + "[" * 900 + "]" * 900 + "]}",
        '{"op":"subscribe","args":["orderbook.².BTCUSDT", 7, null, {}]}',
        '{"op":"unsubscribe","args":[{},[],"orderbook.50.BTCUSDT"]}',
        '{"op":"auth","args":[[],{},null]}',
        '{"op":"auth","args":["stranger0-key",' + "9" * 4_000 + ',"x"]}',
        '{"op":"auth","args":["stranger0-key","²","ü"]}',
        '{"op":"auth","args":["stranger0-key",99999999999999,"ü"]}',
        '{"op":"subscribe","req_id":{},"args":{}}',
    ],
)
def test_odd_frames_are_answered(venue: ServerProcess, frame: str) -> None:
    assert all(answers(venue, path, frame) for path in ("/v5/public/linear", "/v5/private", "/v5/trade"))


def test_a_frame_that_is_too_large_closes_its_own_connection_only(venue: ServerProcess) -> None:
    bystander, socket = (
        websocket.create_connection(f"{venue.websocket_url}/v5/public/linear", timeout=SECONDS) for _ in range(2)
    )
    with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
        socket.send("x" * 100_000)
        while True:
            socket.recv_data()
    bystander.send('{"op":"ping"}')
    assert json.loads(bystander.recv())["ret_msg"] == "pong"
    bystander.close()
