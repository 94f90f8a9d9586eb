"""Ballast's engine on the same frames: in batches as they lie in memory, and one Python call a message."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from multiprocessing.connection import Connection

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


def replays_in(seconds: float, run: Run) -> int:
    """How often a run is done to last so long, by its fastest of three."""
    fastest = min(_seconds_of(run) for _ in range(3))
    return max(1, round(seconds / fastest))


def _seconds_of(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


class Copies:
    """Processes that each do the same runs on a core of their own and share nothing: what a second core is worth on
    this machine to work like this."""

    def __init__(self, runs: list[list[Run]], pin: Callable[[int], None]) -> None:
        context = multiprocessing.get_context("fork")
        self._ends = []
        for index, own in enumerate(runs):
            end, other_end = context.Pipe()
            process = context.Process(target=_obey, args=(other_end, own, pin, index), daemon=True)
            process.start()
            end.recv()
            self._ends.append(end)

    def seconds(self, run: int, times: int) -> float:
        """Wall seconds from the first one's start to the last one's end."""
        for end in self._ends:
            end.send((run, times))
        spans = [end.recv() for end in self._ends]
        return float(max(ended for _, ended in spans) - min(began for began, _ in spans))

    def stop(self) -> None:
        for end in self._ends:
            end.send(None)


def _obey(end: Connection, runs: list[Run], pin: Callable[[int], None], index: int) -> None:
    pin(index)
    for run in runs:
        run()
    end.send(None)
    while (order := end.recv()) is not None:
        run, times = order
        began = time.perf_counter()
        for _ in range(times):
            runs[run]()
        end.send((began, time.perf_counter()))


def in_threads(runs: list[Run], times: int, pin: Callable[[int], None]) -> float:
    """Wall seconds until each run has been done so many times, each in a thread of its own.

    ``pin`` is told, within each thread, which one it is.
    """
    together = threading.Barrier(len(runs) + 1)

    def work_through(index: int) -> None:
        pin(index)
        together.wait()
        for _ in range(times):
            runs[index]()
        together.wait()

    threads = [threading.Thread(target=work_through, args=(index,)) for index in range(len(runs))]
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
