"""How a Binance book gets from a REST snapshot to its stream: updates wait, the old are dropped, the first one bridges.

What follows what is decided by the book itself (``marketdata.engine.sync``); here its updates are kept while they
cannot be judged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from marketdata.engine.book import SymbolBook
from marketdata.engine.sync import BookOutcome

# A hundred seconds of a stream that tells ten times a second. Older ones are dropped, which the book then sees as a gap
# between its snapshot and the first that is left.
MOST_WAITING = 1_000


class Judged(NamedTuple):
    """One frame and what it did. Until the next one is asked for, the book is as this one left it."""

    outcome: BookOutcome
    frame: bytes
    receive_ns: int


class SnapshotBridge:
    """Give it every update of one book, and every snapshot that was asked for."""

    def __init__(self, book: SymbolBook) -> None:
        self.book = book
        self._waiting: deque[tuple[bytes, int]] = deque(maxlen=MOST_WAITING)

    def update(self, frame: bytes, receive_ns: int) -> Iterator[Judged]:
        """Take one update; nothing is given while it waits for a snapshot."""
        if self.book.needs_snapshot:
            self._waiting.append((frame, receive_ns))
            return
        outcome = self.book.on_frame(frame, receive_ns)
        if outcome is BookOutcome.GAP:
            # The next snapshot may be older than this update.
            self._waiting.append((frame, receive_ns))
        yield Judged(outcome, frame, receive_ns)

    def snapshot(self, body: bytes, receive_ns: int) -> Iterator[Judged]:
        """Take one snapshot, then every update that waited for it; what each of them did.

        A book that needs none keeps what it has: its own state is newer.
        """
        if not self.book.needs_snapshot:
            return
        yield Judged(self.book.on_frame(body, receive_ns), body, receive_ns)
        waiting, self._waiting = self._waiting, deque(maxlen=MOST_WAITING)
        for frame, frame_ns in waiting:
            yield from self.update(frame, frame_ns)

    def forget(self) -> None:
        """Drop what waits: what comes next may have a hole before it."""
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)
