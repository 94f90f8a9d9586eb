"""The market side of an engine: feeds in, books proven, events out to the pipeline and to the frames."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.engine.book import SymbolBook
from marketdata.engine.sync import BookState
from marketdata.events import Candle, FeedEvent, Trade
from marketdata.feeds.binance import depth_stream
from marketdata.feeds.bybit_messages import MessageError, TickerState, decode_klines, decode_trades
from marketdata.feeds.protocol import MarketFeed, Tap
from marketdata.instruments import InstrumentRules
from risk.slippage import BookSide
from trading.runtime.backlog import Backlog
from trading.runtime.book_stream import BookStream, binance_book_stream
from trading.runtime.detection_watch import DetectionWatch
from trading.runtime.market_frames import SymbolMarket
from trading.runtime.venue_books import VenueBooks

log = logging.getLogger(__name__)

BOOK_DEPTH = 200
INTERVALS = ("1", "5", "15", "30", "60", "240")
# What the other books are correlated with.
REFERENCE_SYMBOL = "BTCUSDT"
CLOSED_CANDLE = b'"confirm":true'


def bybit_topics(symbol: str) -> list[str]:
    """All that a plane wants to hear of a symbol."""
    kinds = (f"orderbook.{BOOK_DEPTH}", "publicTrade", "tickers", *(f"kline.{interval}" for interval in INTERVALS))
    return [f"{kind}.{symbol}" for kind in kinds]


class MarketPlane:
    """``on_book``, ``on_trade`` and ``on_candle`` are called in the event loop, as soon as what they tell of arrives;
    while the loop is behind, of views of books and open candles the newest alone (see ``trading.runtime.backlog``).
    ``on_price`` is called when a mark price has changed, whatever its book is.

    ``watch`` looks at the markets' books; its owner runs it.
    """

    def __init__(
        self,
        rules: Iterable[InstrumentRules],
        *,
        on_book: Callable[[SymbolMarket], None],
        on_trade: Callable[[Trade, int], None],
        on_candle: Callable[[Candle, int], None],
        on_event: Callable[[FeedEvent], None] = lambda event: None,
        on_price: Callable[[str, Decimal, int], None] = lambda symbol, price, receive_ns: None,
        watch: DetectionWatch | None = None,
        tap: Tap | None = None,
    ) -> None:
        self._on_book, self._on_trade, self._on_candle, self._on_event = on_book, on_trade, on_candle, on_event
        self._on_price = on_price
        self._watch, self._tap = watch, tap
        self._rules: dict[str, InstrumentRules] = {}
        self._tickers: dict[str, TickerState] = {}
        self.markets: dict[str, SymbolMarket] = {}
        self.venues: dict[str, VenueBooks] = {}
        self._bybit: VenueBooks | None = None
        self._binance: VenueBooks | None = None
        self._binance_symbols: frozenset[str] = frozenset()
        self.backlog = Backlog(tap)
        self.add(rules)

    def add(self, rules: Iterable[InstrumentRules]) -> None:
        """Follow more symbols, at any time: each begins with a snapshot of its own."""
        new = [each for each in rules if each.symbol not in self.markets]
        for each in new:
            book = SymbolBook(each.symbol, each.tick_size, each.lot_size, BOOK_DEPTH)
            ticker = self._tickers[each.symbol] = TickerState(each.symbol)
            self._rules[each.symbol] = each
            market = self.markets[each.symbol] = SymbolMarket(each.symbol, book, ticker.ticker())
            if self._watch is not None:
                self._watch.begin(market)
        symbols = [each.symbol for each in new]
        if self._bybit is not None:
            self._begin_bybit(self._bybit, symbols)
        if self._binance is not None:
            self._begin_binance(self._binance, symbols)
        self._compare()

    def remove(self, symbols: Iterable[str]) -> None:
        """Follow these no more; frames that are still on their way are dropped."""
        known = [symbol for symbol in symbols if symbol in self.markets]
        self.backlog.tick(behind=False)
        for venue in self.venues.values():
            venue.remove(known)
        for symbol in known:
            if self._watch is not None:
                self._watch.end(symbol)
            del self.markets[symbol], self._tickers[symbol], self._rules[symbol]
        self._compare()

    def follow_bybit(self, feed: MarketFeed) -> None:
        """Books, trades, tickers and candles of the markets themselves."""
        self._bybit = self._follow(feed)
        self._begin_bybit(self._bybit, list(self.markets))
        self._compare()

    def follow_binance(self, feed: MarketFeed, symbols: Iterable[str]) -> None:
        """Books of the same instruments at Binance, which ours are compared with, as far as we follow them."""
        self._binance_symbols = frozenset(symbols)
        self._binance = self._follow(feed)
        self._begin_binance(self._binance, list(self.markets))
        self._compare()

    def _begin_bybit(self, venue: VenueBooks, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            market = self.markets[symbol]
            stream = BookStream(symbol, market.book, market)
            venue.add(stream, f"orderbook.{BOOK_DEPTH}.{symbol}")
            venue.route(symbol, f"publicTrade.{symbol}", partial(self._trade_frame, venue, market))
            venue.route(symbol, f"tickers.{symbol}", partial(self._ticker_frame, venue, market))
            for interval in INTERVALS:
                take = partial(self._candle_frame, venue, market, (symbol, interval))
                venue.route(symbol, f"kline.{interval}.{symbol}", take)
        venue.feed.add(symbols)

    def _begin_binance(self, venue: VenueBooks, symbols: Sequence[str]) -> None:
        wanted = [symbol for symbol in symbols if symbol in self._binance_symbols]
        for symbol in wanted:
            rules = self._rules[symbol]
            stream = binance_book_stream(symbol, rules.tick_size, rules.lot_size, venue.market_type)
            venue.add(stream, depth_stream(symbol))
            self.markets[symbol].elsewhere = (venue.feed.name, stream.book)
        venue.feed.add(wanted)

    async def run(self) -> None:
        """Until cancelled. When one venue's feed fails, all end: whoever starts them again must find none running."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.backlog.watch())
            for venue in self.venues.values():
                group.create_task(venue.run())

    # What is asked about a market, by whoever decides on it.

    def proven(self, symbol: str) -> bool:
        """Whether its book is LIVE."""
        market = self.markets.get(symbol)
        return market is not None and market.state is BookState.LIVE

    def book_side(self, symbol: str, side: str) -> BookSide | None:
        """What a market order of a side would take; None while the book is not proven."""
        if not self.proven(symbol):
            return None
        book = self.markets[symbol].book
        bid, ask = book.best_bid_ticks, book.best_ask_ticks
        if bid is None or ask is None:
            return None
        levels = book.asks(BOOK_DEPTH) if side == "Buy" else book.bids(BOOK_DEPTH)
        return BookSide(levels, book.tick_size, book.lot_size, (bid + ask) * book.tick_size / 2)

    def features(self, symbol: str) -> NDArray[np.float64] | None:
        """The features of its book now; None while it is not proven."""
        return self.markets[symbol].book.features() if self.proven(symbol) else None

    async def status(self) -> dict[str, dict[str, Any]]:
        """The figures of each feed."""
        return {name: await venue.status() for name, venue in self.venues.items()}

    def _follow(self, feed: MarketFeed) -> VenueBooks:
        venue = VenueBooks(feed, self.backlog, on_book=self._on_book, on_event=self._on_event, tap=self._tap)
        self.venues[feed.name] = venue
        return venue

    def _compare(self) -> None:
        reference = self.markets.get(REFERENCE_SYMBOL)
        for symbol, market in self.markets.items():
            other = market.elsewhere[1] if market.elsewhere is not None else None
            market.book.compare_with(reference.book if reference and symbol != REFERENCE_SYMBOL else None, other)

    def _trade_frame(self, venue: VenueBooks, market: SymbolMarket, frame: bytes, receive_ns: int) -> None:
        try:
            trades = decode_trades(frame, receive_ns)
        except MessageError as error:
            _unreadable(venue, error, frame)
            return
        for trade in trades:
            market.book.on_trade(trade.venue_ns, trade.price, trade.quantity, trade.side)
        for trade in trades:
            market.trades.append(trade)
            self._on_trade(trade, receive_ns)
        market.changed = True

    def _ticker_frame(self, venue: VenueBooks, market: SymbolMarket, frame: bytes, receive_ns: int) -> None:
        # Never left out: what one changes, the next does not repeat.
        before = market.reference_price
        try:
            market.ticker = self._tickers[market.symbol].update(frame)
            market.changed = True
        except MessageError as error:
            _unreadable(venue, error, frame)
            return
        price = market.reference_price
        if price is not None and price != before:
            self._on_price(market.symbol, price, receive_ns)

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

        if CLOSED_CANDLE in frame:
            self.backlog.tell_now(key, tell)
        else:
            self.backlog.tell(key, tell)


def _unreadable(venue: VenueBooks, error: MessageError, frame: bytes) -> None:
    venue.counts["unreadable"] += 1
    log.warning("%s: unreadable frame: %s: %r", venue.feed.name, error, frame[:200])
