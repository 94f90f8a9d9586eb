from __future__ import annotations

import asyncio
import logging
import signal
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvloop
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketdata.engine.book import SymbolBook
from marketdata.events import FeedEvent, FeedEventKind
from marketdata.feeds.binance import depth_stream
from marketdata.feeds.binance_rest import MARKETS, BinanceRest
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.protocol import MarketFeed, VenueError
from marketdata.feeds.recorder import Recorder
from trading.gateways.bybit import BybitEndpoints
from trading.runtime.backlog import Backlog
from trading.runtime.book_stream import BookStream, binance_book_stream
from trading.runtime.cancellation import end_tasks
from trading.runtime.configuration import ENVIRONMENTS
from trading.runtime.market_access import binance_gate, bybit_gate
from trading.runtime.market_feeds import binance_addresses, binance_feed, bybit_feed
from trading.runtime.market_plane import BOOK_DEPTH
from trading.runtime.plane_replay import about
from trading.runtime.venue_books import VenueBooks

log = logging.getLogger(__name__)

VENUES = ("bybit", "binance-spot", "binance-usdm")
Grids = Mapping[str, tuple[Decimal, Decimal]]


class Command(BaseCommand):
    help = (
        "Record the raw frames of a venue's symbols into rotating zstd files, until Ctrl-C: of Bybit (linear) books, "
        "trades, tickers and candles, of Binance books with their REST snapshots. Which exchange: the setting EXCHANGE."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--venue", choices=VENUES, required=True)
        parser.add_argument("--symbols", type=symbols, required=True, help="separated by commas: BTCUSDT,ETHUSDT")
        parser.add_argument("--seconds", type=positive, help="how long (default: until Ctrl-C)")
        parser.add_argument("--dir", type=Path, required=True, help="folder of the files; made when it is not there")
        size, minutes = settings.RECORD_FILE_MEGABYTES, settings.RECORD_FILE_MINUTES
        parser.add_argument(
            "--file-megabytes", type=positive, default=size, help=f"a new file after so many (default: {size})"
        )
        parser.add_argument(
            "--file-minutes", type=positive, default=minutes, help=f"a new file after so many (default: {minutes})"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        recorder = Recorder(
            options["dir"],
            options["venue"],
            most_bytes=int(options["file_megabytes"] * 2**20),
            most_seconds=options["file_minutes"] * 60,
        )
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                states = runner.run(record(options["venue"], options["symbols"], recorder, options["seconds"]))
        except VenueError as error:
            raise CommandError(f"{options['venue']} cannot be recorded: {error}") from None
        except OSError as error:
            raise CommandError(f"{options['dir']} cannot be written to: {error}") from None
        counts = recorder.counts
        if not counts["lines"]:
            raise CommandError(f"nothing was recorded: {options['venue']} could not be heard, or the disk not written")
        books = ", ".join(f"{number} {state}" for state, number in states.items() if number)
        self.stdout.write(
            f"{counts['lines']} lines, {counts['lost']} lost, {counts['bytes']} bytes in {counts['files']} files of "
            f"{options['dir']}; books at the end: {books}"
        )


@dataclass(frozen=True, slots=True)
class _Venue:
    """What is recorded: a feed, the grids of what it lists, and the stream and topic of a symbol's book."""

    feed: MarketFeed
    grids: Callable[[], Any]
    stream: Callable[[str, Decimal, Decimal], BookStream]
    topic: Callable[[str], str]
    close: Callable[[], Any]


def _bybit(recorder: Recorder) -> _Venue:
    endpoints = BybitEndpoints.of_environment(ENVIRONMENTS[settings.EXCHANGE], settings.SIMULATOR_URL)
    rest = BybitPublicRest(endpoints.rest, bybit_gate(endpoints.rest))

    async def grids() -> Grids:
        return {each.symbol: (each.tick_size, each.lot_size) for each in await rest.instruments("linear")}

    return _Venue(
        feed=bybit_feed(endpoints, rest, recorder.record),
        grids=grids,
        stream=lambda symbol, tick, lot: BookStream(symbol, SymbolBook(symbol, tick, lot, BOOK_DEPTH), None),
        topic=lambda symbol: f"orderbook.{BOOK_DEPTH}.{symbol}",
        close=rest.close,
    )


def _binance(market: str, recorder: Recorder) -> _Venue:
    rest_url, streams = binance_addresses(market)
    rest = BinanceRest(rest_url, MARKETS[market], binance_gate(rest_url))
    return _Venue(
        feed=binance_feed(streams, rest, recorder.record),
        grids=rest.grids,
        stream=lambda symbol, tick, lot: binance_book_stream(symbol, tick, lot, market),
        topic=depth_stream,
        close=rest.close,
    )


async def record(name: str, wanted: Sequence[str], recorder: Recorder, seconds: float | None) -> dict[str, int]:
    """Until a signal comes or the time is over; how many books are in each state then.

    The books are kept as an engine keeps them: so the recording holds the snapshots that bring them back.

    Raises:
        VenueError: it does not answer, or does not list a symbol.
        OSError: the folder cannot be made.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    venue = _bybit(recorder) if name == "bybit" else _binance(name.partition("-")[2], recorder)
    try:
        grids: Grids = await venue.grids()
        unknown = [symbol for symbol in wanted if symbol not in grids]
        if unknown:
            raise VenueError(f"it does not list {', '.join(unknown)}")
        books = VenueBooks(venue.feed, Backlog(), on_book=lambda market: None, on_event=_tell, tap=recorder.record)
        for symbol in wanted:
            books.add(venue.stream(symbol, *grids[symbol]), venue.topic(symbol))
        venue.feed.add(wanted)
        recorder.start(about({symbol: grids[symbol] for symbol in wanted}))
        tasks = [asyncio.create_task(books.run()), asyncio.create_task(stop.wait())]
        try:
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return books.states()
        finally:
            await end_tasks(tasks)
            await asyncio.to_thread(recorder.close)
    finally:
        await venue.close()


def _tell(event: FeedEvent) -> None:
    if event.kind is not FeedEventKind.SNAPSHOT_LOADED:
        log.info("%s %s %s %s", event.venue, event.symbol, event.kind.value, event.message)


def symbols(text: str) -> list[str]:
    named = list(dict.fromkeys(filter(None, text.split(","))))
    if not named:
        raise ArgumentTypeError("it names no symbol")
    return named


def positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number above 0")
    return number
