"""Bybit's public market data: a pool of connections with a bounded number of symbols each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import orjson

from marketdata.feeds.connection import Connection

log = logging.getLogger(__name__)

SYMBOLS_A_CONNECTION = 10
ARGUMENTS_A_REQUEST = 10
# Unsubscribing and subscribing at once can be answered in the wrong order.
RESUBSCRIBE_SECONDS = 0.2
# A book that is refused again and again must not hammer the venue.
RESUBSCRIBE_INTERVAL_SECONDS = 1.0


class BybitPublicFeed:
    """Delivers each data frame with its topic. States are told as ``on_state(state, reason)``: connecting, connected,
    subscribed, disconnected."""

    def __init__(
        self,
        url: str,
        topics: Sequence[str],
        on_frame: Callable[[str, bytes, int], None],
        on_state: Callable[[str, str], None],
    ) -> None:
        self._url, self._on_frame, self._on_state = url, on_frame, on_state
        self._members: list[_Member] = []
        self._tasks: dict[_Member, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._resubscribing: set[str] = set()
        self.add(topics)

    async def run(self) -> None:
        self._on_state("connecting", f"{len(self._members)} connections")
        try:
            async with asyncio.TaskGroup() as self._group:
                for member in self._members:
                    self._connect(member, self._group)
                await asyncio.Event().wait()  # members come and go; the end is a cancellation
        finally:
            self._group = None

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, topics: Sequence[str]) -> None:
        """Carry more topics, on connections that have room and then on new ones. A symbol's topics belong together."""
        waiting = symbols_of(topics)
        for member in self._members:
            room = SYMBOLS_A_CONNECTION - len(symbols_of(member.topics))
            fitting = list(waiting)[: max(0, room)]
            member.subscribe([topic for symbol in fitting for topic in waiting.pop(symbol)])
        for group in by_connection([topic for each in waiting.values() for topic in each]):
            member = _Member(self._url, group, self._on_frame, self._member_state)
            self._members.append(member)
            if self._group is not None:
                self._connect(member, self._group)

    def remove(self, topics: Sequence[str]) -> None:
        """Carry these no more; a connection without topics is closed."""
        for member in list(self._members):
            member.unsubscribe([topic for topic in topics if topic in member.topics])
            if not member.topics:
                self._members.remove(member)
                if (task := self._tasks.pop(member, None)) is not None:
                    task.cancel()

    def _connect(self, member: _Member, group: asyncio.TaskGroup) -> None:
        self._tasks[member] = group.create_task(member.connection.run())

    async def resubscribe(self, topic: str) -> None:
        """Ask for a new snapshot of one topic. Calls while one is under way are one call."""
        if topic in self._resubscribing:
            return
        self._resubscribing.add(topic)
        try:
            for member in self._members:
                if topic in member.topics:
                    member.request("unsubscribe", [topic])
                    await asyncio.sleep(RESUBSCRIBE_SECONDS)
                    if topic in member.topics:
                        member.request("subscribe", [topic])
            await asyncio.sleep(RESUBSCRIBE_INTERVAL_SECONDS)
        finally:
            self._resubscribing.discard(topic)

    def counts(self) -> dict[str, int]:
        """Messages, reconnects and handler errors of all connections."""
        connections = [member.connection for member in self._members]
        return {
            "connections": len(connections),
            "connected": sum(connection.connected for connection in connections),
            "messages": sum(connection.messages for connection in connections),
            "reconnects": sum(connection.reconnects for connection in connections),
            "handler_errors": sum(connection.handler_errors for connection in connections),
        }

    def _member_state(self, member: _Member, state: str, reason: str) -> None:
        if state == "disconnected":
            self._on_state("disconnected", reason)
        elif all(each.connection.connected for each in self._members):
            self._on_state("subscribed", f"{sum(len(each.topics) for each in self._members)} topics")


class _Member:
    """One connection of the pool and the topics it carries."""

    def __init__(
        self,
        url: str,
        topics: Sequence[str],
        on_frame: Callable[[str, bytes, int], None],
        on_state: Callable[[_Member, str, str], None],
    ) -> None:
        self.topics = list(topics)
        self._on_frame, self._on_state = on_frame, on_state
        self.connection = Connection(
            url,
            on_connected=self._connected,
            on_message=self._message,
            on_disconnected=lambda reason: on_state(self, "disconnected", reason),
        )

    def request(self, operation: str, topics: Sequence[str]) -> None:
        for start in range(0, len(topics), ARGUMENTS_A_REQUEST):
            arguments = list(topics[start : start + ARGUMENTS_A_REQUEST])
            self.connection.send(orjson.dumps({"op": operation, "args": arguments}))

    def subscribe(self, topics: Sequence[str]) -> None:
        self.topics += topics
        self.request("subscribe", topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self.topics = [topic for topic in self.topics if topic not in topics]
        self.request("unsubscribe", topics)

    def _connected(self) -> None:
        self.request("subscribe", self.topics)
        self._on_state(self, "subscribed", "")

    def _message(self, frame: bytes, receive_ns: int) -> None:
        topic = topic_of(frame)
        if topic is not None:
            self._on_frame(topic, frame, receive_ns)
        elif b'"success":false' in frame:
            log.error("the venue refused a request: %s", frame.decode(errors="replace")[:500])


def topic_of(frame: bytes) -> str | None:
    """The topic of a data frame, found without parsing it; None for answers and pongs."""
    start = frame.find(b'"topic":"', 0, 200)
    if start < 0:
        return None
    end = frame.find(b'"', start + 9, start + 200)
    return frame[start + 9 : end].decode("ascii", errors="replace") if end > 0 else None


def by_connection(topics: Sequence[str]) -> list[list[str]]:
    """Topics in groups of at most ten symbols; a symbol's topics stay together, so that they arrive in order."""
    by_symbol = symbols_of(topics)
    symbols = list(by_symbol)
    return [
        [topic for symbol in symbols[start : start + SYMBOLS_A_CONNECTION] for topic in by_symbol[symbol]]
        for start in range(0, len(symbols), SYMBOLS_A_CONNECTION)
    ]


def symbols_of(topics: Sequence[str]) -> dict[str, list[str]]:
    """Each symbol's topics, in their order."""
    by_symbol: dict[str, list[str]] = {}
    for topic in topics:
        by_symbol.setdefault(topic.rpartition(".")[2], []).append(topic)
    return by_symbol
