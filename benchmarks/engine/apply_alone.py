"""Levels that are already numbers, into a book: what is left of the engine without its parser."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import orjson

from benchmarks.engine.ours import best_of, book_of
from benchmarks.engine.peers import Best, Run
from benchmarks.engine.streams import Stream
from marketdata.engine.ladder import apply_changes, clear, place_window
from marketdata.engine.layout import ASK, BEST, BID
from marketdata.engine.memory import copy_text, load, store
from marketdata.engine.scratch import ALL_CHANGES, BID_CHANGES, LOTS, TICKS, new_scratch


def levels_of(stream: Stream) -> tuple[Any, int]:
    """Every level of the stream (columns: of a snapshot, side, price, quantity, venue ms, message) and the number of
    messages."""
    rows = []
    frames = stream.frames()
    for number, frame in enumerate(frames):
        message = orjson.loads(frame)
        is_snapshot = float(message["type"] == "snapshot")
        for side, name in enumerate("ba"):
            for price, quantity in message["data"][name]:
                rows.append((is_snapshot, side, float(price), float(quantity), message["cts"], number))
    return np.array(rows), len(frames)


@numba.njit("int64(int64, int64, int64, int64, int64, int64, int64)", nogil=True, error_model="numpy")
def _apply_all(book: int, scratch: int, ticks: int, lots: int, bid_ends: int, ends: int, number: int) -> int:
    start = checksum = 0
    for message in range(number):
        stop = load(ends, message)
        copy_text(scratch + 8 * TICKS, ticks + 8 * start, 8 * (stop - start))
        copy_text(scratch + 8 * LOTS, lots + 8 * start, 8 * (stop - start))
        store(scratch, BID_CHANGES, load(bid_ends, message) - start)
        store(scratch, ALL_CHANGES, stop - start)
        if message == 0:
            clear(book)
            place_window(book, scratch)
        apply_changes(book, scratch)
        # Read after every message, as peers' are.
        checksum += load(book, BEST + BID) + load(book, BEST + ASK)
        start = stop
    return checksum


def apply_alone(stream: Stream, levels: Any) -> Run:
    book, scratch, listing = book_of(stream), new_scratch(), stream.listing
    ticks = np.rint(levels[:, 2] / float(listing.tick_size)).astype(np.int64)
    lots = np.rint(levels[:, 3] / float(listing.lot_size)).astype(np.int64)
    messages = np.arange(len(stream))
    ends = np.searchsorted(levels[:, 5], messages, side="right")
    bid_ends = np.searchsorted(levels[:, 5] * 2 + levels[:, 1], messages * 2, side="right")
    arrays = [ticks, lots, bid_ends.astype(np.int64), ends.astype(np.int64)]
    addresses = [int(each.ctypes.data) for each in arrays]

    def run() -> Best:
        _apply_all(book.address, int(scratch.ctypes.data), *addresses, len(arrays[3]))
        return best_of(book)

    return run
