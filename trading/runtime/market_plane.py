"""The market side of an engine: feeds in, books proven, events out to the pipeline and to the frames."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.engine import sources
from marketdata.engine.batch import Taken
from marketdata.engine.book import SymbolBook
from marketdata.engine.sources import BookSource
from marketdata.events import Candle, FeedEvent, Trade
from marketdata.feeds.binance import depth_stream
from marketdata.feeds.bybit_messages import MessageError, TickerState, decode_klines, decode_trades
from marketdata.feeds.protocol import MarketFeed, Tap
from marketdata.instruments import InstrumentRules
from trading.runtime.book_stream import BookStream
from trading.runtime.frame_turn import FrameTurn
from trading.runtime.market_frames import SymbolMarket
from trading.runtime.venue_books import TellBook, VenueBooks

log = logging.getLogger(__name__)

BOOK_DEPTH = 200
INTERVALS = ("1", "5", "15", "30", "60", "240")
# What the other books are correlated with.
REFERENCE_SYMBOL = "BTCUSDT"
CLOSED_CANDLE = b'"confirm":true'


def bybit_topics(symbols: Iterable[str]) -> list[str]:
    """All that a plane wants to hear of some symbols."""
    topics = []
    for symbol in symbols:
        topics += [f"orderbook.{BOOK_DEPTH}.{symbol}", f"publicTrade.{symbol}", f"tickers.{symbol}"]
        topics += [f"kline.{interval}.{symbol}" for interval in INTERVALS]
    return topics


class MarketPlane:
    """``on_book``, ``on_trade`` and ``on_candle`` are called in the order of arrival, in the event loop. A book's view
    is only made when it is asked for, during the call.

    ``scheduled`` False: what arrives is taken by :meth:`take` alone (replays).
    """

    def __init__(
        self,
        rules: Iterable[InstrumentRules],
        *,
        on_book: TellBook,
        on_trade: Callable[[Trade, int], None],
        on_candle: Callable[[Candle, int], None],
        on_event: Callable[[FeedEvent], None] = lambda event: None,
        tap: Tap | None = None,
        scheduled: bool = True,
    ) -> None:
        self._on_book, self._on_trade, self._on_candle, self._on_event = on_book, on_trade, on_candle, on_event
        self._tap = tap
        self._rules = {each.symbol: each for each in rules}
        self._tickers = {symbol: TickerState(symbol) for symbol in self._rules}
        self.markets: dict[str, SymbolMarket] = {}
        for each in self._rules.values():
            book = SymbolBook(each.symbol, each.tick_size, each.lot_size, BOOK_DEPTH)
            self.markets[each.symbol] = SymbolMarket(each.symbol, book, self._tickers[each.symbol].ticker())
        self.venues: dict[str, VenueBooks] = {}
        self._venue_of: dict[BookStream, VenueBooks] = {}
        self._turn = FrameTurn(self._tell_book, scheduled=scheduled)

    def follow_bybit(self, feed: MarketFeed) -> None:
        """Books, trades, tickers and candles of the markets themselves."""
        streams = [BookStream(symbol, market.book, market, by_rest=False) for symbol, market in self.markets.items()]
        venue = self._follow(feed, streams)
        self._turn.shared_books = frozenset(stream for stream in streams if stream.symbol == REFERENCE_SYMBOL)
        for stream in streams:
            market, symbol = self.markets[stream.symbol], stream.symbol
            venue.route_book(f"orderbook.{BOOK_DEPTH}.{symbol}", stream)
            venue.route(f"publicTrade.{symbol}", partial(self._trade_frame, venue, stream, market))
            venue.route(f"tickers.{symbol}", partial(self._ticker_frame, venue, market))
            for interval in INTERVALS:
                take = partial(self._candle_frame, venue, market, (symbol, interval))
                venue.route(f"kline.{interval}.{symbol}", take)
        self._compare()

    def follow_binance(self, feed: MarketFeed, symbols: Iterable[str]) -> None:
        """Books of the same instruments at Binance, which ours are compared with."""
        spot = feed.name.endswith(" spot")
        streams = []
        for symbol in symbols:
            rules, stream_name = self._rules[symbol], depth_stream(symbol)
            source: BookSource
            source = sources.binance_spot(symbol, stream_name) if spot else sources.binance_futures(symbol, stream_name)
            book = SymbolBook(symbol, rules.tick_size, rules.lot_size, source=source)
            streams.append(BookStream(symbol, book, None, by_rest=True))
        venue = self._follow(feed, streams)
        for stream in streams:
            venue.route_book(depth_stream(stream.symbol), stream)
            self.markets[stream.symbol].elsewhere = (feed.name, stream.book)
        self._compare()

    async def run(self) -> None:
        await asyncio.gather(*(venue.run() for venue in self.venues.values()))

    def take(self) -> None:
        """Take everything that has arrived, now."""
        self._turn.take()

    def status(self) -> dict[str, dict[str, Any]]:
        """The figures of each feed."""
        return {name: venue.status() for name, venue in self.venues.items()}

    @property
    def turn_counts(self) -> dict[str, int]:
        return self._turn.counts

    def _follow(self, feed: MarketFeed, streams: list[BookStream]) -> VenueBooks:
        venue = VenueBooks(feed, streams, self._turn, on_book=self._on_book, on_event=self._on_event, tap=self._tap)
        self.venues[feed.name] = venue
        self._venue_of |= dict.fromkeys(streams, venue)
        return venue

    def _compare(self) -> None:
        reference = self.markets.get(REFERENCE_SYMBOL)
        for symbol, market in self.markets.items():
            other = market.elsewhere[1] if market.elsewhere is not None else None
            market.book.compare_with(reference.book if reference and symbol != REFERENCE_SYMBOL else None, other)

    def _tell_book(
        self,
        stream: BookStream,
        taken: Taken,
        row: NDArray[np.float64],
        frame: bytes,
        receive_ns: int,
        is_stale: bool,
    ) -> None:
        self._venue_of[stream].tell_book(stream, taken, row, frame, receive_ns, is_stale)

    def _trade_frame(
        self, venue: VenueBooks, stream: BookStream, market: SymbolMarket, frame: bytes, receive_ns: int
    ) -> None:
        try:
            trades = decode_trades(frame, receive_ns)
        except MessageError as error:
            _unreadable(venue, error, frame)
            return

        def tell() -> None:
            for trade in trades:
                market.trades.append(trade)
                self._on_trade(trade, receive_ns)
            market.changed = True

        if trades:
            self._turn.add_trades(stream, trades, tell)

    def _ticker_frame(self, venue: VenueBooks, market: SymbolMarket, frame: bytes, receive_ns: int) -> None:
        def tell() -> None:
            try:
                market.ticker = self._tickers[market.symbol].update(frame)
                market.changed = True
            except MessageError as error:
                _unreadable(venue, error, frame)

        self._turn.add(tell, receive_ns)

    def _candle_frame(
        self, venue: VenueBooks, market: SymbolMarket, key: tuple[str, str], frame: bytes, receive_ns: int
    ) -> None:
        def tell() -> None:
            try:
                for candle in decode_klines(frame):
                    market.candles[candle.interval] = candle
                    self._on_candle(candle, receive_ns)
                market.changed = True
            except MessageError as error:
                _unreadable(venue, error, frame)

        self._turn.add(tell, receive_ns, None if CLOSED_CANDLE in frame else key)


def _unreadable(venue: VenueBooks, error: MessageError, frame: bytes) -> None:
    venue.counts["unreadable"] += 1
    log.warning("%s: unreadable frame: %s: %r", venue.feed.name, error, frame[:200])
