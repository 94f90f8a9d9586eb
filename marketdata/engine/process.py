"""Bytes to book in one compiled call: a batch of frames, each parsed, judged, applied and turned into features.

A frame that the strict parser leaves, or that needs more room, stops the batch with its outcome, untouched: Python
judges it (``marketdata.engine.book``) and the batch goes on behind it.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from marketdata.engine.bands import follow_bands, sums_are_too_large
from marketdata.engine.compiled import compiled, kernel
from marketdata.engine.features import compute_features
from marketdata.engine.ladder import apply_changes, clear, follow_price, has_room, place_window, window_fits
from marketdata.engine.layout import (
    ASK,
    BANDS_READY,
    BEFORE_COUNT,
    BEST,
    BID,
    CHANGES,
    DELTAS,
    FORMAT,
    FRESH_SNAPSHOT,
    GAPS,
    IGNORED,
    LEVEL_COUNT,
    MESSAGES,
    MISSED_ID,
    NO_ASK,
    OBSERVE_MESSAGE,
    REACH,
    REASON,
    RECEIVE_NS,
    RULE,
    SENT_MS,
    SEQUENCE,
    SIDES,
    SNAPSHOT_LIMIT,
    SNAPSHOTS,
    STATE,
    UPDATE_ID,
    VENUE_MS,
    WORST,
)
from marketdata.engine.memory import BYTES_LENGTH, BYTES_TEXT, call_back, copy_text, load, load_byte, store
from marketdata.engine.parse_binance import parse_binance, parse_binance_snapshot
from marketdata.engine.parse_bybit import parse_bybit
from marketdata.engine.parse_text import REFUSED, finish_levels
from marketdata.engine.scratch import ALL_CHANGES, FIRST_ID
from marketdata.engine.scratch import SENT_MS as MESSAGE_SENT_MS
from marketdata.engine.scratch import SEQUENCE as MESSAGE_SEQUENCE
from marketdata.engine.scratch import UPDATE_ID as MESSAGE_UPDATE_ID
from marketdata.engine.scratch import VENUE_MS as MESSAGE_VENUE_MS
from marketdata.engine.sync import BookOutcome, BookState, Reason, SyncRule, judge
from marketdata.engine.windows import correct_clock, move_clock, note_changes


class FrameFormat(IntEnum):
    BYBIT = 0
    BINANCE = 1


class Work(IntEnum):
    """How much is done for a message."""

    BOOK = 0
    BANDS = 1
    FEATURES = 2  # and bands


# Outcomes besides BookOutcome: the frame was not judged yet.
UNUSUAL_FORM = 16
NEEDS_ROOM = 17

# A row of a batch's table, in words.
FRAME_ADDRESS, FRAME_LENGTH, FRAME_BOOK, FRAME_RECEIVE_NS, FRAME_OUTCOME = range(5)
FRAME_WORDS = 5

_SNAPSHOT, _DELTA, _GAP = int(BookOutcome.SNAPSHOT), int(BookOutcome.DELTA), int(BookOutcome.GAP)
_SYNCING, _LIVE, _BROKEN = int(BookState.SYNCING), int(BookState.LIVE), int(BookState.BROKEN)
_BYBIT_FORMAT = int(FrameFormat.BYBIT)
_NO_REASON, _GAP_REASON, _EMPTY_SIDE = int(Reason.NONE), int(Reason.GAP), int(Reason.EMPTY_SIDE)
_CROSSED, _NOT_BRIDGED, _TOO_LARGE = int(Reason.CROSSED), int(Reason.NOT_BRIDGED), int(Reason.TOO_LARGE)
_BYBIT_RULE = int(SyncRule.BYBIT)
_BANDS, _FEATURES = int(Work.BANDS), int(Work.FEATURES)
SECOND_CHARACTER_OF_SNAPSHOT = ord("l")


@kernel
def parse(frame: int, length: int, book: int, scratch: int) -> int:
    """The frame into the scratch by the book's format; 0, or REFUSED."""
    if load(book, FORMAT) == _BYBIT_FORMAT:
        read = parse_bybit(frame, length, book, scratch)
    elif load_byte(frame, 2) == SECOND_CHARACTER_OF_SNAPSHOT:
        read = parse_binance_snapshot(frame, length, book, scratch)
    else:
        read = parse_binance(frame, length, book, scratch)
    return read if read == REFUSED else finish_levels(book, scratch, load(scratch, ALL_CHANGES))


@kernel
def _conclude(book: int, is_snapshot: int) -> None:
    """The state that the message leads to."""
    state, reason = _LIVE, _NO_REASON
    # A snapshot by REST proves nothing until an update bridges it.
    waits = np.int64(is_snapshot == 1 and load(book, RULE) != _BYBIT_RULE)
    if waits:
        state, reason = _SYNCING, _NOT_BRIDGED
        for side in range(SIDES):
            everything = load(book, LEVEL_COUNT + side) < load(book, SNAPSHOT_LIMIT)
            furthest = (0 if side == BID else NO_ASK) if everything else load(book, WORST + side)
            store(book, REACH + side, furthest)
    if load(book, LEVEL_COUNT + BID) == 0 or load(book, LEVEL_COUNT + ASK) == 0:
        state, reason = _BROKEN, _EMPTY_SIDE
    elif load(book, BEST + BID) >= load(book, BEST + ASK):
        state, reason = _BROKEN, _CROSSED
    store(book, FRESH_SNAPSHOT, waits)
    store(book, STATE, state)
    store(book, REASON, reason)


@compiled("int64(int64, int64, int64, int64, int64)")
def take_message(book: int, scratch: int, receive_ns: int, work: int, row: int) -> int:
    """Judge and apply the message in the scratch; its features go to the address ``row``.

    Returns a BookOutcome, or NEEDS_ROOM with the book untouched.
    """
    outcome = judge(book, scratch)
    if outcome > _DELTA:
        if outcome == _GAP:
            store(book, GAPS, load(book, GAPS) + 1)
            store(book, STATE, _SYNCING)
            store(book, REASON, _GAP_REASON)
            store(book, MISSED_ID, load(scratch, FIRST_ID))
            store(book, FRESH_SNAPSHOT, 0)
        else:
            store(book, IGNORED, load(book, IGNORED) + 1)
        store(book, MESSAGES, load(book, MESSAGES) + 1)
        return outcome
    is_snapshot = np.int64(outcome == _SNAPSHOT)
    if has_room(book, scratch, is_snapshot) == 0:
        return NEEDS_ROOM
    if is_snapshot:
        clear(book)
        place_window(book, scratch)
        store(book, BEFORE_COUNT + BID, 0)
        store(book, BEFORE_COUNT + ASK, 0)
        store(book, BANDS_READY, 0)
    apply_changes(book, scratch)
    store(book, UPDATE_ID, load(scratch, MESSAGE_UPDATE_ID))
    store(book, SEQUENCE, load(scratch, MESSAGE_SEQUENCE))
    store(book, SENT_MS, load(scratch, MESSAGE_SENT_MS))
    store(book, VENUE_MS, load(scratch, MESSAGE_VENUE_MS))
    store(book, RECEIVE_NS, receive_ns)
    store(book, MESSAGES, load(book, MESSAGES) + 1)
    store(book, CHANGES, load(book, CHANGES) + load(scratch, ALL_CHANGES))
    store(book, SNAPSHOTS, load(book, SNAPSHOTS) + is_snapshot)
    store(book, DELTAS, load(book, DELTAS) + 1 - is_snapshot)
    _conclude(book, is_snapshot)
    if work >= _BANDS:
        follow_bands(book, scratch, is_snapshot)
        if sums_are_too_large(book):
            store(book, STATE, _BROKEN)
            store(book, REASON, _TOO_LARGE)
    else:
        store(book, BANDS_READY, 0)
    if work >= _FEATURES:
        correct_clock(book, load(scratch, MESSAGE_VENUE_MS))
        move_clock(book, load(scratch, MESSAGE_VENUE_MS))
        note_changes(book, scratch, is_snapshot)
        compute_features(book, scratch, row)
        if load(book, OBSERVE_MESSAGE) != 0:
            call_back(load(book, OBSERVE_MESSAGE), book, scratch, is_snapshot, 0)
    # After all that looks at what the message changed, and where.
    follow_price(book)
    return outcome


# What a message that comes alone is taken with: the words of its control block.
CONTROL_BOOK, CONTROL_ROW, CONTROL_SCRATCH, CONTROL_TEXT, CONTROL_TEXT_ROOM, CONTROL_WORK = range(6)
CONTROL_WORDS = 6


@compiled("int64(int64, int64, int64)", nogil=False)
def take_frame(control: int, frame: int, receive_ns: int) -> int:
    """Take one frame: the bytes object whose ``id()`` is given. Features go to the control block's row.

    Returns a BookOutcome, or why the frame was not judged. The scratch and the copy of the text are shared by all
    books: the GIL, which is held, keeps threads apart.
    """
    length = load(frame, BYTES_LENGTH)
    if length > load(control, CONTROL_TEXT_ROOM):
        return NEEDS_ROOM
    # Parsers read past the end.
    text, book, scratch = load(control, CONTROL_TEXT), load(control, CONTROL_BOOK), load(control, CONTROL_SCRATCH)
    copy_text(text, frame + BYTES_TEXT, length)
    if parse(text, length, book, scratch) == REFUSED:
        return UNUSUAL_FORM
    return take_message(book, scratch, receive_ns, load(control, CONTROL_WORK), load(control, CONTROL_ROW))


@compiled("int64(int64, int64, int64, int64, int64, int64, int64)")
def process(table: int, start: int, stop: int, scratch: int, work: int, rows: int, row_words: int) -> int:
    """Take the frames ``start`` to ``stop`` of the table at an address (``FRAME_WORDS`` a frame); each one's outcome is
    written there, and its features to row ``index`` of ``rows``.

    Returns the index of the first frame that was not taken: ``stop``, or one whose outcome says why, or the one after a
    snapshot that asks for a larger window.
    """
    for index in range(start, stop):
        entry = table + 8 * FRAME_WORDS * index
        book = load(entry, FRAME_BOOK)
        outcome = UNUSUAL_FORM
        if parse(load(entry, FRAME_ADDRESS), load(entry, FRAME_LENGTH), book, scratch) != REFUSED:
            row = rows + 8 * row_words * index
            outcome = take_message(book, scratch, load(entry, FRAME_RECEIVE_NS), work, row)
        store(entry, FRAME_OUTCOME, outcome)
        if outcome >= UNUSUAL_FORM:
            return index
        if outcome == _SNAPSHOT and window_fits(book) == 0:
            return index + 1
    return stop
