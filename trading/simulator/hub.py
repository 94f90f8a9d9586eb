"""Websocket clients and what they listen to. A client that cannot keep up is dropped, never waited for."""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections import defaultdict, deque
from collections.abc import Callable

from aiohttp import web

from trading.simulator.faults.engine import Faults
from trading.simulator.faults.frames import spoil
from trading.simulator.topics import ALL_SYMBOLS

log = logging.getLogger(__name__)

MOST_WAITING = 5_000
MOST_WAITING_BYTES = 32 * 2**20
DRAIN_SECONDS = 1.0
_FINAL_TEXT, _PING = 0x81, 0x89
_SHORT, _LONG = struct.Struct("!BBH").pack, struct.Struct("!BBQ").pack


def frame_of(message: bytes) -> bytes:
    """A message as one unmasked, uncompressed text frame, which every connection may be sent."""
    length = len(message)
    if length < 126:
        return bytes((_FINAL_TEXT, length)) + message
    return (_SHORT(_FINAL_TEXT, 126, length) if length < 65_536 else _LONG(_FINAL_TEXT, 127, length)) + message


def ping_frame(payload: bytes) -> bytes:
    """A ping with at most 125 bytes, which its receiver sends back."""
    return bytes((_PING, len(payload))) + payload


def message_of(frame: bytes) -> bytes:
    """What :func:`frame_of` wrapped."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


class Client:
    """One connection. What it is sent within one turn of the event loop leaves together, in one write; what its
    transport cannot pass on piles up there, until it is too much and the client is dropped. ``sent`` counts its
    messages."""

    def __init__(self, socket: web.WebSocketResponse, channel: str = "public") -> None:
        self.socket, self.channel = socket, channel
        self.topics: set[str] = set()
        self.user: str | None = None
        self.is_cut = False
        self.sent = 0
        self._most_waiting = MOST_WAITING
        self._stalled = False
        self._held: bytes | None = None
        # Frames; a number is a pause of so many seconds before the frame behind it.
        self._queue: deque[bytes | float] = deque()
        self._loop = asyncio.get_running_loop()
        self._due: asyncio.Handle | None = None

    def send(self, message: bytes) -> None:
        self.send_frame(frame_of(message))

    def send_frame(self, frame: bytes) -> None:
        """Send what :func:`frame_of` made."""
        self._put(frame)
        if self._held is not None:
            held, self._held = self._held, None
            self._put(frame_of(held))

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
        self._queue.clear()
        transport = self._transport
        if transport is not None:
            transport.abort()

    async def drained(self) -> None:
        """Until everything has been written, at most a second."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._queue and not (self.is_cut or self._stalled) and time.monotonic() < deadline:
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        """Forget what waits."""
        self._queue.clear()
        if self._due is not None:
            self._due.cancel()

    @property
    def _transport(self) -> asyncio.WriteTransport | None:
        request = self.socket._req
        return request.transport if request is not None else None

    def _put(self, item: bytes | float) -> None:
        self.sent += 1
        if self.is_cut:
            return
        if len(self._queue) >= self._most_waiting:
            log.warning(
                "a client of %d topics fell %d messages behind and is dropped", len(self.topics), len(self._queue)
            )
            self.drop()
            return
        self._queue.append(item)
        if self._due is None and not self._stalled:
            self._due = self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Write all frames up to the next pause."""
        self._due = None
        transport, queue = self._transport, self._queue
        if self._stalled:
            return
        if transport is None or transport.is_closing() or self.socket.closed:
            queue.clear()
            return
        frames = []
        while queue:
            item = queue.popleft()
            if isinstance(item, float):
                self._due = self._loop.call_later(item, self._write)
                break
            frames.append(item)
        if frames:
            transport.write(b"".join(frames))
        behind = transport.get_write_buffer_size()
        if behind > MOST_WAITING_BYTES:
            log.warning("a client of %d topics fell %d bytes behind and is dropped", len(self.topics), behind)
            self.drop()


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

    def symbols(self) -> set[str]:
        """The symbols of all topics that somebody listens to (and the last words of topics without a symbol)."""
        return {symbol_of(topic) for topic, listeners in self._listeners.items() if listeners}

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
            frame = frame_of(message)
            for client in tuple(listeners):
                client.send_frame(frame)
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


def symbol_of(topic: str) -> str:
    """The symbol in a topic's address: ``spot:publicTrade.BTCUSDT``, ``binance/futures/raw/btcusdt@depth``."""
    name = topic.rpartition("/")[2]
    return ALL_SYMBOLS if name.startswith(ALL_SYMBOLS) else name.partition("@")[0].rpartition(".")[2].upper()
