"""The websocket side: public topics by category, private topics after authentication."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from trading.simulator.candles import INTERVAL_MINUTES
from trading.simulator.errors import ApiError
from trading.simulator.faults.answers import bare_status
from trading.simulator.hub import Client
from trading.simulator.limits import AddressLimits
from trading.simulator.publisher import DEPTHS
from trading.simulator.recording import address
from trading.simulator.signatures import Authority
from trading.simulator.venue import Venue, now_ms

MAX_MESSAGE = 64 * 1024
LARGEST_REQUEST_ID = 2**63
PRIVATE_TOPICS = ("order", "execution", "position", "wallet")
BOOK_DEPTHS = frozenset(map(str, DEPTHS))
# No exchange answers a subscription at once, and pybit relies on it: it notes the request after it has sent it.
SUBSCRIBE_SECONDS = 0.01


class Websockets:
    """``addresses`` counts new connections by address where that is asked for."""

    def __init__(self, venue: Venue, authority: Authority, addresses: AddressLimits | None = None) -> None:
        self._venue, self._authority, self._addresses = venue, authority, addresses

    def register(self, application: web.Application) -> None:
        application.router.add_get("/v5/public/{category}", self._public)
        application.router.add_get("/v5/private", self._private)

    async def _public(self, request: web.Request) -> web.StreamResponse:
        category = request.match_info["category"]
        if category not in ("linear", "spot"):
            return web.Response(status=404, text=f"no public channel {category}")
        return await self._serve(request, Session(self._venue, category))

    async def _private(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, PrivateSession(self._venue, self._authority))

    async def _serve(self, request: web.Request, session: Session) -> web.StreamResponse:
        addresses = self._addresses
        if addresses is not None and not addresses.admits_connection(request.remote, request.path, now_ms()):
            return bare_status(403)
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, autoping=True)
        await socket.prepare(request)
        client = session.client = Client(socket, session.channel)
        self._venue.hub.clients.add(client)
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    session.receive(message.data)
        finally:
            self._venue.hub.remove(client)
            await client.close()
        return socket


class Session:
    """One public connection. Whatever it is sent, it answers; nothing ends it but the client."""

    client: Client
    channel = "public"

    def __init__(self, venue: Venue, category: str) -> None:
        self._venue, self._category = venue, category
        self._connection_id = uuid.uuid4().hex

    def receive(self, data: str | bytes) -> None:
        try:
            request = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            self.answer("", "", success=False, message=f"the message is not JSON: {error}")
            return
        if not isinstance(request, dict):
            self.answer("", "", success=False, message="the message must be a JSON object")
            return
        operation, request_id, arguments = request.get("op", ""), request.get("req_id", ""), request.get("args", [])
        # Some clients number their requests; Bybit tells the number again as a text.
        if isinstance(request_id, int) and abs(request_id) < LARGEST_REQUEST_ID:
            request_id = str(request_id)
        # Only texts are told again: to write out whatever else came can cost more than it is worth.
        if not isinstance(operation, str) or not isinstance(request_id, str):
            self.answer("", "", success=False, message="op and req_id must be texts")
            return
        if not isinstance(arguments, list):
            self.answer(operation, request_id, success=False, message="args must be a list")
            return
        self.handle(operation, request_id, arguments)

    def handle(self, operation: str, request_id: str, arguments: list[Any]) -> None:
        if operation == "ping":
            self.pong(request_id)
        elif operation == "subscribe":
            self._subscribe(request_id, texts(arguments))
        elif operation == "unsubscribe":
            for topic in texts(arguments):
                self._venue.hub.unsubscribe(self.client, address(self._category, topic))
            self.answer("unsubscribe", request_id)
        else:
            self.answer(operation, request_id, success=False, message=f"unknown op {operation!r}")

    def pong(self, request_id: str) -> None:
        self.answer("ping", request_id, message="pong")

    def answer(self, operation: str, request_id: str, *, success: bool = True, message: str = "") -> None:
        body = {
            "success": success,
            "ret_msg": message,
            "conn_id": self._connection_id,
            "req_id": request_id,
            "op": operation,
        }
        self.client.send(orjson.dumps(body))

    def _subscribe(self, request_id: str, topics: list[str]) -> None:
        if self._category == "spot" and len(topics) > 10:
            self.answer("subscribe", request_id, success=False, message="args size >10")
            return
        wrong = [topic for topic in topics if not self._exists(topic)]
        if wrong:
            self.answer(
                "subscribe", request_id, success=False, message=f"error:handler not found,topic:{','.join(wrong)}"
            )
            return
        asyncio.get_running_loop().call_later(SUBSCRIBE_SECONDS, self._begin, request_id, topics)

    def _begin(self, request_id: str, topics: list[str]) -> None:
        if self.client not in self._venue.hub.clients:
            return  # it left meanwhile
        self.answer("subscribe", request_id)
        for topic in topics:
            self._venue.hub.subscribe(self.client, address(self._category, topic))
            first = self._first_message(topic)
            if first is not None:
                self._venue.hub.deliver(self.client, address(self._category, topic), first)

    def _first_message(self, topic: str) -> bytes | None:
        if self._category == "linear":
            return self._venue.first_message(topic)
        player = self._venue.player
        if player is not None and topic.startswith("orderbook."):
            return player.snapshot(topic, now_ms(), "spot")
        return None

    def _exists(self, topic: str) -> bool:
        kind, _, rest = topic.partition(".")
        detail, _, symbol = rest.rpartition(".")
        player = self._venue.player
        if self._category == "spot":
            return player is not None and symbol in player.symbols("spot")
        if symbol not in self._venue.exchange.markets:
            return False
        if kind == "orderbook":
            return detail in BOOK_DEPTHS
        if kind == "kline":
            return detail in INTERVAL_MINUTES
        return kind in ("publicTrade", "tickers") and not detail


class PrivateSession(Session):
    """Nothing but ``auth`` and ``ping`` before authentication; then the user's own topics."""

    channel = "private"

    def __init__(self, venue: Venue, authority: Authority) -> None:
        super().__init__(venue, "private")
        self._authority = authority

    def handle(self, operation: str, request_id: str, arguments: list[Any]) -> None:
        if operation == "auth":
            self._authenticate(request_id, arguments)
        elif operation == "ping":
            self.pong(request_id)
        elif self.client.user is None:
            self.answer(operation, request_id, success=False, message="Request not authorized")
        elif operation == "subscribe":
            self._subscribe_private(request_id, texts(arguments))
        elif operation == "unsubscribe":
            for topic in texts(arguments):
                self._venue.hub.unsubscribe(self.client, f"{self.client.user}/{topic}")
            self.answer("unsubscribe", request_id)
        else:
            self.answer(operation, request_id, success=False, message=f"unknown op {operation!r}")

    def pong(self, request_id: str) -> None:
        body = {"req_id": request_id, "op": "pong", "args": [str(now_ms())], "conn_id": self._connection_id}
        self.client.send(orjson.dumps(body))

    def _authenticate(self, request_id: str, arguments: list[Any]) -> None:
        now = now_ms() + self._venue.faults.skew_ms()
        try:
            self.client.user = self._authority.user_of_websocket(arguments, now)
        except ApiError as error:
            self.answer("auth", request_id, success=False, message=error.message)
            return
        self.answer("auth", request_id)

    def _subscribe_private(self, request_id: str, topics: list[str]) -> None:
        wrong = [topic for topic in topics if topic.partition(".")[0] not in PRIVATE_TOPICS]
        if wrong:
            self.answer(
                "subscribe", request_id, success=False, message=f"error:handler not found,topic:{','.join(wrong)}"
            )
            return
        for topic in topics:
            self._venue.hub.subscribe(self.client, f"{self.client.user}/{topic.partition('.')[0]}")
        asyncio.get_running_loop().call_later(SUBSCRIBE_SECONDS, partial(self.answer, "subscribe", request_id))


def texts(arguments: list[Any]) -> list[str]:
    """The topics of a request; what is no text becomes one that no topic has."""
    return [argument if isinstance(argument, str) else "" for argument in arguments]
