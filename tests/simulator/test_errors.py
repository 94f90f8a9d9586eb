"""Every documented refusal that the simulator gives by itself, provoked as a client would provoke it."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from tests import processes
from tests.processes import ServerProcess
from trading import simulator

SYMBOL = "BTCUSDT"
LINEAR = {"category": "linear", "symbol": SYMBOL}
LIMIT = {**LINEAR, "side": "Buy", "orderType": "Limit", "qty": "0.001", "price": "50000"}
SPOT = {**LIMIT, "category": "spot", "qty": "0.001"}
MARKET = {**LINEAR, "side": "Buy", "orderType": "Market", "qty": "0.01"}


class Client:
    """Signs as Bybit asks, and gives back the envelope."""

    def __init__(self, url: str, user: str) -> None:
        self.url, self.user = url, user

    def get(self, path: str, **fields: Any) -> dict[str, Any]:
        query = urllib.parse.urlencode(fields)
        return requests.get(f"{self.url}{path}?{query}", headers=self.headers(query), timeout=30).json()

    def post(self, path: str, fields: dict[str, Any], **changes: Any) -> dict[str, Any]:
        body = json.dumps(fields | changes)
        return requests.post(f"{self.url}{path}", data=body, headers=self.headers(body), timeout=30).json()

    def create(self, fields: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        return self.post("/v5/order/create", fields or LIMIT, **changes)

    def headers(
        self, payload: str, *, age_ms: int = 0, key: str = "", secret: str = "", window: str = "5000"
    ) -> dict[str, str]:
        stamp = str(time.time_ns() // 1_000_000 - age_ms)
        key, secret = key or f"{self.user}-key", secret or f"{self.user}-secret"
        signed = f"{stamp}{key}{window}{payload}"
        signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        return {
            "X-BAPI-API-KEY": key,
            "X-BAPI-TIMESTAMP": stamp,
            "X-BAPI-RECV-WINDOW": window,
            "X-BAPI-SIGN": signature,
            "Content-Type": "application/json",
        }


USERS = [f"user{number}" for number in range(80)]


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("venue")
    keys = [
        {"user": user, "api_key": f"{user}-key", "api_secret": f"{user}-secret", "balance": "10000"} for user in USERS
    ]
    (folder / "keys.json").write_text(json.dumps(keys))
    options = ("--symbols", "2", "--keys", str(folder / "keys.json"))
    server = processes.start_simulator(folder / "simulator.log", options)
    yield server
    server.stop()


unused = iter(USERS)


@pytest.fixture
def client(venue: ServerProcess) -> Client:
    """Somebody new: nobody else's orders, position or rate limit."""
    return Client(venue.url, next(unused))


def last_price(client: Client) -> float:
    return float(client.get("/v5/market/tickers", **LINEAR)["result"]["list"][0]["lastPrice"])


def unknown_key(client: Client) -> dict[str, Any]:
    headers = client.headers("", key="nobody")
    return requests.get(f"{client.url}/v5/account/info", headers=headers, timeout=30).json()


def wrong_secret(client: Client) -> dict[str, Any]:
    headers = client.headers("", secret="guess")
    return requests.get(f"{client.url}/v5/account/info", headers=headers, timeout=30).json()


def old_request(client: Client) -> dict[str, Any]:
    headers = client.headers("", age_ms=6_000)
    return requests.get(f"{client.url}/v5/account/info", headers=headers, timeout=30).json()


def too_fast(client: Client) -> dict[str, Any]:
    answers = [client.post("/v5/order/cancel", {**LINEAR, "orderId": "none"}) for _ in range(14)]
    return next(answer for answer in answers if answer["retCode"] != 110001)


def not_json(client: Client) -> dict[str, Any]:
    headers = client.headers("{oops")
    return requests.post(f"{client.url}/v5/order/create", data="{oops", headers=headers, timeout=30).json()


def repeated_id(client: Client) -> dict[str, Any]:
    client.create(orderLinkId="once")
    return client.create(orderLinkId="once", qty="0.002")


def repeated_spot_id(client: Client) -> dict[str, Any]:
    client.create(SPOT, orderLinkId="once")
    return client.create(SPOT, orderLinkId="once", qty="0.002")


def closed_order(client: Client) -> dict[str, Any]:
    placed = client.create(MARKET)["result"]["orderId"]
    return client.post("/v5/order/cancel", {**LINEAR, "orderId": placed})


def eleventh_conditional(client: Client) -> dict[str, Any]:
    price = f"{last_price(client) * 1.2:.1f}"
    order = {**MARKET, "triggerPrice": price, "triggerDirection": 1}
    batch = client.post("/v5/order/create-batch", {"category": "linear", "request": [order] * 10})
    assert [row["code"] for row in batch["retExtInfo"]["list"]] == [0] * 10
    return client.create(order)


def trigger_below(client: Client) -> dict[str, Any]:
    return client.create(MARKET, triggerPrice=f"{last_price(client) * 0.9:.1f}", triggerDirection=1)


def trigger_above(client: Client) -> dict[str, Any]:
    return client.create(MARKET, triggerPrice=f"{last_price(client) * 1.1:.1f}", triggerDirection=2)


def too_much_leverage(client: Client) -> dict[str, Any]:
    return client.post("/v5/position/set-leverage", {**LINEAR, "buyLeverage": "500", "sellLeverage": "500"})


def same_leverage(client: Client) -> dict[str, Any]:
    fields = {**LINEAR, "buyLeverage": "7", "sellLeverage": "7"}
    assert client.post("/v5/position/set-leverage", fields)["retCode"] == 0
    return client.post("/v5/position/set-leverage", fields)


def leverage_beyond_the_wallet(client: Client) -> dict[str, Any]:
    assert client.create(MARKET, qty="1")["retCode"] == 0
    return client.post("/v5/position/set-leverage", {**LINEAR, "buyLeverage": "1", "sellLeverage": "1"})


def spot_conditional_beyond_thirty(client: Client) -> dict[str, Any]:
    order = {**SPOT, "triggerPrice": "40000"}
    codes = []
    for _ in range(2):
        batch = client.post("/v5/order/create-batch", {"category": "spot", "request": [order] * 10})
        codes += [row["code"] for row in batch["retExtInfo"]["list"]]
    codes += [client.create(order)["retCode"] for _ in range(10)]
    assert codes == [0] * 30
    return client.create(order)


def late_authentication(client: Client) -> dict[str, Any]:
    expired = time.time_ns() // 1_000_000 - 1
    signature = hmac.new(f"{client.user}-secret".encode(), f"GET/realtime{expired}".encode(), hashlib.sha256)
    socket = websocket.create_connection(f"{client.url.replace('http', 'ws')}/v5/trade", timeout=30)
    try:
        arguments = [f"{client.user}-key", expired, signature.hexdigest()]
        socket.send(json.dumps({"op": "auth", "args": arguments}))
        return json.loads(socket.recv())
    finally:
        socket.close()


def same_mode(client: Client) -> dict[str, Any]:
    return client.post("/v5/position/switch-mode", {**LINEAR, "mode": 0})


def mode_with_position(client: Client) -> dict[str, Any]:
    client.create(MARKET)
    return client.post("/v5/position/switch-mode", {**LINEAR, "mode": 3})


def mode_with_orders(client: Client) -> dict[str, Any]:
    client.create()
    return client.post("/v5/position/switch-mode", {**LINEAR, "mode": 3})


def same_exits(client: Client) -> dict[str, Any]:
    client.create(MARKET)
    fields = {**LINEAR, "tpslMode": "Full", "positionIdx": 0, "stopLoss": f"{last_price(client) * 0.9:.1f}"}
    assert client.post("/v5/position/trading-stop", fields)["retCode"] == 0
    return client.post("/v5/position/trading-stop", fields)


REFUSALS: list[tuple[int, Callable[[Client], dict[str, Any]]]] = [
    (10001, not_json),
    (10001, lambda client: client.create(symbol="NOPEUSDT")),
    (10001, lambda client: client.create(category="option")),
    (10001, lambda client: client.create(side="Hold")),
    (10001, lambda client: client.create(qty="0.0005")),
    (10001, lambda client: client.create(qty="1e999999999")),
    (10001, lambda client: client.create(price="50000.05")),
    (10001, lambda client: client.create(orderLinkId="x" * 37)),
    (10001, lambda client: client.create(positionIdx=1)),
    (10001, lambda client: client.create(takeProfit="40000")),
    (10001, lambda client: client.get("/v5/order/realtime", category="linear")),
    (10001, lambda client: client.get("/v5/execution/list", **LINEAR, startTime="1", endTime="999999999999")),
    (10001, lambda client: client.get("/v5/market/kline", **LINEAR, interval="7")),
    (10002, old_request),
    (10003, unknown_key),
    (10004, wrong_secret),
    (10006, too_fast),
    (10017, lambda client: client.get("/v5/order/teleport")),
    (10017, lambda client: client.post("/v5/market", {})),
    (-1, late_authentication),
    (3400045, lambda client: client.post("/v5/account/set-margin-mode", {"setMarginMode": "ISOLATED_MARGIN"})),
    (34040, same_exits),
    (110001, lambda client: client.post("/v5/order/cancel", {**LINEAR, "orderId": "none"})),
    (110001, lambda client: client.post("/v5/order/amend", {**LINEAR, "orderId": "none", "qty": "1"})),
    (110001, closed_order),
    (110003, lambda client: client.create(price="90000")),
    (110003, lambda client: client.create(side="Sell", price="30000")),
    (110007, lambda client: client.create(qty="50")),
    (110009, eleventh_conditional),
    (110013, too_much_leverage),
    (110017, lambda client: client.create(MARKET, reduceOnly=True)),
    (110024, mode_with_position),
    (110025, same_mode),
    (110028, mode_with_orders),
    (110043, same_leverage),
    (110044, leverage_beyond_the_wallet),
    (110072, repeated_id),
    (110092, trigger_below),
    (110093, trigger_above),
    (110094, lambda client: client.create(symbol="ETHUSDT", qty="0.01", price="100")),
    (170121, lambda client: client.create(SPOT, symbol="NOPEUSDT")),
    (170124, lambda client: client.create(SPOT, qty="100000000")),
    (170131, lambda client: client.create(SPOT, qty="10")),
    (170115, lambda client: client.create(SPOT, timeInForce="Sometimes")),
    (170116, lambda client: client.create(SPOT, orderType="Guess")),
    (170117, lambda client: client.create(SPOT, side="Hold")),
    (170130, lambda client: client.create(SPOT, price="many")),
    (170130, lambda client: client.create(SPOT, qty="many")),
    (170131, lambda client: client.create(SPOT, side="Sell", price="70000")),
    (170132, lambda client: client.create(SPOT, price="9" * 13)),
    (170133, lambda client: client.create(SPOT, price="0")),
    (170134, lambda client: client.create(SPOT, price="50000.05")),
    (170136, lambda client: client.create(SPOT, qty="0")),
    (170137, lambda client: client.create(SPOT, qty="0.00010001")),
    (170140, lambda client: client.create(SPOT, qty="0.0001", price="100")),
    (170141, repeated_spot_id),
    (170193, lambda client: client.create(SPOT, price="90000")),
    (170194, lambda client: client.create(SPOT, side="Sell", price="50000")),
    (170213, lambda client: client.post("/v5/order/cancel", {**SPOT, "orderId": "none"})),
    (170213, lambda client: client.post("/v5/order/amend", {**SPOT, "orderId": "none", "qty": "1"})),
    (170810, spot_conditional_beyond_thirty),
]  # fmt: skip


@pytest.mark.parametrize(("code", "provoke"), REFUSALS, ids=[f"{code}-{n}" for n, (code, _) in enumerate(REFUSALS)])
def test_a_refusal_comes_with_bybits_code_and_a_reason(
    code: int, provoke: Callable[[Client], dict[str, Any]], client: Client
) -> None:
    answer = provoke(client)
    assert answer["retCode"] == code, answer
    assert answer["retMsg"]


@pytest.mark.parametrize(("method", "path", "body", "status"), [
    ("GET", "/v5/order/teleport", None, 404),
    ("GET", "/v5/order/create", None, 400),
    ("POST", "/v5/order/realtime", "{}", 400),
    ("DELETE", "/v5/order/create", None, 400),
    ("GET", "/v5/market/time", "{}", 403),
])  # fmt: skip
def test_what_no_endpoint_takes_is_answered_by_status(
    venue: ServerProcess, method: str, path: str, body: str | None, status: int
) -> None:
    assert requests.request(method, f"{venue.url}{path}", data=body, timeout=30).status_code == status


# Codes that another test of this folder provokes, for what they need: a websocket, a second clock, 500 orders.
ELSEWHERE = {
    10403: "test_an_address_makes_so_many_trade_requests_a_second",
    10404: "test_a_refusal_has_the_code_of_the_exchange",
    20001: "test_authentication_by_key_signature_and_once",
    20003: "test_a_session_that_asks_too_often_is_told_so_and_goes_on",
    20006: "test_a_request_id_is_used_once_on_a_connection",
    110066: "test_while_the_followed_venue_is_away_orders_are_refused_cancels_pass_and_nothing_fills",
    110020: "test_five_hundred_orders_of_a_symbol_are_open_at_most",
}


def test_every_code_that_the_simulator_gives_is_provoked_by_a_test() -> None:
    sources = [path.read_text() for path in Path(simulator.__file__).parent.glob("*.py")]
    given = {int(code) for text in sources for code in re.findall(r"(?:ApiError|_say)\([^\"]*?(-?\d{5,7})", text)}
    given |= {int(code) for text in sources for code in re.findall(r"\b(17\d{4}|110\d{3}|200\d\d)\b", text)}
    assert len(given) > 35
    assert given - {code for code, _ in REFUSALS} <= ELSEWHERE.keys()
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert all(f"def {name}(" in tests for name in ELSEWHERE.values())
