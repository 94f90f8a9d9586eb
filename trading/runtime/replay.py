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
from marketdata.instruments import InstrumentRules
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


def about(rules: Iterable[InstrumentRules]) -> dict[str, Any]:
    """What a recording's header has to say for its replay: the grid of each symbol."""
    return {"grids": {each.symbol: [f"{each.tick_size:f}", f"{each.lot_size:f}"] for each in rules}}


def grids(header: Mapping[str, Any]) -> dict[str, tuple[Decimal, Decimal]]:
    """Tick and lot size of each symbol, as :func:`about` wrote them."""
    return {symbol: (Decimal(tick), Decimal(lot)) for symbol, (tick, lot) in header.get("grids", {}).items()}


def replay(plane: MarketPlane, lines: Iterable[RecordedFrame], *, a_turn: int = 1) -> None:
    """Give a plane (with silent feeds, not scheduled) every recorded line; ``a_turn`` of them are taken together."""
    venues = {name.replace(" ", "-"): venue for name, venue in plane.venues.items()}
    for number, line in enumerate(lines, 1):
        venue = venues.get(line.connection.rpartition(".")[0])
        if venue is None:
            continue
        if line.kind == "recv":
            topic = topic_in(line.data, MARKERS[venue.venue])
            if topic is not None:
                venue.on_frame(topic, line.data, line.receive_ns)
        elif line.kind == "http" and line.url:
            symbol = parse_qs(urlsplit(line.url).query)["symbol"][0]
            venue.on_snapshot(symbol, line.data, line.receive_ns)
        elif line.kind == "mark":
            told = orjson.loads(line.data)
            venue.mark(told["symbol"], told["mark"], told["reason"])
        if number % a_turn == 0:
            plane.take()
    plane.take()
