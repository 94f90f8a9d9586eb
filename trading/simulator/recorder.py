"""Writes what a venue tells everybody as a recording: zstd-compressed JSON lines, one a frame, as
:func:`marketdata.feeds.recorded.read_recording` and ``--market`` read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import orjson
import zstandard

from trading.simulator.hub import message_of
from trading.simulator.topics import address
from trading.simulator.venue import Venue

# What the recorded sessions of the real venue have of each symbol.
TOPICS = ("orderbook.200", "publicTrade", "tickers", "kline.1")
LINEAR_TOPICS = (*TOPICS, "allLiquidation")


class RecordedConnection:
    """A client of the hub that listens to one category and writes down what it is sent. ``frames`` counts that."""

    channel = "public"
    is_cut = False

    def __init__(self, venue: Venue, category: str, stream: IO[bytes]) -> None:
        self.user: str | None = None
        self.topics: set[str] = set()
        self.frames = 0
        self._venue, self._category, self._stream = venue, category, stream
        url = f"ws://simulator/v5/public/{category}"
        self._write({"t": "connect", "addr": url})

    def subscribe(self, topics: Iterable[str]) -> None:
        """Listen, beginning with the snapshots of now."""
        for topic in topics:
            name = address(self._category, topic)
            first = self._venue.first_message(name)
            self._venue.hub.subscribe(self, name)  # type: ignore[arg-type]
            if first is not None:
                self.send(first)

    def send(self, message: bytes) -> None:
        self.frames += 1
        self._write({"t": "recv", "data": message.decode()})

    def send_frame(self, frame: bytes) -> None:
        self.send(message_of(frame))

    def _write(self, row: dict[str, Any]) -> None:
        seconds = self._venue.clock() / 1_000
        kind, rest = row.pop("t"), row
        line = {"t": kind, "conn": f"SIMULATOR.ws.{self._category}", "ts": seconds, **rest}
        self._stream.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


class Recorder:
    """Records a venue into a file from now until :meth:`close`.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, venue: Venue, path: Path) -> None:
        self._file = path.open("wb")
        self._stream = zstandard.ZstdCompressor(level=3).stream_writer(self._file)
        self._header(venue)
        self._connections = []
        for category, markets, topics in (
            ("linear", venue.exchange.markets, LINEAR_TOPICS),
            ("spot", venue.exchange.spot, TOPICS),
        ):
            connection = RecordedConnection(venue, category, self._stream)
            connection.subscribe(f"{topic}.{symbol}" for symbol in markets for topic in topics)
            self._connections.append(connection)

    @property
    def frames(self) -> int:
        return sum(connection.frames for connection in self._connections)

    def close(self) -> None:
        self._stream.close()
        self._file.close()

    def _header(self, venue: Venue) -> None:
        """What the real recordings begin with: how it was made, and what the venue listed."""
        rows: list[dict[str, Any]] = [{"t": "header", "format": 2, "exchange": "SIMULATOR", "source": venue.source}]
        for category, markets in (("linear", venue.exchange.markets), ("spot", venue.exchange.spot)):
            listed = {"category": category, "list": [market.listing for market in markets.values()]}
            answer = {"retCode": 0, "retMsg": "OK", "result": listed, "retExtInfo": {}, "time": venue.clock()}
            url = f"http://simulator/v5/market/instruments-info?category={category}"
            row = {"t": "http", "conn": "SIMULATOR.http", "ts": venue.clock() / 1_000, "url": url}
            rows.append({**row, "data": orjson.dumps(answer).decode()})
        for row in rows:
            self._stream.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
