"""Public topics: snapshots for whoever subscribes, then exactly what changed, with update ids that rise by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from marketdata.engine.grid import Grid
from trading.simulator import book_kernels as kernels
from trading.simulator.book import Side
from trading.simulator.candles import CandleSeries
from trading.simulator.funding import funding_interval_ms, next_funding_ms
from trading.simulator.intervals import MINUTE_MS, OPEN
from trading.simulator.markets import Liquidation, Market, PublicTrade
from trading.simulator.stretches import Stretch

# Every how many steps of the venue's clock, of 20 ms, a book of so many levels is told; the best at half steps, too.
BOOK_STEPS = {1: 1, 50: 1, 200: 5, 1000: 10}
FULL_LEVELS, FULL_STEPS = 10_000, 10
DEPTHS = tuple(BOOK_STEPS)
REPEAT_MS = 3_000
RECENT_TRADES = 1_000
HOUR_MS = 3_600_000
Table = NDArray[np.int64]


class BookStream:
    """One ``orderbook.N`` topic: remembers what was told last and tells the difference."""

    def __init__(self, market: Market, depth: int, first_update_id: int) -> None:
        self.market, self.depth = market, depth
        self.update_id, self.sequence = first_update_id, market.sequence
        self._told_ms = 0
        self._sides = (ToldSide(market.book.bids, depth), ToldSide(market.book.asks, depth))
        self._grids = (*_steps_of(market.grids.prices), *_steps_of(market.grids.quantities))
        self._text = np.empty(2 * depth * kernels.LEVEL_TEXT, dtype=np.uint8)
        self._head = (
            f'{{"topic":"{self.topic}","type":"%b","ts":%d,"data":{{"s":"{market.symbol}","b":[%b],"a":[%b],'
            '"u":%d,"seq":%d},"cts":%d}'
        ).encode()
        self._catch_up()

    @property
    def topic(self) -> str:
        return f"orderbook.{self.depth}.{self.market.symbol}"

    def snapshot(self, now_ms: int) -> bytes:
        """The book as the last message left it, under that message's update id."""
        bids, asks = (self._levels(side.sign, side.told, side.count) for side in self._sides)
        return self._message(b"snapshot", bids, asks, now_ms)

    def delta(self, now_ms: int) -> bytes | None:
        """What changed since the last message, or None. Level 1 is always a snapshot, and told again after 3 s."""
        bids, asks = self._catch_up()
        if not bids and not asks:
            if not self.repeats(now_ms):
                return None
            self._told_ms = now_ms
            return self.snapshot(now_ms)
        self.update_id += 1
        self._told_ms = now_ms
        if self.depth == 1:
            return self.snapshot(now_ms)
        bid_side, ask_side = self._sides
        bid_rows = self._levels(bid_side.sign, bid_side.changed, bids)
        ask_rows = self._levels(ask_side.sign, ask_side.changed, asks)
        return self._message(b"delta", bid_rows, ask_rows, now_ms)

    def repeats(self, now_ms: int) -> bool:
        """Whether the book is due again although it did not change."""
        return self.depth == 1 and now_ms - self._told_ms >= REPEAT_MS

    def skip(self) -> None:
        """Lose one message on purpose: a strict client must notice."""
        self._catch_up()
        self.update_id += 1

    def restart(self, now_ms: int) -> bytes:
        """Begin again, as after a restart of the service: a snapshot with the update id 1."""
        self._catch_up()
        self.update_id = 1
        return self.snapshot(now_ms)

    def _catch_up(self) -> tuple[int, int]:
        """How many levels of the bids and of the asks changed. The sequence number of a change is above those of the
        changes before it, in the streams of every depth."""
        bid_side, ask_side = self._sides
        bids, asks = bid_side.follow(), ask_side.follow()
        if bids or asks:
            self.sequence = self.market.sequence = max(self.market.sequence, self.sequence + 1)
        return bids, asks

    def _levels(self, sign: int, rows: Table, count: int) -> bytes:
        return self._text[: kernels.write_levels(rows, count, sign, *self._grids, self._text)].tobytes()

    def _message(self, kind: bytes, bids: bytes, asks: bytes, now_ms: int) -> bytes:
        return self._head % (kind, now_ms, bids, asks, self.update_id, self.sequence, now_ms)


class FullBookStream(BookStream):
    """``orderbook.full``: deltas only; its snapshot is REST's, with the ids of the last delta that was told."""

    def __init__(self, market: Market, first_update_id: int) -> None:
        self._changed_ms = 0
        super().__init__(market, FULL_LEVELS, first_update_id)

    @property
    def topic(self) -> str:
        return f"orderbook.full.{self.market.symbol}"

    def delta(self, now_ms: int) -> bytes | None:
        message = super().delta(now_ms)
        if message is not None:
            self._changed_ms = now_ms
        return message

    def restart(self, now_ms: int) -> bytes:
        """The update id 1 with nothing in it: whoever listens asks REST for the book again."""
        self._catch_up()
        self.update_id, self._changed_ms = 1, now_ms
        return self._message(b"delta", b"", b"", now_ms)

    def book(self, now_ms: int) -> dict[str, Any]:
        """The answer of ``/v5/market/full_orderbook``."""
        bids, asks = (orjson.loads(b"[%b]" % self._levels(side.sign, side.told, side.count)) for side in self._sides)
        changed_ms = self._changed_ms or now_ms
        head = {"s": self.market.symbol, "b": bids, "a": asks, "ts": now_ms}
        return {**head, "u": self.update_id, "seq": self.sequence, "cts": changed_ms}


class ToldSide:
    """What a stream told of one side: ``told`` are its best ``count`` levels (rows of key, lots; best first),
    ``changed`` what the last call of :meth:`follow` found."""

    def __init__(self, side: Side, depth: int) -> None:
        self._side, self._depth = side, depth
        self.sign, self.count = side.sign, 0
        self.told: Table = np.zeros((depth, 2), dtype=np.int64)
        self.changed: Table = np.zeros((2 * depth, 2), dtype=np.int64)
        self._next: Table = np.zeros((depth, 2), dtype=np.int64)

    def follow(self) -> int:
        """Catch up with the book; how many levels changed."""
        levels = len(self._side)
        found = kernels.follow(
            *self._side.state[:3], levels, self._depth, self.told, self.count, self._next, self.changed
        )
        self.told, self._next = self._next, self.told
        self.count = min(levels, self._depth)
        return int(found)


def _steps_of(grid: Grid) -> tuple[int, int, int]:
    """A grid for the kernels: its step as a whole number of units, of which so many are 1, and its decimals."""
    scale = 10**grid.decimals
    return int(grid.step * scale), scale, grid.decimals


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
    """The newest public trades of one symbol, and the ``count`` of all. Those of a stretch are made when somebody asks
    for them."""

    def __init__(self) -> None:
        self._trades: deque[PublicTrade] = deque(maxlen=RECENT_TRADES)
        self._stretches: deque[Stretch] = deque()
        self.count = 0

    def add(self, trade: PublicTrade) -> None:
        self._catch_up()
        self._trades.append(trade)
        self.count += 1

    def add_stretch(self, stretch: Stretch) -> None:
        self._stretches.append(stretch)
        self.count += len(stretch)
        known = sum(len(each) for each in self._stretches)
        while known - len(self._stretches[0]) >= RECENT_TRADES:
            known -= len(self._stretches.popleft())

    def _catch_up(self) -> None:
        while self._stretches:
            self._trades.extend(self._stretches.popleft().trades(RECENT_TRADES))

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """Newest first, as ``/v5/market/recent-trade``."""
        self._catch_up()
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
