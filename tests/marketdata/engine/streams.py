"""Frames as the venues write them, and streams of them that a seed makes: valid ones, and all that goes wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from marketdata.engine import sources
from marketdata.engine.sources import BookSource
from tests.marketdata.engine.dict_book import DictBook

SYMBOL = "BTCUSDT"
SENT_MS = 1_786_310_818_000
Rows = list[list[str]]


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class BybitStream:
    def __init__(self, spot: bool = False, depth: int = 200) -> None:
        self.spot, self.depth = spot, depth

    def source(self) -> BookSource:
        return sources.bybit(SYMBOL, self.depth)

    def reference(self) -> DictBook:
        return DictBook("bybit", depth_limit=self.depth)

    def snapshot(self, update_id: int, bids: Rows, asks: Rows, sent_ms: int = SENT_MS) -> bytes:
        return self._frame("snapshot", update_id, bids, asks, sent_ms)

    def update(self, before: int, update_id: int, bids: Rows, asks: Rows, sent_ms: int = SENT_MS) -> bytes:
        return self._frame("delta", update_id, bids, asks, sent_ms)

    def span(self, rng: random.Random) -> int:
        return 1

    def _frame(self, kind: str, update_id: int, bids: Rows, asks: Rows, sent_ms: int) -> bytes:
        data = {"s": SYMBOL, "b": bids, "a": asks, "u": update_id, "seq": 7_000_000_000 + update_id}
        topic = f"orderbook.{self.depth}.{SYMBOL}"
        head = {"ts": sent_ms, "type": kind} if self.spot else {"type": kind, "ts": sent_ms}
        return compact({"topic": topic, **head, "data": data, "cts": sent_ms - 3})


class BinanceStream:
    """``pair`` is coin-M's; ``stream`` the name in a combined stream."""

    def __init__(self, futures: bool = False, pair: str = "", stream: str = "") -> None:
        self.futures, self.pair, self.stream = futures, pair, stream

    def source(self) -> BookSource:
        if self.futures:
            return sources.binance_futures(SYMBOL, self.stream, self.pair, snapshot_limit=50)
        return sources.binance_spot(SYMBOL, self.stream, snapshot_limit=50)

    def reference(self) -> DictBook:
        return DictBook("futures" if self.futures else "spot", snapshot_limit=50)

    def snapshot(self, update_id: int, bids: Rows, asks: Rows, sent_ms: int = SENT_MS) -> bytes:
        times = {"E": sent_ms, "T": sent_ms - 3} if self.futures else {}
        names = {"symbol": SYMBOL, "pair": self.pair} if self.pair else {}
        return compact({"lastUpdateId": update_id, **times, **names, "bids": bids, "asks": asks})

    def update(self, before: int, update_id: int, bids: Rows, asks: Rows, sent_ms: int = SENT_MS) -> bytes:
        event: dict[str, object] = {"e": "depthUpdate", "E": sent_ms}
        if self.futures:
            event["T"] = sent_ms - 3
        event["s"] = SYMBOL
        if self.pair:
            event["ps"] = self.pair
        # Ids of futures have holes between messages; only pu ties them together.
        event |= {"U": min(before + (3 if self.futures else 1), update_id), "u": update_id}
        if self.futures:
            event["pu"] = before
        event |= {"b": bids, "a": asks}
        return compact({"stream": self.stream, "data": event} if self.stream else event)

    def span(self, rng: random.Random) -> int:
        return rng.randint(1, 40)


STREAMS = {
    "bybit-linear": BybitStream(),
    "bybit-spot": BybitStream(spot=True),
    "binance-spot": BinanceStream(),
    "binance-combined": BinanceStream(stream="btcusdt@depth@100ms"),
    "binance-futures": BinanceStream(futures=True),
    "binance-futures-combined": BinanceStream(futures=True, stream="btcusdt@depth@0ms"),
    "binance-coin-m": BinanceStream(futures=True, pair="BTCUSD", stream="btcusd_perp@depth"),
}


@dataclass(frozen=True)
class Market:
    """Where a made stream plays: its steps, its price in ticks, how far levels lie apart, how many there are."""

    tick: Decimal
    lot: Decimal
    price: int
    spread: int
    reach: int
    levels: int
    largest: int
    decimals: int

    @classmethod
    def make(cls, rng: random.Random) -> Market:
        tick = Decimal(rng.choice(["0.1", "0.01", "0.5", "5", "10", "0.00000001", "0.0001", "0.25", "1"]))
        lot = Decimal(rng.choice(["0.001", "1", "0.00001", "10", "0.00000001", "0.5", "100"]))
        price = rng.choice([40, 700, 9_000, 650_000, 6_512_345, 90_000_000])
        # What one book holds, on a grid twenty times finer, stays within what an int64 can sum.
        most = 2**58 // (60 * price * 20 * 1_000)
        return cls(
            tick=tick,
            lot=lot,
            price=price,
            spread=rng.choice([1, 1, 2, 7, 300, 20_000]),
            reach=rng.choice([20, 150, 3_000, 60_000]),
            levels=rng.choice([1, 5, 30, 120]),
            largest=min(rng.choice([9, 4_000, 10**7, 10**10]), most),
            decimals=rng.choice([0, 0, 2, 8]),
        )


class StreamMaker:
    """A market that lives by a seed, and its stream: mostly right, now and then with everything that goes wrong.

    Set ``lost`` when the receiver needs a snapshot: it comes soon, as it would from a venue that was asked.
    """

    def __init__(self, seed: int, form: BybitStream | BinanceStream) -> None:
        self.rng, self.form = random.Random(seed), form
        self.market = Market.make(self.rng)
        self.price, self.update_id, self.overlap = self.market.price, 1_000, 0
        self.factor = 1  # of how many finer steps a tick is made of
        self.lost = False
        self._sides: tuple[dict[Decimal, str], dict[Decimal, str]] = {}, {}

    def frames(self, number: int) -> Iterator[bytes]:
        rng = self.rng
        history: list[bytes] = []
        yield self._snapshot()
        while number > 0:
            number -= 1
            event = rng.random()
            if event < (0.4 if self.lost else 0.02):
                yield self._snapshot()
            elif event < 0.03:
                self.update_id = 0 if isinstance(self.form, BybitStream) else self.update_id
                yield self._update()
            elif event < 0.05 and history:
                yield rng.choice(history[-5:])
            elif event < 0.06:
                self._update()  # lost
            elif event < 0.07:
                first, second = self._update(), self._update()
                yield second
                yield first
            else:
                if event < 0.10:
                    self._jump()
                elif event < 0.11 and self.factor < 20:
                    self.factor *= rng.choice([2, 5])
                history.append(self._update())
                yield history[-1]

    def _jump(self) -> None:
        room = self.market.reach * self.rng.choice([1, 3, 20])
        self.price = min(max(30, self.price + self.rng.randint(-room, room)), 5 * self.market.price)

    def _snapshot(self) -> bytes:
        self.update_id += self.rng.randint(1, 9)
        self.overlap = self.rng.choice([0, 0, 2, 30])
        for side in self._sides:
            side.clear()
        number = self.rng.choice([self.market.levels, self.market.levels, 49, 50, 51])
        bids, asks = self._rows(-1, number, 0.0), self._rows(1, number, 0.0)
        if self.rng.random() < 0.03:
            bids = []
        return self.form.snapshot(self.update_id, bids, asks, SENT_MS)

    def _update(self) -> bytes:
        # The first update after a snapshot may have begun before it.
        before, self.overlap = max(self.update_id - self.overlap, 0), 0
        self.update_id += self.form.span(self.rng)
        self.price = max(30, self.price + self.rng.randint(-3, 3))
        most = self.rng.choice([0, 1, 3, 12])
        bids, asks = self._passed(-1), self._passed(1)
        bids += self._rows(-1, self.rng.randint(0, most), 0.35)
        asks += self._rows(1, self.rng.randint(0, most), 0.35)
        if self.rng.random() < 0.02:
            bids, asks = self._emptied(-1, bids), self._emptied(1, asks)
        return self.form.update(before, self.update_id, bids, asks, SENT_MS + 10 * (self.update_id - 1_000))

    def _passed(self, sign: int) -> Rows:
        """Removals of what the price has passed; now and then some are forgotten, and the book is crossed."""
        side = self._sides[sign > 0]
        passed = [price for price in side if (price - self.price * self.market.tick) * sign <= 0]
        if self.rng.random() < 0.02:
            passed = passed[1:]
        return [[side.pop(price), "0"] for price in passed]

    def _emptied(self, sign: int, rows: Rows) -> Rows:
        if self.rng.random() < 0.7:
            return rows
        side = self._sides[sign > 0]
        rows = rows + [[text, "0.000"] for text in side.values()]
        side.clear()
        return rows

    def _rows(self, sign: int, number: int, removed: float) -> Rows:
        rng, market, side = self.rng, self.market, self._sides[sign > 0]
        rows = []
        for _ in range(number):
            distance = rng.randint(0, 15) if rng.random() < 0.6 else rng.randint(0, market.reach)
            ticks = self.price + sign * (market.spread // 2 + 1 + distance)
            if rng.random() < 0.004:
                ticks = self.price + sign * rng.randint(1, 50 * market.price)
            text = self._text(max(ticks, 1), market.tick, True)
            if side and rng.random() < 0.3:
                text = rng.choice(list(side.values()))
            lots = 0 if rng.random() < removed else rng.randint(1, market.largest)
            if lots:
                side[Decimal(text)] = text
            else:
                side.pop(Decimal(text), None)
            rows.append([text, self._text(lots, market.lot)])
        if rows and rng.random() < 0.1:
            rows.append([rows[0][0], self._text(rng.randint(1, market.largest), market.lot)])
            side[Decimal(rows[0][0])] = rows[0][0]
        return rows

    def _text(self, units: int, step: Decimal, finer: bool = False) -> str:
        value = units * step
        if finer and self.factor > 1 and self.rng.random() < 0.3:
            value += step * self.rng.randint(0, self.factor - 1) / self.factor
        text = f"{value:f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
        decimals = self.market.decimals or (self.rng.randint(0, 9) if self.rng.random() < 0.2 else 0)
        whole, _, fraction = text.partition(".")
        fraction = fraction.ljust(decimals, "0")
        return f"{whole}.{fraction}" if fraction else whole
