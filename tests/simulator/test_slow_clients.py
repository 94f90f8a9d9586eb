"""Clients that subscribe and never read, over real sockets: what waits for one is bounded, then it is dropped with a
reason in the log, and the others are told everything in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from trading.simulator import hub
from trading.simulator.binance.side import BinanceSide
from trading.simulator.clerk import Clerk
from trading.simulator.hub import Client
from trading.simulator.signatures import Authority
from trading.simulator.venue import Venue
from trading.simulator.websockets import Websockets

SECONDS = 20.0
MOST_BYTES = 512 * 1024
MESSAGE = 32 * 1024
# The topic as its subscriber names it, and as the hub does.
BYBIT = ("/v5/public/linear", {"op": "subscribe", "args": ["allLiquidation.BTCUSDT"]}, "allLiquidation.BTCUSDT")
BINANCE = (
    "/futures/ws",
    {"method": "SUBSCRIBE", "params": ["btcusdt@forceOrder"], "id": 1},
    "binance/futures/raw/btcusdt@forceOrder",
)


@pytest.fixture
async def venue() -> AsyncIterator[tuple[Venue, str]]:
    """A venue whose clock stands: nothing is told but what the test publishes."""
    made = Venue({}, symbols=1)
    application, authority = web.Application(), Authority({})
    Websockets(made, authority, Clerk(made)).register(application)
    BinanceSide(made).register(application)
    server = TestServer(application)
    await server.start_server()
    yield made, str(server.make_url("")).rstrip("/")
    made.hub.disconnect_all()
    await server.close()


async def deaf(url: str, path: str, request: dict[str, object]) -> socket.socket:
    """A connection that subscribes and reads nothing afterwards, with little room in its kernel."""
    loop, (host, port) = asyncio.get_running_loop(), url.removeprefix("http://").split(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.setblocking(False)
    await loop.sock_connect(made, (host, int(port)))
    await loop.sock_sendall(
        made,
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode(),
    )
    body = orjson.dumps(request)
    await loop.sock_sendall(made, bytes((0x81, 0x80 | len(body), 0, 0, 0, 0)) + body)
    return made


@pytest.mark.parametrize(("path", "request_", "topic"), [BYBIT, BINANCE])
async def test_who_never_reads_is_dropped_and_the_others_hear_everything(
    path: str,
    request_: dict[str, object],
    topic: str,
    venue: tuple[Venue, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(hub, "MOST_WAITING_BYTES", MOST_BYTES)
    exchange, url = venue
    async with asyncio.timeout(SECONDS), aiohttp.ClientSession() as session:
        reader = await session.ws_connect(f"{url}{path}")
        await reader.send_json(request_)
        assert (await reader.receive()).type is WSMsgType.TEXT
        others = set(exchange.hub.clients)
        slow = await deaf(url, path, request_)
        while not (new := [each for each in exchange.hub.clients - others if each.topics]):
            await asyncio.sleep(0)
        client: Client = new[0]
        transport = client._transport
        assert transport is not None
        numbers, most = 0, 0
        while not client.is_cut:
            numbers += 1
            exchange.hub.publish(topic, f"{numbers}".encode().ljust(MESSAGE))
            message = await reader.receive()
            assert message.data.strip() == f"{numbers}"
            most = max(most, transport.get_write_buffer_size())
        assert most <= MOST_BYTES + MESSAGE + 16 and numbers >= MOST_BYTES // MESSAGE
        while client in exchange.hub.clients:
            await asyncio.sleep(0)
        assert exchange.hub.clients == others
        assert [record.levelname for record in caplog.records if "bytes behind and is dropped" in record.message] == [
            "WARNING"
        ]
        exchange.hub.publish(topic, b"after")
        assert (await reader.receive()).data == "after"
        await until_ended(slow)
        await reader.close()


async def until_ended(connection: socket.socket) -> None:
    """Read what is left to the end of the connection."""
    with connection:
        try:
            while await asyncio.get_running_loop().sock_recv(connection, 2**16):
                pass
        except ConnectionResetError:
            pass  # cut without a farewell, as a network does
