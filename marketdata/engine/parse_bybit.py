"""One ``orderbook.N.SYMBOL`` frame of Bybit v5, strictly in the two forms that its servers write.

Linear:  {"topic":"orderbook.200.BTCUSDT","type":"delta","ts":1,
          "data":{"s":"BTCUSDT","b":[],"a":[],"u":2,"seq":3},"cts":4}
Spot:    the same with ``"ts":1,"type":"delta"`` in the other order.
"""

from __future__ import annotations

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


def head_text(topic: str) -> bytes:
    return f'{{"topic":"{topic}","'.encode()


def data_text(symbol: str) -> bytes:
    return f',"data":{{"s":"{symbol}","b":['.encode()


TYPE, TYPE_MASK = word(b'type":"'), mask(b'type":"')
TIME, TIME_MASK = word(b'ts":'), mask(b'ts":')
DELTA_TEXT, DELTA_MASK = word(b'delta"'), mask(b'delta"')
SNAPSHOT_TEXT = word(b"snapshot")
THEN, THEN_MASK = word(b',"'), mask(b',"')
ASKS, ASKS_MASK = word(b',"a":['), mask(b',"a":[')
UPDATE, UPDATE_MASK = word(b',"u":'), mask(b',"u":')
SEQ, SEQ_MASK = word(b',"seq":'), mask(b',"seq":')
ENGINE = word(b'},"cts":')
QUOTE, CLOSE = ord('"'), ord("}")


@kernel
def _kind(frame: int, position: int, scratch: int) -> int:
    """``type":"delta"`` or ``type":"snapshot"``: the position after it."""
    if (load_text(frame, position) & TYPE_MASK) != TYPE:
        return REFUSED
    text = load_text(frame, position + 7)
    if (text & DELTA_MASK) == DELTA_TEXT:
        store(scratch, KIND, DELTA)
        return position + 13
    if text == SNAPSHOT_TEXT and load_byte(frame, position + 15) == QUOTE:
        store(scratch, KIND, SNAPSHOT)
        return position + 16
    return REFUSED


@kernel
def parse_bybit(frame: int, end: int, book: int, scratch: int) -> int:
    """Read the frame of ``end`` bytes at an address into the scratch; 0, or REFUSED."""
    powers = scratch + 8 * POWERS
    length = load(book, HEAD_LENGTH)
    if not text_is(frame, 0, book + 8 * HEAD, length, TEMPLATE_WORDS):
        return REFUSED
    position = length
    if (load_text(frame, position) & TIME_MASK) == TIME:
        sent, position = integer(frame, position + 4, end, powers)
        if position == REFUSED or (load_text(frame, position) & THEN_MASK) != THEN:
            return REFUSED
        position = _kind(frame, position + 2, scratch)
        if position == REFUSED:
            return REFUSED
    else:
        position = _kind(frame, position, scratch)
        if position == REFUSED or (load_text(frame, position) & THEN_MASK) != THEN:
            return REFUSED
        if (load_text(frame, position + 2) & TIME_MASK) != TIME:
            return REFUSED
        sent, position = integer(frame, position + 6, end, powers)
        if position == REFUSED:
            return REFUSED
    length = load(book, DATA_LENGTH)
    if not text_is(frame, position, book + 8 * DATA, length, TEMPLATE_WORDS):
        return REFUSED
    found = parse_levels(frame, position + length, end, book, scratch, 0)
    if found == REFUSED:
        return REFUSED
    bids, position = found >> POSITION_BITS, found & POSITION_MASK
    if (load_text(frame, position) & ASKS_MASK) != ASKS:
        return REFUSED
    found = parse_levels(frame, position + 6, end, book, scratch, bids)
    if found == REFUSED:
        return REFUSED
    changes, position = found >> POSITION_BITS, found & POSITION_MASK
    if (load_text(frame, position) & UPDATE_MASK) != UPDATE:
        return REFUSED
    update, position = integer(frame, position + 5, end, powers)
    if position == REFUSED or (load_text(frame, position) & SEQ_MASK) != SEQ:
        return REFUSED
    sequence, position = integer(frame, position + 7, end, powers)
    if position == REFUSED or load_text(frame, position) != ENGINE:
        return REFUSED
    engine, position = integer(frame, position + 8, end, powers)
    if position == REFUSED or position + 1 != end or load_byte(frame, position) != CLOSE or update < 1:
        return REFUSED
    store(scratch, SENT_MS, sent)
    store(scratch, VENUE_MS, engine if engine else sent)
    store(scratch, FIRST_ID, update)
    store(scratch, UPDATE_ID, update)
    store(scratch, PREVIOUS_ID, update - 1)
    store(scratch, SEQUENCE, sequence)
    store(scratch, BID_CHANGES, bids)
    store(scratch, ALL_CHANGES, changes)
    return 0
