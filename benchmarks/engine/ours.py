"""Ballast's engine on the same frames: in batches as they lie in memory, and one Python call a message."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from decimal import Decimal

import numpy as np

from benchmarks.engine.peers import Best, Run
from benchmarks.engine.streams import Listing, Stream
from marketdata.engine.bands import count_sides
from marketdata.engine.batch import FRAMES, FrameBatch
from marketdata.engine.book import SymbolBook
from marketdata.engine.feature_table import FEATURES
from marketdata.engine.memory import PADDING
from marketdata.engine.process import FRAME_OUTCOME, FRAME_WORDS, Work, process
from marketdata.engine.scratch import new_scratch
from marketdata.engine.sources import BookSource, binance_futures, bybit
from marketdata.engine.sync import BookOutcome

SNAPSHOT, DELTA = int(BookOutcome.SNAPSHOT), int(BookOutcome.DELTA)


def source_of(listing: Listing, venue: str) -> BookSource:
    return bybit(listing.symbol, 200) if venue == "bybit" else binance_futures(listing.symbol)


def book_of(stream: Stream, venue: str = "bybit", work: Work = Work.FEATURES) -> SymbolBook:
    """A book with the memory that the stream's snapshot asks for."""
    listing = stream.listing
    sizes = Decimal(listing.tick_size), Decimal(listing.lot_size)
    book = SymbolBook(listing.symbol, *sizes, source=source_of(listing, venue), work=work)
    if book.on_frame(stream.frames(1)[0], 1) is not BookOutcome.SNAPSHOT:
        raise AssertionError(f"the snapshot was not taken: {book.state_reason}")
    return book


def best_of(book: SymbolBook) -> Best:
    bid, ask = book.best_bid_ticks, book.best_ask_ticks
    assert bid is not None and ask is not None
    return float(bid * book.tick_size), float(ask * book.tick_size)


class Batches:
    """Streams of several symbols, frame by frame in turns, taken ``size`` frames a call."""

    def __init__(self, streams: list[Stream], work: Work, size: int = FRAMES, venue: str = "bybit") -> None:
        self.books = [book_of(stream, venue) for stream in streams]
        self._work, self._size = int(work), size
        self._scratch = new_scratch()
        self._rows = np.full((size, len(FEATURES)), np.nan)
        # As they arrive, each after the one before: so do they lie in a FrameBatch.
        frames = [frame for turn in zip(*(stream.frames() for stream in streams), strict=True) for frame in turn]
        self._memory = np.frombuffer(b"".join(frames) + bytes(PADDING), dtype=np.uint8)
        lengths = np.array([len(frame) for frame in frames], dtype=np.int64)
        self._table = np.zeros((len(frames), FRAME_WORDS), dtype=np.int64)
        self._table[:, 0] = int(self._memory.ctypes.data) + np.cumsum(lengths) - lengths
        self._table[:, 1], self._table[:, 3] = lengths, 1
        self._table[:, 2] = [book.address for book in self.books] * (len(frames) // len(streams))
        self._snapshots = len(streams)

    def __len__(self) -> int:
        """Messages of one replay."""
        return len(self._table)

    def run(self) -> Best:
        return self._run(0)

    def after_snapshots(self) -> Run:
        """Takes the snapshots; the rest is left to be run."""
        self._run(0, self._snapshots)
        return lambda: self._run(self._snapshots)

    def _run(self, first: int, last: int | None = None) -> Best:
        table, rows, scratch = self._table.ctypes.data, self._rows.ctypes.data, self._scratch.ctypes.data
        number, words = len(self._table) if last is None else last, len(FEATURES)
        for start in range(first, number, self._size):
            stop = min(start + self._size, number)
            # The rows of one batch are used again by the next, as in a process that publishes them.
            if process(table, start, stop, scratch, self._work, rows - 8 * words * start, words) != stop:
                raise AssertionError("a frame was left to the general parser")
        return best_of(self.books[0])

    def check(self) -> None:
        """Every frame was applied."""
        outcomes = self._table[:, FRAME_OUTCOME]
        assert (outcomes[: self._snapshots] == SNAPSHOT).all() and (outcomes[self._snapshots :] == DELTA).all()


def batched(stream: Stream, work: Work, size: int = FRAMES, venue: str = "bybit") -> Run:
    batches = Batches([stream], work, size, venue)
    batches.run()
    batches.check()
    return batches.run


def gathered(stream: Stream, frames: list[bytes], work: Work, size: int = 64) -> Run:
    """The live path: each message's bytes are added to a batch, which is taken every ``size`` messages."""
    book, batch = book_of(stream), FrameBatch(size, work)

    def run() -> Best:
        add, take = batch.add, batch.take
        for start in range(0, len(frames), size):
            for frame in frames[start : start + size]:
                add(book, frame, 1)
            for _place, outcome in take():
                if outcome > BookOutcome.DELTA:
                    raise AssertionError(outcome)
        return best_of(book)

    return run


def one_by_one(stream: Stream, frames: list[bytes], work: Work) -> Run:
    """One Python call a message, which returns what became of it."""
    book = book_of(stream, work=work)

    def run() -> Best:
        take = book.on_frame
        for frame in frames:
            if take(frame, 1) > BookOutcome.DELTA:
                raise AssertionError(book.state_reason)
        return best_of(book)

    return run


def bands_from_scratch(book: SymbolBook, repetitions: int) -> Run:
    address = book.address

    def run() -> None:
        for _ in range(repetitions):
            count_sides(address)

    return run


def in_threads(stream: Stream, work: Work, number: int, cores: Callable[[int], None]) -> float:
    """Wall seconds until so many threads have each replayed the stream into a book of their own.

    ``cores`` is told, within each thread, which one it is.
    """
    runs = [batched(stream, work) for _ in range(number)]
    together = threading.Barrier(number + 1)

    def work_through(index: int) -> None:
        cores(index)
        together.wait()
        runs[index]()
        together.wait()

    threads = [threading.Thread(target=work_through, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    gc.collect()
    together.wait()
    began = time.perf_counter()
    together.wait()
    spent = time.perf_counter() - began
    for thread in threads:
        thread.join()
    return spent
