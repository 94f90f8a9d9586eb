"""A real venue's market, live: its public frames as they arrive, unchanged, and no request of a user ever goes there.

The market is stale from the moment when the followed venue falls silent or a book has a gap, until the next snapshot:
nothing is filled then, orders are refused and cancels still pass.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from marketdata.events import FeedEventKind
from marketdata.feeds.bybit import BybitPublicFeed
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.protocol import VenueError
from marketdata.instruments import InstrumentError, rules_from_bybit
from trading.simulator.exchange import Exchange
from trading.simulator.hub import Hub
from trading.simulator.markets import Market
from trading.simulator.orders import SimulatedOrder
from trading.simulator.playing import MarketPlayer
from trading.simulator.topics import address

log = logging.getLogger(__name__)

CATEGORY, SETTLE_COIN = "linear", "USDT"
DEPTH = 200
# Every 100 ms some symbol's ticker or book changes: so long without a word is an outage.
SILENCE_SECONDS = 3.0
WATCH_SECONDS = 0.25
RETRY_SECONDS = 0.5
Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class FollowedVenue:
    """A venue's addresses, and what it listed and told of prices when it was first asked, by symbol."""

    rest: str
    websocket: str
    listings: Mapping[str, dict[str, Any]]
    tickers: Mapping[str, dict[str, Any]]

    @classmethod
    async def read(cls, rest: str, websocket: str, symbols: Collection[str] = ()) -> FollowedVenue:
        """Ask until it answers. Without ``symbols`` everything that trades in USDT is followed.

        Raises:
            VenueError: it answers, but has none of the symbols.
        """
        while True:
            client = BybitPublicRest(rest)
            try:
                listings = {row["symbol"]: row for row in await client.listings(CATEGORY) if _is_followed(row, symbols)}
                tickers = {row["symbol"]: row for row in await client.tickers(CATEGORY)}
                break
            except (VenueError, KeyError, TypeError) as error:
                log.warning("the venue to follow does not answer yet: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                await client.close()
        known = {symbol: row for symbol, row in listings.items() if symbol in tickers}
        if not known:
            raise VenueError(f"{rest} lists none of {', '.join(sorted(symbols)) or 'the USDT perpetuals'}")
        return cls(rest, websocket, known, {symbol: tickers[symbol] for symbol in known})


def _is_followed(row: Any, symbols: Collection[str]) -> bool:
    try:
        rules_from_bybit(row, CATEGORY)
    except InstrumentError as error:
        log.warning("instrument left out: %s", error)
        return False
    if symbols:
        return row["symbol"] in symbols
    return row.get("settleCoin") == SETTLE_COIN and row.get("contractType") == "LinearPerpetual"


class FollowedPlayer(MarketPlayer):
    """A :class:`marketdata.feeds.protocol.FeedListener` that plays every frame at once."""

    def __init__(self, venue: FollowedVenue, exchange: Exchange, hub: Hub, clock: Clock) -> None:
        super().__init__(exchange, hub)
        self._venue, self._clock = venue, clock
        self.book_topics = {f"orderbook.{DEPTH}.{symbol}" for symbol in venue.listings}
        self._heard = -SILENCE_SECONDS  # seconds of the monotonic clock
        # Symbols whose book is proven, and the update id that each topic told last.
        self._live: set[str] = set()
        self._told: dict[str, int] = {}
        # Open orders of an earlier run: they rest behind what the first snapshot brings.
        self._waiting: dict[str, list[SimulatedOrder]] = {}
        self._rest = BybitPublicRest(venue.rest)
        self._feed = BybitPublicFeed(
            f"{venue.websocket}/v5/public/{CATEGORY}", topics_of, self._rest, sorted(venue.listings), name="followed"
        )
        for symbol, ticker in venue.tickers.items():
            self._ticked(exchange.markets[symbol], ticker, clock())

    async def run(self) -> None:
        """Follow until cancelled."""
        watch = asyncio.create_task(self._watch())
        try:
            await self._feed.run(self)
        finally:
            watch.cancel()
            await self._rest.close()

    def symbols(self, category: str) -> set[str]:
        return set(self._venue.listings) if category == CATEGORY else set()

    def listings(self, category: str) -> Mapping[str, dict[str, Any]]:
        return self._venue.listings if category == CATEGORY else {}

    def refusal(self, symbol: str) -> str:
        """Why nothing may trade in a symbol now, or nothing."""
        if time.monotonic() - self._heard > SILENCE_SECONDS:
            return f"the followed venue has said nothing for {SILENCE_SECONDS:g} s; prices are stale"
        return "" if symbol in self._live else f"the book of {symbol} at the followed venue is not known; wait for it"

    def resume(self, order: SimulatedOrder) -> None:
        """Put an open order of an earlier run back to work with the first snapshot of its book."""
        self._waiting.setdefault(order.symbol, []).append(order)

    def status(self) -> dict[str, Any]:
        stale = sorted(symbol for symbol in self._venue.listings if self.refusal(symbol))
        return {"followed": self._venue.rest, "stale": stale, "feed": self._feed.status()}

    # The feed tells.

    def on_frame(self, topic: bytes, frame: bytes, receive_ns: int) -> None:
        name = topic.decode("ascii", errors="replace")
        symbol = name.rpartition(".")[2]
        if symbol not in self._venue.listings:
            return
        self._heard = time.monotonic()
        try:
            self._play(name, symbol, frame)
        except (KeyError, IndexError, TypeError, ValueError, InvalidOperation) as error:
            log.error("a frame of the followed venue cannot be understood (%s): %r", error, frame[:300])
            self._distrust([symbol], "a frame could not be understood")

    def on_snapshot(self, symbol: str, body: bytes, receive_ns: int) -> None:
        """Bybit's books come over the stream alone."""

    def on_lost(self, symbols: Sequence[str], reason: str) -> None:
        self._live.difference_update(symbols)
        log.warning("the followed venue is away (%s): %d markets are stale", reason, len(symbols))

    def on_event(self, kind: FeedEventKind, symbol: str, message: str, metadata: Mapping[str, Any]) -> None:
        log.info("followed venue: %s %s %s", kind, symbol, message)

    def _play(self, topic: str, symbol: str, frame: bytes) -> None:
        if topic.startswith("orderbook."):
            if not self._continues(topic, symbol, frame):
                return
            data = self._book_frame(topic, CATEGORY, frame)
            self._resume(symbol)
            if topic in self._skip:
                self._skip.discard(topic)
                return
            self._hub.publish(address(CATEGORY, topic), data)
            return
        message = orjson.loads(frame)
        if topic.startswith("tickers."):
            self._ticked(self._exchange.markets[symbol], message["data"], self._clock())
        elif symbol in self._live:
            self._traded(self._exchange.markets[symbol], message["data"], self._clock())
        self._hub.publish(address(CATEGORY, topic), frame)

    def _continues(self, topic: str, symbol: str, frame: bytes) -> bool:
        """Whether a book frame follows the last one; a snapshot always does."""
        message = orjson.loads(frame)
        update_id = int(message["data"]["u"])
        if message["type"] == "snapshot":
            self._live.add(symbol)
            self._feed.proven(symbol)
        elif symbol not in self._live:
            return False
        elif update_id != self._told.get(topic, 0) + 1:
            self._distrust([symbol], f"update {update_id} follows {self._told.get(topic, 0)}")
            return False
        self._told[topic] = update_id
        return True

    def _distrust(self, symbols: Sequence[str], reason: str) -> None:
        self._live.difference_update(symbols)
        for symbol in symbols:
            self._feed.resync(symbol, reason)

    def _resume(self, symbol: str) -> None:
        for order in self._waiting.pop(symbol, ()):
            if order.is_open:
                self._exchange.resume(order, self._clock())

    def _ticked(self, market: Market, data: Mapping[str, Any], now_ms: int) -> None:
        super()._ticked(market, data, now_ms)
        rate = self._tickers[market.symbol].get("fundingRate")
        if rate:
            market.funding_rate = Decimal(rate)

    async def _watch(self) -> None:
        """After a silence books are believed again only from their next snapshot on."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._live and time.monotonic() - self._heard > SILENCE_SECONDS:
                self._distrust(sorted(self._live), "the followed venue fell silent")


def topics_of(symbol: str) -> list[str]:
    return [f"orderbook.{DEPTH}.{symbol}", f"publicTrade.{symbol}", f"tickers.{symbol}"]
