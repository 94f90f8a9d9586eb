"""One book of one venue on its way through an engine, and what is known about it besides its levels."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from decimal import Decimal

from marketdata.engine import sources
from marketdata.engine.book import SymbolBook
from marketdata.engine.sync import BookState
from marketdata.feeds.binance import depth_stream
from marketdata.feeds.meters import SymbolMeter
from marketdata.feeds.snapshot_bridge import SnapshotBridge
from trading.runtime.market_frames import SymbolMarket
from trading.runtime.top_check import TopCheck


@dataclass(slots=True, eq=False)
class BookStream:
    """``state`` is the book's after its newest message, since ``changed_at``. ``market`` is what pages and strategies
    see of it, None for a book that others are only compared with. ``bridge``: of a book whose snapshots come by REST.
    """

    symbol: str
    book: SymbolBook
    market: SymbolMarket | None
    bridge: SnapshotBridge | None = None
    state: BookState = BookState.SYNCING
    meter: SymbolMeter = field(default_factory=SymbolMeter)
    changed_at: float = field(default_factory=time.monotonic)
    check: TopCheck | None = None
    differences: int = 0

    def turn_to(self, state: BookState) -> None:
        self.state, self.changed_at = state, time.monotonic()
        if self.market is not None:
            self.market.state, self.market.changed = state, True

    def row(self) -> dict[str, object]:
        return {"state": self.state.name, "reason": self.book.state_reason, **self.meter.row()}


def binance_book_stream(symbol: str, tick_size: Decimal, lot_size: Decimal, market: str) -> BookStream:
    """A book of Binance's ``spot`` or ``usdm`` that nothing is traded by."""
    of_market = sources.binance_spot if market == "spot" else sources.binance_futures
    book = SymbolBook(symbol, tick_size, lot_size, source=of_market(symbol, depth_stream(symbol)))
    return BookStream(symbol, book, None, SnapshotBridge(book))
