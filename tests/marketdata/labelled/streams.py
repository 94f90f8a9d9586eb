"""Markets as plain streams of level changes and trades, from recordings and from the simulator, and back to frames.

Everything is in ticks and lots of the market's own steps, so that scenarios can be injected into any of them.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import orjson

from marketdata.feeds.recorded import read_recording
from trading.simulator.exchange import Exchange
from trading.simulator.instruments import INSTRUMENTS
from trading.simulator.markets import market_of
from trading.simulator.orderflow import STEP_SECONDS, OrderFlow
from trading.simulator.publisher import BookStream

DEPTH = 200
START_MS = 1_700_000_000_000
STEPS_A_MESSAGE = 5

Changes = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class BookChange:
    """One message: bids and asks as ticks and lots (0: gone)."""

    ms: int
    bids: Changes
    asks: Changes
    is_snapshot: bool = False


@dataclass(frozen=True, slots=True)
class MarketTrade:
    ms: int
    tick: int
    lots: int
    is_bought: bool


Item = BookChange | MarketTrade


@dataclass(slots=True)
class MarketStream:
    name: str
    tick_size: Decimal
    lot_size: Decimal
    items: list[Item] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return (self.items[-1].ms - self.items[0].ms) / 1_000

    def steps(self, text: str | float, step: Decimal) -> int:
        return round(Decimal(str(text)) / step)


def bybit_frames(stream: MarketStream, symbol: str = "LABELLED") -> Iterator[tuple[int, bytes] | MarketTrade]:
    """The stream as ``orderbook.200`` frames of Bybit with their time, and its trades between them."""
    update, ticks, lots = 0, _texts(stream.tick_size), _texts(stream.lot_size)
    for item in stream.items:
        if isinstance(item, MarketTrade):
            yield item
            continue
        update += 1
        sides = [
            ",".join(f'["{ticks(tick)}","{lots(amount)}"]' for tick, amount in side) for side in (item.bids, item.asks)
        ]
        kind = "snapshot" if item.is_snapshot else "delta"
        yield (
            item.ms,
            f'{{"topic":"orderbook.200.{symbol}","type":"{kind}","ts":{item.ms},"data":{{"s":"{symbol}",'
            f'"b":[{sides[0]}],"a":[{sides[1]}],"u":{update},"seq":{update}}},"cts":{item.ms}}}'.encode(),
        )


def _texts(step: Decimal):
    decimals = max(0, -int(step.normalize().as_tuple().exponent))
    unit, scale = int(step.scaleb(decimals)), 10**decimals

    @lru_cache(maxsize=100_000)
    def text(steps: int) -> str:
        whole, rest = divmod(steps * unit, scale)
        return f"{whole}.{rest:0{decimals}d}" if decimals else str(whole)

    return text


def simulated(symbol: str, seed: int, seconds: float) -> MarketStream:
    """A session of the simulator's order flow, in which nobody manipulates."""
    each = next(each for each in INSTRUMENTS if each.symbol == symbol)
    market = market_of(each.listing())
    exchange = Exchange({symbol: market}, {})
    flow = OrderFlow(exchange, seed)
    flow.add(market, each.price, each.volatility, each.level_value)
    book = BookStream(market, DEPTH, first_update_id=1)
    stream = MarketStream(f"simulated {symbol}", each.tick_size, Decimal(str(market.rules.lot_size)))
    stream.items.append(_change(stream, orjson.loads(book.snapshot(START_MS)), START_MS))
    told = 0
    for step in range(1, round(seconds / STEP_SECONDS) + 1):
        now = START_MS + round(step * STEP_SECONDS * 1_000)
        flow.step(now)
        for trade in exchange.trades[told:]:
            stream.items.append(
                MarketTrade(
                    now,
                    stream.steps(str(trade.price), stream.tick_size),
                    stream.steps(str(trade.quantity), stream.lot_size),
                    trade.side == "Buy",
                )
            )
        told = len(exchange.trades)
        if step % STEPS_A_MESSAGE == 0:
            frame = book.delta(now)
            if frame is not None:
                stream.items.append(_change(stream, orjson.loads(frame), now))
    return stream


def _change(stream: MarketStream, message: dict, ms: int) -> BookChange:
    sides = [
        [(stream.steps(price, stream.tick_size), stream.steps(size, stream.lot_size)) for price, size in rows]
        for rows in (message["data"]["b"], message["data"]["a"])
    ]
    return BookChange(ms, sides[0], sides[1], message["type"] == "snapshot")


def recorded_bybit(path: Path, symbol: str, tick_size: str, lot_size: str) -> MarketStream:
    """A linear symbol of the recorded Bybit session."""
    stream = MarketStream(f"Bybit {symbol}", Decimal(tick_size), Decimal(lot_size))
    newest = 0
    for frame in read_recording(path):
        if frame.kind != "recv" or frame.category != "linear" or f".{symbol}".encode() not in frame.data[:60]:
            continue
        message = orjson.loads(frame.data)
        topic = message.get("topic", "")
        if topic.startswith("orderbook.200"):
            newest = max(newest, message["cts"])
            stream.items.append(_change(stream, message, newest))
        elif topic.startswith("publicTrade") and newest:
            for row in message["data"]:
                stream.items.append(
                    MarketTrade(
                        row["T"],
                        stream.steps(row["p"], stream.tick_size),
                        stream.steps(row["v"], stream.lot_size),
                        row["S"] == "Buy",
                    )
                )
    return stream


def recorded_binance(path: Path, name: str, tick_size: str, lot_size: str) -> MarketStream:
    """Diff depth and trades of a raw Binance capture, from its REST snapshot on, cut to messages of at least 50 ms."""
    stream = MarketStream(name, Decimal(tick_size), Decimal(lot_size))
    snapshot_id, waiting = 0, []
    pending: tuple[dict[int, int], dict[int, int]] = ({}, {})
    pending_ms = 0
    with gzip.open(path, "rb") as lines:
        for line in lines:
            message = orjson.loads(line[line.index(b" ") + 1 :])
            data = message.get("data", message)
            if "lastUpdateId" in data:
                snapshot_id = data["lastUpdateId"]
                levels = {"b": data["bids"], "a": data["asks"]}
                ms = data.get("T") or data.get("E") or (waiting[-1]["E"] if waiting else 0)
                stream.items.append(_binance_change(stream, levels, ms, is_snapshot=True))
                late, waiting = waiting, []
                for each in late:
                    if each["u"] > snapshot_id:
                        stream.items.append(_binance_change(stream, each, max(ms, each.get("T", each["E"]))))
            elif data.get("e") == "depthUpdate":
                if not snapshot_id:
                    waiting.append(data)
                elif data["u"] > snapshot_id:
                    for side, key in zip(pending, ("b", "a"), strict=True):
                        for price, size in data[key]:
                            tick = stream.steps(price, stream.tick_size)
                            side[tick] = stream.steps(size, stream.lot_size)
                    ms = data.get("T", data["E"])
                    if ms - pending_ms >= 50:
                        stream.items.append(BookChange(ms, list(pending[0].items()), list(pending[1].items())))
                        pending, pending_ms = ({}, {}), ms
            elif data.get("e") == "trade" and snapshot_id and data.get("X", "MARKET") == "MARKET":
                stream.items.append(
                    MarketTrade(
                        data["T"],
                        stream.steps(data["p"], stream.tick_size),
                        max(stream.steps(data["q"], stream.lot_size), 1),
                        not data["m"],
                    )
                )
    return stream


def _binance_change(stream: MarketStream, data: dict, ms: int, *, is_snapshot: bool = False) -> BookChange:
    sides = [
        [(stream.steps(price, stream.tick_size), stream.steps(size, stream.lot_size)) for price, size in data[key]]
        for key in ("b", "a")
    ]
    return BookChange(ms, sides[0], sides[1], is_snapshot)
