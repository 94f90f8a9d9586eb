"""Binance's stream connections: streams in the address or by request, one message or the combined wrapper."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from trading.simulator.binance.feed import Feed
from trading.simulator.binance.products import Futures, Pace, Product, Spot
from trading.simulator.binance.requests import (
    INVALID_JSON,
    INVALID_REQUEST,
    Request,
    RequestError,
    is_stream_name,
    parse,
)
from trading.simulator.binance.streams import tier
from trading.simulator.hub import Client, Hub, ping_frame
from trading.simulator.limits import AddressLimit

log = logging.getLogger(__name__)

MAX_MESSAGE = 64 * 1024
MOST_STREAMS = 1_024
MOST_CONNECTIONS, CONNECTIONS_WINDOW_MS = 300, 300_000
SHUTDOWN_STREAM = "!serverShutdown"
# First part of the address to the streams that are served there; every tier is served at the product's own address.
BASES: dict[str, tuple[type[Product], tuple[str, ...]]] = {
    "/spot": (Spot, ("public", "market")),
    "/futures": (Futures, ("public", "market")),
    "/futures/public": (Futures, ("public",)),
    "/futures/market": (Futures, ("market",)),
    "/futures/private": (Futures, ()),
}


class Websockets:
    """``BASE/ws``, ``BASE/ws/STREAM[/STREAM...]`` and ``BASE/stream?streams=STREAM[/STREAM...]`` for every base.

    Connections live in real time: how many are begun, how fast they ask, their pings and their end. Only what they are
    told has the times of ``clock``.
    """

    def __init__(
        self,
        feed: Feed,
        hub: Hub,
        clock: Callable[[], int],
        *,
        pace: Pace | None = None,
        connections: AddressLimit | None = None,
    ) -> None:
        self._feed, self._hub, self._clock, self._pace = feed, hub, clock, pace
        self._connections = connections or AddressLimit(MOST_CONNECTIONS, CONNECTIONS_WINDOW_MS)
        self._sessions: set[Session] = set()

    def announce_shutdown(self, now_ms: int) -> int:
        """Tell every spot connection that the server is about to shut down; returns how many there are."""
        sessions = [session for session in self._sessions if session.product is Spot]
        for session in sessions:
            session.announce_shutdown(now_ms)
        return len(sessions)

    def register(self, application: web.Application) -> None:
        for base in BASES:
            application.router.add_get(f"{base}/ws", self._handler(base))
            application.router.add_get(f"{base}/ws/{{streams:.+}}", self._handler(base))
            application.router.add_get(f"{base}/stream", self._handler(base, combined=True))

    def _handler(self, base: str, *, combined: bool = False) -> Any:
        product, tiers = BASES[base]

        async def handle(request: web.Request) -> web.StreamResponse:
            path = request.query.get("streams", "") if combined else request.match_info.get("streams", "")
            names = [name for name in path.split("/") if name]
            if len(names) > MOST_STREAMS or not all(is_stream_name(name) for name in names):
                return web.Response(status=400, text="invalid streams")
            if not self._connections.admits(request.remote or "", time.time_ns() // 1_000_000):
                return web.Response(status=429, text="too many connections")
            return await self._serve(request, Session(self._feed, product, tiers, names, combined=combined))

        return handle

    async def _serve(self, request: web.Request, session: Session) -> web.StreamResponse:
        # Without compression: a message is written once for everybody, not packed once for each.
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, autoping=False, compress=False)
        await socket.prepare(request)
        client = Client(socket)
        self._hub.clients.add(client)
        session.begin(client)
        self._sessions.add(session)
        pace = self._pace or session.product.PACE
        pings = asyncio.create_task(self._ping(session, pace))
        end = asyncio.get_running_loop().call_later(pace.life, self._end, session)
        try:
            async for message in socket:
                if not await session.receive(message):
                    break
        finally:
            end.cancel()
            pings.cancel()
            self._sessions.discard(session)
            with suppress(asyncio.CancelledError):
                await pings
            self._hub.remove(client)
            await client.close()
        return socket

    async def _ping(self, session: Session, pace: Pace) -> None:
        while True:
            await asyncio.sleep(pace.ping)
            if time.monotonic() - session.answered >= pace.pong:
                log.warning("a client has not answered pings for %.0f seconds and is dropped", pace.pong)
                session.client.drop()
                return
            session.client.send_frame(ping_frame(str(self._clock()).encode()))

    def _end(self, session: Session) -> None:
        log.info("a connection has lived as long as one may and is closed")
        session.client.drop()


class Session:
    """One connection: what it listens to, how it wants it, and what it asks."""

    client: Client

    def __init__(
        self, feed: Feed, product: type[Product], tiers: tuple[str, ...], streams: list[str], *, combined: bool
    ) -> None:
        self.product = product
        self._feed, self._tiers, self._combined = feed, tiers, combined
        self._first_streams = streams
        # Names in the order of subscription; served or not, they are listed.
        self._streams: dict[str, None] = {}
        self._times: deque[float] = deque(maxlen=product.MESSAGES_A_SECOND)
        # When it last answered a ping, or began.
        self.answered = time.monotonic()

    def begin(self, client: Client) -> None:
        self.client = client
        self._listen(self._first_streams)

    def announce_shutdown(self, now_ms: int) -> None:
        event: dict[str, Any] = {"e": "serverShutdown", "E": now_ms}
        self.client.send(orjson.dumps({"stream": SHUTDOWN_STREAM, "data": event} if self._combined else event))

    async def receive(self, message: WSMessage) -> bool:
        """Answer one frame; False closes the connection."""
        if self._too_fast():
            await self.client.socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"Too many requests")
            return False
        if message.type is WSMsgType.PING:
            await self.client.socket.pong(message.data)
        elif message.type is WSMsgType.PONG:
            self.answered = time.monotonic()
        elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            return await self._requested(message.data)
        return True

    async def _requested(self, data: str | bytes) -> bool:
        try:
            request = parse(data, integer_ids=self.product.INTEGER_IDS)
            result = self._done(request)
        except RequestError as error:
            if error.code == INVALID_JSON and self.product.CUTS_INVALID_JSON:
                await self.client.socket.send_str(error.answer().decode())
                await self.client.socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"Invalid JSON")
                return False
            self.client.send(error.answer())
            return True
        self.client.send(orjson.dumps({"result": result, "id": request.request_id}))
        return True

    def _done(self, request: Request) -> Any:
        """Do what a request asks; returns its ``result``."""
        if request.method == "LIST_SUBSCRIPTIONS":
            return list(self._streams)
        if request.method == "GET_PROPERTY":
            return self._combined
        if request.method == "SET_PROPERTY":
            names = list(self._streams)
            self._leave(names)
            self._combined = request.combined
            self._listen(names)
        elif request.method == "UNSUBSCRIBE":
            self._leave(request.streams)
        elif len(self._streams.keys() | set(request.streams)) > MOST_STREAMS:
            raise RequestError(
                INVALID_REQUEST, f"Invalid request: more than {MOST_STREAMS} streams", request.request_id
            )
        else:
            self._listen(request.streams)
        return None

    def _listen(self, names: Iterable[str]) -> None:
        for name in names:
            self._streams[name] = None
            if tier(name) in self._tiers:
                self._feed.listen(self.client, self.product.NAME, name, combined=self._combined)

    def _leave(self, names: Iterable[str]) -> None:
        for name in names:
            self._streams.pop(name, None)
            self._feed.leave(self.client, self.product.NAME, name, combined=self._combined)

    def _too_fast(self) -> bool:
        """Whether this frame comes within a second of the one that fills the product's allowance."""
        now = time.monotonic()
        full = len(self._times) == self._times.maxlen and now - self._times[0] < 1.0
        self._times.append(now)
        return full
