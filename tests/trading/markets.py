"""A simulated exchange of this process and a market plane that listens to it over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import web

from marketdata.events import BookView, Candle, FeedEvent, FeedEventKind, Trade
from marketdata.feeds.binance import BinanceFeed
from marketdata.feeds.binance_addresses import SIMULATED_STREAMS
from marketdata.feeds.binance_rest import MARKETS, BinanceRest
from marketdata.feeds.bybit import BybitPublicFeed
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.protocol import Tap
from marketdata.instruments import InstrumentRules, rules_from_bybit
from trading.pipeline import Outcome, Pipeline, PipelineResult
from trading.runtime.market_frames import SymbolMarket
from trading.runtime.market_plane import MarketPlane, bybit_topics
from trading.simulator.binance.side import BinanceSide
from trading.simulator.clerk import Clerk
from trading.simulator.faults.rules import Known, rules_of
from trading.simulator.instruments import INSTRUMENTS
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.rest import ENDPOINTS, MAX_BODY, RestApi
from trading.simulator.server import BINANCE_ENDPOINTS
from trading.simulator.signatures import Authority
from trading.simulator.venue import Venue
from trading.simulator.websockets import Websockets

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def rules() -> list[InstrumentRules]:
    return [rules_from_bybit(each.listing(), "linear") for each in INSTRUMENTS if each.symbol in SYMBOLS]


@dataclass
class Exchange:
    """``url`` serves Bybit and Binance; the market moves by itself."""

    venue: Venue
    binance: BinanceSide
    url: str

    def fault(self, **rule: Any) -> None:
        known = Known(ENDPOINTS | BINANCE_ENDPOINTS, frozenset(DEMO_KEYS))
        self.venue.faults.add(rules_of(rule, known))

    def calm(self) -> None:
        self.venue.faults.clear()


@asynccontextmanager
async def exchange(seed: int = 7, **binance: Any) -> AsyncIterator[Exchange]:
    venue = Venue(DEMO_KEYS, seed=seed, symbols=2, fault_seed=seed)
    application, authority, clerk = web.Application(client_max_size=MAX_BODY), Authority(DEMO_KEYS), Clerk(venue)
    RestApi(venue, authority, clerk).register(application)
    Websockets(venue, authority, clerk).register(application)
    side = BinanceSide(venue, **binance)
    side.register(application)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    running = asyncio.create_task(venue.run())
    try:
        yield Exchange(venue, side, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        venue.hub.disconnect_all()
        await runner.cleanup()


@dataclass
class Heard:
    """Everything that a plane tells, in its order. ``happened`` is set with each."""

    views: list[BookView] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    candles: list[Candle] = field(default_factory=list)
    events: list[FeedEvent] = field(default_factory=list)
    order: list[tuple[Any, ...]] = field(default_factory=list)
    # Decides on what is heard, where given; what it decided is in ``order``.
    pipeline: Pipeline | None = None
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def book(self, market: SymbolMarket) -> None:
        seen = market.book.view()
        self.views.append(seen)
        self.order.append(("book", seen.symbol, seen.update_id, seen.best_bid, seen.best_ask, seen.features.tobytes()))
        if self.pipeline is not None:
            if market.reference_price is not None:
                self.pipeline.update_reference_price(seen.symbol, market.reference_price)
            self.decided(self.pipeline.on_book(seen))
        self.happened.set()

    def decided(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            assert isinstance(outcome, PipelineResult), outcome
            self.order.append(("signal", outcome.signal, outcome.intent, outcome.decision, outcome.trace_id))

    def trade(self, trade: Trade, receive_ns: int) -> None:
        self.trades.append(trade)
        self.order.append(("trade", trade))
        if self.pipeline is not None:
            self.decided(self.pipeline.on_trade(trade))
        self.happened.set()

    def candle(self, candle: Candle, receive_ns: int) -> None:
        self.candles.append(candle)
        self.order.append(("candle", candle))
        if self.pipeline is not None:
            self.decided(self.pipeline.on_candle(candle))
        self.happened.set()

    def event(self, event: FeedEvent) -> None:
        self.events.append(event)
        self.happened.set()

    def kinds(self, symbol: str | None = None) -> list[FeedEventKind]:
        return [event.kind for event in self.events if symbol is None or event.symbol == symbol]

    def feature_rows(self, symbol: str) -> np.ndarray:
        return np.array([view.features for view in self.views if view.symbol == symbol])

    async def until(self, condition: Callable[[], Any], seconds: float = 30.0) -> None:
        """Until something that was told makes the condition true."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.happened.clear()
                await self.happened.wait()


def plane_of(heard: Heard, *, tap: Tap | None = None) -> MarketPlane:
    return MarketPlane(
        rules(),
        on_book=heard.book,
        on_trade=heard.trade,
        on_candle=heard.candle,
        on_event=heard.event,
        tap=tap,
    )


@asynccontextmanager
async def listening(
    exchange: Exchange, heard: Heard, *, tap: Tap | None = None, binance: str = "usdm"
) -> AsyncIterator[MarketPlane]:
    """A plane that follows both venues; it ends with the block."""
    plane = plane_of(heard, tap=tap)
    rest = BybitPublicRest(exchange.url)
    socket = exchange.url.replace("http", "ws", 1)
    plane.follow_bybit(BybitPublicFeed(f"{socket}/v5/public/linear", bybit_topics, rest, tap=tap))
    streams = socket + SIMULATED_STREAMS[binance]
    plane.follow_binance(BinanceFeed(streams, SYMBOLS, BinanceRest(exchange.url, MARKETS[binance]), tap=tap), SYMBOLS)
    running = asyncio.create_task(plane.run())
    try:
        yield plane
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await rest.close()


def all_live(plane: MarketPlane) -> bool:
    return all(stream.state.name == "LIVE" for venue in plane.venues.values() for stream in venue.streams.values())
