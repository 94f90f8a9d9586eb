"""Public topics: snapshots for whoever subscribes, then exactly what changed, with update ids that rise by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import orjson

from trading.simulator.candles import MINUTE_MS, OPEN, CandleSeries
from trading.simulator.funding import funding_interval_ms, next_funding_ms
from trading.simulator.markets import Liquidation, Market, PublicTrade

# Every how many steps of the venue's clock, of 20 ms, a book of so many levels is told.
BOOK_STEPS = {1: 1, 50: 1, 200: 5, 1000: 10}
DEPTHS = tuple(BOOK_STEPS)
REPEAT_MS = 3_000
RECENT_TRADES = 1_000
HOUR_MS = 3_600_000


class BookStream:
    """One ``orderbook.N`` topic: remembers what was told last and tells the difference."""

    def __init__(self, market: Market, depth: int, first_update_id: int) -> None:
        self.market, self.depth = market, depth
        self.update_id = first_update_id
        self._told_ms = 0
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._catch_up()

    @property
    def topic(self) -> str:
        return f"orderbook.{self.depth}.{self.market.symbol}"

    def snapshot(self, now_ms: int) -> bytes:
        """The book as the last message left it, under that message's update id."""
        return self._message("snapshot", self._texts(self._bids), self._texts(self._asks), now_ms)

    def delta(self, now_ms: int) -> bytes | None:
        """What changed since the last message, or None. Level 1 is always a snapshot, and told again after 3 s."""
        bids, asks = self._bids, self._asks
        self._catch_up()
        changed_bids, changed_asks = _changes(bids, self._bids), _changes(asks, self._asks)
        if not changed_bids and not changed_asks:
            if self.depth != 1 or now_ms - self._told_ms < REPEAT_MS:
                return None
            self._told_ms = now_ms
            return self.snapshot(now_ms)
        self.update_id += 1
        self._told_ms = now_ms
        if self.depth == 1:
            return self.snapshot(now_ms)
        return self._message("delta", self._texts(changed_bids), self._texts(changed_asks), now_ms)

    def skip(self) -> None:
        """Lose one message on purpose: a strict client must notice."""
        self._catch_up()
        self.update_id += 1

    def restart(self, now_ms: int) -> bytes:
        """Begin again, as after a restart of the service: a snapshot with the update id 1."""
        self._catch_up()
        self.update_id = 1
        return self.snapshot(now_ms)

    def _catch_up(self) -> None:
        self._bids = self.market.book.bids.top(self.depth)
        self._asks = self.market.book.asks.top(self.depth)

    def _texts(self, levels: dict[int, int]) -> list[list[str]]:
        price, quantity = self.market.grids.prices.text, self.market.grids.quantities.text
        return [[price(tick), quantity(lots) if lots else "0"] for tick, lots in levels.items()]

    def _message(self, kind: str, bids: list[list[str]], asks: list[list[str]], now_ms: int) -> bytes:
        data = {
            "s": self.market.symbol,
            "b": bids,
            "a": asks,
            "u": self.update_id,
            "seq": self.market.sequence + self.update_id,
        }
        return orjson.dumps({"topic": self.topic, "type": kind, "ts": now_ms, "data": data, "cts": now_ms})


def _changes(before: dict[int, int], after: dict[int, int]) -> dict[int, int]:
    if before == after:
        return {}
    changes = {tick: lots for tick, lots in after.items() if before.get(tick) != lots}
    changes.update((tick, 0) for tick in before if tick not in after)
    return changes


class TickerStream:
    """``tickers``: a snapshot, then the fields that changed."""

    def __init__(self, market: Market, candles: CandleSeries) -> None:
        self.market, self._candles = market, candles
        self._last: dict[str, str] = {}
        self._last_price, self._direction = market.last_price, "ZeroPlusTick"

    @property
    def topic(self) -> str:
        return f"tickers.{self.market.symbol}"

    def values(self, now_ms: int) -> dict[str, str]:
        """Every field, as REST has them."""
        market, prices, quantities = self.market, self.market.grids.prices, self.market.grids.quantities
        first, high, low, volume, turnover = self._candles.day_change()
        last = float(market.last_price / market.rules.tick_size)
        bid, ask = market.book.bids.best, market.book.asks.best
        hour_ago = self._candles.minute(now_ms // MINUTE_MS - 60)
        return {
            "symbol": market.symbol,
            "lastPrice": f"{market.last_price:f}",
            "indexPrice": f"{market.index_price:f}",
            "markPrice": f"{market.mark_price:f}",
            "prevPrice24h": prices.text(int(first)),
            "price24hPcnt": f"{(last - first) / first:.6f}",
            "highPrice24h": prices.text(int(high)),
            "lowPrice24h": prices.text(int(low)),
            "prevPrice1h": prices.text(int(first if hour_ago is None else hour_ago[OPEN])),
            "openInterest": quantities.text(int(volume / 4)),
            "openInterestValue": f"{volume / 4 * float(quantities.step) * float(market.last_price):.2f}",
            "turnover24h": f"{turnover * float(prices.step) * float(quantities.step):.4f}",
            "volume24h": quantities.text(int(volume)),
            "fundingRate": f"{market.funding_rate.normalize():f}",
            "fundingIntervalHour": str(funding_interval_ms(market) // HOUR_MS),
            "fundingCap": str(market.listing.get("upperFundingRate") or "0.005"),
            "preOpenPrice": "",
            "preQty": "",
            "curPreListingPhase": "",
            "nextFundingTime": str(next_funding_ms(market, now_ms)),
            "bid1Price": prices.text(bid) if bid is not None else "",
            "bid1Size": quantities.text(market.book.bids.lots_at(bid)) if bid is not None else "",
            "ask1Price": prices.text(ask) if ask is not None else "",
            "ask1Size": quantities.text(market.book.asks.lots_at(ask)) if ask is not None else "",
        }

    def _stream_values(self, now_ms: int) -> dict[str, str]:
        price = self.market.last_price
        if price != self._last_price:
            self._direction = "PlusTick" if price > self._last_price else "MinusTick"
        elif self._direction in ("PlusTick", "MinusTick"):
            self._direction = f"Zero{self._direction}"
        self._last_price = price
        return {**self.values(now_ms), "tickDirection": self._direction}

    def snapshot(self, now_ms: int) -> bytes:
        # What is told here stays in the next delta: those who listen already have not heard it.
        return self._message("snapshot", self._stream_values(now_ms), now_ms)

    def delta(self, now_ms: int) -> bytes | None:
        values = self._stream_values(now_ms)
        changed = {name: value for name, value in values.items() if self._last.get(name) != value}
        self._last = values
        if not changed:
            return None
        return self._message("delta", {"symbol": self.market.symbol, **changed}, now_ms)

    def _message(self, kind: str, data: dict[str, str], now_ms: int) -> bytes:
        return orjson.dumps({"topic": self.topic, "type": kind, "data": data, "cs": self.market.sequence, "ts": now_ms})


class SpotTicker:
    """``tickers`` of a spot market: snapshots only."""

    def __init__(self, market: Market, candles: CandleSeries) -> None:
        self.market, self._candles = market, candles
        self._last: dict[str, str] = {}

    @property
    def topic(self) -> str:
        return f"tickers.{self.market.symbol}"

    def values(self) -> dict[str, str]:
        market, prices, quantities = self.market, self.market.grids.prices, self.market.grids.quantities
        first, high, low, volume, turnover = self._candles.day_change()
        last = float(market.last_price / market.rules.tick_size)
        return {
            "symbol": market.symbol,
            "lastPrice": f"{market.last_price:f}",
            "highPrice24h": prices.text(int(high)),
            "lowPrice24h": prices.text(int(low)),
            "prevPrice24h": prices.text(int(first)),
            "volume24h": quantities.text(int(volume)),
            "turnover24h": f"{turnover * float(prices.step) * float(quantities.step):.4f}",
            "price24hPcnt": f"{(last - first) / first:.4f}",
            "usdIndexPrice": f"{market.index_price or market.last_price:f}",
        }

    def snapshot(self, now_ms: int) -> bytes:
        message = {"topic": self.topic, "ts": now_ms, "type": "snapshot", "cs": self.market.sequence}
        return orjson.dumps({**message, "data": self.values()})

    def news(self, now_ms: int) -> bytes | None:
        """A snapshot when something changed since the last one that this gave."""
        values = self.values()
        if values == self._last:
            return None
        self._last = values
        return self.snapshot(now_ms)


class RecentTrades:
    """The newest public trades of one symbol."""

    def __init__(self) -> None:
        self._trades: deque[PublicTrade] = deque(maxlen=RECENT_TRADES)

    def add(self, trade: PublicTrade) -> None:
        self._trades.append(trade)

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """Newest first, as ``/v5/market/recent-trade``."""
        newest = list(self._trades)[-limit:]
        return [
            {
                "execId": trade.trade_id,
                "symbol": trade.symbol,
                "price": f"{trade.price:f}",
                "size": f"{trade.quantity:f}",
                "side": trade.side,
                "time": str(trade.time_ms),
                "isBlockTrade": False,
                "isRPITrade": False,
                "seq": str(trade.sequence),
            }
            for trade in reversed(newest)
        ]


def trades_message(symbol: str, trades: Iterable[PublicTrade], now_ms: int) -> bytes:
    """One ``publicTrade`` message."""
    rows = [
        {
            "T": trade.time_ms,
            "s": symbol,
            "S": trade.side,
            "v": f"{trade.quantity:f}",
            "p": f"{trade.price:f}",
            "L": "ZeroPlusTick",
            "i": trade.trade_id,
            "BT": False,
            "RPI": False,
            "seq": trade.sequence,
        }
        for trade in trades
    ]
    return orjson.dumps({"topic": f"publicTrade.{symbol}", "type": "snapshot", "ts": now_ms, "data": rows})


def liquidations_message(symbol: str, liquidations: Iterable[Liquidation], now_ms: int) -> bytes:
    """One ``allLiquidation`` message."""
    rows = [
        {
            "T": each.time_ms,
            "s": symbol,
            "S": each.side,
            "v": f"{each.quantity:f}",
            "p": f"{each.bankruptcy_price:f}",
        }
        for each in liquidations
    ]
    return orjson.dumps({"topic": f"allLiquidation.{symbol}", "type": "snapshot", "ts": now_ms, "data": rows})


def price_limit_message(market: Market, now_ms: int) -> bytes:
    """One ``priceLimit`` message."""
    highest, lowest = market.price_limits()
    data = {"symbol": market.symbol, "buyLmt": highest, "sellLmt": lowest}
    return orjson.dumps({"topic": f"priceLimit.{market.symbol}", "data": data, "ts": now_ms})


def kline_message(topic: str, rows: list[dict[str, Any]], now_ms: int) -> bytes:
    return orjson.dumps({"topic": topic, "data": rows, "ts": now_ms, "type": "snapshot"})
