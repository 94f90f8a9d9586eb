from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import uvloop
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DataError, Error, IntegrityError, close_old_connections, connection

from audit.services import heartbeat_record
from marketdata.depth import selectors, services
from marketdata.depth.collector import Collector, DeskAway
from marketdata.depth.heat import HeatMinute
from marketdata.depth.journal import HeatLines, Journal, JournalTaken, SnapshotLines
from marketdata.depth.rest_rounds import RestRounds
from marketdata.depth.snapshots import DepthSnapshot, Market
from marketdata.depth.stream_books import StreamBooks
from marketdata.depth.wanted import Wanted, WantedFile
from marketdata.depth.writer import JournaledWriter
from marketdata.events import FeedEvent
from marketdata.feeds.binance import BinanceFeed
from marketdata.feeds.binance_addresses import binance_addresses
from marketdata.feeds.binance_rest import MARKETS, BinanceRest
from marketdata.models import DepthSymbol
from marketdata.services import feed_events_store
from trading.runtime.market_access import binance_gate
from trading.runtime.venue_access import venue_access_tell

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
WAIT_SECONDS = 1.0
JOURNAL_FOLDER, HEAT_JOURNAL_FOLDER, WANTED_FILE = "depth-journal", "depth-heat-journal", "depth-wanted.json"
BINANCE_MARKETS = {Market.SPOT: "spot", Market.FUTURES: "usdm"}

Result = TypeVar("Result")
Item = TypeVar("Item")
Journals = tuple[Journal[DepthSnapshot], Journal[HeatMinute]]


class Command(BaseCommand):
    help = "Collect resting volume by distance from the best price: one process at a time, others stand by."

    def handle(self, *args: Any, **options: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(serve())
            except OSError as error:
                raise CommandError(f"the journal in {settings.DATA_DIR} cannot be used: {error}") from None


async def serve() -> None:
    """Collect while this is the process that shall, until a signal comes."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    desk = DatabaseDesk(WantedFile(settings.DATA_DIR / WANTED_FILE))
    try:
        while not stop.is_set():
            begun = await _journals(desk, stop)
            if begun is not None:
                await _collect(desk, *begun, stop)
    finally:
        await asyncio.to_thread(desk.release)


async def _journals(desk: DatabaseDesk, stop: asyncio.Event) -> tuple[Journals, Wanted | None] | None:
    """The lease, and then the journals of this machine; None when a signal came first.

    Without the database, who collected here before goes on with what was wanted then. Should another process collect by
    now, the database will tell when it is back; until then, minutes that both take are stored once.
    """
    while not stop.is_set():
        try:
            if await asyncio.to_thread(desk.renew):
                # The first ones of a new deployment, too, are made ahead; then a task makes them.
                await asyncio.to_thread(desk.make_days)
                return _open_journals(), None
        except DeskAway as error:
            remembered = desk.remembered()
            if remembered is not None and (journals := _free_journals()) is not None:
                log.warning("collecting begins with what was wanted last: %s", error)
                return journals, remembered
            log.info("not collecting yet: %s", error)
        except JournalTaken as error:
            log.info("not collecting yet: %s", error)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
    return None


def _free_journals() -> Journals | None:
    try:
        return _open_journals()
    except JournalTaken:
        return None


def _open_journals() -> Journals:
    rows = Journal(settings.DATA_DIR / JOURNAL_FOLDER, SnapshotLines())
    try:
        return rows, Journal(settings.DATA_DIR / HEAT_JOURNAL_FOLDER, HeatLines())
    except BaseException:
        rows.close()
        raise


async def _collect(desk: DatabaseDesk, journals: Journals, begin_with: Wanted | None, stop: asyncio.Event) -> None:
    rows, heat = journals
    writer = _writer(services.depth_rows_store, rows)
    collector = Collector(desk, writer, _writer(services.heat_minutes_store, heat), selectors.hot(), begin_with)
    simulator = settings.SIMULATOR_URL if settings.EXCHANGE == "simulator" else None
    rests = []
    for market, name in BINANCE_MARKETS.items():
        rest_url, streams = binance_addresses(name, simulator)
        # The feed closes its own with itself.
        rest, feed_rest = (BinanceRest(rest_url, MARKETS[name], binance_gate(rest_url)) for _ in range(2))
        # One address, one budget.
        feed_rest.budget = rest.budget
        rests.append(rest)
        feed = BinanceFeed(streams, (), feed_rest, symbols_a_connection=settings.SYMBOLS_A_CONNECTION)
        collector.add(
            RestRounds(market, rest, collector.on_rest_book, spacing=settings.DEPTH_REQUEST_SPACING_MS / 1000),
            StreamBooks(market, feed, feed_rest, collector.on_event),
        )
    tasks = [asyncio.create_task(collector.run()), asyncio.create_task(stop.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for rest in rests:
            await rest.close()


def _writer(store: Callable[[Sequence[Item]], int], journal: Journal[Item]) -> JournaledWriter[Item]:
    return JournaledWriter(partial(_store, store), journal, away=(Error, OSError), refused=(DataError, IntegrityError))


def _store(store: Callable[[Sequence[Item]], int], batch: Sequence[Item]) -> int:
    """On whatever thread: one whose connection died with the server gets a new one."""
    close_old_connections()
    try:
        return store(batch)
    except Error:
        connection.close()
        raise


class DatabaseDesk:
    """What the collector is told by the database, and tells it."""

    def __init__(self, wanted_file: WantedFile) -> None:
        self._wanted_file = wanted_file
        self.holder = f"{socket.gethostname()[:32]}:{os.getpid()}:{secrets.token_hex(4)}"

    def renew(self) -> bool:
        holds = self._ask(partial(services.collector_lease_take, holder=self.holder, seconds=LEASE_SECONDS))
        if not holds:
            self._wanted_file.forget()
        return holds

    def make_days(self) -> None:
        self._ask(services.depth_days_make)

    def remembered(self) -> Wanted | None:
        """What was wanted when this machine collected last; None when it did not, or was told to stop."""
        wanted = self._wanted_file.read()
        return wanted if wanted is not None and wanted.running else None

    def release(self) -> None:
        try:
            self._ask(partial(services.collector_lease_release, holder=self.holder))
        except DeskAway as error:
            log.warning("the lease is not given back, and ends by itself: %s", error)

    def wanted(self) -> Wanted:
        def read() -> Wanted:
            by_source: dict[str, set[str]] = {source: set() for source in DepthSymbol.Source.values}
            for each in selectors.collector_symbols():
                by_source[each.source].add(each.symbol)
            running = selectors.collector().is_running
            return Wanted(running, frozenset(by_source["rest"]), frozenset(by_source["stream"]))

        wanted = self._ask(read)
        try:
            self._wanted_file.keep(wanted)
        except OSError as error:
            log.error("a start without the database will not know what to collect: %s", error)
        return wanted

    def beat(self, status: str, detail: Mapping[str, Any]) -> None:
        # One row whatever process it is: there is one collector.
        self._ask(partial(heartbeat_record, selectors.HEARTBEAT, "1", status, detail))
        self._ask(partial(venue_access_tell, selectors.HEARTBEAT))

    def store_events(self, events: Sequence[FeedEvent]) -> None:
        self._ask(partial(feed_events_store, events))

    def _ask(self, work: Callable[[], Result]) -> Result:
        close_old_connections()
        try:
            return work()
        except Error as error:
            connection.close()
            raise DeskAway(str(error)) from error
