"""What an engine would have heard: recorded lines through its market plane, the same books, features and order of
events as live, and bars of the trades where the recording has none of the venue's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from marketdata.events import Candle, Trade
from marketdata.feeds.recorded import RECEIVED, RecordedFrame
from marketdata.instruments import InstrumentRules
from trading.backtest.markets import NEVER
from trading.backtest.trade_bars import TradeBars
from trading.runtime.market_frames import SymbolMarket
from trading.runtime.market_plane import MarketPlane
from trading.runtime.plane_replay import PlaneReplay, SilentFeed

NS = 1_000_000
BOOK_TOPIC = b'"topic":"orderbook.'
TOPIC_WITHIN = 64
News = Callable[[], None]


class Hearing:
    """Give it line after line with :meth:`take`; what there is to tell then comes from :meth:`news`, to be called in
    that order. Nothing is told within ``take``: whoever is told may raise.

    Args:
        rules: of all symbols that are followed.
        bars: symbol and interval of the bars that are wanted; ``kept`` of these stay in ``TradeBars.closed``.
        with_books: False where only trades count.
    """

    def __init__(
        self,
        rules: Iterable[InstrumentRules],
        *,
        on_book: Callable[[SymbolMarket], None],
        on_trade: Callable[[Trade], None],
        on_candle: Callable[[Candle], None],
        on_price: Callable[[str, Decimal], None],
        bars: Iterable[tuple[str, str]],
        kept: frozenset[tuple[str, str]] = frozenset(),
        with_books: bool = True,
    ) -> None:
        self._on_trade, self._on_candle = on_trade, on_candle
        self._with_books = with_books
        self._wanted, self._kept = tuple(bars), kept
        self.bars: dict[tuple[str, str], TradeBars] = {}
        self._bars_of: dict[str, list[TradeBars]] = {}
        self._of_venue: set[tuple[str, str]] = set()
        self._due_ms = 0
        self._news: list[News] = []
        self.plane = MarketPlane(
            rules,
            on_book=lambda market: self._news.append(lambda: on_book(market)),
            on_trade=lambda trade, receive_ns: self.trade(trade),
            on_candle=lambda candle, receive_ns: self._candle(candle),
            on_price=lambda symbol, price, receive_ns: self._news.append(lambda: on_price(symbol, price)),
        )
        self.plane.follow_bybit(SilentFeed("bybit linear"))
        self._lines = PlaneReplay(self.plane)

    def take(self, line: RecordedFrame | Trade) -> None:
        now_ms = line.receive_ns // NS
        if not self.bars:
            self._begin(now_ms)
        if now_ms >= self._due_ms:
            self._close_bars(now_ms)
        if isinstance(line, Trade):
            self.trade(line)
        elif self._with_books or line.kind != RECEIVED or BOOK_TOPIC not in line.data[:TOPIC_WITHIN]:
            self._lines.take(line)

    def news(self) -> list[News]:
        """What is to be told of the last line."""
        told, self._news = self._news, []
        return told

    def trade(self, trade: Trade) -> None:
        for bars in self._bars_of.get(trade.symbol, ()):
            for candle in bars.add(trade):
                self._bar(bars, candle)
        self._news.append(lambda: self._on_trade(trade))

    def _begin(self, now_ms: int) -> None:
        for symbol, interval in self._wanted:
            key = symbol, interval
            bars = self.bars[key] = TradeBars(symbol, interval, now_ms, keeps=key in self._kept)
            self._bars_of.setdefault(symbol, []).append(bars)
        self._due_ms = min((each.due_ms for each in self.bars.values()), default=NEVER)

    def _close_bars(self, now_ms: int) -> None:
        for bars in self.bars.values():
            for candle in bars.until(now_ms):
                self._bar(bars, candle)
        self._due_ms = min((each.due_ms for each in self.bars.values()), default=NEVER)

    def _bar(self, bars: TradeBars, candle: Candle) -> None:
        # The venue's own are what an engine is told.
        if (bars.symbol, bars.interval) not in self._of_venue:
            self._news.append(lambda: self._on_candle(candle))

    def _candle(self, candle: Candle) -> None:
        self._of_venue.add((candle.symbol, candle.interval))
        self._news.append(lambda: self._on_candle(candle))
