"""Numbers and levels out of a frame's bytes, eight at a time. Every byte is looked at: what is not exactly of the
expected form gives REFUSED, and the general parser (``parse_json``) judges the frame by its meaning.

Digits are converted by the well-known multiply-and-shift on eight characters at once (D. Lemire, "Number parsing at a
gigabyte per second", 2021), after the high bit of each byte has told whether it was a digit.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import inlined, kernel
from marketdata.engine.layout import (
    PRICE_DECIMALS,
    PRICE_INVERSE,
    PRICE_UNIT,
    QUANTITY_DECIMALS,
    QUANTITY_INVERSE,
    QUANTITY_UNIT,
)
from marketdata.engine.memory import (
    LANES,
    convert_lanes,
    load,
    load_byte,
    load_float,
    load_text,
    match_32,
    multiply_lanes,
    store,
    store_bits,
    trailing_zeros,
)
from marketdata.engine.scratch import (
    CHANGES_ROOM,
    LOTS,
    POWERS,
    PRICE_SCALE,
    PRICE_TEXT,
    PRICE_VALUE,
    QUANTITY_SCALE,
    QUANTITY_TEXT,
    QUANTITY_VALUE,
    TICKS,
)

U = np.uint64
REFUSED = -1
# The largest position in a frame; a level count and a position travel in one int64.
POSITION_BITS = 32
POSITION_MASK = (1 << POSITION_BITS) - 1
# Ticks times lots of one message: half of what the general path allows, because this sum is a float.
LARGEST_NOTIONAL = 2.0**59
# Eight digits times ten to the power of this stay in an int64: books with finer texts are left to slow_number.
MOST_FAST_DECIMALS = 10

ONE, EIGHT, SIXTEEN, THIRTY_TWO = U(1), U(8), U(16), U(32)
NOTHING, EVERYTHING = U(0), U(0xFFFFFFFFFFFFFFFF)
ZERO_DIGITS = U(0x3030303030303030)
ABOVE_NINE = U(0x7676767676767676)
HIGH_BITS = U(0x8080808080808080)
LOW_BITS = U(0x0101010101010101)
QUOTES, DOTS = U(0x2222222222222222), U(0x2E2E2E2E2E2E2E2E)
PAIRS, FOURS, EIGHTS = U(2561), U(6553601), U(42949672960001)
PAIR_MASK, FOUR_MASK = U(0x00FF00FF00FF00FF), U(0x0000FFFF0000FFFF)
QUOTE, DOT = np.uint8(ord('"')), np.uint8(ord("."))


def word(text: bytes) -> np.uint64:
    """Up to eight characters as :func:`load_text` reads them."""
    return U(int.from_bytes(text, "little"))


def mask(text: bytes) -> np.uint64:
    return U((1 << (8 * len(text))) - 1)


OPEN, OPEN_MASK = word(b'["'), mask(b'["')
BETWEEN, BETWEEN_MASK = word(b'","'), mask(b'","')
NEXT, NEXT_MASK = word(b'"],["'), mask(b'"],["')
LAST, LAST_MASK = word(b'"]]'), mask(b'"]]')
CLOSE = ord("]")


@inlined
def digits(text, number):
    """The value of the first ``number`` (1 to 8) characters, and bits of which a high one says: no digit."""
    shift = U(64 - 8 * number)
    x = (text << shift) ^ (ZERO_DIGITS << shift)
    wrong = (x + ABOVE_NINE) | x
    x = (x * PAIRS) >> EIGHT
    x = ((x & PAIR_MASK) * FOURS) >> SIXTEEN
    return np.int64(((x & FOUR_MASK) * EIGHTS) >> THIRTY_TWO), wrong


@kernel
def slow_number(frame: int, start: int, length: int, decimals: int, powers: int) -> int:
    """A plain decimal text of any form that Bybit or Binance send, times 10**decimals; negative if it is none."""
    if length < 1 or length > 19:
        return -1
    value, fraction = 0, -1
    for position in range(start, start + length):
        character = load_byte(frame, position)
        if character == 46 and fraction < 0 and position > start:
            fraction = 0
        elif 48 <= character <= 57:
            value = value * 10 + (character - 48)
            if fraction >= 0:
                fraction += 1
        else:
            return -1
    if fraction == 0 or length - (fraction >= 0) > 18:
        return -1
    missing = decimals - max(fraction, 0)
    if missing < 0:
        # Whoever judges the frame takes its decimals on: the next ones are read at full speed.
        return -1
    # 18 digits are below 2**60: the product must be, too.
    power = load(powers, missing)
    return value * power if value < 1_000_000_000_000_000_000 // power else -1


@kernel
def integer_end(frame: int, position: int, end: int) -> int:
    """Where the digits that start at ``position`` end; REFUSED for none, more than 18, or a leading zero."""
    stop = position
    for _ in range(19):
        character = load_byte(frame, stop)
        if character < 48 or character > 57:
            break
        stop += 1
    length = stop - position
    if length < 1 or length > 18 or stop > end or (length > 1 and load_byte(frame, position) == 48):
        return REFUSED
    return stop


@inlined
def integer(frame, position, end, powers):
    """A JSON integer from 0 to 18 digits: its value and the position after it, which is REFUSED if it is none."""
    x = load_text(frame, position) ^ ZERO_DIGITS
    stops = ((x + ABOVE_NINE) | x) & HIGH_BITS
    value, after = np.int64(0), np.int64(REFUSED)
    if stops == NOTHING and (x & U(0xFF)) != NOTHING:
        high, _ = digits(load_text(frame, position), 8)
        text = load_text(frame, position + 8)
        y = text ^ ZERO_DIGITS
        stops = ((y + ABOVE_NINE) | y) & HIGH_BITS
        more = trailing_zeros(stops) >> 3
        if 0 < more < 8:
            low, _ = digits(text, more)
            value, after = high * load(powers, more) + low, position + 8 + more
        elif more == 0:
            value, after = high, position + 8
    if after == REFUSED:
        stop = integer_end(frame, position, end)
        if stop != REFUSED:
            for each in range(position, stop):
                value = value * 10 + (load_byte(frame, each) - 48)
            after = stop
    return value, after


@inlined
def text_is(frame, position, expected, length, words):
    """Whether ``length`` bytes at the position are those at address ``expected`` (kept in whole words, zero-filled)."""
    different = NOTHING
    whole = length >> 3
    for index in range(min(whole, words)):
        different |= load_text(frame, position + 8 * index) ^ load_text(expected, 8 * index)
    rest = length & 7
    if rest:
        kept = (ONE << U(8 * rest)) - ONE
        different |= (load_text(frame, position + 8 * whole) & kept) ^ load_text(expected, 8 * whole)
    return different == NOTHING


@kernel
def parse_levels(frame: int, position: int, end: int, book: int, scratch: int, number: int) -> int:
    """The levels of one side, from just after its ``[``, into the scratch from index ``number``: their texts, which
    :func:`finish_levels` makes ticks and lots of.

    Returns the new number of levels (high half) and the position after ``]`` (low half), or REFUSED. Nearly every
    price of a symbol has as many characters as the one before, with the dot in the same place: that is assumed, so
    that only the end of the quantity is waited for, and checked.
    """
    if load_byte(frame, position) == CLOSE:
        return (number << POSITION_BITS) | (position + 1)
    if (load_text(frame, position) & OPEN_MASK) != OPEN:
        return REFUSED
    powers = scratch + 8 * POWERS
    price_texts, price_scales = scratch + 8 * PRICE_TEXT, scratch + 8 * PRICE_SCALE
    price_values = scratch + 8 * PRICE_VALUE
    quantity_texts, quantity_scales = scratch + 8 * QUANTITY_TEXT, scratch + 8 * QUANTITY_SCALE
    quantity_values = scratch + 8 * QUANTITY_VALUE
    price_decimals, quantity_decimals = load(book, PRICE_DECIMALS), load(book, QUANTITY_DECIMALS)
    fast_price_decimals = price_decimals if price_decimals <= MOST_FAST_DECIMALS else -1
    fast_quantity_decimals = quantity_decimals if quantity_decimals <= MOST_FAST_DECIMALS else -1
    wrong = NOTHING  # its high bits: something of a long number was no digit
    not_dot = NOTHING  # any bit: a dot was missing
    negative = 0  # below zero: a number of an unusual form is none
    length = whole = fraction = 0  # of the price before; 0 for none, or for one of an unusual form
    narrow = False
    keep, dot_mask, shift, scale = NOTHING, NOTHING, NOTHING, 1
    place = position + 2
    for _ in range(CHANGES_ROOM):
        if number >= CHANGES_ROOM - LANES or place >= end:
            return REFUSED
        price_text, price_value, price_scale = NOTHING, 0, scale
        if length and (load_text(frame, place + length) & BETWEEN_MASK) == BETWEEN:
            price_length = length
            text = load_text(frame, place)
            if narrow:
                not_dot |= (text ^ DOTS) & dot_mask
                text = (text & keep) | ((text >> EIGHT) & ~keep)
                price_text = (text << shift) ^ (ZERO_DIGITS << shift)
            else:
                high, wrong_high = digits(text, whole)
                low, wrong_low = digits(load_text(frame, place + whole + 1), fraction)
                wrong |= wrong_high | wrong_low
                negative |= -np.int64(load_byte(frame, place + whole) != 46)
                price_value = (high * load(powers, fraction) + low) * scale
        else:
            quotes = match_32(frame, place, QUOTE)
            if quotes == NOTHING:
                return REFUSED
            length = trailing_zeros(quotes)
            if length < 1 or (load_text(frame, place + length) & BETWEEN_MASK) != BETWEEN:
                return REFUSED
            whole = min(trailing_zeros(match_32(frame, place, DOT)), length)
            has_dot = np.int64(whole < length)
            fraction = length - whole - has_dot
            price_value = slow_number(frame, place, length, price_decimals, powers)
            negative |= price_value
            missing = fast_price_decimals - fraction
            narrow = length <= 8
            usual = whole >= 1 and fraction >= has_dot and missing >= 0
            wide = has_dot == 1 and whole <= 8 and fraction <= 8
            price_length = length
            if usual and (narrow or wide):
                scale = load(powers, missing)
                if narrow:
                    keep = EVERYTHING >> U(64 - 8 * whole)
                    shift = U(64 - 8 * (length - has_dot))
                    dot_mask = (U(0xFF * has_dot)) << U((8 * whole) & 63)
            else:
                length = 0
        store_bits(price_texts, number, price_text)
        store(price_scales, number, price_scale)
        store(price_values, number, price_value)
        start = place + price_length + 3
        text = load_text(frame, start)
        x = text ^ QUOTES
        ends = (x - LOW_BITS) & ~x & HIGH_BITS
        size = trailing_zeros(ends) >> 3
        quantity_text, quantity_value, quantity_scale = NOTHING, 0, 0
        regular = np.int64(-1)
        if ends != NOTHING:
            x = text ^ DOTS
            dots = ((x - LOW_BITS) & ~x & HIGH_BITS) | (ONE << U(8 * size + 7))
            dot = trailing_zeros(dots) >> 3
            has_dot = np.int64(dot < size)
            missing = fast_quantity_decimals - (size - dot - has_dot)
            regular = (dot - 1) | missing | (size - dot - 2 * has_dot)
            if regular >= 0:
                kept = EVERYTHING >> U(64 - 8 * dot)
                unused = U(64 - 8 * (size - has_dot))
                text = (text & kept) | ((text >> EIGHT) & ~kept)
                quantity_text = (text << unused) ^ (ZERO_DIGITS << unused)
                quantity_scale = load(powers, missing)
        if regular < 0:
            quotes = match_32(frame, start, QUOTE)
            if quotes == NOTHING:
                return REFUSED
            size = trailing_zeros(quotes)
            dot = trailing_zeros(match_32(frame, start, DOT))
            parts = size - dot - 1
            missing = fast_quantity_decimals - parts
            if (parts - 1) | (8 - parts) | (dot - 1) | (8 - dot) | missing >= 0:
                high, wrong_high = digits(text, dot)
                low, wrong_low = digits(load_text(frame, start + dot + 1), parts)
                wrong |= wrong_high | wrong_low
                quantity_value = (high * load(powers, parts) + low) * load(powers, missing)
            else:
                quantity_value = slow_number(frame, start, size, quantity_decimals, powers)
                negative |= quantity_value
        store_bits(quantity_texts, number, quantity_text)
        store(quantity_scales, number, quantity_scale)
        store(quantity_values, number, quantity_value)
        number += 1
        place = start + size
        text = load_text(frame, place)
        if (text & NEXT_MASK) == NEXT:
            place += 5
            continue
        after = place + 3
        believed = (wrong & HIGH_BITS) == NOTHING and not_dot == NOTHING and negative >= 0
        if (text & LAST_MASK) == LAST and believed and after <= end:
            return (number << POSITION_BITS) | after
        return REFUSED
    return REFUSED


@kernel
def finish_levels(book: int, scratch: int, number: int) -> int:
    """Make ticks and lots of the texts of ``number`` levels; 0, or REFUSED if one is no number, off the grid, or too
    large."""
    ticks, lots = scratch + 8 * TICKS, scratch + 8 * LOTS
    price_texts, price_scales = scratch + 8 * PRICE_TEXT, scratch + 8 * PRICE_SCALE
    price_values = scratch + 8 * PRICE_VALUE
    quantity_texts, quantity_scales = scratch + 8 * QUANTITY_TEXT, scratch + 8 * QUANTITY_SCALE
    quantity_values = scratch + 8 * QUANTITY_VALUE
    price_unit, quantity_unit = load(book, PRICE_UNIT), load(book, QUANTITY_UNIT)
    price_inverse, quantity_inverse = load_float(book, PRICE_INVERSE), load_float(book, QUANTITY_INVERSE)
    stop = (number + LANES - 1) // LANES * LANES
    for index in range(number, stop):
        store_bits(price_texts, index, NOTHING)
        store(price_values, index, price_unit)
        store_bits(quantity_texts, index, NOTHING)
        store(quantity_values, index, 0)
    wrong, notional = NOTHING, 0.0
    for index in range(0, stop, LANES):
        wrong |= convert_lanes(price_texts, price_scales, price_values, ticks, index, price_unit, price_inverse, 1)
        wrong |= convert_lanes(
            quantity_texts, quantity_scales, quantity_values, lots, index, quantity_unit, quantity_inverse, 0
        )
        notional += multiply_lanes(ticks, lots, index)
    return 0 if wrong == NOTHING and notional < LARGEST_NOTIONAL else REFUSED
