"""The books of one venue's feed: routing by topic, what each message leads to, and bringing books back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from marketdata.engine.batch import Taken
from marketdata.engine.feature_table import feature_index
from marketdata.engine.sync import BookOutcome, BookState
from marketdata.events import BookView, FeedEvent, FeedEventKind
from marketdata.feeds.protocol import MarketFeed, Tap, VenueError
from trading.runtime.book_stream import BookStream
from trading.runtime.frame_turn import FrameTurn
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
BEST_BID, BEST_ASK = feature_index("best_bid"), feature_index("best_ask")

TellBook = Callable[[SymbolMarket, Callable[[], BookView], int], None]


class VenueBooks:
    """Listens to one feed. ``on_book`` hears of every message that left a market's book LIVE, in the order of arrival;
    ``on_event`` of what happens to the feed."""

    def __init__(
        self,
        feed: MarketFeed,
        turn: FrameTurn,
        *,
        on_book: TellBook,
        on_event: Callable[[FeedEvent], None],
        tap: Tap | None = None,
    ) -> None:
        self.feed, self._turn, self._on_book, self._on_event, self._tap = feed, turn, on_book, on_event, tap
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

    def status(self) -> dict[str, Any]:
        return {
            **self.feed.status(),
            "books": self.states(),
            **self.counts,
            "symbols": {symbol: stream.row() for symbol, stream in self.streams.items()},
        }

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
        if stream is None:
            return
        self._turn.take()
        if stream.state is BookState.LIVE and not stream.waits:
            return  # it found its way back by itself while the snapshot was on its way
        stream.waits = False
        self._turn.add_book(stream, body, receive_ns)
        for frame, then_ns in stream.held:
            self._turn.add_book(stream, frame, then_ns)
        stream.held.clear()
        self._turn.take()

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
        self._turn.take()
        if self._tap is not None:
            told = orjson.dumps({"feed": self.feed.name, "symbol": symbol, "mark": how, "reason": reason})
            self._tap(self.feed.meter(symbol).name, "mark", told, time.time_ns(), None)
        if how == "disconnected":
            stream.book.mark_disconnected(reason)
            stream.held.clear()
            stream.wait_for_snapshot()
        elif how == "stale":
            stream.book.mark_stale(reason)
        else:
            stream.book.mark_broken(reason)
            stream.wait_for_snapshot()
        stream.turn_to(stream.book.state)

    def _book_frame(self, stream: BookStream, frame: bytes, receive_ns: int) -> None:
        self.counts["book"] += 1
        meter = stream.meter
        meter.messages += 1
        meter.bytes += len(frame)
        meter.last_receive_ns = receive_ns
        if stream.waits:
            # First the updates, then the snapshot: one that is older than the first update cannot be bridged.
            stream.held.append((frame, receive_ns))
            self.feed.resync(stream.symbol, stream.book.state_reason)
        else:
            self._turn.add_book(stream, frame, receive_ns)

    # What its messages lead to.

    def tell_book(
        self,
        stream: BookStream,
        taken: Taken,
        row: NDArray[np.float64],
        frame: bytes,
        receive_ns: int,
        is_stale: bool,
    ) -> None:
        outcome = taken.outcome
        if outcome is BookOutcome.DELTA:
            stream.meter.latencies.add(self.feed.meter(stream.symbol).note_clocks(taken.sent_ms, receive_ns))
        elif outcome is BookOutcome.SNAPSHOT:
            stream.meter.resyncs += 1
            message = f"snapshot of {len(frame)} bytes, update {taken.update_id}"
            self.on_event(FeedEventKind.SNAPSHOT_LOADED, stream.symbol, message, {"u": taken.update_id})
        elif outcome is BookOutcome.IGNORED:
            if stream.waits:
                stream.held.append((frame, receive_ns))  # it came in one turn with the gap
            return
        if taken.state is not stream.state:
            self._turned(stream, taken.state)
        if outcome > BookOutcome.DELTA:
            self._missed(stream, outcome, frame, receive_ns)
        elif taken.state is BookState.LIVE:
            if stream.check is not None:
                number = taken.update_id if stream.by_rest else taken.sequence
                stream.check.note(number, float(row[BEST_BID]), float(row[BEST_ASK]))
            if stream.market is not None:
                stream.market.changed = True
                if not is_stale:
                    self._on_book(stream.market, partial(view_of, stream, taken, row, receive_ns), receive_ns)

    def _turned(self, stream: BookStream, state: BookState) -> None:
        stream.turn_to(state)
        if state is BookState.LIVE:
            self.feed.proven(stream.symbol)
        elif state is BookState.BROKEN:
            reason = stream.book.state_reason
            self.on_event(FeedEventKind.UPDATE_FAILED, stream.symbol, reason, {"u": stream.book.update_id})
            stream.wait_for_snapshot()
            self.feed.resync(stream.symbol, reason)

    def _missed(self, stream: BookStream, outcome: BookOutcome, frame: bytes, receive_ns: int) -> None:
        reason = stream.book.state_reason
        stream.wait_for_snapshot()
        if outcome is BookOutcome.GAP:
            self.counts["gaps"] += 1
            stream.meter.gaps += 1
            self.on_event(FeedEventKind.GAP_DETECTED, stream.symbol, reason, {"u": stream.book.update_id})
            if stream.waits:
                stream.held.append((frame, receive_ns))
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
            elif now - stream.changed_at > STALE_SECONDS:
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
        book = stream.book
        bid, ask = book.best_bid_ticks, book.best_ask_ticks
        if bid is not None and ask is not None:
            number = book.update_id if stream.by_rest else book.sequence
            check.note(number, float(bid * book.tick_size), float(ask * book.tick_size))
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


def view_of(stream: BookStream, taken: Taken, row: NDArray[np.float64], receive_ns: int) -> BookView:
    """The book as it was right after one message."""
    return BookView(
        symbol=stream.symbol,
        state=taken.state.name,
        venue_ns=taken.venue_ms * 1_000_000,
        receive_ns=receive_ns,
        update_id=taken.update_id,
        best_bid=_price(stream, row[BEST_BID]),
        best_ask=_price(stream, row[BEST_ASK]),
        features=row.copy(),
    )


def _price(stream: BookStream, price: float) -> Decimal:
    """Exactly, from the float of a feature: the grid may have become finer since, never coarser."""
    return stream.book.price_of(round(price / float(stream.book.tick_size)))
