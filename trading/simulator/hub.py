"""Websocket clients and what they listen to. A client that cannot keep up is dropped, never waited for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web
from aiohttp.http_websocket import WSMsgType

from trading.simulator.faults.engine import Faults
from trading.simulator.faults.frames import spoil

log = logging.getLogger(__name__)

MOST_WAITING = 5_000
DRAIN_SECONDS = 1.0


class Client:
    """One connection with its own queue and writer, so that a slow one delays nobody. ``sent`` counts its messages."""

    def __init__(self, socket: web.WebSocketResponse, channel: str = "public") -> None:
        self.socket, self.channel = socket, channel
        self.topics: set[str] = set()
        self.user: str | None = None
        self.is_cut = False
        self.sent = 0
        self._most_waiting = MOST_WAITING
        self._stalled = False
        self._held: bytes | None = None
        # A number is a pause of so many seconds before the message behind it.
        self._queue: asyncio.Queue[bytes | float] = asyncio.Queue()
        self._writer = asyncio.create_task(self._write())

    def send(self, message: bytes) -> None:
        self._put(message)
        if self._held is not None:
            held, self._held = self._held, None
            self._put(held)

    def hold(self, message: bytes) -> None:
        """Send it behind the next one."""
        if self._held is not None:
            self.send(message)
        else:
            self._held = message

    def pause(self, milliseconds: int) -> None:
        """Let what follows wait."""
        self._put(milliseconds / 1000)

    def stall(self, most_waiting: int) -> None:
        """Send nothing more; cut the connection when more than ``most_waiting`` messages wait."""
        self._stalled, self._most_waiting = True, most_waiting

    def drop(self) -> None:
        """Cut the connection without a farewell, as a network does."""
        self.is_cut = True
        transport = self.socket._req.transport if self.socket._req is not None else None
        if transport is not None:
            transport.abort()

    async def drained(self) -> None:
        """Until everything has been written, at most a second."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while not (self._queue.empty() or self.is_cut or self._stalled) and time.monotonic() < deadline:
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        self._writer.cancel()
        with suppress(asyncio.CancelledError):
            await self._writer

    def _put(self, item: bytes | float) -> None:
        self.sent += 1
        if self.is_cut:
            return
        if self._queue.qsize() >= self._most_waiting:
            log.warning("a client fell %d messages behind and is dropped", self._most_waiting)
            self.drop()
            return
        self._queue.put_nowait(item)

    async def _write(self) -> None:
        with suppress(ConnectionError, RuntimeError):
            while True:
                item = await self._queue.get()
                if self._stalled:
                    return
                if isinstance(item, float):
                    await asyncio.sleep(item)
                else:
                    await self.socket.send_frame(item, WSMsgType.TEXT)


class Hub:
    """Clients by topic. Public topics carry their category, private ones their user.

    ``restarted`` starts the order book of a public topic again and gives its snapshot of u=1.
    """

    def __init__(self, faults: Faults, restarted: Callable[[str], bytes | None] = lambda topic: None) -> None:
        self.clients: set[Client] = set()
        self._faults, self._restarted = faults, restarted
        # In the order of subscription: which frame comes first must not depend on addresses in memory.
        self._listeners: dict[str, dict[Client, None]] = defaultdict(dict)

    def wanted(self, topic: str) -> bool:
        return bool(self._listeners.get(topic))

    def subscribe(self, client: Client, topic: str) -> None:
        client.topics.add(topic)
        self._listeners[topic][client] = None

    def unsubscribe(self, client: Client, topic: str) -> None:
        client.topics.discard(topic)
        if topic in self._listeners:
            self._listeners[topic].pop(client, None)

    def publish(self, topic: str, message: bytes) -> None:
        listeners = self._listeners.get(topic)
        if not listeners:
            return
        if not self._faults.on_frames:
            for client in tuple(listeners):
                client.send(message)
            return
        if self._faults.restarts(plain(topic)):
            message = self._restarted(topic) or message
        for client in tuple(listeners):
            self.deliver(client, topic, message)

    def deliver(self, client: Client, topic: str, message: bytes) -> None:
        """Send a topic's message to one client, unless a fault is for it."""
        if client.is_cut:
            return
        if self._faults.on_frames:
            rule = self._faults.frame(client.channel, plain(topic), client.user, message)
            if rule is not None:
                spoil(client, rule, message)
                return
        client.send(message)

    def remove(self, client: Client) -> None:
        self.clients.discard(client)
        for topic in client.topics:
            self._listeners[topic].pop(client, None)

    def disconnect(self, *, private: bool) -> int:
        """Cut all public or all private connections; returns how many."""
        return self._cut([client for client in self.clients if (client.user is not None) == private])

    def disconnect_all(self) -> int:
        """Cut every connection; returns how many."""
        return self._cut(list(self.clients))

    async def drained(self, user: str | None) -> None:
        """Until what waits for a user's connections has been written."""
        for client in [client for client in self.clients if client.user == user]:
            await client.drained()

    def _cut(self, clients: list[Client]) -> int:
        for client in clients:
            client.drop()
        return len(clients)


def plain(topic: str) -> str:
    """The topic as its subscriber named it: without the user or the category before it."""
    return topic.partition("/")[2] or topic.partition(":")[2] or topic
