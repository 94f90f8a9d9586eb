"""Frames on their way into books: collected as they arrive, taken together in one compiled call."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from marketdata.engine.feature_table import FEATURES
from marketdata.engine.memory import PADDING
from marketdata.engine.process import (
    FRAME_BOOK,
    FRAME_LENGTH,
    FRAME_OUTCOME,
    FRAME_RECEIVE_NS,
    FRAME_WORDS,
    UNUSUAL_FORM,
    Work,
    process,
)
from marketdata.engine.scratch import new_scratch
from marketdata.engine.sync import BookOutcome

FRAMES = 1_024
BUFFER_BYTES = 1 << 20
FEATURE_COUNT = len(FEATURES)
_ENTRY = struct.Struct(f"={FRAME_WORDS}q")
_OUTCOMES = tuple(BookOutcome)


class Taker(Protocol):
    """A book as a batch sees it: where it lies, and what it does with a frame that the kernels left to it."""

    @property
    def address(self) -> int: ...

    def take_unusual(self, frame: bytes, receive_ns: int, batch: FrameBatch, row: int) -> BookOutcome: ...

    def fit_window(self) -> None: ...


class FrameBatch:
    """Add frames until it is full, then take them. Not for several threads at once: each has its own."""

    def __init__(self, frames: int = FRAMES, work: Work = Work.FEATURES) -> None:
        self.scratch: NDArray[np.int64] = new_scratch()
        self.work = work
        self.rows: NDArray[np.float64] = np.full((frames, FEATURE_COUNT), np.nan)
        self._table: NDArray[np.int64] = np.zeros((frames, FRAME_WORDS), dtype=np.int64)
        self._entries = memoryview(self._table).cast("B")  # type: ignore[arg-type]
        self._books: list[Taker] = []
        self._capacity = frames
        self._used = 0
        self._make_buffer(BUFFER_BYTES)

    def _make_buffer(self, size: int) -> None:
        self._bytes: NDArray[np.uint8] = np.zeros(size + PADDING, dtype=np.uint8)
        self._view = memoryview(self._bytes)  # type: ignore[arg-type]
        self._size, self._start = size, int(self._bytes.ctypes.data)

    def __len__(self) -> int:
        return len(self._books)

    def add(self, book: Taker, frame: bytes | memoryview, receive_ns: int) -> bool:
        """Keep a copy of one frame; False if there is no room before the next :meth:`take`."""
        length, used, index = len(frame), self._used, len(self._books)
        if index == self._capacity or used + length > self._size:
            if index or length > 1 << 26:
                return False
            self._make_buffer(2 * length)
        self._view[used : used + length] = frame
        _ENTRY.pack_into(self._entries, _ENTRY.size * index, self._start + used, length, book.address, receive_ns, 0)
        self._used = used + length
        self._books.append(book)
        return True

    def take(self) -> Iterator[tuple[int, BookOutcome]]:
        """Take all frames in their order; gives, for each, its place in the batch and what it did, and empties it.

        ``rows[place]`` holds the features after a message that was applied, until the next frame is added.
        """
        number = len(self._books)
        self.run(number)
        outcomes = self._table[:number, FRAME_OUTCOME].tolist()
        self.clear()
        for place, outcome in enumerate(outcomes):
            yield place, _OUTCOMES[outcome]

    def run(self, number: int) -> None:
        table, scratch, rows = self._table.ctypes.data, self.scratch.ctypes.data, self.rows.ctypes.data
        place = 0
        while place < number:
            stop = process(table, place, number, scratch, int(self.work), rows, FEATURE_COUNT)
            # Now, not after the batch: what follows a snapshot must not depend on what was taken with it.
            if stop > place and self._table[stop - 1, FRAME_OUTCOME] == BookOutcome.SNAPSHOT:
                self._books[stop - 1].fit_window()
                self._point_anew(stop - 1, number)
            if stop < number and self._table[stop, FRAME_OUTCOME] >= UNUSUAL_FORM:
                self._take_unusual(stop, number)
                stop += 1
            place = stop

    def clear(self) -> None:
        self._books.clear()
        self._used = 0

    def _take_unusual(self, place: int, number: int) -> None:
        book, entry = self._books[place], self._table[place]
        offset = int(entry[0]) - self._start
        frame = bytes(self._view[offset : offset + int(entry[FRAME_LENGTH])])
        row = int(self.rows[place].ctypes.data)
        outcome = book.take_unusual(frame, int(entry[FRAME_RECEIVE_NS]), self, row)
        entry[FRAME_OUTCOME] = int(outcome)
        if outcome is BookOutcome.SNAPSHOT:
            book.fit_window()
        self._point_anew(place, number)

    def _point_anew(self, place: int, number: int) -> None:
        """The memory of the book of this frame may have moved."""
        book = self._books[place]
        for later in range(place + 1, number):
            if self._books[later] is book:
                self._table[later, FRAME_BOOK] = book.address


_threads = threading.local()


def own_batch() -> FrameBatch:
    """This thread's batch for single frames."""
    batch: FrameBatch | None = getattr(_threads, "batch", None)
    if batch is None:
        batch = _threads.batch = FrameBatch(frames=1)
    return batch
