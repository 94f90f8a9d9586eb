"""Unmodified pybit works against the simulator: REST, public and private websockets, and every refusal."""

from __future__ import annotations

import json
import queue
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pybit.unified_trading as unified
import pytest
import requests
from pybit.exceptions import FailedRequestError, InvalidRequestError

from tests.processes import ServerProcess
from trading.simulator.keys import DEMO_KEYS

KEY = DEMO_KEYS["alice"]


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    from tests import processes  # noqa: PLC0415 - the module's function is named like the fixture of conftest

    # What closed is looked for in the history at once.
    options = ("--symbols", "3", "--history-delay", "0")
    server = processes.start_simulator(tmp_path_factory.mktemp("venue") / "simulator.log", options)
    yield server
    server.stop()


@pytest.fixture
def http(venue: ServerProcess) -> unified.HTTP:
    return client(venue, KEY.api_key, KEY.api_secret)


def client(venue: ServerProcess, key: str, secret: str) -> unified.HTTP:
    # pybit itself waits out the rate limit (10006) and asks again: tests are faster than a user may be.
    made = unified.HTTP(api_key=key, api_secret=secret, max_retries=4, retry_codes={10006})
    made.endpoint = venue.url
    return made


def order(http: unified.HTTP, **changes: Any) -> dict[str, Any]:
    fields = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.001"}
    fields |= {"price": "50000", "timeInForce": "GTC"} | changes
    return http.place_order(**{name: value for name, value in fields.items() if value is not None})["result"]


def best(http: unified.HTTP, symbol: str = "BTCUSDT") -> tuple[float, float]:
    book = http.get_orderbook(category="linear", symbol=symbol, limit=1)["result"]
    return float(book["b"][0][0]), float(book["a"][0][0])


def until(question: Any, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.02)  # the exchange is another process: its event can only be asked for
    raise AssertionError("it did not happen in time")


def test_the_market_answers(http: unified.HTTP) -> None:
    assert abs(int(http.get_server_time()["result"]["timeNano"]) / 1e9 - time.time()) < 10
    listed = http.get_instruments_info(category="linear")["result"]["list"]
    assert [row["symbol"] for row in listed] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    book = http.get_orderbook(category="linear", symbol="BTCUSDT", limit=200)["result"]
    bids, asks = ([float(price) for price, _ in book[side]] for side in "ba")
    assert len(bids) == len(asks) == 200
    assert bids == sorted(bids, reverse=True) and asks == sorted(asks) and bids[0] < asks[0]
    rows = http.get_kline(category="linear", symbol="BTCUSDT", interval="60", limit=500)["result"]["list"]
    starts = [int(row[0]) for row in rows]
    assert len(rows) == 500 and all(a - b == 3_600_000 for a, b in pairwise(starts))
    assert all(float(row[3]) <= min(float(row[1]), float(row[4])) <= float(row[2]) for row in rows)
    ticker = http.get_tickers(category="linear", symbol="BTCUSDT")["result"]["list"][0]
    assert float(ticker["bid1Price"]) < float(ticker["ask1Price"]) and float(ticker["markPrice"]) > 0


def test_longer_candles_are_sums_of_shorter_ones(http: unified.HTTP) -> None:
    short = http.get_kline(category="linear", symbol="ETHUSDT", interval="1", limit=200)["result"]["list"]
    long = http.get_kline(category="linear", symbol="ETHUSDT", interval="5", limit=10)["result"]["list"]
    for row in long[2:]:
        parts = [part for part in short if int(row[0]) <= int(part[0]) < int(row[0]) + 300_000]
        assert len(parts) == 5
        assert float(row[2]) == max(float(part[2]) for part in parts)
        assert float(row[3]) == min(float(part[3]) for part in parts)
        assert float(row[4]) == float(parts[0][4])


def test_a_market_order_fills_at_the_best_price_and_is_found_everywhere(http: unified.HTTP) -> None:
    http.cancel_all_orders(category="linear", settleCoin="USDT")
    placed = order(
        http, symbol="ETHUSDT", orderType="Market", price=None, timeInForce=None, qty="0.1", orderLinkId="m-1"
    )
    found = http.get_open_orders(category="linear", symbol="ETHUSDT", orderLinkId="m-1")["result"]["list"][0]
    assert (found["orderId"], found["orderStatus"], found["cumExecQty"]) == (placed["orderId"], "Filled", "0.10")
    fills = http.get_executions(category="linear", symbol="ETHUSDT", orderLinkId="m-1")["result"]["list"]
    assert sum(float(fill["execQty"]) for fill in fills) == pytest.approx(0.1)
    assert all(float(f["execFee"]) == pytest.approx(float(f["execValue"]) * 0.00055) for f in fills)
    position = http.get_positions(category="linear", symbol="ETHUSDT")["result"]["list"][0]
    assert (position["side"], position["size"]) == ("Buy", "0.10")
    order(http, symbol="ETHUSDT", side="Sell", orderType="Market", price=None, qty="0.1", reduceOnly=True)
    assert http.get_positions(category="linear", symbol="ETHUSDT")["result"]["list"][0]["size"] == "0"
    assert any(row["orderLinkId"] == "m-1" for row in http.get_order_history(category="linear")["result"]["list"])


def test_a_resting_order_is_open_until_it_is_cancelled(http: unified.HTTP) -> None:
    placed = order(http, orderLinkId="rest-1")
    open_now = http.get_open_orders(category="linear", symbol="BTCUSDT")["result"]["list"]
    assert placed["orderId"] in {row["orderId"] for row in open_now}
    http.cancel_order(category="linear", symbol="BTCUSDT", orderLinkId="rest-1")
    found = http.get_open_orders(category="linear", symbol="BTCUSDT", orderLinkId="rest-1")["result"]["list"][0]
    assert (found["orderStatus"], found["cancelType"]) == ("Cancelled", "CancelByUser")


def test_a_post_only_order_that_would_take_is_cancelled_and_not_rejected(http: unified.HTTP) -> None:
    _, ask = best(http)
    order(http, price=str(round(ask + 50, 1)), timeInForce="PostOnly", orderLinkId="post-1")
    found = http.get_open_orders(category="linear", symbol="BTCUSDT", orderLinkId="post-1")["result"]["list"][0]
    assert (found["orderStatus"], found["rejectReason"]) == ("Cancelled", "EC_PostOnlyWillTakeLiquidity")


def test_leverage_is_set_once(http: unified.HTTP) -> None:
    http.set_leverage(category="linear", symbol="SOLUSDT", buyLeverage="7", sellLeverage="7")
    with pytest.raises(InvalidRequestError) as refused:
        http.set_leverage(category="linear", symbol="SOLUSDT", buyLeverage="7", sellLeverage="7")
    assert refused.value.status_code == 110043


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbol": "NOPEUSDT"}, 10001),
        ({"qty": "0.0015"}, 10001),
        ({"qty": "0"}, 10001),
        ({"qty": "many"}, 10001),
        ({"price": "50000.05"}, 10001),
        ({"price": "0.1"}, 110094),
        ({"qty": "100"}, 110007),
        ({"side": "Hold"}, 10001),
        ({"orderLinkId": "x" * 37}, 10001),
        ({"reduceOnly": True, "side": "Sell", "symbol": "SOLUSDT", "qty": "1"}, 110017),
    ],
)
def test_an_order_that_breaks_a_rule_is_refused_with_bybits_code(
    http: unified.HTTP, changes: dict[str, Any], code: int
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        order(http, **changes)
    assert refused.value.status_code == code and refused.value.message


def test_a_link_id_is_used_once_for_ever(http: unified.HTTP) -> None:
    order(http, orderLinkId="once")
    http.cancel_order(category="linear", symbol="BTCUSDT", orderLinkId="once")
    with pytest.raises(InvalidRequestError) as refused:
        order(http, orderLinkId="once")
    assert refused.value.status_code == 110072


def test_a_wrong_signature_an_unknown_key_and_an_old_timestamp_are_refused(venue: ServerProcess) -> None:
    for key, secret, code in ((KEY.api_key, "wrong", 10004), ("nobody", "x", 10003)):
        with pytest.raises(InvalidRequestError) as refused:
            client(venue, key, secret).get_wallet_balance(accountType="UNIFIED")
        assert refused.value.status_code == code
    headers = {
        "X-BAPI-API-KEY": KEY.api_key,
        "X-BAPI-TIMESTAMP": str(int(time.time() * 1000) - 10_000),
        "X-BAPI-RECV-WINDOW": "5000",
        "X-BAPI-SIGN": "00",
    }
    answer = requests.get(f"{venue.url}/v5/account/wallet-balance", headers=headers, timeout=30).json()
    assert answer["retCode"] == 10002


def test_too_many_requests_in_a_second_are_refused(venue: ServerProcess) -> None:
    impatient = unified.HTTP(
        api_key=KEY.api_key, api_secret=KEY.api_secret, max_retries=1, retry_codes={-999}, return_response_headers=True
    )
    impatient.endpoint = venue.url
    codes = []
    for _ in range(25):
        try:
            impatient.get_fee_rates(category="linear")
        except InvalidRequestError as error:
            codes.append(error.status_code)
            assert error.resp_headers["X-Bapi-Limit"] == "5"
    assert codes and set(codes) == {10006}


def test_malformed_bodies_and_frames_are_answered_and_end_nothing(venue: ServerProcess, http: unified.HTTP) -> None:
    with pytest.raises(InvalidRequestError):
        http._submit_request(method="POST", path=f"{venue.url}/v5/order/create", query={}, auth=True)
    answer = requests.post(f"{venue.url}/v5/order/create", data=b"{not json", timeout=30).json()
    assert answer["retCode"] != 0
    frames: queue.Queue[str] = queue.Queue()
    import websocket  # noqa: PLC0415 - pybit's own client library

    socket = websocket.create_connection(f"{venue.websocket_url}/v5/public/linear", timeout=30)
    for message in ("{broken", "[1]", '{"op":"fly"}', '{"op":"subscribe","args":["orderbook.7.BTCUSDT"]}'):
        socket.send(message)
        frames.put(socket.recv())
    socket.close()
    assert all(json.loads(frames.get())["success"] is False for _ in range(4))
    assert requests.get(f"{venue.url}/simulator/status", timeout=30).status_code == 200


def test_injected_faults_hit_the_next_request_only(venue: ServerProcess, http: unified.HTTP) -> None:
    control(venue, "faults", endpoint="/v5/account/info", kind="ret_code", value=10016)
    with pytest.raises(InvalidRequestError) as refused:
        http.get_account_info()
    assert refused.value.status_code == 10016
    assert http.get_account_info()["retCode"] == 0
    control(venue, "faults", endpoint="/v5/order/create", kind="lose_answer")
    with pytest.raises((FailedRequestError, requests.RequestException)):
        order(http, orderLinkId="lost-answer")
    # The connection may end before the venue has worked on what it took.
    names = {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "lost-answer"}
    found = until(lambda: http.get_open_orders(**names)["result"]["list"])
    assert found[0]["orderStatus"] == "New"


def control(venue: ServerProcess, what: str, **body: Any) -> dict[str, Any]:
    request = urllib.request.Request(f"{venue.url}/simulator/control/{what}", data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_public_and_private_streams_tell_what_happens(
    venue: ServerProcess, http: unified.HTTP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unified, "PUBLIC_WSS", f"{venue.websocket_url}/v5/public/{{CHANNEL_TYPE}}")
    monkeypatch.setattr(unified, "PRIVATE_WSS", f"{venue.websocket_url}/v5/private")
    heard: dict[str, list[Any]] = {}

    def hear(message: dict[str, Any]) -> None:
        heard.setdefault(message["topic"].split(".")[0], []).append(message)

    public = unified.WebSocket(testnet=False, channel_type="linear")
    public.orderbook_stream(50, "BTCUSDT", hear)
    public.trade_stream("BTCUSDT", hear)
    public.ticker_stream("BTCUSDT", hear)
    public.kline_stream(1, "BTCUSDT", hear)
    private = unified.WebSocket(
        testnet=False, channel_type="private", api_key=KEY.api_key, api_secret=KEY.api_secret, private_auth_expire=10
    )
    private.order_stream(hear)
    private.execution_stream(hear)
    private.position_stream(hear)
    private.wallet_stream(hear)
    until(lambda: private.is_connected() and len(heard.get("orderbook", [])) > 3)
    order(http, orderType="Market", price=None, timeInForce=None, qty="0.002", orderLinkId="streamed")
    wanted = {"orderbook", "publicTrade", "tickers", "kline", "order", "execution", "position", "wallet"}
    until(lambda: wanted <= set(heard))
    fills = [row for message in heard["execution"] for row in message["data"] if row["orderLinkId"] == "streamed"]
    assert sum(float(row["execQty"]) for row in fills) == pytest.approx(0.002)
    statuses = [row["orderStatus"] for m in heard["order"] for row in m["data"] if row["orderLinkId"] == "streamed"]
    assert statuses[0] == "New" and statuses[-1] == "Filled"
    public.exit()
    private.exit()


def test_spot_is_bought_with_dollars_and_sold_as_coins(venue: ServerProcess) -> None:
    key = DEMO_KEYS["bob"]
    bob = client(venue, key.api_key, key.api_secret)
    listed = bob.get_instruments_info(category="spot", symbol="ETHUSDT")["result"]["list"][0]
    assert listed["baseCoin"] == "ETH" and "basePrecision" in listed["lotSizeFilter"]
    ticker = bob.get_tickers(category="spot", symbol="ETHUSDT")["result"]["list"][0]
    contract = bob.get_tickers(category="linear", symbol="ETHUSDT")["result"]["list"][0]
    assert abs(float(ticker["lastPrice"]) / float(contract["lastPrice"]) - 1) < 0.01
    bob.place_order(category="spot", symbol="ETHUSDT", side="Buy", orderType="Market", qty="100")
    wallet = bob.get_wallet_balance(accountType="UNIFIED", coin="ETH")["result"]["list"][0]["coin"][0]
    assert 0.01 < float(wallet["walletBalance"]) < 0.1
    quantity = f"{float(wallet['walletBalance']) - 0.001:.3f}"
    sold = bob.place_order(category="spot", symbol="ETHUSDT", side="Sell", orderType="Market", qty=quantity)["result"]
    row = bob.get_order_history(category="spot", orderId=sold["orderId"])["result"]["list"][0]
    assert row["orderStatus"] == "Filled" and row["positionIdx"] == 0
    assert bob.get_positions(category="linear", settleCoin="USDT")["result"]["list"] == []
    bars = bob.get_kline(category="spot", symbol="ETHUSDT", interval="1", limit=5)["result"]["list"]
    assert len(bars) == 5
