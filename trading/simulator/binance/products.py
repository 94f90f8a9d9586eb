"""Spot and USD-M futures: what differs between their payloads, speeds and limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from trading.simulator.binance.instrument import Figures, Instrument
from trading.simulator.binance.ledger import Changes, Levels
from trading.simulator.binance.statistics import DayStatistics, average_price
from trading.simulator.binance.tape import AggregateTrade, NumberedTrade
from trading.simulator.funding import funding_rate, next_funding_ms
from trading.simulator.markets import Liquidation

Row = dict[str, Any]
INTEREST_RATE = "0.00010000"


@dataclass(frozen=True, slots=True)
class Pace:
    """Of a connection, in seconds: how often it is pinged, how long it lives without a pong, and how long at most."""

    ping: float
    pong: float
    life: float = 24 * 3_600.0


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
    TICKER_MS: ClassVar[int]
    MARK_PRICE_SPEEDS: ClassVar[Mapping[str, int]] = {}
    MESSAGES_A_SECOND: ClassVar[int]
    PACE: ClassVar[Pace]
    # What the ``trade`` stream has before and behind the maker's side, by product.
    TRADE_KIND: ClassVar[Mapping[str, Any]] = {}
    TRADE_END: ClassVar[Mapping[str, Any]] = {}
    # Whether a request's id has to be an unsigned integer, and whether a message that is no JSON ends its connection.
    INTEGER_IDS: ClassVar[bool] = False
    CUTS_INVALID_JSON: ClassVar[bool] = False
    WEIGHT_LIMIT: ClassVar[int]

    def __init__(self, instruments: Mapping[str, Instrument], first_update_id: int, seed: int) -> None:
        self.instruments, self._seed = instruments, seed
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
            "r": f"{market.funding_rate:.8f}",
            "T": next_funding_ms(market, now_ms),
        }

    def funding_rate(self, instrument: Instrument, time_ms: int) -> str:
        """What was paid at a time."""
        return f"{funding_rate(self._seed, instrument.market, time_ms):.8f}"

    def mini_ticker(self, instrument: Instrument, now_ms: int) -> Row:
        """The ``miniTicker`` stream."""
        figures, day = self.figures(instrument), DayStatistics.of(instrument, now_ms)
        return {
            "e": "24hrMiniTicker",
            "E": now_ms,
            "s": instrument.symbol,
            "c": figures.price(day.last),
            "o": figures.price(day.open),
            "h": figures.price(day.high),
            "l": figures.price(day.low),
            "v": figures.quantity(day.volume),
            "q": figures.value(day.value),
        }

    def ticker(self, instrument: Instrument, now_ms: int) -> Row:
        """The ``ticker`` stream."""
        figures, day = self.figures(instrument), DayStatistics.of(instrument, now_ms)
        return {
            "e": "24hrTicker",
            "E": now_ms,
            "s": instrument.symbol,
            "p": figures.change(day.last - day.open),
            "P": day.percent,
            "w": day.average(figures),
            **self._ticker_before(figures, day),
            "c": figures.price(day.last),
            "Q": figures.quantity(day.last_lots),
            **self._ticker_book(instrument),
            "o": figures.price(day.open),
            "h": figures.price(day.high),
            "l": figures.price(day.low),
            "v": figures.quantity(day.volume),
            "q": figures.value(day.value),
            "O": day.opens_ms,
            "C": day.closes_ms,
            "F": day.first_id,
            "L": day.last_id,
            "n": day.count,
        }

    def day_row(self, instrument: Instrument, now_ms: int) -> Row:
        """REST's ``ticker/24hr``."""
        figures, day = self.figures(instrument), DayStatistics.of(instrument, now_ms)
        return {
            "symbol": instrument.symbol,
            "priceChange": figures.change(day.last - day.open),
            "priceChangePercent": day.percent,
            "weightedAvgPrice": day.average(figures),
            **self._day_before(figures, day),
            "lastPrice": figures.price(day.last),
            "lastQty": figures.quantity(day.last_lots),
            **self._day_book(instrument),
            "openPrice": figures.price(day.open),
            "highPrice": figures.price(day.high),
            "lowPrice": figures.price(day.low),
            "volume": figures.quantity(day.volume),
            "quoteVolume": figures.value(day.value),
            "openTime": day.opens_ms,
            "closeTime": day.closes_ms,
            "firstId": day.first_id,
            "lastId": day.last_id,
            "count": day.count,
        }

    def price_row(self, instrument: Instrument) -> Row:
        """REST's ``ticker/price``."""
        day = instrument.tape.newest(1)
        market, figures = instrument.market, self.figures(instrument)
        tick = day[0].tick if day else market.grids.prices.units(f"{market.last_price:f}")
        return {"symbol": instrument.symbol, "price": figures.price(tick)}

    def average_price(self, instrument: Instrument) -> str:
        return average_price(instrument, self.figures(instrument))

    def _ticker_before(self, figures: Figures, day: DayStatistics) -> Row:
        return {}

    def _ticker_book(self, instrument: Instrument) -> Row:
        return {}

    def _day_before(self, figures: Figures, day: DayStatistics) -> Row:
        return {}

    def _day_book(self, instrument: Instrument) -> Row:
        return {}

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
    TICKER_MS = 1_000
    MESSAGES_A_SECOND = 5
    PACE = Pace(ping=20.0, pong=60.0)
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

    def _ticker_before(self, figures: Figures, day: DayStatistics) -> Row:
        return {"x": figures.price(day.open)}

    def _ticker_book(self, instrument: Instrument) -> Row:
        row = self._day_book(instrument)
        return {"b": row["bidPrice"], "B": row["bidQty"], "a": row["askPrice"], "A": row["askQty"]}

    def _day_before(self, figures: Figures, day: DayStatistics) -> Row:
        return {"prevClosePrice": figures.price(day.open)}

    def _day_book(self, instrument: Instrument) -> Row:
        book, figures, row = instrument.market.book, self.figures(instrument), {}
        for name, side in (("bid", book.bids), ("ask", book.asks)):
            best = side.best
            row[f"{name}Price"] = figures.price(best or 0)
            row[f"{name}Qty"] = figures.quantity(0 if best is None else side.lots_at(best))
        return row


class Futures(Product):
    NAME = "futures"
    DECIMALS = None
    ID_STRIDE = 13
    DEPTH_SPEEDS = {"": 250, "@500ms": 500, "@100ms": 100}
    KLINE_MS = 250
    TICKER_MS = 2_000
    MARK_PRICE_SPEEDS = {"": 3_000, "@1s": 1_000}
    MESSAGES_A_SECOND = 10
    PACE = Pace(ping=180.0, pong=600.0)
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

    def premium_row(self, instrument: Instrument, now_ms: int) -> Row:
        """REST's ``premiumIndex``."""
        market = instrument.market
        return {
            "symbol": instrument.symbol,
            "markPrice": f"{market.mark_price:.8f}",
            "indexPrice": f"{market.index_price:.8f}",
            "estimatedSettlePrice": f"{market.index_price:.8f}",
            "lastFundingRate": f"{market.funding_rate:.8f}",
            "interestRate": INTEREST_RATE,
            "nextFundingTime": next_funding_ms(market, now_ms),
            "time": now_ms,
        }

    def force_order(self, instrument: Instrument, liquidation: Liquidation, now_ms: int) -> Row:
        """The ``forceOrder`` stream: the order that closed a position, so a long one's is a sale."""
        figures, grids = self.figures(instrument), instrument.market.grids
        quantity = figures.quantity(grids.quantities.units(f"{liquidation.quantity:f}"))
        price = f"{liquidation.bankruptcy_price:f}"
        return {
            "e": "forceOrder",
            "E": now_ms,
            "o": {
                "s": instrument.symbol,
                "S": "SELL" if liquidation.side == "Buy" else "BUY",
                "o": "LIMIT",
                "f": "IOC",
                "q": quantity,
                "p": price,
                "ap": price,
                "X": "FILLED",
                "l": quantity,
                "z": quantity,
                "T": liquidation.time_ms,
            },
        }

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
