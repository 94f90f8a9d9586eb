"""Websocket clients and what they listen to. A client that cannot keep up is dropped, never waited for."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from contextlib import suppress

from aiohttp import web
from aiohttp.http_websocket import WSMsgType

log = logging.getLogger(__name__)

MOST_WAITING = 5_000


class Client:
    """One connection with its own queue and writer, so that a slow one delays nobody."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.topics: set[str] = set()
        self.user: str | None = None
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
        self._writer = asyncio.create_task(self._write())

    def send(self, message: bytes) -> None:
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            log.warning("a client fell %d messages behind and is dropped", MOST_WAITING)
            self.drop()

    def drop(self) -> None:
        """Cut the connection without a farewell, as a network does."""
        transport = self.socket._req.transport if self.socket._req is not None else None
        if transport is not None:
            transport.abort()

    async def close(self) -> None:
        self._writer.cancel()
        with suppress(asyncio.CancelledError):
            await self._writer

    async def _write(self) -> None:
        with suppress(ConnectionError, RuntimeError):
            while True:
                await self.socket.send_frame(await self._queue.get(), WSMsgType.TEXT)


class Hub:
    """Clients by topic. Public topics carry their category, private ones their user."""

    def __init__(self) -> None:
        self.clients: set[Client] = set()
        self._listeners: dict[str, set[Client]] = defaultdict(set)

    def wanted(self, topic: str) -> bool:
        return bool(self._listeners.get(topic))

    def subscribe(self, client: Client, topic: str) -> None:
        client.topics.add(topic)
        self._listeners[topic].add(client)

    def unsubscribe(self, client: Client, topic: str) -> None:
        client.topics.discard(topic)
        self._listeners[topic].discard(client)

    def publish(self, topic: str, message: bytes) -> None:
        for client in tuple(self._listeners.get(topic, ())):
            client.send(message)

    def remove(self, client: Client) -> None:
        self.clients.discard(client)
        for topic in client.topics:
            self._listeners[topic].discard(client)

    def disconnect(self, *, private: bool) -> int:
        """Cut all public or all private connections; returns how many."""
        cut = [client for client in self.clients if (client.user is not None) == private]
        for client in cut:
            client.drop()
        return len(cut)
