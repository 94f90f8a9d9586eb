"""Every answer of the simulator has the shape of Bybit's own example: the same keys with the same JSON types.

Endpoints and topics are taken from the simulator's code, so a new one fails here until it can be driven to show
something. Keys that other examples of the documentation, or the recorded production session, have are in ``EXTRA``
with that reason; keys that the simulator still lacks are in ``KNOWN_GAPS``. Either table fails when it is out of date.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pybit.unified_trading as unified
import pytest
import websocket

from tests.processes import ServerProcess
from tests.simulator.shapes import Difference, Example, compare, official_examples
from trading.simulator import rest_market, rest_private
from trading.simulator.candles import INTERVALS
from trading.simulator.keys import DEMO_KEYS, ApiKey
from trading.simulator.private_topics import PRIVATE_TOPICS
from trading.simulator.publisher import DEPTHS

pytestmark = pytest.mark.recording

KEY = DEMO_KEYS["desk"]
# Who is liquidated: a small fall of the price is enough.
POOR = ApiKey("poor", "poor-key", "poor-secret", Decimal(100))
SYMBOL = "ETHUSDT"
LINEAR = {"category": "linear", "symbol": SYMBOL}
SECONDS = 20.0

# Which example is taken where the documentation has several, or none for linear: inverse contracts have the same
# answers.
TABS = ("linear", "Node", "None", "json", "inverse", "snapshot", "python")

QUERIES: dict[str, dict[str, Any]] = {
    "/v5/market/time": {},
    "/v5/market/kline": {**LINEAR, "interval": "60", "limit": 3},
    "/v5/market/mark-price-kline": {**LINEAR, "interval": "60", "limit": 3},
    "/v5/market/index-price-kline": {**LINEAR, "interval": "60", "limit": 3},
    "/v5/market/premium-index-price-kline": {**LINEAR, "interval": "60", "limit": 3},
    "/v5/market/open-interest": {**LINEAR, "intervalTime": "1h"},
    "/v5/market/account-ratio": {**LINEAR, "period": "1h"},
    "/v5/market/insurance": {"coin": "USDT"},
    "/v5/account/wallet-balance": {"accountType": "UNIFIED"},
    "/v5/account/info": {},
    "/v5/account/collateral-info": {"currency": "BTC"},
    "/v5/spot-margin-trade/collateral": {"currency": "BTC"},
    "/v5/account/query-dcp-info": {},
    "/v5/account/smp-group": {},
    "/v5/order/spot-borrow-check": {"category": "spot", "symbol": SYMBOL, "side": "Buy"},
    "/v5/account/transaction-log": {"accountType": "UNIFIED"},
    "/v5/user/query-api": {},
}

PUBLIC_TOPICS = (
    *(f"orderbook.{depth}.{SYMBOL}" for depth in DEPTHS),
    f"orderbook.full.{SYMBOL}",
    *(f"kline.{interval}.{SYMBOL}" for interval in INTERVALS),
    f"publicTrade.{SYMBOL}",
    f"tickers.{SYMBOL}",
    f"allLiquidation.{SYMBOL}",
    f"priceLimit.{SYMBOL}",
)
TRADE_OPERATIONS = ("auth", "pong", "order.create", "order.create-batch")
# Documented for linear, refused by the simulator.
NOT_PUBLISHED = (
    f"orderbook.rpi.{SYMBOL}",
    "adlAlert.USDT",
    "insurance.USDT",
)

# Keys that the documentation has and the simulator lacks, by name. A key that is there again fails the test: then its
# entry goes.
KNOWN_GAPS: dict[str, set[str]] = {}

_RECORDED = "the recorded production session has it"
_IN_TABLE = "the table of the page has it, its example was made before"
_STREAM_ROW = "the same row goes to REST and to the stream, where it is documented"
_OWN_REQUEST = "the request here had a req_id, that of the example has none"
_ORDER_TABLE = ("createType", "parentOrderLinkId", "marketUnit", "slippageToleranceType", "slippageTolerance")
EXTRA: dict[str, dict[str, str]] = {
    "/v5/market/instruments-info": {"list[].forbidUplWithdrawal": _RECORDED, "list[].displayName": _RECORDED},
    "/v5/order/realtime": {f"list[].{name}": _IN_TABLE for name in _ORDER_TABLE},
    "/v5/order/history": {f"list[].{name}": _IN_TABLE for name in ("createType", "parentOrderLinkId", "marketUnit")},
    "/v5/position/list": {"list[].openTime": _IN_TABLE},
    "/v5/position/closed-pnl": {"list[].openFee": _IN_TABLE, "list[].closeFee": _IN_TABLE},
    "position": {"data[].openTime": _IN_TABLE},
    "/v5/execution/list": {
        "list[].marketUnit": _STREAM_ROW,
        "list[].createType": _IN_TABLE,
        "list[].isLeverage": _STREAM_ROW,
        "list[].category": _STREAM_ROW,
        "list[].execPnl": _STREAM_ROW,
    },
    "order": {f"data[].{name}": _IN_TABLE for name in (*_ORDER_TABLE, "isLeverage")},
    "publicTrade": {"data[].RPI": _RECORDED},
    "private auth": {"req_id": _OWN_REQUEST},
    "private subscribe": {"req_id": _OWN_REQUEST},
    "dcp subscribe": {"req_id": _OWN_REQUEST},
}

# Lists that have nothing in them here, and why.
EMPTY = {
    "execution": {"data[].extraFees": "no country taxes the simulator's trades"},
    "/v5/account/set-margin-mode": {"reasons": "the example is a refusal"},
}


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return official_examples()


@pytest.fixture(scope="module")
def venue(examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    from tests import processes  # noqa: PLC0415 - the module's function is named like the fixture of conftest

    folder = tmp_path_factory.mktemp("venue")
    poor = {"user": POOR.user, "api_key": POOR.api_key, "api_secret": POOR.api_secret, "balance": str(POOR.balance)}
    (folder / "keys.json").write_text(json.dumps([poor]))
    options = ("--symbols", "3", "--keys", str(folder / "keys.json"), "--history-delay", "0")
    server = processes.start_simulator(folder / "simulator.log", options)
    yield server
    server.stop()


class Driver:
    """Makes the simulator show something, and keeps what it answered and told."""

    def __init__(self, venue: ServerProcess) -> None:
        self._url = venue.url
        self._http = self._client(KEY)
        self.answers: dict[str, Any] = {}
        self.messages: dict[str, list[dict[str, Any]]] = {}
        self.public = websocket.create_connection(f"{venue.websocket_url}/v5/public/linear", timeout=SECONDS)
        self.status = websocket.create_connection(f"{venue.websocket_url}/v5/public/misc/status", timeout=SECONDS)
        self.private = websocket.create_connection(f"{venue.websocket_url}/v5/private", timeout=SECONDS)
        self.trade = websocket.create_connection(f"{venue.websocket_url}/v5/trade", timeout=SECONDS)

    def close(self) -> None:
        self.public.close()
        self.status.close()
        self.private.close()
        self.trade.close()

    def order(self, operation: str, *arguments: Any, **more: Any) -> None:
        """One request on the trade websocket."""
        header = {"X-BAPI-TIMESTAMP": str(time.time_ns() // 1_000_000)}
        self.trade.send(json.dumps({"op": operation, "header": header, "args": list(arguments), **more}))
        answer = json.loads(self.trade.recv())
        assert answer["retCode"] == 0, answer
        self.answers[f"trade {answer['op']}"] = answer

    def liquidate(self) -> None:
        """Let somebody buy with all that there is, and the price fall."""
        poor, value = self._client(POOR), float(POOR.balance) * 60
        poor.set_leverage(**LINEAR, buyLeverage="100", sellLeverage="100")
        last = float(poor.get_tickers(**LINEAR)["result"]["list"][0]["lastPrice"])
        poor.place_order(**LINEAR, side="Buy", orderType="Market", qty=f"{value / last:.2f}")
        self._control("move", {"symbol": SYMBOL, "percent": -5})

    def announce(self) -> None:
        """Let somebody hear of a maintenance."""
        assert self.converse(self.status, "subscribe", "system.status")["success"]
        now = time.time_ns() // 1_000_000
        self._control("announce", {"title": "engine", "state": "scheduled", "begin": now, "end": now + 60_000})
        self.listen(self.status, lambda: bool(self.told("system.status")))

    def _control(self, name: str, fields: Mapping[str, Any]) -> None:
        body = json.dumps(fields).encode()
        with urllib.request.urlopen(f"{self._url}/simulator/control/{name}", data=body, timeout=SECONDS) as answer:
            assert json.loads(answer.read())["retCode"] == 0

    def _client(self, key: ApiKey) -> unified.HTTP:
        client = unified.HTTP(api_key=key.api_key, api_secret=key.api_secret, max_retries=4, retry_codes={10006})
        client.endpoint = self._url
        return client

    def ask(self, path: str, fields: Mapping[str, Any], *, method: str = "GET") -> dict[str, Any]:
        """The whole envelope; pybit raises for a refusal."""
        signed = path in rest_private.QUERIES or path in rest_private.COMMANDS
        answer = self._http._submit_request(method=method, path=f"{self._url}{path}", query=dict(fields), auth=signed)
        self.answers[path] = answer
        return answer["result"]

    def send(self, path: str, **fields: Any) -> dict[str, Any]:
        return self.ask(path, {**LINEAR, **fields}, method="POST")

    def converse(self, socket: websocket.WebSocket, operation: str, *arguments: Any) -> dict[str, Any]:
        """Send one request and return its answer; what was told meanwhile is kept."""
        socket.send(json.dumps({"req_id": operation, "op": operation, "args": list(arguments)}))
        while True:
            message = json.loads(socket.recv())
            if "topic" not in message:
                return message
            self._keep(message)

    def listen(self, socket: websocket.WebSocket, wanted: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not wanted():
            assert time.monotonic() < deadline, f"only {sorted(self.messages)} were told in time"
            self._keep(json.loads(socket.recv()))

    def _keep(self, message: dict[str, Any]) -> None:
        self.messages.setdefault(message["topic"], []).append(message)

    def told(self, topic: str, kind: str | None = None) -> list[dict[str, Any]]:
        """The messages of a topic; deltas of a book only with changes on both sides, which is what the example has."""
        messages = [m for m in self.messages.get(topic, []) if kind is None or m["type"] == kind]
        if kind == "delta" and topic.startswith("orderbook"):
            return [m for m in messages if m["data"]["b"] and m["data"]["a"]]
        return messages


def run(driver: Driver) -> None:
    """Everything that is compared: listens first, then trades, then asks."""
    expires = int(time.time() * 1_000) + 10_000
    signature = hmac.new(KEY.api_secret.encode(), f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
    proof = (KEY.api_key, expires, signature)
    driver.answers["private auth"] = driver.converse(driver.private, "auth", *proof)
    driver.answers["private pong"] = driver.converse(driver.private, "ping")
    driver.answers["private subscribe"] = driver.converse(driver.private, "subscribe", *PRIVATE_TOPICS)
    driver.answers["dcp subscribe"] = driver.converse(driver.private, "subscribe", "dcp.future", "dcp.spot")
    driver.answers["public pong"] = driver.converse(driver.public, "ping")
    driver.answers["public subscribe"] = driver.converse(driver.public, "subscribe", *PUBLIC_TOPICS)
    for topic in NOT_PUBLISHED:
        driver.answers[topic] = driver.converse(driver.public, "subscribe", topic)
    driver.order("auth", *proof)
    driver.order("ping")
    trade(driver)
    driver.liquidate()
    driver.announce()
    for path in (*rest_market.ENDPOINTS, *rest_private.QUERIES):
        driver.ask(path, QUERIES.get(path, LINEAR))
    driver.send("/v5/order/cancel-all")
    deltas = [f"orderbook.{depth}.{SYMBOL}" for depth in (*DEPTHS, "full") if depth != 1]
    driver.listen(
        driver.public,
        lambda: all(driver.told(topic) for topic in PUBLIC_TOPICS) and all(driver.told(t, "delta") for t in deltas),
    )
    driver.listen(driver.private, lambda: all(driver.told(topic) for topic in PRIVATE_TOPICS))


def trade(driver: Driver) -> None:
    """One order of each kind, a position with exits; two orders stay open."""
    last = float(driver.ask("/v5/market/tickers", LINEAR)["list"][0]["lastPrice"])
    limit = {"side": "Buy", "orderType": "Limit", "qty": "0.1", "price": f"{last * 0.9:.2f}"}
    exits = {"takeProfit": f"{last * 1.2:.2f}", "stopLoss": f"{last * 0.8:.2f}"}
    driver.send("/v5/position/set-leverage", buyLeverage="5", sellLeverage="5")
    driver.send("/v5/order/create", side="Buy", orderType="Market", qty="0.2")
    driver.send("/v5/order/create", side="Sell", orderType="Market", qty="0.1", reduceOnly=True)
    driver.send("/v5/position/trading-stop", tpslMode="Full", positionIdx=0, **exits)
    cancelled = driver.send("/v5/order/create", **limit)["orderId"]
    driver.send("/v5/order/cancel", orderId=cancelled)
    for number in range(2):
        placed = driver.send("/v5/order/create", **limit, **exits, orderLinkId=f"shape-{number}")["orderId"]
    driver.send("/v5/order/amend", orderId=placed, qty="0.2")
    batch = [{**limit, "symbol": SYMBOL, "orderLinkId": f"batch-{number}"} for number in range(2)]
    driver.send("/v5/order/create-batch", request=batch)
    names = [{"symbol": SYMBOL, "orderLinkId": order["orderLinkId"]} for order in batch]
    driver.send("/v5/order/amend-batch", request=[{**name, "qty": "0.3"} for name in names])
    driver.send("/v5/order/cancel-batch", request=names)
    driver.order("order.create", {**LINEAR, **limit}, reqId="shape-trade")
    again = [{**order, "orderLinkId": f"{order['orderLinkId']}-trade"} for order in batch]
    driver.order("order.create-batch", {"category": "linear", "request": again})
    driver.send("/v5/order/disconnected-cancel-all", timeWindow=40)
    driver.send("/v5/account/set-collateral-switch", coin="BTC", collateralSwitch="ON")
    driver.send("/v5/position/switch-mode", symbol="BTCUSDT", mode=3)
    driver.send("/v5/order/pre-check", **limit)
    driver.send("/v5/account/set-margin-mode", setMarginMode="REGULAR_MARGIN")


@pytest.fixture(scope="module")
def driver(venue: ServerProcess) -> Iterator[Driver]:
    made = Driver(venue)
    try:
        run(made)
        yield made
    finally:
        made.close()


def chosen(examples: list[Example], file: str, name: str, section: str = "", tab: str = "") -> Any:
    """The example of a page that is an answer and is for linear, or the nearest to it."""
    fitting = [
        e
        for e in examples
        if e.file.startswith(f"docs/v5/{file}") and name in ("", e.name) and "Request" not in e.section
        and e.section != "Subscribe Example" and section in e.section and tab in ("", e.tab)
        and (tab or e.tab in TABS)
    ]  # fmt: skip
    assert fitting, f"the documentation has no example of {file} {name}"
    # Of two under the same tab, the fuller one: the other is what an older or a simpler channel says.
    return min(fitting, key=lambda e: (TABS.index(e.tab) if e.tab in TABS else len(TABS), -len(e.body))).body


def of_rest(examples: list[Example], path: str) -> Any:
    current = [e for e in examples if not e.file.startswith(("docs/v5/abandon", "docs/v5/pre-upgrade"))]
    return chosen(current, "", path, section="Response Example").get("result", {})


# Pages that are not named like their topic.
PAGES = {"execution.fast": "fast-execution"}


def of_topic(examples: list[Example], topic: str, kind: str | None) -> Any:
    if topic.startswith("orderbook.full"):
        return chosen(examples, "websocket/public/full-ob.mdx", "orderbook.full.{symbol}")
    where, name, tab = {
        "orderbook": ("websocket/public/orderbook.mdx", "orderbook.{depth}.{symbol}", kind or ""),
        "kline": ("websocket/public/kline.mdx", "kline.{interval}.{symbol}", ""),
        "publicTrade": ("websocket/public/trade.mdx", "publicTrade.{symbol}", ""),
        "tickers": ("websocket/public/ticker.mdx", "tickers.{symbol}", "linear"),
        "allLiquidation": ("websocket/public/all-liquidation.mdx", "allLiquidation.{symbol}", ""),
        "system": ("websocket/system/system-status.mdx", "system.status", "python"),
        "priceLimit": ("websocket/public/order-price-limit.mdx", "priceLimit.{symbol}", "python"),
    }.get(topic.partition(".")[0], (f"websocket/private/{PAGES.get(topic, topic)}.mdx", topic, ""))
    return chosen(examples, where, name, tab=tab)


def of_trade(examples: list[Example], operation: str) -> Any:
    page = [e for e in examples if e.file.endswith("websocket/trade/guideline.mdx") and e.section == "Response Example"]
    return next(e.body for e in page if e.body["op"] == operation)


# Requests of the websocket itself, by the section and the tab of their page.
CONTROL = {
    "private auth": ("Authenticate with API.", "None"),
    "private pong": ("Heartbeat", "option"),
    "private subscribe": ("Understanding the Subscription Response", "private"),
    "dcp subscribe": ("Understanding the Subscription Response", "private"),
    "public pong": ("Heartbeat", "future"),
    "public subscribe": ("Understanding the Subscription Response", "public-future"),
}

TOPICS = [
    *(
        (topic, None if topic.startswith("priceLimit") else "snapshot")
        for topic in PUBLIC_TOPICS
        if ".full." not in topic
    ),
    *((f"orderbook.{depth}.{SYMBOL}", "delta") for depth in (*DEPTHS, "full") if depth != 1),
    *((topic, None) for topic in PRIVATE_TOPICS),
    ("system.status", None),
]
PATHS = [*rest_market.ENDPOINTS, *rest_private.QUERIES, *rest_private.COMMANDS]


def judge(name: str, pairs: list[tuple[Any, Any]]) -> None:
    """Fail for what differs and is in no table, and for what is in a table and does not differ."""
    assert pairs, f"{name} showed nothing to compare"
    found = Difference()
    for example, answer in pairs:
        compare(example, answer, "", found)
    nothing = set(found.empty) - EMPTY.get(name, {}).keys()
    assert not nothing, f"{name} showed nothing in {nothing}"
    differs = {**found.missing, **found.mistyped}
    gaps, extra = KNOWN_GAPS.get(name, set()), EXTRA.get(name, {})
    unknown = {key: value for key, value in differs.items() if key not in gaps}
    assert not unknown, f"{name} lacks or mistypes {json.dumps(unknown, indent=1)}"
    assert not gaps - differs.keys(), f"{name} closed {gaps - differs.keys()}: take it out of KNOWN_GAPS"
    surplus = {key: value for key, value in found.extra.items() if key not in extra}
    assert not surplus, f"{name} has what the example has not: {json.dumps(surplus, indent=1)}"
    assert not extra.keys() - found.extra.keys(), f"{name} no longer has {extra.keys() - found.extra.keys()}"


@pytest.mark.parametrize("path", PATHS)
def test_an_endpoint_answers_as_documented(path: str, driver: Driver, examples: list[Example]) -> None:
    assert path in driver.answers, f"{path} is new: drive it in this test"
    answer = driver.answers[path]
    assert answer.keys() == {"retCode", "retMsg", "result", "retExtInfo", "time"}
    judge(path, [(of_rest(examples, path), answer["result"])])


@pytest.mark.parametrize(("topic", "kind"), TOPICS)
def test_a_topic_tells_as_documented(topic: str, kind: str | None, driver: Driver, examples: list[Example]) -> None:
    example = of_topic(examples, topic, kind)
    judge(topic.partition(".")[0], [(example, message) for message in driver.told(topic, kind)])


@pytest.mark.parametrize("name", CONTROL)
def test_a_request_on_the_websocket_is_answered_as_documented(
    name: str, driver: Driver, examples: list[Example]
) -> None:
    section, tab = CONTROL[name]
    body = chosen(examples, "websocket/wss-authentication.mdx", "", section, tab)
    judge(name, [(body, driver.answers[name])])


@pytest.mark.parametrize("operation", TRADE_OPERATIONS)
def test_a_request_on_the_trade_websocket_is_answered_as_documented(
    operation: str, driver: Driver, examples: list[Example]
) -> None:
    name = f"trade {operation}"
    judge(name, [(of_trade(examples, operation), driver.answers[name])])


@pytest.mark.parametrize("topic", NOT_PUBLISHED)
def test_what_is_not_published_is_refused(topic: str, driver: Driver) -> None:
    assert driver.answers[topic]["success"] is False, f"{topic} is published now: compare it"


def test_all_examples_are_counted(
    driver: Driver, examples: list[Example], record_testsuite_property: Callable[[str, object], None]
) -> None:
    bodies = [of_rest(examples, path) for path in PATHS] + [of_topic(examples, *topic) for topic in TOPICS]
    assert all(body is not None for body in bodies)
    count = len(bodies) + len(CONTROL) + len(TRADE_OPERATIONS)
    record_testsuite_property("official_examples_compared", count)
    sys.stdout.write(
        f"{count} answers compared with official examples: {len(PATHS)} endpoints, {len(TOPICS)} kinds of messages\n"
    )
    assert count >= 50
