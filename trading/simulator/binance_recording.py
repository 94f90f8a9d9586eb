"""A recorded Binance session as a market: its order books and trades move the simulated books at their own pace.

Unlike a Bybit recording, whose frames are told again as they were, this one only moves the books; every stream is made
from them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from marketdata.engine.grid import GridError, common_step
from marketdata.feeds.recorded import CONNECTED, HTTP, RECEIVED, RecordedFrame, RecordingError, read_recording
from trading.simulator.exchange import Exchange
from trading.simulator.instruments import SimulatedInstrument
from trading.simulator.markets import Market

_SYMBOL = re.compile(r"[?&]symbol=([A-Z0-9]+)")
SNAPSHOT, DELTA, TRADE = "snapshot", "delta", "trade"
QUOTE = "USDT"


@dataclass(frozen=True, slots=True)
class Event:
    """``rows`` are (side, price, quantity): levels of a book, or one trade with its taker's side."""

    time_ns: int
    symbol: str
    kind: str
    rows: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class BinanceRecording:
    """Books and trades of one session in the order of arrival, each book from its snapshot on."""

    name: str
    events: tuple[Event, ...]

    @classmethod
    def read(cls, path: Path) -> BinanceRecording:
        """Raises RecordingError when the file cannot be read or holds no book with its snapshot."""
        synchroniser = _Synchroniser()
        try:
            for frame in read_recording(path):
                synchroniser.take(frame)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise RecordingError(f"{path.name} cannot be read: {type(error).__name__}: {error}") from None
        if not synchroniser.local_ids:
            raise RecordingError(f"{path.name} holds no order book with its REST snapshot")
        kept = [event for event in synchroniser.events if event.symbol in synchroniser.local_ids]
        return cls(path.name, tuple(kept))

    def listings(self) -> dict[str, dict[str, Any]]:
        """Rows of ``instruments-info``, with the finest grid that the recorded texts need."""
        rows = {}
        for symbol in dict.fromkeys(event.symbol for event in self.events):
            levels = [row for event in self.events if event.symbol == symbol for row in event.rows]
            try:
                tick, lot = common_step(row[1] for row in levels), common_step(row[2] for row in levels)
            except GridError as error:
                raise RecordingError(f"{self.name}: {symbol}: {error}") from None
            price = Decimal(levels[0][1])
            base = symbol.removesuffix(QUOTE)
            rows[symbol] = SimulatedInstrument(symbol, base, price, tick, lot, Decimal(50), 0.0005, 9_000.0).listing()
        return rows


def is_binance(path: Path) -> bool:
    """Whether a file looks like a Binance session: its first frames are updates, or of streams, of Binance."""
    try:
        return any(_is_of_binance(frame) for frame in islice(read_recording(path), 5))
    except RecordingError:
        return False


def _is_of_binance(frame: RecordedFrame) -> bool:
    if frame.kind == CONNECTED:
        return "binance" in (frame.url or "")
    return frame.kind == RECEIVED and (b'"depthUpdate"' in frame.data or frame.data.startswith(b'{"stream":'))


class _Synchroniser:
    """Follows Binance's rules of synchronisation: updates before the snapshot are dropped, and a gap ends a book."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.local_ids: dict[str, int] = {}
        self._symbol_of_stream = ""

    def take(self, frame: RecordedFrame) -> None:
        if frame.kind not in (RECEIVED, HTTP):
            return
        time_ns, body = frame.receive_ns, orjson.loads(frame.data)
        data = body.get("data", body)
        if "lastUpdateId" in data:
            asked = _SYMBOL.search(frame.url or "")
            self._snapshot(time_ns, asked[1] if asked is not None else self._symbol_of_stream, data)
        elif data.get("e") == "depthUpdate":
            self._symbol_of_stream = data["s"]
            self._delta(time_ns, data)
        elif data.get("e") in ("trade", "aggTrade") and data["s"].endswith(QUOTE):
            taker = "Sell" if data["m"] else "Buy"
            self.events.append(Event(time_ns, data["s"], TRADE, ((taker, data["p"], data["q"]),)))

    def _snapshot(self, time_ns: int, symbol: str, data: dict[str, Any]) -> None:
        if symbol.endswith(QUOTE) and data.get("bids") and data.get("asks"):
            self.local_ids[symbol] = data["lastUpdateId"]
            self.events.append(Event(time_ns, symbol, SNAPSHOT, _levels(data["bids"], data["asks"])))

    def _delta(self, time_ns: int, data: dict[str, Any]) -> None:
        local = self.local_ids.get(data["s"])
        if local is not None and data["u"] > local:
            self.local_ids[data["s"]] = data["u"]
            self.events.append(Event(time_ns, data["s"], DELTA, _levels(data["b"], data["a"])))


def _levels(bids: list[list[str]], asks: list[list[str]]) -> tuple[tuple[str, str, str], ...]:
    return tuple([("Buy", row[0], row[1]) for row in bids] + [("Sell", row[0], row[1]) for row in asks])


class BinanceReplay:
    """Plays a recording into an exchange's markets, over and over; time comes from whoever calls :meth:`step`."""

    def __init__(self, recording: BinanceRecording, exchange: Exchange) -> None:
        self._events, self._exchange = recording.events, exchange
        self._position, self._began_ms = 0, -1
        self.loops = 0
        for symbol, market in exchange.markets.items():
            first = next(event for event in self._events if event.symbol == symbol and event.kind == SNAPSHOT)
            self._move_book(market, first)
            market.last_price = market.mark_price = market.index_price = _mid(market)

    def step(self, now_ms: int) -> None:
        """Play everything whose time has come."""
        if self._began_ms < 0:
            self._began_ms = now_ms
        first_ns, touched = self._events[0].time_ns, set()
        while self._position < len(self._events):
            event = self._events[self._position]
            if event.time_ns - first_ns > (now_ms - self._began_ms) * 1_000_000:
                break
            self._position += 1
            market = self._exchange.markets[event.symbol]
            touched.add(event.symbol)
            if event.kind == TRADE:
                self._trade(market, event, now_ms)
            else:
                self._move_book(market, event)
                self._exchange.cross_resting(market, now_ms)
        if self._position == len(self._events):
            self._position, self._began_ms = 0, -1
            self.loops += 1
        for symbol in sorted(touched):
            market = self._exchange.markets[symbol]
            price = _mid(market)
            self._exchange.mark(market, price, price, now_ms)

    def move(self, symbol: str, percent: float) -> None:
        """A recording cannot be moved."""

    def _move_book(self, market: Market, event: Event) -> None:
        prices, quantities, book = market.grids.prices, market.grids.quantities, market.book
        rows = [(name, prices.units(price), quantities.units(quantity)) for name, price, quantity in event.rows]
        if event.kind == SNAPSHOT:
            for side in ("Buy", "Sell"):
                book.side(side).replace_background({tick: lots for name, tick, lots in rows if name == side})
        else:
            for name, tick, lots in rows:
                book.side(name).set_background(tick, lots)
        book.changed = True

    def _trade(self, market: Market, event: Event, now_ms: int) -> None:
        ((side, price, quantity),) = event.rows
        tick, lots = market.grids.prices.units(price), market.grids.quantities.units(quantity)
        if lots == 0:
            return
        self._exchange.background_trade(market, tick, lots, side, now_ms)
        self._exchange.public_trade(market, side, tick, lots, now_ms)


def _mid(market: Market) -> Decimal:
    """Of the best prices, on the grid; the last price while a side is empty."""
    bid, ask = market.book.bids.best, market.book.asks.best
    return market.last_price if bid is None or ask is None else market.grids.prices.value((bid + ask) // 2)
