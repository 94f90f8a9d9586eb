"""What can be listened to: one object for each stream while somebody does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from trading.simulator.binance import klines
from trading.simulator.binance.instrument import Instrument
from trading.simulator.binance.products import Futures, Product, Row
from trading.simulator.binance.tape import NumberedTrade, aggregated
from trading.simulator.markets import Liquidation

PARTIAL_LEVELS = (5, 10, 20)
IMMEDIATE = 0
Message = Row | list[Row]
MARKET_TIER = ("aggTrade", "kline_", "markPrice", "miniTicker", "ticker", "forceOrder")
EVERY_BOOK_TICKER_MS = 5_000
EVERY_TICKER_MS = 1_000
FORCE_ORDER_MS = 1_000


Tell = Callable[[Product, Instrument, int], Row]


class Stream:
    """``speed_ms`` lie between two messages; IMMEDIATE ones speak with every change. ``instrument`` is the one that it
    is about; the streams of a whole market have any."""

    def __init__(self, speed_ms: int, product: Product, instrument: Instrument) -> None:
        self.speed_ms, self.product, self.instrument = speed_ms, product, instrument


class TimedStream(Stream, ABC):
    """Asked at its speed. ``reads_book`` says that its instrument's ledger has to be up to date then."""

    reads_book = True

    @abstractmethod
    def messages(self, now_ms: int) -> Iterable[Message]:
        """What there is to say now."""


class TradeStream(Stream, ABC):
    @abstractmethod
    def messages(self, trades: Sequence[NumberedTrade], now_ms: int) -> Iterable[Row]:
        """What there is to say of new trades, oldest first."""


class DiffDepth(TimedStream):
    """``depth``: the levels that changed. Its window of the ledger is opened and cut by whoever runs the streams."""

    def messages(self, now_ms: int) -> Iterable[Row]:
        changes = self.instrument.ledger.collected(self.speed_ms)
        return [self.product.diff(self.instrument, changes, now_ms)] if changes else []


class PartialDepth(TimedStream):
    """``depth5``, ``depth10``, ``depth20``: the best levels, where anything changed."""

    def __init__(self, levels: int, speed_ms: int, product: Product, instrument: Instrument) -> None:
        super().__init__(speed_ms, product, instrument)
        self._levels, self._told = levels, -1

    def messages(self, now_ms: int) -> Iterable[Row]:
        count = self.instrument.ledger.count
        if count == self._told:
            return []
        self._told = count
        return [self.product.partial(self.instrument, self._levels, now_ms)]


class BookTicker(TimedStream):
    """``bookTicker``: the best prices and quantities, when one of them changed."""

    def __init__(self, product: Product, instrument: Instrument) -> None:
        super().__init__(IMMEDIATE, product, instrument)
        self._told = self._best()

    def messages(self, now_ms: int) -> Iterable[Row]:
        best = self._best()
        if best == self._told:
            return []
        self._told = best
        return [self.product.book_ticker(self.instrument, now_ms)]

    def _best(self) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        ledger = self.instrument.ledger
        return next(iter(ledger.bids.items()), None), next(iter(ledger.asks.items()), None)


class Klines(TimedStream):
    """``kline_<interval>``: the open bar where it changed, and each bar's end once."""

    reads_book = False

    def __init__(self, interval: str, product: Product, instrument: Instrument) -> None:
        super().__init__(product.KLINE_MS, product, instrument)
        self._interval = interval
        self._told: klines.Kline | None = None

    def messages(self, now_ms: int) -> Iterable[Row]:
        figures, symbol = self.product.figures(self.instrument), self.instrument.symbol
        *before, current = klines.newest(self.instrument, figures, self._interval, 2)
        told, self._told = self._told, current
        if told is not None and before and before[-1].start_ms == told.start_ms:
            yield before[-1].event(symbol, self._interval, closed=True, now_ms=now_ms)
        if current != told:
            yield current.event(symbol, self._interval, closed=False, now_ms=now_ms)


class MarkPrice(TimedStream):
    reads_book = False

    def messages(self, now_ms: int) -> Iterable[Row]:
        return [self.product.mark_price(self.instrument, now_ms)]


class EveryMarkPrice(TimedStream):
    """``!markPrice@arr``"""

    reads_book = False

    def messages(self, now_ms: int) -> Iterable[Message]:
        return [[self.product.mark_price(each, now_ms) for each in self.product.instruments.values()]]


class Tickers(TimedStream):
    """``ticker`` and ``miniTicker``: the statistics of 24 hours, after new trades."""

    reads_book = False

    def __init__(self, tell: Tell, product: Product, instrument: Instrument) -> None:
        super().__init__(product.TICKER_MS, product, instrument)
        self._tell, self._told = tell, -1

    def messages(self, now_ms: int) -> Iterable[Message]:
        newest = self.instrument.tape.last_id
        if newest == self._told:
            return []
        self._told = newest
        return [self._tell(self.product, self.instrument, now_ms)]


class EveryTicker(TimedStream):
    """``!ticker@arr`` and ``!miniTicker@arr``: one message with those that changed."""

    reads_book = False

    def __init__(self, tell: Tell, product: Product, instrument: Instrument) -> None:
        super().__init__(EVERY_TICKER_MS, product, instrument)
        self._tell = tell
        self._told: dict[str, int] = {}

    def messages(self, now_ms: int) -> Iterable[Message]:
        newest = {symbol: each.tape.last_id for symbol, each in self.product.instruments.items()}
        changed = [symbol for symbol, last_id in newest.items() if self._told.get(symbol) != last_id]
        self._told = newest
        rows = [self._tell(self.product, self.product.instruments[symbol], now_ms) for symbol in changed]
        return [rows] if rows else []


class EveryBookTicker(TimedStream):
    """``!bookTicker``: of each instrument a message of its own, when its best prices changed."""

    reads_book = False

    def __init__(self, product: Product, instrument: Instrument) -> None:
        super().__init__(EVERY_BOOK_TICKER_MS, product, instrument)
        self._streams = [BookTicker(product, each) for each in product.instruments.values()]

    def messages(self, now_ms: int) -> Iterable[Message]:
        for stream in self._streams:
            stream.instrument.ledger.refresh()
            yield from stream.messages(now_ms)


class ForceOrders(TimedStream):
    """``forceOrder`` and ``!forceOrder@arr``: the last liquidation of each instrument within a second."""

    reads_book = False

    def __init__(self, symbol: str | None, product: Futures, instrument: Instrument) -> None:
        super().__init__(FORCE_ORDER_MS, product, instrument)
        self._futures, self._symbol = product, symbol
        self._waiting: dict[str, Liquidation] = {}

    def take(self, liquidation: Liquidation) -> None:
        if self._symbol in (None, liquidation.symbol):
            self._waiting[liquidation.symbol] = liquidation

    def messages(self, now_ms: int) -> Iterable[Message]:
        waiting, self._waiting = self._waiting, {}
        instruments = self.product.instruments
        return [self._futures.force_order(instruments[each.symbol], each, now_ms) for each in waiting.values()]


class Trades(TradeStream):
    def messages(self, trades: Sequence[NumberedTrade], now_ms: int) -> Iterable[Row]:
        return [self.product.trade(self.instrument, trade, now_ms) for trade in trades]


class AggregateTrades(TradeStream):
    def messages(self, trades: Sequence[NumberedTrade], now_ms: int) -> Iterable[Row]:
        return [self.product.aggregate(self.instrument, trade, now_ms) for trade in aggregated(trades)]


Factory = Callable[[Product, Instrument], Stream]


def catalogue(product: Product) -> dict[str, Factory]:
    """Every stream of a symbol by what follows the "@" in its name."""
    factories: dict[str, Factory] = {"bookTicker": BookTicker, "aggTrade": partial(AggregateTrades, IMMEDIATE)}
    for suffix, speed_ms in product.DEPTH_SPEEDS.items():
        factories[f"depth{suffix}"] = partial(DiffDepth, speed_ms)
        for levels in PARTIAL_LEVELS:
            factories[f"depth{levels}{suffix}"] = partial(PartialDepth, levels, speed_ms)
    for interval in klines.INTERVALS:
        factories[f"kline_{interval}"] = partial(Klines, interval)
    for suffix, speed_ms in product.MARK_PRICE_SPEEDS.items():
        factories[f"markPrice{suffix}"] = partial(MarkPrice, speed_ms)
    factories["trade"] = partial(Trades, IMMEDIATE)
    factories["ticker"] = partial(Tickers, type(product).ticker)
    factories["miniTicker"] = partial(Tickers, type(product).mini_ticker)
    if isinstance(product, Futures):
        factories["forceOrder"] = lambda _, instrument: ForceOrders(instrument.symbol, product, instrument)
    return factories


def market_catalogue(product: Product) -> dict[str, Factory]:
    """Every stream of all symbols by its name."""
    factories: dict[str, Factory] = {
        "!ticker@arr": partial(EveryTicker, type(product).ticker),
        "!miniTicker@arr": partial(EveryTicker, type(product).mini_ticker),
    }
    for suffix, speed_ms in product.MARK_PRICE_SPEEDS.items():
        factories[f"!markPrice@arr{suffix}"] = partial(EveryMarkPrice, speed_ms)
    if isinstance(product, Futures):
        factories["!bookTicker"] = EveryBookTicker
        factories["!forceOrder@arr"] = lambda _, instrument: ForceOrders(None, product, instrument)
    return factories


def tier(name: str) -> str:
    """Under which of the futures' addresses a stream is served: "public" or "market"."""
    kind = name[1:] if name.startswith("!") else name.partition("@")[2]
    return "market" if kind.startswith(MARKET_TIER) else "public"
