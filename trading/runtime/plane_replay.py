"""A recording through the engine's own market plane: the same messages in the same order, and so the same features and
the same signals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from marketdata.feeds.binance import BinanceFeed
from marketdata.feeds.bybit import BybitPublicFeed
from marketdata.feeds.meters import ConnectionMeter
from marketdata.feeds.pool import topic_in
from marketdata.feeds.protocol import FeedListener, VenueBest, VenueError
from marketdata.feeds.recorded import RecordedFrame
from trading.runtime import backlog
from trading.runtime.market_plane import MarketPlane

MARKERS = {"bybit": BybitPublicFeed.MARKER, "binance": BinanceFeed.MARKER}


class SilentFeed:
    """In the place of a live one: what would be asked of the venue is in the recording, answered."""

    def __init__(self, name: str) -> None:
        self.name, self._meter = name, ConnectionMeter(name)

    async def run(self, listener: FeedListener) -> None:
        """Nothing comes by itself."""

    def add(self, symbols: Sequence[str]) -> None:
        """What is recorded comes anyway."""

    def remove(self, symbols: Sequence[str]) -> None:
        """What is recorded comes anyway."""

    def resync(self, symbol: str, reason: str) -> None:
        """The recording holds the snapshot that was asked for."""

    def proven(self, symbol: str) -> None:
        """Nobody waits for it."""

    async def best_prices(self, symbol: str) -> VenueBest:
        raise VenueError("a recording cannot be asked")

    def meter(self, symbol: str) -> ConnectionMeter:
        return self._meter

    def status(self) -> dict[str, Any]:
        return {"connected": True, "connections": {}}


def about(grids: Mapping[str, tuple[Decimal, Decimal]]) -> dict[str, Any]:
    """What a recording's header has to say for its replay: tick and lot size of each symbol."""
    return {"grids": {symbol: [f"{tick:f}", f"{lot:f}"] for symbol, (tick, lot) in grids.items()}}


def grids(header: Mapping[str, Any]) -> dict[str, tuple[Decimal, Decimal]]:
    """Tick and lot size of each symbol, as :func:`about` wrote them."""
    return {symbol: (Decimal(tick), Decimal(lot)) for symbol, (tick, lot) in header.get("grids", {}).items()}


def replay(plane: MarketPlane, lines: Iterable[RecordedFrame]) -> None:
    """Give a plane with silent feeds every recorded line."""
    replayed = PlaneReplay(plane)
    for line in lines:
        replayed.take(line)


class PlaneReplay:
    """A plane with silent feeds that is given a recording line by line. Lines of our own recorders name their feed;
    those of others are their public channel's (``linear``)."""

    def __init__(self, plane: MarketPlane) -> None:
        self._backlog = plane.backlog
        self._venues = {name.replace(" ", "-"): venue for name, venue in plane.venues.items()}
        self._channels = {venue.market_type: venue for venue in plane.venues.values() if venue.venue == "bybit"}

    def take(self, line: RecordedFrame) -> None:
        if line.kind == "mark" and line.connection == backlog.NAME:
            self._backlog.tick(behind=orjson.loads(line.data)["mark"] == backlog.BEHIND)
        venue = self._venues.get(line.connection.rpartition(".")[0]) or self._channels.get(line.category or "")
        if venue is None:
            return
        if line.kind == "recv":
            topic = topic_in(line.data, MARKERS[venue.venue])
            if topic is not None:
                venue.on_frame(topic, line.data, line.receive_ns)
        elif line.kind == "http" and line.url:
            symbol = parse_qs(urlsplit(line.url).query).get("symbol")
            if symbol is not None:
                venue.on_snapshot(symbol[0], line.data, line.receive_ns)
        elif line.kind == "mark":
            told = orjson.loads(line.data)
            venue.mark(told["symbol"], told["mark"], told["reason"])
