"""The levels of a book: rings around the price, overflow lists for everything else, and the window between them.

Every loop is bounded: an unbounded one has been seen to miscompile when numba loads it from its cache. Callers make
sure that a side's overflow has room for all of its levels (:func:`has_room`), so nothing here can run out of it.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import compiled, inlined, kernel
from marketdata.engine.layout import (
    ASK,
    BEST,
    BID,
    HEADER_WORDS,
    LEVEL_COUNT,
    NO_ASK,
    NO_BID,
    OVERFLOW_COUNT,
    OVERFLOW_ROOM,
    RING_MASK,
    SIDES,
    WINDOW_LOW,
    WORST,
)
from marketdata.engine.memory import (
    leading_zeros,
    load,
    load_bits,
    load_half,
    store,
    store_bits,
    store_half,
    trailing_zeros,
)
from marketdata.engine.scratch import (
    ALL_CHANGES,
    BID_CHANGES,
    LOTS,
    OLD_LOTS,
    TICKS,
    TOP,
    TOP_COUNT,
    TOP_LARGEST,
    TOP_LARGEST_TICK,
    TOP_LOTS,
    TOP_SIDE_WORDS,
    TOP_SUM_LOTS,
    TOP_SUM_NOTIONAL,
    TOP_TICKS,
)

U = np.uint64
NOTHING, EVERYTHING, ONE = U(0), U(0xFFFFFFFFFFFFFFFF), U(1)
NONE = -(1 << 60)
# A window starts at a multiple of this, so that no word of a bitmap holds both of its ends.
ALIGNMENT = 64
LONGEST_SEARCH = 64
# A window of a million ticks takes 21 MB.
LARGEST_RING = 1 << 20
# More than these outside of the window after a snapshot, and it is made larger: far levels are right, but slow.
MOST_FAR_LEVELS = 64


@inlined
def ring(book, side):
    """The address of a side's lots by slot."""
    return book + 8 * (HEADER_WORDS + side * (load(book, RING_MASK) + 1))


@inlined
def bitmap(book, side):
    """The address of a side's bits, one a slot: whether the level exists."""
    size = load(book, RING_MASK) + 1
    return book + 8 * (HEADER_WORDS + SIDES * size + side * (size >> 6))


@inlined
def births(book, side):
    """The address of a side's half words, one a slot: when its level appeared, in ms; 0 where that was not seen."""
    size = load(book, RING_MASK) + 1
    return book + 8 * (HEADER_WORDS + SIDES * size + SIDES * (size >> 6)) + 4 * side * size


@inlined
def overflow(book, side):
    """The address of a side's far levels: ticks ascending, then (``OVERFLOW_ROOM`` words on) their lots."""
    size = load(book, RING_MASK) + 1
    first = HEADER_WORDS + SIDES * size + SIDES * (size >> 6) + size
    return book + 8 * (first + side * 2 * load(book, OVERFLOW_ROOM))


def block_words(ring_size: int, overflow_room: int) -> int:
    """How many words a block with such rings and overflow lists takes."""
    return HEADER_WORDS + SIDES * ring_size + SIDES * (ring_size >> 6) + ring_size + SIDES * 2 * overflow_room


@kernel
def highest_at_or_below(bits: int, mask: int, low: int, tick: int, _high: int) -> int:
    """The highest level of the window that is not above ``tick`` (a tick of the window), or NONE."""
    slot = tick & mask
    place = slot >> 6
    within = slot & 63
    found = load_bits(bits, place) & (EVERYTHING >> U(63 - within))
    base = tick - within
    for _ in range((mask >> 6) + 1):
        if found != NOTHING:
            return base + 63 - leading_zeros(found)
        base -= 64
        if base < low:
            return NONE
        place = (place - 1) & (mask >> 6)
        found = load_bits(bits, place)
    return NONE


@kernel
def lowest_at_or_above(bits: int, mask: int, _low: int, tick: int, high: int) -> int:
    """The lowest level of the window that is not below ``tick`` (a tick of the window), or NONE."""
    slot = tick & mask
    place = slot >> 6
    within = slot & 63
    found = load_bits(bits, place) & (EVERYTHING << U(within))
    base = tick - within
    for _ in range((mask >> 6) + 1):
        if found != NOTHING:
            return base + trailing_zeros(found)
        base += 64
        if base > high:
            return NONE
        place = (place + 1) & (mask >> 6)
        found = load_bits(bits, place)
    return NONE


@kernel
def position_of(ticks: int, count: int, tick: int) -> int:
    """The index of the first of ``count`` ascending ticks that is not below ``tick``."""
    low, high = 0, count
    for _ in range(LONGEST_SEARCH):
        if low >= high:
            break
        middle = (low + high) >> 1
        if load(ticks, middle) < tick:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _make_gap(words: int, count: int, position: int, size: int) -> None:
    for index in range(count - 1, position - 1, -1):
        store(words, index + size, load(words, index))


@kernel
def _close_gap(words: int, count: int, position: int, size: int) -> None:
    for index in range(position, count - size):
        store(words, index, load(words, index + size))


@kernel
def set_far_level(book: int, side: int, tick: int, lots: int) -> int:
    """Set a level outside the window (0 removes it); returns what it held."""
    ticks = overflow(book, side)
    quantities = ticks + 8 * load(book, OVERFLOW_ROOM)
    count = load(book, OVERFLOW_COUNT + side)
    position = position_of(ticks, count, tick)
    if position < count and load(ticks, position) == tick:
        old = load(quantities, position)
        if lots != 0:
            store(quantities, position, lots)
            return old
        _close_gap(ticks, count, position, 1)
        _close_gap(quantities, count, position, 1)
        store(book, OVERFLOW_COUNT + side, count - 1)
        return old
    if lots != 0:
        _make_gap(ticks, count, position, 1)
        _make_gap(quantities, count, position, 1)
        store(ticks, position, tick)
        store(quantities, position, lots)
        store(book, OVERFLOW_COUNT + side, count + 1)
    return 0


@kernel
def find_ends(book: int, side: int) -> None:
    """Correct a side's BEST and WORST after changes: they are as good, and as far, as any level named since."""
    best, worst = load(book, BEST + side), load(book, WORST + side)
    if load(book, LEVEL_COUNT + side) == 0:
        store(book, BEST + side, NO_BID if side == BID else NO_ASK)
        store(book, WORST + side, NO_BID if side == BID else NO_ASK)
        return
    mask, low = load(book, RING_MASK), load(book, WINDOW_LOW)
    high = low + mask
    bits = bitmap(book, side)
    upper = min(max(best if side == BID else worst, low), high)
    lower = min(max(worst if side == BID else best, low), high)
    top = highest_at_or_below(bits, mask, low, upper, high)
    bottom = lowest_at_or_above(bits, mask, low, lower, high)
    far = load(book, OVERFLOW_COUNT + side)
    if far > 0:
        ticks = overflow(book, side)
        top = max(top, load(ticks, far - 1))
        first = load(ticks, 0)
        bottom = first if bottom == NONE else min(bottom, first)
    store(book, BEST + side, top if side == BID else bottom)
    store(book, WORST + side, bottom if side == BID else top)


@inlined
def apply_side(book, scratch, side, start, stop):
    """Set the levels of the changes ``start`` to ``stop``; each one's old lots go into the scratch."""
    if start == stop:
        return
    mask, low = load(book, RING_MASK), load(book, WINDOW_LOW)
    lots, bits = ring(book, side), bitmap(book, side)
    ticks, news, olds = scratch + 8 * TICKS, scratch + 8 * LOTS, scratch + 8 * OLD_LOTS
    levels = load(book, LEVEL_COUNT + side)
    best, worst = load(book, BEST + side), load(book, WORST + side)
    if side == BID and worst == NO_BID:
        worst = np.int64(NO_ASK)
    if side == ASK and worst == NO_ASK:
        worst = np.int64(NO_BID)
    for index in range(start, stop):
        tick, new = load(ticks, index), load(news, index)
        if U(tick - low) <= U(mask):
            slot = tick & mask
            old = load(lots, slot)
            store(lots, slot, new)
            bit = U(slot & 63)
            others = load_bits(bits, slot >> 6) & ~(ONE << bit)
            store_bits(bits, slot >> 6, others | (U(new != 0) << bit))
        else:
            old = set_far_level(book, side, tick, new)
        store(olds, index, old)
        levels += np.int64(new != 0) - np.int64(old != 0)
        if side == BID:
            best = max(best, tick if new != 0 else NO_BID)
            worst = min(worst, tick if new != 0 else NO_ASK)
        else:
            best = min(best, tick if new != 0 else NO_ASK)
            worst = max(worst, tick if new != 0 else NO_BID)
    store(book, LEVEL_COUNT + side, levels)
    store(book, BEST + side, best)
    store(book, WORST + side, worst)
    find_ends(book, side)


@kernel
def has_room(book: int, scratch: int, is_snapshot: int) -> int:
    """Whether the overflow lists could take every level that there may be after the changes in the scratch."""
    bids = load(scratch, BID_CHANGES)
    asks = load(scratch, ALL_CHANGES) - bids
    if is_snapshot == 0:
        bids += load(book, LEVEL_COUNT + BID)
        asks += load(book, LEVEL_COUNT + ASK)
    return 1 if max(bids, asks) <= load(book, OVERFLOW_ROOM) else 0


@kernel
def clear(book: int) -> None:
    """Remove every level. Only slots that the bitmap names are written."""
    words = (load(book, RING_MASK) + 1) >> 6
    for side in range(SIDES):
        lots, bits = ring(book, side), bitmap(book, side)
        for place in range(words):
            if load_bits(bits, place) != NOTHING:
                for slot in range(64 * place, 64 * place + 64):
                    store(lots, slot, 0)
                store_bits(bits, place, NOTHING)
        store(book, OVERFLOW_COUNT + side, 0)
        store(book, LEVEL_COUNT + side, 0)
        store(book, BEST + side, NO_BID if side == BID else NO_ASK)
        store(book, WORST + side, NO_BID if side == BID else NO_ASK)


@compiled("int64(int64, int64)")
def window_around(book: int, tick: int) -> int:
    """Where a window that has a tick in its middle starts."""
    low = tick - ((load(book, RING_MASK) + 1) >> 1)
    return max(low, 0) // ALIGNMENT * ALIGNMENT


@kernel
def place_window(book: int, scratch: int) -> None:
    """Put the window of an empty book around the best prices of the snapshot in the scratch."""
    ticks, news = scratch + 8 * TICKS, scratch + 8 * LOTS
    bids, changes = load(scratch, BID_CHANGES), load(scratch, ALL_CHANGES)
    bid, ask = NO_BID, NO_ASK
    for index in range(bids):
        if load(news, index) != 0:
            bid = max(bid, load(ticks, index))
    for index in range(bids, changes):
        if load(news, index) != 0:
            ask = min(ask, load(ticks, index))
    middle = ask if bid == NO_BID else (bid if ask == NO_ASK else (bid + ask) >> 1)
    if middle != NO_ASK:
        store(book, WINDOW_LOW, window_around(book, middle))


@kernel
def move_window(book: int, new_low: int) -> None:
    """Levels that the window leaves go to the overflow lists, and those that it reaches come from them."""
    mask, old_low = load(book, RING_MASK), load(book, WINDOW_LOW)
    old_high, new_high = old_low + mask, new_low + mask
    # The ticks that are left: from `first` to `last`, both of the old window.
    first = old_low if new_low > old_low else max(new_high + 1, old_low)
    last = min(new_low - 1, old_high) if new_low > old_low else old_high
    room = load(book, OVERFLOW_ROOM)
    for side in range(SIDES):
        lots, bits, born = ring(book, side), bitmap(book, side), births(book, side)
        ticks = overflow(book, side)
        quantities = ticks + 8 * room
        count = load(book, OVERFLOW_COUNT + side)
        leaving = 0
        for base in range(first, last + 1, ALIGNMENT):
            found = load_bits(bits, (base & mask) >> 6)
            for _ in range(64):
                if found == NOTHING:
                    break
                leaving += 1
                found &= found - ONE
        if leaving > 0:
            position = position_of(ticks, count, first)
            _make_gap(ticks, count, position, leaving)
            _make_gap(quantities, count, position, leaving)
            for base in range(first, last + 1, ALIGNMENT):
                place = (base & mask) >> 6
                found = load_bits(bits, place)
                for _ in range(64):
                    if found == NOTHING:
                        break
                    tick = base + trailing_zeros(found)
                    store(ticks, position, tick)
                    store(quantities, position, load(lots, tick & mask))
                    store(lots, tick & mask, 0)
                    store_half(born, tick & mask, np.int32(0))
                    position += 1
                    found &= found - ONE
                store_bits(bits, place, NOTHING)
            count += leaving
        start = position_of(ticks, count, new_low)
        stop = position_of(ticks, count, new_high + 1)
        for position in range(start, stop):
            tick = load(ticks, position)
            slot = tick & mask
            store(lots, slot, load(quantities, position))
            store_half(born, slot, np.int32(0))
            store_bits(bits, slot >> 6, load_bits(bits, slot >> 6) | (ONE << U(slot & 63)))
        if stop > start:
            _close_gap(ticks, count, start, stop - start)
            _close_gap(quantities, count, start, stop - start)
        store(book, OVERFLOW_COUNT + side, count - (stop - start))
    store(book, WINDOW_LOW, new_low)


@kernel
def follow_price(book: int) -> None:
    """Move the window when the price has left its middle half."""
    bid, ask = load(book, BEST + BID), load(book, BEST + ASK)
    middle = (bid + ask) >> 1
    if bid == NO_BID:
        middle = ask
    elif ask == NO_ASK:
        middle = bid
    size = load(book, RING_MASK) + 1
    offset = middle - load(book, WINDOW_LOW)
    if middle != NO_ASK and (offset < size >> 2 or offset >= size - (size >> 2)):
        new_low = window_around(book, middle)
        if new_low != load(book, WINDOW_LOW):
            move_window(book, new_low)


@kernel
def apply_changes(book: int, scratch: int) -> None:
    """Set every level of the message in the scratch. Room was made sure of before."""
    bids = load(scratch, BID_CHANGES)
    apply_side(book, scratch, BID, 0, bids)
    apply_side(book, scratch, ASK, bids, load(scratch, ALL_CHANGES))


@compiled("void(int64, int64)")
def set_levels(book: int, scratch: int) -> None:
    """Set the levels in the scratch, whatever the book makes of it; its window stays."""
    apply_changes(book, scratch)


@kernel
def window_fits(book: int) -> int:
    """Whether most levels lie in the window, or it cannot be larger."""
    far = max(load(book, OVERFLOW_COUNT + BID), load(book, OVERFLOW_COUNT + ASK))
    return 1 if far <= MOST_FAR_LEVELS or load(book, RING_MASK) + 1 >= LARGEST_RING else 0


@compiled("void(int64, int64, int64)")
def copy_births(old: int, book: int, tick_factor: int) -> None:
    """The births of the levels that lie in both windows, from a block whose ticks were so many times larger."""
    old_mask, old_low = load(old, RING_MASK), load(old, WINDOW_LOW)
    mask, low = load(book, RING_MASK), load(book, WINDOW_LOW)
    for side in range(SIDES):
        old_bits, old_born = bitmap(old, side), births(old, side)
        born = births(book, side)
        for base in range(old_low, old_low + old_mask + 1, ALIGNMENT):
            found = load_bits(old_bits, (base & old_mask) >> 6)
            for _ in range(64):
                if found == NOTHING:
                    break
                old_tick = base + trailing_zeros(found)
                tick = old_tick * tick_factor
                if U(tick - low) <= U(mask):
                    store_half(born, tick & mask, load_half(old_born, old_tick & old_mask))
                found &= found - ONE


@kernel
def next_level(book: int, side: int, tick: int) -> int:
    """The level after ``tick``, away from the price; NONE after the last."""
    mask, low = load(book, RING_MASK), load(book, WINDOW_LOW)
    high = low + mask
    ticks, far = overflow(book, side), load(book, OVERFLOW_COUNT + side)
    bits = bitmap(book, side)
    near = NONE
    if side == BID:
        if tick > low:
            near = highest_at_or_below(bits, mask, low, min(tick - 1, high), high)
        if far > 0:
            position = position_of(ticks, far, tick) - 1
            if position >= 0:
                near = max(near, load(ticks, position))
        return near
    if tick < high:
        near = lowest_at_or_above(bits, mask, low, max(tick + 1, low), high)
    if far > 0:
        position = position_of(ticks, far, tick + 1)
        if position < far:
            distant = load(ticks, position)
            near = distant if near == NONE else min(near, distant)
    return near


@kernel
def level_lots(book: int, side: int, tick: int) -> int:
    """What a level holds, in lots; 0 where there is none."""
    mask, low = load(book, RING_MASK), load(book, WINDOW_LOW)
    if U(tick - low) <= U(mask):
        return load(ring(book, side), tick & mask)
    ticks, far = overflow(book, side), load(book, OVERFLOW_COUNT + side)
    position = position_of(ticks, far, tick)
    if position < far and load(ticks, position) == tick:
        return load(ticks + 8 * load(book, OVERFLOW_ROOM), position)
    return 0


@compiled("int64(int64, int64, int64, int64)")
def list_levels(book: int, side: int, wanted: int, levels: int) -> int:
    """Write up to ``wanted`` levels, best first, as pairs of tick and lots to an address; returns how many."""
    tick = load(book, BEST + side)
    number = min(wanted, load(book, LEVEL_COUNT + side))
    for index in range(number):
        store(levels, 2 * index, tick)
        store(levels, 2 * index + 1, level_lots(book, side, tick))
        tick = next_level(book, side, tick)
    return number


@inlined
def top_side(book, scratch, side, wanted):
    """The best levels of one side with their running sums; levels of the window word by word, the rest one by one."""
    mask, low = load(book, RING_MASK), load(book, WINDOW_LOW)
    lots, bits = ring(book, side), bitmap(book, side)
    top = scratch + 8 * (TOP + side * TOP_SIDE_WORDS)
    number = min(np.int64(wanted), load(book, LEVEL_COUNT + side))
    best = load(book, BEST + side)
    found, sum_lots, sum_notional = 0, 0, 0
    largest, largest_tick = 0, best
    tick = best
    # Far levels of the better side of a window that holds the best do not exist.
    if U(best - low) <= U(mask):
        slot = best & mask
        place, within = slot >> 6, slot & 63
        base = best - within
        near = load_bits(bits, place)
        near &= (EVERYTHING >> U(63 - within)) if side == BID else (EVERYTHING << U(within))
        for _ in range((mask >> 6) + 1):
            for _bit in range(64):
                if near == NOTHING or found == number:
                    break
                bit = 63 - leading_zeros(near) if side == BID else trailing_zeros(near)
                near ^= ONE << U(bit)
                tick = base + bit
                quantity = load(lots, (place << 6) + bit)
                largest_tick = tick if quantity > largest else largest_tick
                largest = max(largest, quantity)
                sum_lots += quantity
                sum_notional += quantity * tick
                store(top, TOP_TICKS + found, tick)
                store(top, TOP_LOTS + found, quantity)
                store(top, TOP_SUM_LOTS + found, sum_lots)
                store(top, TOP_SUM_NOTIONAL + found, sum_notional)
                found += 1
            step = -1 if side == BID else 1
            base += 64 * step
            if found == number or U(base - low) > U(mask):
                break
            place = (place + step) & (mask >> 6)
            near = load_bits(bits, place)
        tick = next_level(book, side, tick) if found < number else tick
    for index in range(found, number):
        quantity = level_lots(book, side, tick)
        largest_tick = tick if quantity > largest else largest_tick
        largest = max(largest, quantity)
        sum_lots += quantity
        sum_notional += quantity * tick
        store(top, TOP_TICKS + index, tick)
        store(top, TOP_LOTS + index, quantity)
        store(top, TOP_SUM_LOTS + index, sum_lots)
        store(top, TOP_SUM_NOTIONAL + index, sum_notional)
        tick = next_level(book, side, tick)
    store(scratch, TOP_COUNT + side, number)
    store(scratch, TOP_LARGEST + side, largest)
    store(scratch, TOP_LARGEST_TICK + side, largest_tick)


@kernel
def top_levels(book: int, scratch: int, wanted: int) -> None:
    """The best ``wanted`` (at most TOP_LEVELS) levels of both sides into the scratch."""
    top_side(book, scratch, BID, wanted)
    top_side(book, scratch, ASK, wanted)
