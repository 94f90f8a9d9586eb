"""How a Binance book gets from a REST snapshot to its stream: updates wait, the old are dropped, the first one bridges.

What follows what is decided by the book itself (``marketdata.engine.sync``); here its updates are kept while they
cannot be judged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from marketdata.engine.book import SymbolBook
from marketdata.engine.sync import BookOutcome

# 100 s of the fastest stream. Who waits longer needs a newer snapshot than the oldest of them could follow.
MOST_WAITING = 10_000


class SnapshotBridge:
    """Give it every update of one book, and every snapshot that was asked for."""

    def __init__(self, book: SymbolBook) -> None:
        self.book = book
        self._waiting: deque[tuple[bytes, int]] = deque(maxlen=MOST_WAITING)

    def update(self, frame: bytes, receive_ns: int) -> Iterator[BookOutcome]:
        """Take one update; nothing is given while it waits for a snapshot."""
        if self.book.needs_snapshot:
            self._waiting.append((frame, receive_ns))
            return
        outcome = self.book.on_frame(frame, receive_ns)
        if outcome is BookOutcome.GAP:
            # The next snapshot may be older than this update.
            self._waiting.append((frame, receive_ns))
        yield outcome

    def snapshot(self, body: bytes, receive_ns: int) -> Iterator[BookOutcome]:
        """Take one snapshot, then every update that waited for it; what each of them did.

        A book that needs none keeps what it has: its own state is newer.
        """
        if not self.book.needs_snapshot:
            return
        yield self.book.on_frame(body, receive_ns)
        waiting, self._waiting = self._waiting, deque(maxlen=MOST_WAITING)
        for frame, frame_ns in waiting:
            yield from self.update(frame, frame_ns)

    def __len__(self) -> int:
        return len(self._waiting)
