"""Binance's diff-depth events and REST snapshots, strictly in the forms that its servers write.

Spot:      {"e":"depthUpdate","E":1,"s":"BTCUSDT","U":2,"u":3,"b":[],"a":[]}
Futures:   {"e":"depthUpdate","E":1,"T":2,"s":"BTCUSDT","U":3,"u":4,"pu":2,"b":[],"a":[]}; coin-M adds "ps":"BTCUSD"
Combined:  {"stream":"btcusdt@depth@100ms","data":EVENT}
Snapshot:  {"lastUpdateId":1,"bids":[],"asks":[]}; futures add "E" and "T" after the id. Coin-M's, which
           name the symbol too, are left to the general parser

A snapshot does not always name its symbol: whoever asked for it knows which book it is for.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import kernel
from marketdata.engine.layout import DATA, DATA_LENGTH, HEAD, HEAD_LENGTH, TEMPLATE_WORDS
from marketdata.engine.memory import load, load_byte, load_text, store
from marketdata.engine.parse_text import (
    POSITION_BITS,
    POSITION_MASK,
    REFUSED,
    integer,
    mask,
    parse_levels,
    text_is,
    word,
)
from marketdata.engine.scratch import (
    ALL_CHANGES,
    BID_CHANGES,
    DELTA,
    FIRST_ID,
    KIND,
    POWERS,
    PREVIOUS_ID,
    SENT_MS,
    SEQUENCE,
    SNAPSHOT,
    UPDATE_ID,
    VENUE_MS,
)


def head_text(stream: str) -> bytes:
    """The wrapper of a combined stream; a raw stream has none."""
    return f'{{"stream":"{stream}","data":'.encode() if stream else b""


def data_text(symbol: str, pair: str) -> bytes:
    return f'"s":"{symbol}",'.encode() + (f'"ps":"{pair}",'.encode() if pair else b"")


EVENT_START, EVENT_MIDDLE = word(b'{"e":"de'), word(b"pthUpdat")
EVENT_END, EVENT_END_MASK = word(b'e","E":'), mask(b'e","E":')
COMMA_TIME, COMMA_TIME_MASK = word(b',"T":'), mask(b',"T":')
FIRST, FIRST_MASK = word(b'"U":'), mask(b'"U":')
FINAL, FINAL_MASK = word(b',"u":'), mask(b',"u":')
BEFORE, BEFORE_MASK = word(b',"pu":'), mask(b',"pu":')
BIDS, BIDS_MASK = word(b',"b":['), mask(b',"b":[')
ASKS, ASKS_MASK = word(b',"a":['), mask(b',"a":[')
LAST_START, LAST_END = word(b'{"lastUp'), word(b'dateId":')
SENT, SENT_MASK = word(b',"E":'), mask(b',"E":')
ALL_BIDS = word(b',"bids":')
ALL_ASKS = word(b',"asks":')
COMMA, COMMA_MASK = word(b","), mask(b",")
BRACKET, BRACE = ord("["), ord("}")


@kernel
def parse_binance(frame: int, end: int, book: int, scratch: int) -> int:
    """Read an event of ``end`` bytes at an address into the scratch; 0, or REFUSED."""
    powers = scratch + 8 * POWERS
    position = load(book, HEAD_LENGTH)
    if not text_is(frame, 0, book + 8 * HEAD, position, TEMPLATE_WORDS):
        return REFUSED
    wrapped = 1 if position else 0
    if load_text(frame, position) != EVENT_START or load_text(frame, position + 8) != EVENT_MIDDLE:
        return REFUSED
    if (load_text(frame, position + 16) & EVENT_END_MASK) != EVENT_END:
        return REFUSED
    sent, position = integer(frame, position + 23, end, powers)
    if position == REFUSED:
        return REFUSED
    venue = np.int64(0)
    if (load_text(frame, position) & COMMA_TIME_MASK) == COMMA_TIME:
        venue, position = integer(frame, position + 5, end, powers)
        if position == REFUSED:
            return REFUSED
    if (load_text(frame, position) & COMMA_MASK) != COMMA:
        return REFUSED
    length = load(book, DATA_LENGTH)
    if not text_is(frame, position + 1, book + 8 * DATA, length, TEMPLATE_WORDS):
        return REFUSED
    position += 1 + length
    if (load_text(frame, position) & FIRST_MASK) != FIRST:
        return REFUSED
    first, position = integer(frame, position + 4, end, powers)
    if position == REFUSED or (load_text(frame, position) & FINAL_MASK) != FINAL:
        return REFUSED
    update, position = integer(frame, position + 5, end, powers)
    if position == REFUSED:
        return REFUSED
    before = first - 1
    if (load_text(frame, position) & BEFORE_MASK) == BEFORE:
        before, position = integer(frame, position + 6, end, powers)
        if position == REFUSED:
            return REFUSED
    if (load_text(frame, position) & BIDS_MASK) != BIDS or update < first or first < 1:
        return REFUSED
    found = parse_levels(frame, position + 6, end, book, scratch, 0)
    if found == REFUSED:
        return REFUSED
    bids, position = found >> POSITION_BITS, found & POSITION_MASK
    if (load_text(frame, position) & ASKS_MASK) != ASKS:
        return REFUSED
    found = parse_levels(frame, position + 6, end, book, scratch, bids)
    if found == REFUSED:
        return REFUSED
    position = found & POSITION_MASK
    if position + 1 + wrapped != end or load_byte(frame, position) != BRACE or load_byte(frame, end - 1) != BRACE:
        return REFUSED
    store(scratch, KIND, DELTA)
    store(scratch, SENT_MS, sent)
    store(scratch, VENUE_MS, venue if venue else sent)
    store(scratch, FIRST_ID, first)
    store(scratch, UPDATE_ID, update)
    store(scratch, PREVIOUS_ID, before)
    store(scratch, SEQUENCE, update)
    store(scratch, BID_CHANGES, bids)
    store(scratch, ALL_CHANGES, found >> POSITION_BITS)
    return 0


@kernel
def parse_binance_snapshot(frame: int, end: int, book: int, scratch: int) -> int:
    """Read a REST answer of ``end`` bytes at an address into the scratch; 0, or REFUSED."""
    powers = scratch + 8 * POWERS
    if load_text(frame, 0) != LAST_START or load_text(frame, 8) != LAST_END:
        return REFUSED
    update, position = integer(frame, 16, end, powers)
    if position == REFUSED or update < 1:
        return REFUSED
    sent, venue = 0, 0
    if (load_text(frame, position) & SENT_MASK) == SENT:
        sent, position = integer(frame, position + 5, end, powers)
        if position == REFUSED or (load_text(frame, position) & COMMA_TIME_MASK) != COMMA_TIME:
            return REFUSED
        venue, position = integer(frame, position + 5, end, powers)
        if position == REFUSED:
            return REFUSED
    if load_text(frame, position) != ALL_BIDS or load_byte(frame, position + 8) != BRACKET:
        return REFUSED
    found = parse_levels(frame, position + 9, end, book, scratch, 0)
    if found == REFUSED:
        return REFUSED
    bids, position = found >> POSITION_BITS, found & POSITION_MASK
    if load_text(frame, position) != ALL_ASKS or load_byte(frame, position + 8) != BRACKET:
        return REFUSED
    found = parse_levels(frame, position + 9, end, book, scratch, bids)
    if found == REFUSED:
        return REFUSED
    position = found & POSITION_MASK
    if position + 1 != end or load_byte(frame, position) != BRACE:
        return REFUSED
    store(scratch, KIND, SNAPSHOT)
    store(scratch, SENT_MS, sent)
    store(scratch, VENUE_MS, venue if venue else sent)
    store(scratch, FIRST_ID, update)
    store(scratch, UPDATE_ID, update)
    store(scratch, PREVIOUS_ID, update)
    store(scratch, SEQUENCE, update)
    store(scratch, BID_CHANGES, bids)
    store(scratch, ALL_CHANGES, found >> POSITION_BITS)
    return 0
