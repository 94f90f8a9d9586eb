"""A recorded session as a market: its raw public frames again, at their own pace, over and over.

Only what must change changes: update ids and sequence numbers continue from loop to loop, and times are moved to now.
Everything else of a frame, its key order included, is as it was received.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from marketdata.feeds.bybit import topic_of
from marketdata.feeds.recorded import RecordedFrame, RecordingError, read_recording
from trading.simulator.exchange import Exchange
from trading.simulator.hub import Hub
from trading.simulator.markets import Market, PublicTrade
from trading.simulator.topics import address

PAUSE_BETWEEN_LOOPS_SECONDS = 0.5
_TIMES = re.compile(rb'"(ts|cts|T|timestamp)":(\d{13})')
_UPDATE = re.compile(rb'"u":(\d+)')


@dataclass(frozen=True, slots=True)
class Recording:
    """The public frames of one session, in the order of arrival, and what the venue listed."""

    name: str
    frames: tuple[RecordedFrame, ...]
    instruments: Mapping[str, tuple[dict[str, Any], ...]]

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Raises RecordingError when the file holds no order books."""
        frames, instruments = [], {}
        for frame in read_recording(path):
            if frame.kind == "recv" and topic_of(frame.data) is not None:
                frames.append(frame)
            elif frame.kind == "http" and frame.url and "instruments-info" in frame.url and frame.category:
                answer = orjson.loads(frame.data)
                instruments[frame.category] = tuple(answer["result"]["list"])
        if not any((topic_of(frame.data) or "").startswith("orderbook.") for frame in frames):
            raise RecordingError(f"{path.name} holds no order-book frames")
        return cls(path.name, tuple(frames), instruments)

    def symbols(self, category: str) -> set[str]:
        """The symbols whose books were recorded."""
        topics = {topic_of(frame.data) or "" for frame in self.frames if frame.category == category}
        return {topic.rpartition(".")[2] for topic in topics if topic.startswith("orderbook.")}

    def listings(self, category: str) -> dict[str, dict[str, Any]]:
        """The venue's own rows of the recorded symbols."""
        wanted = self.symbols(category)
        return {row["symbol"]: row for row in self.instruments.get(category, ()) if row["symbol"] in wanted}


class RecordedBook:
    """The levels of one recorded topic, as texts, for snapshots to new subscribers."""

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


class RecordingPlayer:
    """Plays into the hub, and keeps the exchange's linear markets at the recording's books and prices."""

    def __init__(self, recording: Recording, exchange: Exchange, hub: Hub) -> None:
        self._recording, self._exchange, self._hub = recording, exchange, hub
        self._books: dict[tuple[str, str], RecordedBook] = {}
        self._offsets: dict[tuple[str, str], int] = {}
        self._tickers: dict[str, dict[str, Any]] = {}
        self._skip: set[str] = set()
        self.loops = 0
        self.book_topics = {
            topic for frame in recording.frames if (topic := topic_of(frame.data) or "").startswith("orderbook.")
        }
        self._show_first_state()

    async def run(self, clock: Callable[[], int], speed: float = 1.0) -> None:
        """Play at so many times the recorded pace; frames are moved to the time of ``clock`` (ms since 1970)."""
        frames = self._recording.frames
        while True:
            started, first = time.monotonic(), frames[0].receive_ns
            for frame in frames:
                wait = (frame.receive_ns - first) / 1e9 / speed - (time.monotonic() - started)
                if wait > 0:
                    await asyncio.sleep(wait)
                self.play(frame, clock())
            self.loops += 1
            self._continue_ids()
            await asyncio.sleep(PAUSE_BETWEEN_LOOPS_SECONDS / speed)

    def play(self, frame: RecordedFrame, now_ms: int) -> None:
        """Send one frame on, moved to now, and let the markets follow it."""
        topic, category = topic_of(frame.data) or "", frame.category or "linear"
        if topic.startswith("kline."):
            return  # our own candles serve every interval, this one included
        shift = now_ms - frame.receive_ns // 1_000_000
        data = _TIMES.sub(lambda found: b'"%s":%d' % (found[1], int(found[2]) + shift), frame.data)
        if topic.startswith("orderbook."):
            data = self._book_frame(topic, category, data)
            if topic in self._skip:
                self._skip.discard(topic)
                return
        elif category == "linear":
            self._market_frame(topic, frame.data, now_ms)
        self._hub.publish(address(category, topic), data)

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

    def symbols(self, category: str) -> set[str]:
        return self._recording.symbols(category)

    def listings(self, category: str) -> dict[str, dict[str, Any]]:
        return self._recording.listings(category)

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
        update_id = int(_UPDATE.search(data)[1]) + offset  # type: ignore[index]
        data = _UPDATE.sub(b'"u":%d' % update_id, data, count=1)
        book = self._books.setdefault(key, RecordedBook())
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
            ticker = self._tickers.setdefault(symbol, {})
            ticker.update(message["data"])
            market.last_price = Decimal(ticker["lastPrice"])
            self._exchange.mark(market, Decimal(ticker["markPrice"]), Decimal(ticker["indexPrice"]), now_ms)
        elif kind == "publicTrade":
            for row in message["data"]:
                price, quantity = Decimal(row["p"]), Decimal(row["v"])
                market.last_price = price
                tick, lots = market.grids.prices.units(row["p"]), market.grids.quantities.units(row["v"])
                self._exchange.background_trade(market, tick, lots, row["S"], now_ms)
                trade = PublicTrade(symbol, price, quantity, row["S"], now_ms, row["i"], row["seq"])
                self._exchange.replayed.append(trade)

    def _continue_ids(self) -> None:
        """The next loop begins with snapshots; their ids follow those of this loop's last messages."""
        for frame in self._recording.frames:
            topic = topic_of(frame.data) or ""
            key = (frame.category or "linear", topic)
            if topic.startswith("orderbook.") and b'"type":"snapshot"' in frame.data[:120]:
                first = int(_UPDATE.search(frame.data)[1])  # type: ignore[index]
                self._offsets[key] = self._books[key].update_id + 1 - first

    def _show_first_state(self) -> None:
        """Prices and books before the first second is played, so that nothing is ever empty."""
        seen: set[str] = set()
        for frame in self._recording.frames:
            topic = topic_of(frame.data) or ""
            key = f"{frame.category}/{topic}"
            if key in seen or not topic.startswith(("orderbook.", "tickers.")):
                continue
            seen.add(key)
            if topic.startswith("orderbook."):
                self._book_frame(topic, frame.category or "linear", frame.data)
            elif frame.category == "linear":
                self._market_frame(topic, frame.data, frame.receive_ns // 1_000_000)
