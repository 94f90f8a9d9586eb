"""A market that comes from elsewhere as raw public frames: they are sent on, and the exchange's linear markets are kept
at their books and prices, so that orders of users trade with what others did.

How users' orders meet it: an order of ours queues behind everything that rests at its price and is filled by trades
that reach it. What a taker of ours took is gone until the frames speak of that level again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

import orjson

from trading.simulator.exchange import Exchange
from trading.simulator.hub import Hub
from trading.simulator.markets import Market, PublicTrade

UPDATE = re.compile(rb'"u":(\d+)')


class Player(Protocol):
    """Where a venue's market comes from, when it does not make it up."""

    book_topics: set[str]

    def symbols(self, category: str) -> set[str]: ...

    def listings(self, category: str) -> Mapping[str, dict[str, Any]]: ...

    def snapshot(self, topic: str, now_ms: int, category: str = "linear") -> bytes | None: ...

    def restart_book(self, topic: str, now_ms: int, category: str = "linear") -> bytes | None: ...

    def restart_books(self) -> None: ...

    def skip(self, symbol: str) -> int: ...


class PlayedBook:
    """The levels of one topic, as texts, for snapshots to new subscribers."""

    def __init__(self) -> None:
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.update_id = self.sequence = 0

    def apply(self, message: Mapping[str, Any]) -> None:
        data = message["data"]
        if message["type"] == "snapshot":
            self.bids.clear()
            self.asks.clear()
        for levels, rows in ((self.bids, data["b"]), (self.asks, data["a"])):
            for price, quantity in rows:
                # The same price may be spelled with other decimals later (spot does).
                key = f"{Decimal(price).normalize():f}"
                if Decimal(quantity) == 0:
                    levels.pop(key, None)
                else:
                    levels[key] = quantity

    def rows(self) -> tuple[list[list[str]], list[list[str]]]:
        bids = sorted(self.bids.items(), key=lambda level: Decimal(level[0]), reverse=True)
        asks = sorted(self.asks.items(), key=lambda level: Decimal(level[0]))
        return [list(level) for level in bids], [list(level) for level in asks]


class MarketPlayer:
    """What recorded and followed markets have in common. Sub-classes say when a frame is played."""

    def __init__(self, exchange: Exchange, hub: Hub) -> None:
        self._exchange, self._hub = exchange, hub
        self._books: dict[tuple[str, str], PlayedBook] = {}
        self._offsets: dict[tuple[str, str], int] = {}
        self._tickers: dict[str, dict[str, Any]] = {}
        self._skip: set[str] = set()
        self.book_topics: set[str] = set()

    def snapshot(self, topic: str, now_ms: int, category: str = "linear") -> bytes | None:
        """The current book of a topic, as a new subscriber gets it."""
        book = self._books.get((category, topic))
        if book is None:
            return None
        bids, asks = book.rows()
        data = {"s": topic.rpartition(".")[2], "b": bids, "a": asks, "u": book.update_id, "seq": book.sequence}
        return orjson.dumps({"topic": topic, "type": "snapshot", "ts": now_ms, "data": data, "cts": now_ms})

    def restart_book(self, topic: str, now_ms: int, category: str = "linear") -> bytes | None:
        """Begin a book's update ids again: its snapshot of u=1."""
        key = (category, topic)
        book = self._books.get(key)
        if book is None:
            return None
        self._offsets[key] = self._offsets.get(key, 0) + 1 - book.update_id
        book.update_id = 1
        return self.snapshot(topic, now_ms, category)

    def restart_books(self) -> None:
        """Begin the update ids of every book again."""
        for category, topic in list(self._books):
            self.restart_book(topic, 0, category)

    def ticker(self, symbol: str) -> dict[str, Any] | None:
        """The merged ticker of a linear symbol."""
        return self._tickers.get(symbol)

    def skip(self, symbol: str) -> int:
        """Lose the next book frame of a symbol; returns how many topics that hits."""
        hit = {topic for topic in self.book_topics if topic.endswith(f".{symbol}")}
        self._skip |= hit
        return len(hit)

    def _book_frame(self, topic: str, category: str, data: bytes) -> bytes:
        key = (category, topic)
        offset = self._offsets.get(key, 0)
        update_id = int(UPDATE.search(data)[1]) + offset  # type: ignore[index]
        data = UPDATE.sub(b'"u":%d' % update_id, data, count=1)
        book = self._books.setdefault(key, PlayedBook())
        message = orjson.loads(data)
        book.apply(message)
        book.update_id, book.sequence = update_id, message["data"]["seq"]
        market = self._exchange.markets.get(message["data"]["s"]) if category == "linear" else None
        if market is not None:
            self._follow_book(market, message)
        return data

    def _follow_book(self, market: Market, message: Mapping[str, Any]) -> None:
        prices, quantities, book = market.grids.prices, market.grids.quantities, market.book
        for side, rows in ((book.bids, message["data"]["b"]), (book.asks, message["data"]["a"])):
            levels = {prices.units(price): quantities.units(quantity) for price, quantity in rows}
            if message["type"] == "snapshot":
                side.replace_background(levels)
            else:
                for tick, lots in levels.items():
                    side.set_background(tick, lots)
        book.changed = True
        self._exchange.cross_resting(market, int(message["ts"]))

    def _market_frame(self, topic: str, data: bytes, now_ms: int) -> None:
        message = orjson.loads(data)
        kind, _, symbol = topic.partition(".")
        market = self._exchange.markets.get(symbol)
        if market is None:
            return
        if kind == "tickers":
            self._ticked(market, message["data"], now_ms)
        elif kind == "publicTrade":
            self._traded(market, message["data"], now_ms)

    def _ticked(self, market: Market, data: Mapping[str, Any], now_ms: int) -> None:
        ticker = self._tickers.setdefault(market.symbol, {})
        ticker.update(data)
        market.last_price = Decimal(ticker["lastPrice"])
        self._exchange.mark(market, Decimal(ticker["markPrice"]), Decimal(ticker["indexPrice"]), now_ms)

    def _traded(self, market: Market, rows: Sequence[Mapping[str, Any]], now_ms: int) -> None:
        for row in rows:
            price, quantity = Decimal(row["p"]), Decimal(row["v"])
            market.last_price = price
            tick, lots = market.grids.prices.units(row["p"]), market.grids.quantities.units(row["v"])
            self._exchange.background_trade(market, tick, lots, row["S"], now_ms)
            trade = PublicTrade(market.symbol, price, quantity, row["S"], now_ms, row["i"], row["seq"])
            self._exchange.replayed.append(trade)
