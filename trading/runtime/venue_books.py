"""The books of one venue's feed: routing by topic, what each message leads to, and bringing books back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from marketdata.engine.sync import BookOutcome, BookState
from marketdata.events import FeedEvent, FeedEventKind
from marketdata.feeds.protocol import MarketFeed, Tap, VenueError
from trading.runtime.backlog import Backlog
from trading.runtime.book_stream import BookStream
from trading.runtime.market_frames import SymbolMarket
from trading.runtime.top_check import Finding, TopCheck

log = logging.getLogger(__name__)

# A book that heard nothing for this long is not proven any more; one that is not proven for this long is asked for.
STALE_SECONDS = 5.0
WATCH_SECONDS = 1.0
# One symbol after the other is compared with REST; one that differed is asked about again sooner.
CHECK_SECONDS, CHECK_AGAIN_SECONDS = 5.0, 1.0
CHECK_WAIT_SECONDS = 3.0
MOST_DIFFERENCES = 3


class VenueBooks:
    """Listens to one feed. ``on_book`` hears, through the backlog, of every message that left a market's book LIVE;
    ``on_event`` of what happens to the feed."""

    def __init__(
        self,
        feed: MarketFeed,
        backlog: Backlog,
        *,
        on_book: Callable[[SymbolMarket], None],
        on_event: Callable[[FeedEvent], None],
        tap: Tap | None = None,
    ) -> None:
        self.feed, self._backlog, self._on_book, self._on_event, self._tap = feed, backlog, on_book, on_event, tap
        self.streams: dict[str, BookStream] = {}
        self.venue, _, self.market_type = feed.name.partition(" ")
        self._routes: dict[bytes, Callable[[bytes, int], None]] = {}
        self._topics: dict[str, list[bytes]] = {}
        self.counts = {"frames": 0, "book": 0, "gaps": 0, "refused": 0, "unreadable": 0, "unrouted": 0}

    def add(self, stream: BookStream, topic: str) -> None:
        """Keep one more book, whose frames come under a topic. Other topics of its symbol: :meth:`route`."""
        self.streams[stream.symbol] = stream
        self.route(stream.symbol, topic, partial(self._book_frame, stream))

    def route(self, symbol: str, topic: str, take: Callable[[bytes, int], None]) -> None:
        self._routes[topic.encode()] = take
        self._topics.setdefault(symbol, []).append(topic.encode())

    def remove(self, symbols: Iterable[str]) -> None:
        """Keep these no more; frames that are still on their way are dropped."""
        known = [symbol for symbol in symbols if symbol in self.streams]
        self.feed.remove(known)
        for symbol in known:
            del self.streams[symbol]
            for topic in self._topics.pop(symbol):
                del self._routes[topic]

    async def run(self) -> None:
        others = [asyncio.create_task(work) for work in (self._watch(), self._check_tops())]
        try:
            await self.feed.run(self)
        finally:
            for each in others:
                each.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    def states(self) -> dict[str, int]:
        """How many books are in each state."""
        counted = dict.fromkeys((state.name for state in BookState), 0)
        for stream in self.streams.values():
            counted[stream.state.name] += 1
        return counted

    async def status(self) -> dict[str, Any]:
        """The figures of the feed and its symbols, whose sockets are read between two of them."""
        rows = {}
        for symbol, stream in list(self.streams.items()):
            rows[symbol] = stream.row()
            await asyncio.sleep(0)
        return {**self.feed.status(), "books": self.states(), **self.counts, "symbols": rows}

    # What the feed brings.

    def on_frame(self, topic: bytes, frame: bytes, receive_ns: int) -> None:
        take = self._routes.get(topic)
        self.counts["frames"] += 1
        if take is None:
            self.counts["unrouted"] += 1
        else:
            take(frame, receive_ns)

    def on_snapshot(self, symbol: str, body: bytes, receive_ns: int) -> None:
        """A book by REST, and behind it what was held back for it."""
        stream = self.streams.get(symbol)
        if stream is not None and stream.bridge is not None:
            for judged in stream.bridge.snapshot(body, receive_ns):
                self._judged(stream, *judged)

    def on_lost(self, symbols: Sequence[str], reason: str) -> None:
        for symbol in symbols:
            if symbol in self.streams:
                self.mark(symbol, "disconnected", reason)

    def on_event(self, kind: FeedEventKind, symbol: str, message: str, metadata: Mapping[str, Any]) -> None:
        if metadata.get("alert"):
            log.error("%s %s: %s", self.feed.name, symbol, message)
        now_ns = time.time_ns()
        self._on_event(FeedEvent(kind, self.venue, self.market_type, symbol, message, now_ns, metadata))

    def mark(self, symbol: str, how: str, reason: str) -> None:
        """Take a book out of trade for a reason that no frame tells: ``how`` is disconnected, stale or broken."""
        stream = self.streams[symbol]
        if self._tap is not None:
            told = orjson.dumps({"feed": self.feed.name, "symbol": symbol, "mark": how, "reason": reason})
            self._tap(self.feed.meter(symbol).name, "mark", told, time.time_ns(), None)
        if how == "disconnected":
            stream.book.mark_disconnected(reason)
            if stream.bridge is not None:
                stream.bridge.forget()
        elif how == "stale":
            stream.book.mark_stale(reason)
        else:
            stream.book.mark_broken(reason)
        stream.turn_to(stream.book.state)

    def _book_frame(self, stream: BookStream, frame: bytes, receive_ns: int) -> None:
        self.counts["book"] += 1
        meter = stream.meter
        meter.messages += 1
        meter.bytes += len(frame)
        meter.last_receive_ns = receive_ns
        if stream.bridge is None:
            self._judged(stream, stream.book.on_frame(frame, receive_ns), frame, receive_ns)
            return
        for judged in stream.bridge.update(frame, receive_ns):
            self._judged(stream, *judged)
        if stream.book.needs_snapshot:
            # First the updates, then the snapshot: one that is older than the first update cannot be bridged.
            self.feed.resync(stream.symbol, stream.book.state_reason)

    # What its messages lead to.

    def _judged(self, stream: BookStream, outcome: BookOutcome, frame: bytes, receive_ns: int) -> None:
        """One frame was judged, and its book is as that left it."""
        book = stream.book
        if outcome is BookOutcome.DELTA:
            stream.meter.latencies.add(self.feed.meter(stream.symbol).note_clocks(book.sent_ms, receive_ns))
        elif outcome is BookOutcome.SNAPSHOT:
            stream.meter.resyncs += 1
            message = f"snapshot of {len(frame)} bytes, update {book.update_id}"
            self.on_event(FeedEventKind.SNAPSHOT_LOADED, stream.symbol, message, {"u": book.update_id})
        elif outcome is BookOutcome.IGNORED:
            return
        state = book.state
        if state is not stream.state:
            self._turned(stream, state)
        if outcome > BookOutcome.DELTA:
            self._missed(stream, outcome, frame)
        elif state is BookState.LIVE:
            if stream.check is not None:
                _note_top(stream, stream.check)
            if stream.market is not None:
                stream.market.changed = True
                self._backlog.tell(stream, partial(self._tell, stream, stream.market))

    def _tell(self, stream: BookStream, market: SymbolMarket) -> None:
        if stream.state is BookState.LIVE:  # it may have ended while this was owed
            self._on_book(market)

    def _turned(self, stream: BookStream, state: BookState) -> None:
        stream.turn_to(state)
        if state is BookState.LIVE:
            self.feed.proven(stream.symbol)
        elif state is BookState.BROKEN:
            reason = stream.book.state_reason
            self.on_event(FeedEventKind.UPDATE_FAILED, stream.symbol, reason, {"u": stream.book.update_id})
            self.feed.resync(stream.symbol, reason)

    def _missed(self, stream: BookStream, outcome: BookOutcome, frame: bytes) -> None:
        reason = stream.book.state_reason
        if outcome is BookOutcome.GAP:
            self.counts["gaps"] += 1
            stream.meter.gaps += 1
            self.on_event(FeedEventKind.GAP_DETECTED, stream.symbol, reason, {"u": stream.book.update_id})
        else:
            self.counts["refused"] += 1
            stream.meter.refused += 1
            start = frame[:200].decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
            self.on_event(FeedEventKind.UPDATE_FAILED, stream.symbol, reason, {"frame": start})
        self.feed.resync(stream.symbol, reason)

    # What no message says.

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self.look_after(time.time_ns(), time.monotonic())

    def look_after(self, now_ns: int, now: float) -> None:
        """Books that heard nothing for too long are stale; those that are not proven for too long are asked for."""
        for symbol, stream in self.streams.items():
            if stream.state is BookState.LIVE:
                if stream.book.receive_ns < now_ns - STALE_SECONDS * 1e9:
                    self.mark(symbol, "stale", f"no update for {STALE_SECONDS:g} s")
            elif now - stream.changed_at > STALE_SECONDS and (stream.bridge is None or stream.book.needs_snapshot):
                self.feed.resync(symbol, stream.book.state_reason)

    async def _check_tops(self) -> None:
        """Compare one book after the other with REST; one that differs three times in a row is broken."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            for stream in list(self.streams.values()):
                await asyncio.sleep(CHECK_SECONDS)
                while self._is_proven(stream) and await self.check_top(stream) is Finding.DIFFERS:
                    await asyncio.sleep(CHECK_AGAIN_SECONDS)

    def _is_proven(self, stream: BookStream) -> bool:
        return self.streams.get(stream.symbol) is stream and stream.state is BookState.LIVE

    async def check_top(self, stream: BookStream) -> Finding:
        """Compare the best prices of a LIVE book with the venue's REST."""
        check = stream.check = TopCheck()
        _note_top(stream, check)
        try:
            best = await self.feed.best_prices(stream.symbol)
            async with asyncio.timeout(CHECK_WAIT_SECONDS):
                await check.passed(best.number)
        except (VenueError, TimeoutError) as error:
            log.info("%s %s was not compared with REST: %s", self.feed.name, stream.symbol, error)
            return Finding.UNCLEAR
        finally:
            stream.check = None
        if self.streams.get(stream.symbol) is not stream:
            return Finding.UNCLEAR
        finding = check.judge(best)
        self.counts[f"checks_{finding.value}"] = self.counts.get(f"checks_{finding.value}", 0) + 1
        stream.differences = stream.differences + 1 if finding is Finding.DIFFERS else 0
        if finding is Finding.CONTRADICTS or stream.differences >= MOST_DIFFERENCES:
            stream.differences = 0
            reason = f"its best prices are not those of REST: {best.bid} and {best.ask} at {best.number}"
            self.mark(stream.symbol, "broken", reason)
            self.on_event(FeedEventKind.UPDATE_FAILED, stream.symbol, reason, {"alert": True, "u": best.number})
            self.feed.resync(stream.symbol, reason)
            return Finding.CONTRADICTS
        return finding


def _note_top(stream: BookStream, check: TopCheck) -> None:
    book = stream.book
    bid, ask = book.best_bid_ticks, book.best_ask_ticks
    if bid is not None and ask is not None:
        number = book.sequence if stream.bridge is None else book.update_id
        check.note(number, float(book.price_of(bid)), float(book.price_of(ask)))
