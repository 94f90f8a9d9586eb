"""What every venue's feed is to whoever listens to it, and what it tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from marketdata.events import FeedEventKind
from marketdata.feeds.meters import ConnectionMeter


class VenueError(Exception):
    """The venue gave no usable answer; the message names the question and what came."""


class VenueRefusal(VenueError):
    """The venue understood, and said no: asking the same again brings nothing."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How a venue's connections are kept alive, in seconds.

    ``message`` is what is sent every ``ping`` (None: a websocket ping). One that said nothing for ``silence`` is cut.
    One is replaced, without a hole, when it is ``life`` old (None: never).
    """

    message: bytes | None
    ping: float = 20.0
    silence: float = 45.0
    life: float | None = None


@dataclass(frozen=True, slots=True)
class VenueBest:
    """Best bid and ask by REST, as texts, and the number that tells where in the stream they belong."""

    number: int
    bid: str
    ask: str


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """One answer over HTTP, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# Asks over HTTP, once: raises aiohttp's errors, TimeoutError or OSError when no answer comes.
Question = Callable[[], Awaitable[RestAnswer]]


class RestGate(Protocol):
    """What every question to a venue passes on its way out: who else asks there, and is it well?"""

    async def ask(self, question: Question) -> RestAnswer:
        """Ask when there is room for it; whatever ``question`` raises comes through.

        Raises:
            VenueError: it was not asked; the message says why.
        """


class OpenGate:
    """For a process that shares its address with nobody."""

    async def ask(self, question: Question) -> RestAnswer:
        return await question()


class FeedListener(Protocol):
    """Called in the event loop, in the order of arrival."""

    def on_frame(self, topic: bytes, frame: bytes, receive_ns: int) -> None:
        """One data frame, as it came."""

    def on_snapshot(self, symbol: str, body: bytes, receive_ns: int) -> None:
        """A book by REST, as it came."""

    def on_lost(self, symbols: Sequence[str], reason: str) -> None:
        """The connection of these symbols is gone: what comes next may have a hole before it."""

    def on_event(self, kind: FeedEventKind, symbol: str, message: str, metadata: Mapping[str, Any]) -> None:
        """Something that a person may want to know later; ``symbol`` is empty where it concerns several."""


class MarketFeed(Protocol):
    """One venue's market: ``name`` as people read it, the venue first (``bybit linear``)."""

    name: str

    async def run(self, listener: FeedListener) -> None:
        """Deliver until cancelled."""

    def add(self, symbols: Sequence[str]) -> None:
        """Carry more symbols from now on."""

    def remove(self, symbols: Sequence[str]) -> None:
        """Carry these no more."""

    def resync(self, symbol: str, reason: str) -> None:
        """Ask for a new snapshot of one book, again and again with back-off until :meth:`proven`."""

    def proven(self, symbol: str) -> None:
        """Its book is LIVE again."""

    async def best_prices(self, symbol: str) -> VenueBest:
        """The best prices as REST has them. Raises VenueError."""

    def meter(self, symbol: str) -> ConnectionMeter:
        """The figures of the connection that carries the symbol."""

    def status(self) -> dict[str, Any]:
        """Whether it is connected, and the figures of each connection."""


# Every raw frame on its way in: connection, kind (recv, connect, http, mark), bytes, time of receipt, url.
Tap = Callable[[str, str, bytes, int, str | None], None]
