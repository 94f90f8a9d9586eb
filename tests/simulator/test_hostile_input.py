"""Whatever is sent to the simulator, over real sockets: it answers or hangs up, goes on, and nothing unforeseen happens
inside it. Everything is drawn from a seed, so what fails once fails again."""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
import websocket

from tests import processes
from tests.processes import ServerProcess
from tests.simulator.loopback import Row, signed
from trading.simulator.keys import ApiKey
from trading.simulator.rest_market import ENDPOINTS
from trading.simulator.rest_private import COMMANDS, QUERIES

SECONDS = 30.0
SEED = 20_240_607
KEYS = [ApiKey(f"user{number}", f"user{number}-key", f"user{number}-secret") for number in range(600)]
# Somebody else for each request: a rate limit would refuse what is to be read.
unused = itertools.cycle(KEYS)

LINEAR = {"category": "linear", "symbol": "BTCUSDT"}
ORDER = {**LINEAR, "side": "Buy", "orderType": "Limit", "qty": "0.001", "price": "50000"}
FIELDS = (
    *("category", "symbol", "side", "orderType", "qty", "price", "timeInForce", "orderLinkId", "orderId", "reduceOnly"),
    *("closeOnTrigger", "triggerPrice", "triggerDirection", "triggerBy", "positionIdx", "takeProfit", "stopLoss"),
    *("tpslMode", "tpOrderType", "slLimitPrice", "smpType", "marketUnit", "orderFilter", "trailingStop", "activePrice"),
    *("tpSize", "buyLeverage", "sellLeverage", "mode", "coin", "timeWindow", "product", "request", "setMarginMode"),
    *("startTime", "endTime", "start", "end", "limit", "cursor", "openOnly", "settleCoin", "baseCoin", "orderStatus"),
    *("interval", "intervalTime", "period", "accountType", "currency", "type", "execType", "status"),
)
HOSTILE: tuple[Any, ...] = (
    *("", " ", "0", "-0", "-1", "NaN", "sNaN", "Infinity", "-Infinity", "1e400", "1e-400", "1e18", "9" * 400, "0x10"),
    *("1_000", "１２", "²", "\x00", "\u202e", "'; DROP TABLE orders; --", "../../etc/passwd", "%00", "%ZZ", "{{7*7}}"),
    *("🙂" * 50, "x" * 10_000, "a:b:c", ":", "lastid=0&lasttime=9", "١٢٣", "0." + "0" * 30 + "1", "+5", "5 ", "\n5"),
    *(True, False, None, [], {}, [[]], [{}], {"a": {"b": []}}, [None] * 30, 0, -1, 2**53, 2**63 - 1, -(2**63)),
    *(2**64 - 1, 0.1, -0.0, 1e308, 5e-324, [ORDER] * 3, [{**ORDER, "qty": {}}], [{"orderId": []}, {"orderLinkId": 7}]),
)  # fmt: skip


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("venue")
    rows = [{"user": k.user, "api_key": k.api_key, "api_secret": k.api_secret, "balance": "100000"} for k in KEYS]
    (folder / "keys.json").write_text(json.dumps(rows))
    options = ("--symbols", "2", "--keys", str(folder / "keys.json"))
    server = processes.start_simulator(folder / "simulator.log", options)
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def undisturbed(venue: ServerProcess) -> Iterator[None]:
    """The process goes on, answers, and has met nothing that its code did not foresee."""
    before = len(venue.running.log.read_text(errors="replace"))
    yield
    assert venue.running.process.poll() is None
    assert requests.get(f"{venue.url}/v5/market/time", timeout=SECONDS).json()["retCode"] == 0
    log = venue.running.log.read_text(errors="replace")[before:]
    # What is no HTTP at all aiohttp answers with a 400, and notes where its parser gave up.
    assert log.count("Traceback") == log.count("aiohttp.http_exceptions."), log


def spoilt(rng: random.Random) -> Row:
    """Mostly an order, with some fields replaced, added or taken away."""
    fields: Row = {**ORDER, **rng.choice(({}, {"category": "spot"}, {"orderType": "Market"}, {"settleCoin": "USDT"}))}
    for name in rng.sample(FIELDS, rng.randint(1, 4)):
        fields[name] = rng.choice(HOSTILE)
    if rng.random() < 0.2:
        fields.pop(rng.choice(list(fields)))
    return fields


def assert_answered(answer: requests.Response, sent: object) -> None:
    assert answer.status_code == 200, (answer.status_code, sent)
    body = answer.json()
    assert body["retCode"] != 10016 and body.keys() >= {"retCode", "retMsg", "result", "retExtInfo", "time"}, sent


@pytest.mark.parametrize("path", [*COMMANDS])
def test_every_command_answers_any_fields(venue: ServerProcess, path: str) -> None:
    rng = random.Random(f"{SEED}{path}")
    with requests.Session() as session:
        for _ in range(60):
            fields = spoilt(rng)
            if path.endswith("-batch") and rng.random() < 0.7:
                fields = {
                    "category": fields.get("category"),
                    "request": [spoilt(rng) for _ in range(rng.randint(1, 4))],
                }
            body = json.dumps(fields).encode()
            answer = session.post(f"{venue.url}{path}", data=body, headers=signed(next(unused), body), timeout=SECONDS)
            assert_answered(answer, fields)


@pytest.mark.parametrize("path", [*QUERIES, *ENDPOINTS])
def test_every_question_answers_any_query(venue: ServerProcess, path: str) -> None:
    rng = random.Random(f"{SEED}{path}")
    with requests.Session() as session:
        for _ in range(40):
            fields = spoilt(rng)
            query = urlencode({name: str(value)[:2_000] for name, value in fields.items()})
            url = f"{venue.url}{path}?{query}"
            assert_answered(session.get(url, headers=signed(next(unused), query.encode()), timeout=SECONDS), fields)


@pytest.mark.parametrize("path", ["/v5/order/create", "/v5/order/create-batch", "/v5/position/trading-stop"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"NaN",
        b'{"qty": NaN}',
        b'{"qty": 1e999}',
        b'{"qty": ' + b"9" * 50_000 + b"}",
        b'{"category":"linear","qty":"\\ud800"}',
        b'{"category":"\xff\xfe"}',
        b"\xef\xbb\xbf{}",
        b"{" * 60_000,
        b'{"request":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"category":"linear","category":"spot","request":[]}',
        bytes(range(256)),
    ],
)
def test_any_body_is_refused_with_a_code(venue: ServerProcess, path: str, body: bytes) -> None:
    answer = requests.post(f"{venue.url}{path}", data=body, headers=signed(next(unused), body), timeout=SECONDS)
    assert_answered(answer, body)
    assert answer.json()["retCode"] != 0


def test_a_megabyte_is_refused_unread(venue: ServerProcess) -> None:
    body = b'{"orderLinkId":"' + b"x" * 1_000_000 + b'"}'
    with suppress(requests.ConnectionError):  # it may hang up before it has been sent all
        headers = signed(next(unused), body)
        answer = requests.post(f"{venue.url}/v5/order/create", data=body, headers=headers, timeout=SECONDS)
        assert answer.status_code == 413


@pytest.mark.parametrize("missing", ["X-BAPI-API-KEY", "X-BAPI-TIMESTAMP", "X-BAPI-SIGN", "X-BAPI-RECV-WINDOW"])
@pytest.mark.parametrize("value", [None, "", "0", "-1", "9" * 5_000, "1e9", "null"])
def test_any_header_is_refused_with_a_code(venue: ServerProcess, missing: str, value: str | None) -> None:
    headers = signed(next(unused), b"{}")
    headers.pop(missing)
    if value is not None:
        headers[missing] = value
    answer = requests.post(f"{venue.url}/v5/order/create", data=b"{}", headers=headers, timeout=SECONDS)
    assert_answered(answer, headers)
    assert answer.json()["retCode"] in (10002, 10003, 10004)


RAW = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 1_000,
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v5/order/create HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
    b"POST /v5/order/create HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999999999999\r\n\r\n{}",
    b"POST /v5/order/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    b"POST /v5/order/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /v5/market/time HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    b"GET /v5/market/time?" + b"a=1&" * 30_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v5/market/time\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v5/%2e%2e/%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v5/public/linear HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
)


@pytest.mark.parametrize("request_bytes", RAW, ids=range(len(RAW)))
def test_what_is_no_http_is_refused_or_hung_up_on(venue: ServerProcess, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", venue.port), timeout=SECONDS) as raw, suppress(ConnectionError):
        raw.sendall(request_bytes)
        raw.shutdown(socket.SHUT_WR)
        answer = raw.recv(65_536)
        assert not answer.startswith(b"HTTP/1.1 5"), answer


# Frames.


def spoilt_frame(rng: random.Random, key: ApiKey) -> str | bytes:
    operation = rng.choice(("order.create", "order.create-batch", "order.cancel", "subscribe", "unsubscribe", "auth"))
    request: Row = {"op": operation, "args": [spoilt(rng)], "req_id": "1", "reqId": str(rng.random()), "header": {}}
    if rng.random() < 0.5:
        request["header"] = {name: str(value) for name, value in signed(key, b"").items()}
    for name in rng.sample(["op", "args", "req_id", "reqId", "header"], rng.randint(0, 2)):
        request[name] = rng.choice(HOSTILE)
    text = json.dumps(request)
    kind = rng.random()
    if kind < 0.1:
        return text[: rng.randint(0, len(text))]
    if kind < 0.2:
        return rng.randbytes(rng.randint(0, 300))
    return text


@pytest.mark.parametrize("path", ["/v5/public/linear", "/v5/public/spot", "/v5/private", "/v5/trade"])
def test_every_frame_is_answered_on_a_connection_that_goes_on(venue: ServerProcess, path: str) -> None:
    rng = random.Random(f"{SEED}{path}")
    for _ in range(8):
        key = next(unused)
        connection = websocket.create_connection(f"{venue.websocket_url}{path}", timeout=SECONDS)
        for number in range(25):
            frame = spoilt_frame(rng, key)
            binary = isinstance(frame, bytes)
            connection.send(frame, websocket.ABNF.OPCODE_BINARY if binary else websocket.ABNF.OPCODE_TEXT)
            name = f"still-there-{number}"
            connection.send(json.dumps({"op": "ping", "req_id": name, "reqId": name}))
            while name not in (heard := connection.recv()):
                assert "10016" not in heard, (frame, heard)
        connection.close()


def masked(opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    """A client's frame as it goes over the wire, with any first byte."""
    head = bytes(((0x80 if final else 0) | reserved | opcode, 0x80 | min(len(payload), 125)))
    return head + b"\0\0\0\0" + payload


WIRE = (
    masked(0x1, b"\xff\xfe\xfd"),
    masked(0x3, b"reserved opcode"),
    masked(0x1, b"{}", reserved=0x70),
    masked(0x0, b"continues nothing"),
    masked(0x1, b"{", final=False) + masked(0x1, b"}"),
    masked(0x9, b"p" * 125, final=False),
    masked(0x8, b"\x00"),
    masked(0x8, b"\xff\xff\xff"),
    b"\x81\x02{}",  # not masked
    b"\x81\xff\x7f" + b"\xff" * 7 + b"\0\0\0\0",  # 2^63 bytes to come
    b"\x81\xfe",  # and nothing more
    b"\x00" * 64,
)


@pytest.mark.parametrize("path", ["/v5/public/linear", "/v5/private", "/v5/trade"])
@pytest.mark.parametrize("frame", WIRE, ids=range(len(WIRE)))
def test_what_is_no_frame_ends_its_own_connection_only(venue: ServerProcess, path: str, frame: bytes) -> None:
    bystander = websocket.create_connection(f"{venue.websocket_url}{path}", timeout=SECONDS)
    key = base64.b64encode(os.urandom(16)).decode()
    handshake = (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", venue.port), timeout=SECONDS) as raw, suppress(ConnectionError):
        raw.sendall(handshake.encode())
        assert raw.recv(4_096).startswith(b"HTTP/1.1 101")
        raw.sendall(frame)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(4_096):
            pass
    bystander.send('{"op":"ping"}')
    assert "pong" in bystander.recv()
    bystander.close()
