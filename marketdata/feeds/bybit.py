"""Bybit's public market data: books, trades, tickers and candles of one category."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import orjson

from marketdata.events import FeedEventKind
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.connection import Connection
from marketdata.feeds.pool import SYMBOLS_A_CONNECTION, Member, PooledFeed, topic_in
from marketdata.feeds.protocol import Heartbeat, Tap, VenueBest, VenueError

log = logging.getLogger(__name__)

TOPIC_MARKER = b'"topic":"'
ARGUMENTS_A_REQUEST = 10
# Unsubscribing and subscribing at once can be answered in the wrong order.
RESUBSCRIBE_SECONDS = 0.2


class BybitPublicFeed(PooledFeed):
    """``topics`` gives those of a symbol (``orderbook.200.BTCUSDT``), which share a connection, so that they arrive in
    order. A book is brought back by subscribing to it anew."""

    HEARTBEAT = Heartbeat(message=b'{"op":"ping"}')
    MARKER = TOPIC_MARKER

    def __init__(
        self,
        url: str,
        topics: Callable[[str], Sequence[str]],
        rest: BybitPublicRest,
        symbols: Sequence[str] = (),
        *,
        name: str = "bybit linear",
        symbols_a_connection: int = SYMBOLS_A_CONNECTION,
        tap: Tap | None = None,
    ) -> None:
        self._url, self._topics, self._rest = url, topics, rest
        super().__init__(name, symbols, symbols_a_connection=symbols_a_connection, tap=tap)

    async def best_prices(self, symbol: str) -> VenueBest:
        """Its number is ``seq``, which orders data across depths."""
        answer = await self._rest.orderbook(symbol, 1)
        try:
            return VenueBest(int(answer["seq"]), str(answer["b"][0][0]), str(answer["a"][0][0]))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise VenueError(f"orderbook of {symbol}: {type(error).__name__}: {error}") from None

    def _address(self, symbols: Sequence[str]) -> str:
        return self._url

    def _subscribe(self, member: Member, connection: Connection) -> None:
        self._request(connection, "subscribe", [topic for symbol in member.symbols for topic in self._topics(symbol)])

    def _changed(self, member: Member, added: Sequence[str], removed: Sequence[str]) -> None:
        # One that is away subscribes to what it carries when it is back.
        for operation, symbols in (("unsubscribe", removed), ("subscribe", added)):
            self._request(member.connection, operation, [topic for each in symbols for topic in self._topics(each)])

    async def _ask(self, symbol: str) -> None:
        books = [topic for topic in self._topics(symbol) if topic.startswith("orderbook.")]
        member = self._by_symbol[symbol]
        self._request(member.connection, "unsubscribe", books)
        await asyncio.sleep(RESUBSCRIBE_SECONDS)
        if self._by_symbol.get(symbol) is member:
            self._request(member.connection, "subscribe", books)

    def _request(self, connection: Connection, operation: str, topics: Sequence[str]) -> None:
        for start in range(0, len(topics), ARGUMENTS_A_REQUEST):
            arguments = list(topics[start : start + ARGUMENTS_A_REQUEST])
            connection.send(orjson.dumps({"op": operation, "args": arguments}))

    def _answered(self, member: Member, frame: bytes) -> None:
        if b'"success":false' in frame:
            text = frame.decode(errors="replace")[:500]
            log.error("the venue refused a request: %s", text)
            self.tell(FeedEventKind.ERROR, f"the venue refused a request: {text}", member)


def topic_of(frame: bytes) -> str | None:
    """The topic of a data frame, found without parsing it; None for answers and pongs."""
    topic = topic_in(frame, TOPIC_MARKER)
    return None if topic is None else topic.decode("ascii", errors="replace")
