"""The market side of an engine: feeds in, books proven, events out to the pipeline and to the frames."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from marketdata.engine.book import SymbolBook
from marketdata.engine.sync import BookOutcome, BookState
from marketdata.events import Candle, Trade
from marketdata.feeds.bybit import BybitPublicFeed
from marketdata.feeds.bybit_messages import MessageError, TickerState, decode_klines, decode_trades
from marketdata.instruments import InstrumentRules
from trading.runtime.market_frames import SymbolMarket

log = logging.getLogger(__name__)

BOOK_DEPTH = 200
INTERVALS = ("1", "5", "15", "30", "60", "240")
# A book that heard nothing for this long is not proven any more.
STALE_SECONDS = 5.0


class MarketPlane:
    """``on_book``, ``on_trade`` and ``on_candle`` are called in the order of arrival, in the event loop."""

    def __init__(
        self,
        websocket: str,
        rules: Iterable[InstrumentRules],
        *,
        on_book: Callable[[SymbolMarket, int], None],
        on_trade: Callable[[Trade, int], None],
        on_candle: Callable[[Candle, int], None],
    ) -> None:
        self.markets: dict[str, SymbolMarket] = {}
        self._tickers: dict[str, TickerState] = {}
        for each in rules:
            book = SymbolBook(each.symbol, each.tick_size, each.lot_size, BOOK_DEPTH)
            ticker = self._tickers[each.symbol] = TickerState(each.symbol)
            self.markets[each.symbol] = SymbolMarket(each.symbol, book, ticker.ticker())
        self.connected = False
        self.counts = {"frames": 0, "book": 0, "gaps": 0, "refused": 0, "unreadable": 0}
        self._on_book, self._on_trade, self._on_candle = on_book, on_trade, on_candle
        self._feed = BybitPublicFeed(
            f"{websocket}/v5/public/linear", list(self._topics()), self._on_frame, self._on_state
        )

    def _topics(self) -> Iterable[str]:
        for symbol in self.markets:
            yield f"orderbook.{BOOK_DEPTH}.{symbol}"
            yield f"publicTrade.{symbol}"
            yield f"tickers.{symbol}"
            yield from (f"kline.{interval}.{symbol}" for interval in INTERVALS)

    async def run(self) -> None:
        watcher = asyncio.create_task(self._watch())
        try:
            await self._feed.run()
        finally:
            watcher.cancel()
            await self._feed.stop()

    def states(self) -> dict[str, int]:
        """How many books are in each state."""
        counted = dict.fromkeys((state.name for state in BookState), 0)
        for market in self.markets.values():
            counted[market.book.state.name] += 1
        return counted

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            oldest = time.time_ns() - int(STALE_SECONDS * 1e9)
            for market in self.markets.values():
                if market.book.state is BookState.LIVE and market.book.receive_ns < oldest:
                    market.book.mark_stale(f"no update for {STALE_SECONDS:g} s")
                    market.changed = True

    def _on_state(self, state: str, reason: str) -> None:
        self.connected = state == "subscribed" or (self.connected and state != "disconnected")
        log.info("market feed %s: %s", state, reason)
        if state == "disconnected":
            for market in self.markets.values():
                market.book.mark_disconnected(reason)
                market.changed = True

    def _on_frame(self, topic: str, frame: bytes, receive_ns: int) -> None:
        self.counts["frames"] += 1
        kind, _, rest = topic.partition(".")
        market = self.markets.get(rest.rpartition(".")[2])
        if market is None:
            return
        try:
            if kind == "orderbook":
                self._book_frame(market, topic, frame, receive_ns)
            elif kind == "publicTrade":
                self._trade_frame(market, frame, receive_ns)
            elif kind == "tickers":
                market.ticker = self._tickers[market.symbol].update(frame)
                market.changed = True
            elif kind == "kline":
                self._candle_frame(market, frame, receive_ns)
        except MessageError as error:
            self.counts["unreadable"] += 1
            log.warning("%s: unreadable frame: %s: %r", topic, error, frame[:200])

    def _book_frame(self, market: SymbolMarket, topic: str, frame: bytes, receive_ns: int) -> None:
        self.counts["book"] += 1
        outcome = market.book.on_frame(frame, receive_ns)
        market.changed = True
        if outcome is BookOutcome.GAP or outcome is BookOutcome.REFUSED:
            self.counts["gaps" if outcome is BookOutcome.GAP else "refused"] += 1
            log.warning("%s: %s; asking for a new snapshot", topic, market.book.state_reason)
            self._later(self._feed.resubscribe(topic))
        elif market.book.state is BookState.BROKEN:
            self._later(self._feed.resubscribe(topic))
        elif market.book.state is BookState.LIVE:
            self._on_book(market, receive_ns)

    def _trade_frame(self, market: SymbolMarket, frame: bytes, receive_ns: int) -> None:
        for trade in decode_trades(frame, receive_ns):
            market.trades.append(trade)
            # The features of flow and toxicity are made of them.
            market.book.on_trade(trade.venue_ns, trade.price, trade.quantity, trade.side)
            self._on_trade(trade, receive_ns)
        market.changed = True

    def _candle_frame(self, market: SymbolMarket, frame: bytes, receive_ns: int) -> None:
        for candle in decode_klines(frame):
            market.candles[candle.interval] = candle
            self._on_candle(candle, receive_ns)
        market.changed = True

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
