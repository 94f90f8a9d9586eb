"""A venue of this process over real sockets, and a client that signs as Bybit asks. The venue's clock is the test's."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
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
from trading.simulator.venue import Venue
from trading.simulator.websockets import Websockets

START_MS = 1_800_000_000_000
Row = dict[str, Any]


class SteppedClock:
    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Client:
    """One user's requests; ``get`` and ``post`` give the envelope back."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: ApiKey) -> None:
        self.session, self.url, self.key = session, url, key

    async def get(self, path: str, **fields: Any) -> Row:
        query = urlencode(fields)
        url = f"{self.url}{path}?{query}" if query else f"{self.url}{path}"
        async with self.session.get(url, headers=signed(self.key, query.encode())) as response:
            return await response.json()

    async def post(self, path: str, **fields: Any) -> Row:
        body = json.dumps(fields).encode()
        async with self.session.post(f"{self.url}{path}", data=body, headers=signed(self.key, body)) as response:
            return await response.json()


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
            yield Client(session, str(server.make_url("")).rstrip("/"), DEMO_KEYS[user])
    finally:
        venue.hub.disconnect_all()
        await server.close()
