"""One book of one venue on its way through an engine, and what is known about it besides its levels."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from marketdata.engine.book import SymbolBook
from marketdata.engine.sync import BookState
from marketdata.feeds.meters import SymbolMeter
from trading.runtime.market_frames import SymbolMarket
from trading.runtime.top_check import TopCheck

# Updates that wait for a snapshot: a hundred seconds of them. Older ones are dropped, which the book then sees as a
# gap between its snapshot and the first that is left.
MOST_HELD = 1_000


@dataclass(slots=True, eq=False)
class BookStream:
    """``state`` is the book's after the newest message that was told; the book itself may be some messages ahead.
    ``market`` is what pages and strategies see of it, None for a book that others are only compared with.

    ``by_rest``: its snapshots come by REST, and while one is on its way (``waits``) updates are held back.
    """

    symbol: str
    book: SymbolBook
    market: SymbolMarket | None
    by_rest: bool
    state: BookState = BookState.SYNCING
    waits: bool = False
    held: deque[tuple[bytes, int]] = field(default_factory=lambda: deque(maxlen=MOST_HELD))
    meter: SymbolMeter = field(default_factory=SymbolMeter)
    changed_at: float = field(default_factory=time.monotonic)
    check: TopCheck | None = None
    differences: int = 0

    def __post_init__(self) -> None:
        self.waits = self.by_rest

    def turn_to(self, state: BookState) -> None:
        self.state, self.changed_at = state, time.monotonic()
        if self.market is not None:
            self.market.state, self.market.changed = state, True

    def wait_for_snapshot(self) -> None:
        self.waits = self.by_rest

    def row(self) -> dict[str, object]:
        return {"state": self.state.name, "reason": self.book.state_reason, **self.meter.row()}
