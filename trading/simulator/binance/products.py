"""Spot and USD-M futures: what differs between their payloads, speeds and limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar

from trading.simulator.binance.instrument import Figures, Instrument
from trading.simulator.binance.ledger import Changes, Levels
from trading.simulator.binance.tape import AggregateTrade, NumberedTrade

Row = dict[str, Any]
FUNDING_MS = 8 * 3_600_000
FUNDING_RATE = "0.00010000"


class Product(ABC):
    """Payloads of one product, as plain dicts; numbers in them are texts, times milliseconds, ids integers.

    ``first_update_id`` and ``ID_STRIDE`` number the ledger's changes: a symbol's ids rise by one change on spot, and
    jump on futures, where all symbols share one counter.
    """

    NAME: ClassVar[str]
    DECIMALS: ClassVar[int | None]
    ID_STRIDE: ClassVar[int]
    # Stream name suffix to milliseconds between two messages.
    DEPTH_SPEEDS: ClassVar[Mapping[str, int]]
    KLINE_MS: ClassVar[int]
    MARK_PRICE_SPEEDS: ClassVar[Mapping[str, int]] = {}
    MESSAGES_A_SECOND: ClassVar[int]
    # What the ``trade`` stream has before and behind the maker's side, by product.
    TRADE_KIND: ClassVar[Mapping[str, Any]] = {}
    TRADE_END: ClassVar[Mapping[str, Any]] = {}
    # Whether a request's id has to be an unsigned integer, and whether a message that is no JSON ends its connection.
    INTEGER_IDS: ClassVar[bool] = False
    CUTS_INVALID_JSON: ClassVar[bool] = False
    WEIGHT_LIMIT: ClassVar[int]

    def __init__(self, instruments: Mapping[str, Instrument], first_update_id: int) -> None:
        self.instruments = instruments
        self._first_update_id = first_update_id
        self._figures = {
            symbol: Figures(instrument.market.grids, self.DECIMALS) for symbol, instrument in instruments.items()
        }

    def figures(self, instrument: Instrument) -> Figures:
        return self._figures[instrument.symbol]

    def update_id(self, count: int) -> int:
        return self._first_update_id + count * self.ID_STRIDE

    @abstractmethod
    def diff(self, instrument: Instrument, changes: Changes, now_ms: int) -> Row:
        """``depthUpdate``."""

    @abstractmethod
    def partial(self, instrument: Instrument, levels: int, now_ms: int) -> Row:
        """``depth5`` and its like: the best levels, whole."""

    @abstractmethod
    def depth(self, instrument: Instrument, limit: int, now_ms: int) -> Row:
        """The REST snapshot of a ledger that was refreshed."""

    @abstractmethod
    def book_ticker(self, instrument: Instrument, now_ms: int) -> Row:
        """The ``bookTicker`` stream."""

    @abstractmethod
    def book_ticker_row(self, instrument: Instrument, now_ms: int) -> Row:
        """REST's ``ticker/bookTicker``."""

    @abstractmethod
    def trade_row(self, instrument: Instrument, trade: NumberedTrade) -> Row:
        """REST's ``trades``."""

    def aggregate_row(self, instrument: Instrument, trade: AggregateTrade) -> Row:
        """REST's ``aggTrades``, and the fields that the stream adds to."""
        figures = self.figures(instrument)
        return {
            "a": trade.aggregate_id,
            "p": figures.price(trade.tick),
            "q": figures.quantity(trade.lots),
            "f": trade.first_id,
            "l": trade.last_id,
            "T": trade.time_ms,
            "m": trade.buyer_is_maker,
        }

    def aggregate(self, instrument: Instrument, trade: AggregateTrade, now_ms: int) -> Row:
        """The ``aggTrade`` stream."""
        return {"e": "aggTrade", "E": now_ms, "s": instrument.symbol, **self.aggregate_row(instrument, trade)}

    def trade(self, instrument: Instrument, trade: NumberedTrade, now_ms: int) -> Row:
        """The ``trade`` stream."""
        figures = self.figures(instrument)
        return {
            "e": "trade",
            "E": now_ms,
            "s": instrument.symbol,
            "t": trade.trade_id,
            "p": figures.price(trade.tick),
            "q": figures.quantity(trade.lots),
            "T": trade.time_ms,
            **self.TRADE_KIND,
            "m": trade.buyer_is_maker,
            **self.TRADE_END,
        }

    def mark_price(self, instrument: Instrument, now_ms: int) -> Row:
        """The ``markPrice`` stream."""
        market = instrument.market
        return {
            "e": "markPriceUpdate",
            "E": now_ms,
            "s": instrument.symbol,
            "p": f"{market.mark_price:.8f}",
            "i": f"{market.index_price:.8f}",
            "P": f"{market.index_price:.8f}",
            "r": FUNDING_RATE,
            "T": (now_ms // FUNDING_MS + 1) * FUNDING_MS,
        }

    def _levels(self, instrument: Instrument, count: int) -> tuple[list[list[str]], list[list[str]]]:
        figures, ledger = self.figures(instrument), instrument.ledger
        return figures.rows(_first(ledger.bids, count)), figures.rows(_first(ledger.asks, count))

    def _best(self, instrument: Instrument) -> tuple[str, str, str, str]:
        """Bid price and quantity, ask price and quantity; zeros for a side that is empty."""
        figures, texts = self.figures(instrument), []
        for side in (instrument.ledger.bids, instrument.ledger.asks):
            tick, lots = next(iter(side.items()), (0, 0))
            texts += [figures.price(tick), figures.quantity(lots)]
        return texts[0], texts[1], texts[2], texts[3]


class Spot(Product):
    NAME = "spot"
    DECIMALS = 8
    ID_STRIDE = 1
    DEPTH_SPEEDS = {"": 1_000, "@100ms": 100}
    KLINE_MS = 2_000
    MESSAGES_A_SECOND = 5
    TRADE_END = {"M": True}
    WEIGHT_LIMIT = 6_000

    def diff(self, instrument: Instrument, changes: Changes, now_ms: int) -> Row:
        figures = self.figures(instrument)
        return {
            "e": "depthUpdate",
            "E": now_ms,
            "s": instrument.symbol,
            "U": self.update_id(changes.begin + 1),
            "u": self.update_id(changes.end),
            "b": figures.rows(changes.bids),
            "a": figures.rows(changes.asks),
        }

    def partial(self, instrument: Instrument, levels: int, now_ms: int) -> Row:
        return self.depth(instrument, levels, now_ms)

    def depth(self, instrument: Instrument, limit: int, now_ms: int) -> Row:
        bids, asks = self._levels(instrument, limit)
        return {"lastUpdateId": self.update_id(instrument.ledger.count), "bids": bids, "asks": asks}

    def book_ticker(self, instrument: Instrument, now_ms: int) -> Row:
        bid, bid_quantity, ask, ask_quantity = self._best(instrument)
        return {
            "u": self.update_id(instrument.ledger.count),
            "s": instrument.symbol,
            "b": bid,
            "B": bid_quantity,
            "a": ask,
            "A": ask_quantity,
        }

    def book_ticker_row(self, instrument: Instrument, now_ms: int) -> Row:
        bid, bid_quantity, ask, ask_quantity = self._best(instrument)
        return {
            "symbol": instrument.symbol,
            "bidPrice": bid,
            "bidQty": bid_quantity,
            "askPrice": ask,
            "askQty": ask_quantity,
        }

    def trade_row(self, instrument: Instrument, trade: NumberedTrade) -> Row:
        return {**_trade_row(self.figures(instrument), trade), "isBestMatch": True}

    def aggregate_row(self, instrument: Instrument, trade: AggregateTrade) -> Row:
        return {**super().aggregate_row(instrument, trade), "M": True}


class Futures(Product):
    NAME = "futures"
    DECIMALS = None
    ID_STRIDE = 13
    DEPTH_SPEEDS = {"": 250, "@500ms": 500, "@100ms": 100}
    KLINE_MS = 250
    MARK_PRICE_SPEEDS = {"": 3_000, "@1s": 1_000}
    MESSAGES_A_SECOND = 10
    # Not documented, but served, and used by clients.
    TRADE_KIND = {"X": "MARKET"}
    INTEGER_IDS = True
    CUTS_INVALID_JSON = True
    WEIGHT_LIMIT = 2_400

    def diff(self, instrument: Instrument, changes: Changes, now_ms: int) -> Row:
        figures = self.figures(instrument)
        bids, asks = figures.rows(changes.bids), figures.rows(changes.asks)
        return self._update(instrument, changes.begin, changes.end, bids, asks, now_ms)

    def partial(self, instrument: Instrument, levels: int, now_ms: int) -> Row:
        count = instrument.ledger.count
        bids, asks = self._levels(instrument, levels)
        return self._update(instrument, count - 1, count, bids, asks, now_ms)

    def depth(self, instrument: Instrument, limit: int, now_ms: int) -> Row:
        bids, asks = self._levels(instrument, limit)
        return {
            "lastUpdateId": self.update_id(instrument.ledger.count),
            "E": now_ms,
            "T": now_ms,
            "bids": bids,
            "asks": asks,
        }

    def book_ticker(self, instrument: Instrument, now_ms: int) -> Row:
        bid, bid_quantity, ask, ask_quantity = self._best(instrument)
        return {
            "e": "bookTicker",
            "u": self.update_id(instrument.ledger.count),
            "s": instrument.symbol,
            "b": bid,
            "B": bid_quantity,
            "a": ask,
            "A": ask_quantity,
            "T": now_ms,
            "E": now_ms,
        }

    def book_ticker_row(self, instrument: Instrument, now_ms: int) -> Row:
        bid, bid_quantity, ask, ask_quantity = self._best(instrument)
        return {
            "symbol": instrument.symbol,
            "bidPrice": bid,
            "bidQty": bid_quantity,
            "askPrice": ask,
            "askQty": ask_quantity,
            "time": now_ms,
            "lastUpdateId": self.update_id(instrument.ledger.count),
        }

    def trade_row(self, instrument: Instrument, trade: NumberedTrade) -> Row:
        return _trade_row(self.figures(instrument), trade)

    def _update(
        self,
        instrument: Instrument,
        begin: int,
        end: int,
        bids: list[list[str]],
        asks: list[list[str]],
        now_ms: int,
    ) -> Row:
        return {
            "e": "depthUpdate",
            "E": now_ms,
            "T": now_ms,
            "s": instrument.symbol,
            "U": self.update_id(begin + 1),
            "u": self.update_id(end),
            "pu": self.update_id(begin),
            "b": bids,
            "a": asks,
        }


def _first(levels: Levels, count: int) -> Levels:
    return dict(islice(levels.items(), count))


def _trade_row(figures: Figures, trade: NumberedTrade) -> Row:
    return {
        "id": trade.trade_id,
        "price": figures.price(trade.tick),
        "qty": figures.quantity(trade.lots),
        "quoteQty": figures.value(trade.tick * trade.lots),
        "time": trade.time_ms,
        "isBuyerMaker": trade.buyer_is_maker,
    }
