"""A venue of this process over real sockets, and a client that signs as Bybit asks. The venue's clock is the test's."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from trading.simulator.clerk import Clerk
from trading.simulator.keys import DEMO_KEYS, ApiKey
from trading.simulator.rest import MAX_BODY, RestApi
from trading.simulator.signatures import Authority
from trading.simulator.venue import Venue, now_ms
from trading.simulator.websockets import Websockets

START_MS = 1_800_000_000_000
Row = dict[str, Any]


class Client:
    """One user's requests, signed by the venue's clock; ``get`` and ``post`` give the envelope back."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: ApiKey, clock: Callable[[], int]) -> None:
        self.session, self.url, self.key, self.clock = session, url, key, clock

    async def get(self, path: str, **fields: Any) -> Row:
        query = urlencode(fields)
        url = f"{self.url}{path}?{query}" if query else f"{self.url}{path}"
        async with self.session.get(url, headers=signed(self.key, query.encode(), self.clock)) as response:
            return await response.json()

    async def post(self, path: str, **fields: Any) -> Row:
        body = json.dumps(fields).encode()
        headers = signed(self.key, body, self.clock)
        async with self.session.post(f"{self.url}{path}", data=body, headers=headers) as response:
            return await response.json()


def signed(key: ApiKey, payload: bytes, clock: Callable[[], int] = now_ms) -> Row:
    timestamp = str(clock())
    text = f"{timestamp}{key.api_key}5000".encode() + payload
    return {
        "X-BAPI-API-KEY": key.api_key,
        "X-BAPI-TIMESTAMP": timestamp,
        "X-BAPI-RECV-WINDOW": "5000",
        "X-BAPI-SIGN": hmac.new(key.api_secret.encode(), text, hashlib.sha256).hexdigest(),
        "Content-Type": "application/json",
    }


@asynccontextmanager
async def served(venue: Venue, user: str = "alice") -> AsyncIterator[Client]:
    """The venue's REST and websockets, as a demo user sees them."""
    application, authority, clerk = web.Application(client_max_size=MAX_BODY), Authority(DEMO_KEYS), Clerk(venue)
    RestApi(venue, authority, clerk).register(application)
    Websockets(venue, authority, clerk).register(application)
    server = TestServer(application)
    await server.start_server()
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(session, str(server.make_url("")).rstrip("/"), DEMO_KEYS[user], venue.clock)
    finally:
        venue.hub.disconnect_all()
        await server.close()
