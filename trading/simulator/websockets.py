"""The websocket side: which paths there are, how many connections an address may have, and how long one lives."""

from __future__ import annotations

import asyncio
import re
import time
from functools import partial

from aiohttp import WSMsgType, web

from trading.simulator import system_status
from trading.simulator.clerk import Clerk
from trading.simulator.dead_man import DeadManSwitch
from trading.simulator.faults.answers import bare_status
from trading.simulator.hub import Client
from trading.simulator.limits import AddressLimits, TradeLimits
from trading.simulator.signatures import Authority
from trading.simulator.venue import Venue, now_ms
from trading.simulator.websocket_private import PrivateSession
from trading.simulator.websocket_public import CATEGORIES, PublicSession, StatusSession
from trading.simulator.websocket_session import Session
from trading.simulator.websocket_trade import TradeSession

MAX_MESSAGE = 64 * 1024
ACTIVE_SECONDS = 600.0
LEAST_ACTIVE_SECONDS = 30.0
# How often is looked whether something went over a connection: one can live so much longer than it may.
SCAN_SECONDS = 30.0
_ACTIVE_TIME = re.compile(r"([0-9]{1,3})([sm])")


class Websockets:
    """``addresses`` counts connections by address where that is asked for, ``trade`` those that trade by user."""

    def __init__(
        self,
        venue: Venue,
        authority: Authority,
        clerk: Clerk,
        addresses: AddressLimits | None = None,
        trade: TradeLimits | None = None,
    ) -> None:
        self._venue, self._authority, self._clerk, self._addresses = venue, authority, clerk, addresses
        self._trade_limits = trade or TradeLimits()
        self._switch = DeadManSwitch(venue)

    def register(self, application: web.Application) -> None:
        application.router.add_get("/v5/public/{category:misc/status|[^/]+}", self._public)
        application.router.add_get("/v5/private", self._private)
        application.router.add_get("/v5/trade", self._trade)

    async def _public(self, request: web.Request) -> web.StreamResponse:
        category, addresses = request.match_info["category"], self._addresses
        if category not in (*CATEGORIES, system_status.CATEGORY):
            return web.Response(status=404, text=f"no public channel {category}")
        is_status = category == system_status.CATEGORY
        session = StatusSession(self._venue) if is_status else PublicSession(self._venue, category)
        if addresses is None:
            return await self._serve(request, session, ACTIVE_SECONDS)
        if not addresses.begins_stream(request.remote, request.path):
            return bare_status(403)
        try:
            return await self._serve(request, session, ACTIVE_SECONDS)
        finally:
            addresses.ends_stream(request.remote, request.path)

    async def _private(self, request: web.Request) -> web.StreamResponse:
        session = PrivateSession(self._venue, self._authority, self._switch)
        return await self._serve(request, session, active_seconds(request.query.get("max_active_time", "")))

    async def _trade(self, request: web.Request) -> web.StreamResponse:
        addresses, remote = self._addresses, request.remote
        admits = partial(addresses.admits_trade_request, remote) if addresses is not None else None
        session = TradeSession(self._venue, self._authority, self._clerk, self._trade_limits, admits)
        return await self._serve(request, session, active_seconds(request.query.get("max_active_time", "")))

    async def _serve(self, request: web.Request, session: Session, seconds: float) -> web.StreamResponse:
        addresses, hub = self._addresses, self._venue.hub
        # Connections live in real time, however fast the venue's clock is.
        if addresses is not None and not addresses.admits_connection(request.remote, now_ms()):
            return bare_status(403)
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, autoping=True)
        await socket.prepare(request)
        client = session.client = Client(socket, session.channel)
        hub.clients.add(client)
        lifetime = Lifetime(client, seconds)
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    session.receive(message.data)
        finally:
            lifetime.end()
            hub.remove(client)
            session.ended()
            await client.close()
        return socket


class Lifetime:
    """Cuts a connection over which nothing was sent for some seconds: neither a stream's message nor any answer."""

    def __init__(self, client: Client, seconds: float) -> None:
        self._client, self._seconds = client, seconds
        self._sent, self._last = client.sent, time.monotonic()
        self._wait()

    def end(self) -> None:
        self._timer.cancel()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SCAN_SECONDS, self._scan)

    def _scan(self) -> None:
        now = time.monotonic()
        if self._client.sent != self._sent:
            self._sent, self._last = self._client.sent, now
        if now - self._last >= self._seconds:
            self._client.drop()
        else:
            self._wait()


def active_seconds(text: str) -> float:
    """What ``max_active_time`` asks for: 30s to 600s, or whole minutes; 10 minutes for anything else."""
    found = _ACTIVE_TIME.fullmatch(text)
    if found is None:
        return ACTIVE_SECONDS
    seconds = int(found[1]) * (60.0 if found[2] == "m" else 1.0)
    return seconds if LEAST_ACTIVE_SECONDS <= seconds <= ACTIVE_SECONDS else ACTIVE_SECONDS
