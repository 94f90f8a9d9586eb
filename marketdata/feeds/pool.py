"""A pool of connections with a bounded number of symbols each: what all venues' feeds have in common."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from marketdata.events import FeedEventKind
from marketdata.feeds.connection import Connection
from marketdata.feeds.meters import ConnectionMeter
from marketdata.feeds.protocol import FeedListener, Heartbeat, Tap, VenueBest
from marketdata.feeds.resync import ALERT_ATTEMPTS, Resync

log = logging.getLogger(__name__)

SYMBOLS_A_CONNECTION = 10
# How long both of two connections deliver before the older one ends; what both bring, books ignore the second time.
OVERLAP_SECONDS = 1.0
LIFE_CHECK_SECONDS = 5.0
# The place of a frame's topic: `{"topic":"..."` at Bybit, `{"stream":"..."` at Binance.
SEARCHED_BYTES = 200


def topic_in(frame: bytes, marker: bytes) -> bytes | None:
    """What stands between a marker and the next quote, found without parsing; None where the marker is not."""
    start = frame.find(marker, 0, SEARCHED_BYTES)
    if start < 0:
        return None
    start += len(marker)
    end = frame.find(b'"', start, start + SEARCHED_BYTES)
    return frame[start:end] if end > 0 else None


class Member:
    """One place of the pool: its symbols, and the connection that carries them now."""

    def __init__(self, pool: PooledFeed, name: str, url: str, symbols: Sequence[str]) -> None:
        self.symbols, self.url, self.meter = list(symbols), url, ConnectionMeter(name)
        self._pool, self._tasks = pool, set[asyncio.Task[None]]()
        self._replacing = False
        # Not all at once, and not all of a deployment's engines at once.
        life = pool.HEARTBEAT.life
        self._life = None if life is None else life * random.uniform(0.9, 1.0)
        self.connection = self._connection()

    async def run(self) -> None:
        self._start(self.connection)
        try:
            while True:
                await asyncio.sleep(LIFE_CHECK_SECONDS)
                if self._life is not None and self.connection.age > self._life:
                    self.replace("it is as old as the venue lets one become")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def replace(self, reason: str) -> None:
        """Begin another connection, and end this one when the other delivers: without a hole."""
        if not self._replacing:
            self._replacing = True
            log.info("%s is replaced: %s", self.meter.name, reason)
            self._task(self._take_over(reason))

    async def _take_over(self, reason: str) -> None:
        old, new = self.connection, self._connection()
        try:
            self._start(new)
            await new.heard()
            await asyncio.sleep(OVERLAP_SECONDS)
            self.connection = new
            old.retire()
            self._pool.tell(FeedEventKind.RECONNECTING, f"{self.meter.name} was replaced: {reason}", self)
        finally:
            self._replacing = False

    def _start(self, connection: Connection) -> None:
        self._task(connection.run())

    def _task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _connection(self) -> Connection:
        made: Connection

        def message(frame: bytes, receive_ns: int) -> None:
            self._pool.message(self, frame, receive_ns)

        def connected() -> None:
            self._pool.connected(self, made)

        def disconnected(reason: str, failures: int) -> None:
            # A successor that cannot connect yet leaves no hole.
            if made is self.connection:
                self._pool.disconnected(self, reason, failures)

        made = Connection(
            self.url,
            self._pool.HEARTBEAT,
            self.meter,
            on_connected=connected,
            on_message=message,
            on_disconnected=disconnected,
        )
        return made


class PooledFeed(ABC):
    """What feeds of all venues have in common; a venue's own says where to connect, how to subscribe, and how a book is
    brought back. ``tap`` sees every raw frame on its way in.

    Raises:
        VenueError: from what asks by REST.
    """

    HEARTBEAT: ClassVar[Heartbeat]
    # What stands before a frame's topic.
    MARKER: ClassVar[bytes]

    def __init__(self, name: str, symbols: Sequence[str], *, symbols_a_connection: int, tap: Tap | None) -> None:
        self.name, self.tap = name, tap
        self._listener: FeedListener | None = None
        self._resync = Resync(self._ask, self._not_brought_back)
        self._symbols_a_connection = symbols_a_connection
        self.members: list[Member] = []
        self._made = 0
        self._by_symbol: dict[str, Member] = {}
        self._running: dict[Member, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self.add(symbols)

    @abstractmethod
    def _address(self, symbols: Sequence[str]) -> str:
        """Where to connect for a group of symbols."""

    @abstractmethod
    def _subscribe(self, member: Member, connection: Connection) -> None:
        """Send what a new connection has to ask for."""

    @abstractmethod
    def _changed(self, member: Member, added: Sequence[str], removed: Sequence[str]) -> None:
        """Tell a member's connection that its symbols are others now."""

    @abstractmethod
    def _answered(self, member: Member, frame: bytes) -> None:
        """Take what is no data frame."""

    @abstractmethod
    async def _ask(self, symbol: str) -> None:
        """Ask for a new snapshot of a book, once."""

    @abstractmethod
    async def best_prices(self, symbol: str) -> VenueBest:
        """The best prices as REST has them."""

    async def run(self, listener: FeedListener) -> None:
        self._listener = listener
        try:
            async with asyncio.TaskGroup() as self._group:
                for member in self.members:
                    self._begin(member, self._group)
                await asyncio.Event().wait()  # members come and go; the end is a cancellation
        finally:
            self._group = None
            self._running.clear()
            self._resync.forget(self._by_symbol)

    def add(self, symbols: Sequence[str]) -> None:
        """Carry more symbols, on connections that have room and then on new ones."""
        waiting = [symbol for symbol in dict.fromkeys(symbols) if symbol not in self._by_symbol]
        for member in self.members:
            room = self._symbols_a_connection - len(member.symbols)
            fitting, waiting = waiting[:room], waiting[room:]
            if fitting:
                member.symbols += fitting
                self._by_symbol |= dict.fromkeys(fitting, member)
                self._changed(member, fitting, ())
        for at in range(0, len(waiting), self._symbols_a_connection):
            group = waiting[at : at + self._symbols_a_connection]
            member = Member(self, f"{self.name.replace(' ', '-')}.{self._made}", self._address(group), group)
            self._made += 1
            self.members.append(member)
            self._by_symbol |= dict.fromkeys(group, member)
            if self._group is not None:
                self._begin(member, self._group)

    def remove(self, symbols: Sequence[str]) -> None:
        """Carry these no more; a connection without symbols is closed."""
        known = [symbol for symbol in symbols if symbol in self._by_symbol]
        self._resync.forget(known)
        for member in list(self.members):
            removed = [symbol for symbol in known if self._by_symbol.get(symbol) is member]
            if not removed:
                continue
            member.symbols = [symbol for symbol in member.symbols if symbol not in removed]
            for symbol in removed:
                del self._by_symbol[symbol]
            if member.symbols:
                self._changed(member, (), removed)
            else:
                self.members.remove(member)
                if (task := self._running.pop(member, None)) is not None:
                    task.cancel()

    def _begin(self, member: Member, group: asyncio.TaskGroup) -> None:
        self._running[member] = group.create_task(member.run())

    def resync(self, symbol: str, reason: str) -> None:
        member = self._by_symbol.get(symbol)
        # A connection that is away brings a snapshot with its return.
        if member is not None and member.connection.connected and self._resync.want(symbol):
            log.warning("%s %s: %s; asking for a new snapshot", self.name, symbol, reason)

    def proven(self, symbol: str) -> None:
        self._resync.proven(symbol)

    def meter(self, symbol: str) -> ConnectionMeter:
        return self._by_symbol[symbol].meter

    def status(self) -> dict[str, Any]:
        """``connected``: every connection is; then each one's figures."""
        rows = {
            member.meter.name: {"connected": member.connection.connected, **member.meter.row()}
            for member in self.members
        }
        return {"connected": all(row["connected"] for row in rows.values()), "connections": rows}

    def tell(self, kind: FeedEventKind, message: str, member: Member, **metadata: Any) -> None:
        if self._listener is not None:
            about = {"connection": member.meter.name, "symbols": list(member.symbols), **metadata}
            self._listener.on_event(kind, "", message, about)

    # What a member's connection tells.

    def message(self, member: Member, frame: bytes, receive_ns: int) -> None:
        if self.tap is not None:
            self.tap(member.meter.name, "recv", frame, receive_ns, None)
        topic = topic_in(frame, self.MARKER)
        if topic is None:
            self._answered(member, frame)
        elif self._listener is not None:
            self._listener.on_frame(topic, frame, receive_ns)

    def connected(self, member: Member, connection: Connection) -> None:
        if self.tap is not None:
            self.tap(member.meter.name, "connect", b"", time.time_ns(), member.url)
        self._subscribe(member, connection)
        self.tell(FeedEventKind.CONNECTED, f"{member.meter.name} is connected", member)

    def disconnected(self, member: Member, reason: str, failures: int) -> None:
        self._resync.forget(member.symbols)  # nothing that was asked of it will come
        if self._listener is not None:
            self._listener.on_lost(member.symbols, reason)
        kind = FeedEventKind.RECONNECTING if failures else FeedEventKind.DISCONNECTED
        self.tell(kind, reason, member, failures=failures)
        if failures and failures % ALERT_ATTEMPTS == 0:
            self.tell(FeedEventKind.ERROR, f"{failures} attempts to connect failed: {reason}", member, alert=True)

    def _not_brought_back(self, symbol: str, attempts: int, failure: str) -> None:
        if self._listener is not None:
            message = f"{attempts} attempts to bring the book back failed: {failure}"
            self._listener.on_event(FeedEventKind.ERROR, symbol, message, {"attempts": attempts, "alert": True})
