"""The process that collects: what it shall do comes from its desk, books come from REST, streams and engines, minutes
go to the writer and to Valkey.

It goes on while the database is away, as it was told last; what it collects waits in the journal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

import redis

from marketdata.depth.bands import depth_volumes
from marketdata.depth.book_reading import DepthBook
from marketdata.depth.current import TOP_LEVELS, current_book, volumes_of
from marketdata.depth.heat import BookLevels, HeatError, HeatMinute, heat_rows
from marketdata.depth.heat_packing import packed_minute
from marketdata.depth.hot import HotDepth
from marketdata.depth.rest_rounds import RestRounds
from marketdata.depth.snapshots import MINUTE, DepthSnapshot, DepthVolume, Market, minute_of
from marketdata.depth.stream_books import StreamBooks, followed
from marketdata.depth.wanted import Wanted
from marketdata.depth.writer import JournaledWriter
from marketdata.events import FeedEvent

log = logging.getLogger(__name__)

CONTROL_SECONDS = 2.0
WRITE_SECONDS = 0.5
CURRENT_SECONDS = 1.0
# A book that an engine told longer ago is not the market any more.
ENGINE_BOOK_MS = 5_000
MOST_EVENTS = 5_000


class DeskAway(Exception):
    """The database does not answer: what was wanted last goes on."""


class Desk(Protocol):
    """What the collector asks and tells. Every method may block, and raises DeskAway."""

    def renew(self) -> bool:
        """Whether this is still the one process that collects."""

    def wanted(self) -> Wanted:
        """What shall be collected now."""

    def beat(self, status: str, detail: Mapping[str, Any]) -> None:
        """A sign of life."""

    def store_events(self, events: Sequence[FeedEvent]) -> None:
        """What happened to feeds."""


class Collector:
    """:meth:`run` until cancelled, or until another process has taken over. ``begin_with``: what was wanted last, for a
    start without the database."""

    def __init__(
        self,
        desk: Desk,
        writer: JournaledWriter[DepthSnapshot],
        heat_writer: JournaledWriter[HeatMinute],
        hot: HotDepth,
        begin_with: Wanted | None = None,
    ) -> None:
        self._desk, self._writer, self._heat_writer, self._hot = desk, writer, heat_writer, hot
        self._rounds: list[RestRounds] = []
        self._books: list[StreamBooks] = []
        self._following: dict[StreamBooks, asyncio.Task[None]] = {}
        self._wanted = Wanted(False, frozenset(), frozenset())
        self._begin_with = begin_with
        self._events: list[FeedEvent] = []
        self._began = time.time()
        self._kept: dict[tuple[Market, str], int] = {}
        # Of heatmaps: the step of each book's rows, and the newest minute of each engine's book.
        self._steps: dict[tuple[Market, str], Decimal] = {}
        self._engine_minutes: dict[str, int] = {}
        self._engine_books = 0
        self._engines_heard: float | None = None
        self.counts = {"snapshots": 0, "heat_minutes": 0, "heat_failures": 0, "hot_failures": 0, "events_dropped": 0}

    def add(self, rounds: RestRounds | None = None, books: StreamBooks | None = None) -> None:
        """Collect from these as well; before :meth:`run`."""
        self._rounds += [rounds] if rounds is not None else []
        self._books += [books] if books is not None else []

    async def run(self) -> None:
        loops: list[Callable[[], Coroutine[Any, Any, None]]] = [self._write, self._tell_current, self._minutes]
        loops += [rounds.run for rounds in self._rounds]
        loops += [books.run for books in self._books]
        tasks = [asyncio.create_task(loop()) for loop in loops]
        control = asyncio.create_task(self._control())
        try:
            done, _ = await asyncio.wait([control, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            every = [control, *tasks, *self._following.values()]
            for task in every:
                task.cancel()
            await asyncio.gather(*every, return_exceptions=True)
            await asyncio.to_thread(self._last_words)

    # What comes in.

    async def on_rest_book(self, market: Market, symbol: str, book: DepthBook, moment: float) -> None:
        """One book by REST: its minute, and how it is now."""
        volumes = depth_volumes(book)
        await self._take(market, {symbol: volumes}, minute_of(moment))
        await self._take_heat(market, {symbol: book.whole()}, minute_of(moment))
        furthest = book.price(int(book.bids[-1, 0])), book.price(int(book.asks[-1, 0]))
        now_ms = int(moment * 1000)
        shown = current_book(
            market, symbol, book.ladder(TOP_LEVELS), volumes, time_ms=now_ms, status="POLLED", furthest=furthest
        )
        await self._to_valkey(lambda: self._hot.latest_put({(market, symbol): shown}))

    def on_event(self, event: FeedEvent) -> None:
        if len(self._events) < MOST_EVENTS:
            self._events.append(event)
        else:
            self.counts["events_dropped"] += 1

    async def _minutes(self) -> None:
        """In each minute, the books that are kept up, our streams' and the engines', as soon as they are proven."""
        while True:
            await asyncio.sleep(1.0)
            if self._wanted.running:
                await self.collect_kept(time.time())

    async def collect_kept(self, moment: float) -> None:
        """The minute of a moment, of every book that is proven then and was not in this minute yet."""
        minute = minute_of(moment)
        for books in self._books:
            new = self._new(books.market, books.live_volumes(), minute)
            levels = books.whole(new)
            await self._take(books.market, new, minute)
            await self._take_heat(books.market, levels, minute)
        engines = await self._to_valkey(lambda: self._hot.all_latest(Market.BYBIT)) or {}
        proven = _proven(engines, int(moment * 1000) - ENGINE_BOOK_MS)
        self._engine_books = len(proven)
        self._engines_heard = moment if proven else self._engines_heard
        await self._take(Market.BYBIT, self._new(Market.BYBIT, proven, minute), minute)
        await self._keep_heat(self._new_heat(await self._to_valkey(self._hot.heat) or [], minute))

    def _new_heat(self, told: Iterable[HeatMinute], minute: int) -> list[HeatMinute]:
        """An engine tells its minute when it has begun: perhaps after ours has."""
        found = [
            each
            for each in told
            if each.minute >= minute - MINUTE and each.minute > self._engine_minutes.get(each.symbol, 0)
        ]
        self._engine_minutes |= {each.symbol: each.minute for each in found}
        return found

    def _new(
        self, market: Market, volumes: Mapping[str, list[DepthVolume]], minute: int
    ) -> dict[str, list[DepthVolume]]:
        found = {symbol: each for symbol, each in volumes.items() if self._kept.get((market, symbol)) != minute}
        self._kept |= dict.fromkeys(((market, symbol) for symbol in found), minute)
        return found

    async def _take(self, market: Market, volumes: Mapping[str, Iterable[DepthVolume]], minute: int) -> None:
        snapshots = [
            DepthSnapshot(symbol, market, minute, volume) for symbol, each in volumes.items() for volume in each
        ]
        if not snapshots:
            return
        await asyncio.to_thread(self._writer.add, snapshots)
        self.counts["snapshots"] += len(snapshots)
        await self._to_valkey(lambda: self._hot.put(snapshots, time.time()))

    async def _take_heat(self, market: Market, books: Mapping[str, BookLevels], minute: int) -> None:
        await self._keep_heat(await asyncio.to_thread(self._heat_of, market, books, minute))

    def _heat_of(self, market: Market, books: Mapping[str, BookLevels], minute: int) -> list[HeatMinute]:
        found = []
        for symbol, book in books.items():
            try:
                rows = heat_rows(book, self._steps.get((market, symbol)))
            except HeatError as error:
                self.counts["heat_failures"] += 1
                log.warning("%s %s has no rows: %s", market, symbol, error)
                continue
            self._steps[market, symbol] = rows.step
            found.append(packed_minute(symbol, market, minute, rows))
        return found

    async def _keep_heat(self, minutes: Sequence[HeatMinute]) -> None:
        if minutes:
            await asyncio.to_thread(self._heat_writer.add, minutes)
            self.counts["heat_minutes"] += len(minutes)

    # What goes out.

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            for writer in (self._writer, self._heat_writer):
                if writer.is_due:
                    await asyncio.to_thread(writer.flush)

    async def _tell_current(self) -> None:
        while True:
            await asyncio.sleep(CURRENT_SECONDS)
            now_ms = time.time_ns() // 1_000_000
            for books in self._books:
                shown = books.current(now_ms)
                if shown:
                    await self._to_valkey(lambda shown=shown: self._hot.latest_put(shown))  # type: ignore[misc]

    async def _to_valkey(self, work: Callable[[], Any]) -> Any:
        """None while Valkey is away: it is a help, and not the truth."""
        try:
            return await asyncio.to_thread(work)
        except (redis.RedisError, OSError) as error:
            self.counts["hot_failures"] += 1
            log.warning("Valkey has nothing new of depths: %s", error)
            return None

    # What it shall do.

    async def _control(self) -> None:
        """Ends when another process has taken over."""
        if self._begin_with is not None:
            self._turn_to(self._begin_with)
        while True:
            try:
                if not await asyncio.to_thread(self._desk.renew):
                    log.error("another process collects now: this one ends")
                    return
                self._turn_to(await asyncio.to_thread(self._desk.wanted))
                await asyncio.to_thread(self._desk.beat, "ok", self.status())
                await self._store_events()
            except DeskAway as error:
                log.warning("collecting goes on as it was wanted last: %s", error)
            await asyncio.sleep(CONTROL_SECONDS)

    def _turn_to(self, wanted: Wanted) -> None:
        if wanted == self._wanted:
            return
        log.info(
            "%s: %d symbols by REST, %d by streams",
            "collecting" if wanted.running else "stopped",
            len(wanted.rest),
            len(wanted.stream),
        )
        self._wanted = wanted
        for rounds in self._rounds:
            rounds.follow(wanted.rest if wanted.running else frozenset())
        for books in self._books:
            if (before := self._following.pop(books, None)) is not None:
                before.cancel()
            stream = wanted.stream if wanted.running else frozenset()
            self._following[books] = asyncio.create_task(followed(books, stream))

    async def _store_events(self) -> None:
        events, self._events = self._events, []
        if not events:
            return
        try:
            await asyncio.to_thread(self._desk.store_events, events)
        except DeskAway:
            self._events = events + self._events
            raise

    def _last_words(self) -> None:
        self._writer.close()
        self._heat_writer.close()
        try:
            self._desk.store_events(self._events)
            self._desk.beat("stopped", self.status())
        except DeskAway as error:
            log.warning("the end of collecting is not recorded: %s", error)

    def status(self) -> dict[str, Any]:
        rounds = {each.market.value: each.status() for each in self._rounds}
        collected = [each["last_collection"] for each in rounds.values() if each["last_collection"]]
        return {
            "running": self._wanted.running,
            "began": self._began,
            "requests": {name: sum(each[name] for each in rounds.values()) for name in ("requests", "ok", "failed")},
            "last_collection": max(collected, default=None),
            "rest": rounds,
            "streams": {each.market.value: each.status() for each in self._books},
            "engines": {"books": self._engine_books, "last_update": self._engines_heard},
            "writer": self._writer.status(),
            "heat_writer": self._heat_writer.status(),
            **self.counts,
        }


def _proven(engines: Mapping[str, Any], oldest: int) -> dict[str, list[DepthVolume]]:
    """By symbol, of the books that engines told since ``oldest`` (milliseconds)."""
    found = {}
    for symbol, book in engines.items():
        try:
            if book["timestamp"] >= oldest:
                found[symbol] = volumes_of(book)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:  # an engine of another version, perhaps
            log.error("an engine's book of %s is not understood: %s: %s", symbol, type(error).__name__, error)
    return found
