"""What arrives within one turn of the event loop: taken by the books in one compiled call, then told in its order.

The order is that of arrival in everything that can be seen: a trade counts in its book before the frames behind it and
after those in front of it, and whatever is told of a message is told as it was right after it. So it makes no
difference to any decision how many frames one turn happens to hold, and a recording replayed frame by frame decides as
the live run did.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marketdata.engine.batch import FrameBatch, Taken
from marketdata.engine.sync import BookOutcome
from marketdata.events import Trade
from trading.runtime.book_stream import BookStream

log = logging.getLogger(__name__)

# A turn that waited so long, or holds so much, is behind: what is stale in it is left out.
BEHIND_NS = 20_000_000
BEHIND_FRAMES = 512

Row = NDArray[np.float64]
TellBook = Callable[[BookStream, Taken, Row, bytes, int, bool], None]


@dataclass(slots=True)
class _Arrival:
    """A book's frame, or (``tell`` set) something to be told; of those with the same ``replaced_by``, a turn that is
    behind tells only the last."""

    receive_ns: int
    stream: BookStream | None = None
    frame: bytes = b""
    tell: Callable[[], None] | None = None
    replaced_by: Hashable | None = None


class FrameTurn:
    """``tell_book`` is given each book's message: what it did, its features (valid during the call), the frame, its
    time, and whether the views of strategies may skip it. ``scheduled``: taken by itself in the event loop's next step
    (live), or only by :meth:`take` (replays, which are never behind).

    ``shared_books``: symbols whose books other books are compared with.
    """

    def __init__(self, tell_book: TellBook, *, scheduled: bool) -> None:
        self._tell_book, self._scheduled = tell_book, scheduled
        self._batch = FrameBatch()
        self._arrivals: list[_Arrival] = []
        self._late_trades: list[tuple[BookStream, Sequence[Trade]]] = []
        self._late_books: set[BookStream] = set()
        self.shared_books: frozenset[BookStream] = frozenset()
        self._due = False
        self.counts = {"turns": 0, "behind": 0, "dropped": 0, "handler_errors": 0}

    def add_book(self, stream: BookStream, frame: bytes, receive_ns: int) -> None:
        # It must find its own trades, and those of books that it is compared with, counted.
        if self._late_books and (stream in self._late_books or not self.shared_books.isdisjoint(self._late_books)):
            self.take()
        if not self._batch.add(stream.book, frame, receive_ns):
            self.take()
            if not self._batch.add(stream.book, frame, receive_ns):
                log.error("a frame of %d bytes is too large for any book", len(frame))
                return
        self._arrived(_Arrival(receive_ns, stream, frame))

    def add_trades(self, stream: BookStream, trades: Sequence[Trade], tell: Callable[[], None]) -> None:
        if len(self._batch):
            self._late_trades.append((stream, trades))
            self._late_books.add(stream)
        else:
            _count_trades(stream, trades)
        self._arrived(_Arrival(trades[-1].receive_ns if trades else 0, tell=tell))

    def add(self, tell: Callable[[], None], receive_ns: int, replaced_by: Hashable | None = None) -> None:
        self._arrived(_Arrival(receive_ns, tell=tell, replaced_by=replaced_by))

    def take(self) -> None:
        """Take and tell everything that has arrived."""
        self._due = False
        if not self._arrivals:
            return
        arrivals, self._arrivals = self._arrivals, []
        taken = self._batch.take_noted()
        for stream, trades in self._late_trades:
            _count_trades(stream, trades)
        self._late_trades.clear()
        self._late_books.clear()
        self.counts["turns"] += 1
        self._tell(arrivals, taken)

    def _tell(self, arrivals: Sequence[_Arrival], taken: Sequence[Taken]) -> None:
        stale = self._stale(arrivals) if self._is_behind(arrivals) else frozenset()
        self.counts["dropped"] += len(stale)
        rows, place = self._batch.rows, 0
        newest: dict[BookStream, int] = {}
        for index, arrival in enumerate(arrivals):
            try:
                if arrival.stream is not None:
                    at, place = place, place + 1
                    if taken[at].outcome <= BookOutcome.DELTA:
                        newest[arrival.stream] = at
                    self._tell_book(
                        arrival.stream, taken[at], rows[at], arrival.frame, arrival.receive_ns, index in stale
                    )
                elif arrival.tell is not None and index not in stale:
                    arrival.tell()
            except Exception:
                self.counts["handler_errors"] += 1
                log.exception("what arrived could not be handled")
        for stream, at in newest.items():
            stream.book.keep_features(rows[at])

    def _is_behind(self, arrivals: Sequence[_Arrival]) -> bool:
        if not self._scheduled:
            return False
        behind = len(arrivals) > BEHIND_FRAMES or time.time_ns() - arrivals[0].receive_ns > BEHIND_NS
        self.counts["behind"] += behind
        return behind

    def _stale(self, arrivals: Sequence[_Arrival]) -> frozenset[int]:
        """What something newer of the same turn replaces: views of a book, states of an open candle. Trades, closed
        candles and updates of books are never left out, nor tickers, whose deltas add up."""
        newest: dict[Hashable, int] = {}
        replaceable: dict[int, Hashable] = {}
        for index, arrival in enumerate(arrivals):
            key = arrival.stream if arrival.stream is not None else arrival.replaced_by
            if key is not None:
                newest[key], replaceable[index] = index, key
        return frozenset(index for index, key in replaceable.items() if newest[key] != index)

    def _arrived(self, arrival: _Arrival) -> None:
        self._arrivals.append(arrival)
        if self._scheduled and not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self.take)


def _count_trades(stream: BookStream, trades: Sequence[Trade]) -> None:
    for trade in trades:
        stream.book.on_trade(trade.venue_ns, trade.price, trade.quantity, trade.side)
