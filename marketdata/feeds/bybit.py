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
        self._on_frame, self._on_state = on_frame, on_state
        self._members = [_Member(url, group, on_frame, self._member_state) for group in by_connection(topics)]
        self._tasks: list[asyncio.Task[None]] = []
        self._resubscribing: set[str] = set()

    async def run(self) -> None:
        self._on_state("connecting", f"{len(self._members)} connections")
        self._tasks = [asyncio.create_task(member.connection.run()) for member in self._members]
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
    by_symbol: dict[str, list[str]] = {}
    for topic in topics:
        by_symbol.setdefault(topic.rpartition(".")[2], []).append(topic)
    symbols = list(by_symbol)
    return [
        [topic for symbol in symbols[start : start + SYMBOLS_A_CONNECTION] for topic in by_symbol[symbol]]
        for start in range(0, len(symbols), SYMBOLS_A_CONNECTION)
    ]
