"""Books of one of Binance's markets kept up by its stream of changes, for depth analytics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from marketdata.depth.bands import engine_volumes, whole_book
from marketdata.depth.current import TOP_LEVELS, current_book
from marketdata.depth.heat import BookLevels
from marketdata.depth.snapshots import DepthVolume, Market
from marketdata.engine import sources
from marketdata.engine.book import SymbolBook
from marketdata.engine.grid import Grid, GridError
from marketdata.engine.process import Work
from marketdata.engine.sources import BookSource
from marketdata.engine.sync import BookOutcome, BookState
from marketdata.events import FeedEvent, FeedEventKind
from marketdata.feeds.binance import BinanceFeed, depth_stream
from marketdata.feeds.binance_rest import BinanceRest
from marketdata.feeds.connection import back_off
from marketdata.feeds.protocol import VenueError
from marketdata.feeds.snapshot_bridge import Judged, SnapshotBridge

log = logging.getLogger(__name__)

SOURCES: Mapping[Market, Callable[[str, str], BookSource]] = {
    Market.SPOT: sources.binance_spot,
    Market.FUTURES: sources.binance_futures,
}
# A book that heard nothing for so long is not the market any more.
STALE_SECONDS = 10.0
WATCH_SECONDS = 1.0


@dataclass(slots=True)
class _Stream:
    book: SymbolBook
    bridge: SnapshotBridge
    state: BookState = BookState.SYNCING


class StreamBooks:
    """Listens to one feed. ``on_event`` hears of what happens to it. Symbols that the market does not list are left out
    and named in the status, as are those whose steps no book can be kept in."""

    def __init__(
        self, market: Market, feed: BinanceFeed, rest: BinanceRest, on_event: Callable[[FeedEvent], None]
    ) -> None:
        self.market, self._feed, self._rest, self._on_event = market, feed, rest, on_event
        self._streams: dict[str, _Stream] = {}
        self._topics: dict[bytes, _Stream] = {}
        self._grids: dict[str, tuple[Decimal, Decimal]] = {}
        self.unlisted: list[str] = []
        self.counts = {"frames": 0, "gaps": 0, "refused": 0}

    async def run(self) -> None:
        """Until cancelled; symbols come by :meth:`follow`."""
        watch = asyncio.create_task(self._watch())
        try:
            await self._feed.run(self)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def follow(self, wanted: Iterable[str]) -> None:
        """Carry exactly these from now on.

        Raises:
            VenueError: what the market lists cannot be asked; nothing is changed.
        """
        wanted = set(wanted)
        new = wanted - self._streams.keys() - set(self.unlisted)
        if new:
            listed = await self._rest.grids()
            self._grids = {name: steps for name, steps in listed.items() if name not in wanted or _fits(name, steps)}
        self.unlisted = sorted(symbol for symbol in wanted if self._grids and symbol not in self._grids)
        gone = [symbol for symbol in self._streams if symbol not in wanted]
        self._feed.remove(gone)
        for symbol in gone:
            del self._streams[symbol], self._topics[depth_stream(symbol).encode()]
        added = sorted(new & self._grids.keys())
        for symbol in added:
            source = SOURCES[self.market](symbol, depth_stream(symbol))
            book = SymbolBook(symbol, *self._grids[symbol], source=source, work=Work.BANDS)
            self._streams[symbol] = self._topics[depth_stream(symbol).encode()] = _Stream(book, SnapshotBridge(book))
        self._feed.add(added)

    def live_volumes(self) -> dict[str, list[DepthVolume]]:
        """The six depths of each book that is proven right now."""
        return {symbol: engine_volumes(each.book.bands()) for symbol, each in self._streams.items() if _is_live(each)}

    def whole(self, symbols: Iterable[str]) -> dict[str, BookLevels]:
        """All levels of these books, as far as they are proven right now."""
        return {symbol: whole_book(self._streams[symbol].book) for symbol in symbols if _is_live(self._streams[symbol])}

    def current(self, now_ms: int) -> dict[tuple[Market, str], Mapping[str, Any]]:
        """Each proven book as the API shows it."""
        return {
            (self.market, symbol): current_book(
                self.market,
                symbol,
                each.book.ladder(TOP_LEVELS),
                engine_volumes(each.book.bands()),
                time_ms=now_ms,
                status="CONNECTED",
                furthest=each.book.reach(),
            )
            for symbol, each in self._streams.items()
            if _is_live(each)
        }

    def status(self) -> dict[str, Any]:
        feed = self._feed.status()
        latencies = [row["latency_p99_ms"] for row in feed["connections"].values() if "latency_p99_ms" in row]
        newest = max((each.book.receive_ns for each in self._streams.values()), default=0)
        return {
            "connected": feed["connected"],
            "books": {symbol: each.book.state.name for symbol, each in sorted(self._streams.items())},
            "unlisted": self.unlisted,
            "last_update": newest / 1e9 if newest else None,
            "latency_ms": max(latencies, default=None),
            **self.counts,
        }

    # What the feed brings.

    def on_frame(self, topic: bytes, frame: bytes, receive_ns: int) -> None:
        stream = self._topics.get(topic)
        if stream is None:
            return  # of a symbol that was just removed
        self.counts["frames"] += 1
        self._judge(stream, stream.bridge.update(frame, receive_ns))
        if stream.state is BookState.LIVE:
            self._feed.meter(stream.book.symbol).note_clocks(stream.book.sent_ms, receive_ns)
        if stream.book.needs_snapshot:
            self._feed.resync(stream.book.symbol, stream.book.state_reason)

    def on_snapshot(self, symbol: str, body: bytes, receive_ns: int) -> None:
        stream = self._streams.get(symbol)
        if stream is not None:
            self._judge(stream, stream.bridge.snapshot(body, receive_ns))

    def on_lost(self, symbols: Sequence[str], reason: str) -> None:
        for symbol in symbols:
            stream = self._streams.get(symbol)
            if stream is not None:
                stream.book.mark_disconnected(reason)
                stream.bridge.forget()
                stream.state = stream.book.state

    def on_event(self, kind: FeedEventKind, symbol: str, message: str, metadata: Mapping[str, Any]) -> None:
        venue, _, market_type = self._feed.name.partition(" ")
        self._on_event(FeedEvent(kind, venue, market_type, symbol, message, time.time_ns(), metadata))

    def _judge(self, stream: _Stream, judged: Iterable[Judged]) -> None:
        symbol = stream.book.symbol
        for outcome, _, _ in judged:
            about = {"u": stream.book.update_id}
            if outcome is BookOutcome.SNAPSHOT:
                self.on_event(FeedEventKind.SNAPSHOT_LOADED, symbol, f"update {stream.book.update_id}", about)
            elif outcome is BookOutcome.GAP:
                self.counts["gaps"] += 1
                self.on_event(FeedEventKind.GAP_DETECTED, symbol, stream.book.state_reason, about)
            elif outcome is BookOutcome.REFUSED:
                self.counts["refused"] += 1
                self.on_event(FeedEventKind.UPDATE_FAILED, symbol, stream.book.state_reason, about)
                self._feed.resync(symbol, stream.book.state_reason)
            self._turn(stream)

    def _turn(self, stream: _Stream) -> None:
        state = stream.book.state
        if state is stream.state:
            return
        stream.state = state
        if state is BookState.LIVE:
            self._feed.proven(stream.book.symbol)
        elif state is BookState.BROKEN:
            self._feed.resync(stream.book.symbol, stream.book.state_reason)

    async def _watch(self) -> None:
        """Books that heard nothing for too long are stale; those that wait for a snapshot are asked for again."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            oldest = time.time_ns() - int(STALE_SECONDS * 1e9)
            for symbol, stream in self._streams.items():
                if stream.state is BookState.LIVE and stream.book.receive_ns < oldest:
                    stream.book.mark_stale(f"no update for {STALE_SECONDS:g} s")
                    stream.state = stream.book.state
                elif stream.book.needs_snapshot and len(stream.bridge):
                    self._feed.resync(symbol, stream.book.state_reason)


async def followed(books: StreamBooks, wanted: Iterable[str]) -> None:
    """:meth:`StreamBooks.follow`, again with back-off while the venue does not answer."""
    symbols, failures = list(wanted), 0
    while True:
        try:
            await books.follow(symbols)
            return
        except VenueError as error:
            failures += 1
            log.warning("what the market lists is not known: %s", error)
        except Exception:  # nobody waits for this: it would end unheard, and nothing be followed
            failures += 1
            log.exception("streams are not followed yet")
        await asyncio.sleep(back_off(failures))


def _fits(symbol: str, steps: tuple[Decimal, Decimal]) -> bool:
    try:
        for step in steps:
            Grid(step)
    except GridError as error:
        log.error("%s is left out: %s", symbol, error)
        return False
    return True


def _is_live(stream: _Stream) -> bool:
    return stream.state is BookState.LIVE
