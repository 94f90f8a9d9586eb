"""The compiled half of the matching book: one side's price levels and the queues on them, in flat int64 arrays.

``keys`` are ascending with the best level last (the tick for bids, minus the tick for asks), so that most changes move
few of them; ``slots`` says which row of ``levels`` belongs to each key. A row of ``levels`` is head, tail, lots,
background lots. A row of ``entries`` is lots, owner (0: background), next, previous, level, tag (in batches: the order
it was made for, since rows are used again). ``free`` holds unused rows: of levels in its first row, of entries in its
second. ``meta`` counts levels, free levels, free entries, entries of users.

Every loop is bounded: an unbounded ``while`` has been seen to miscompile when numba loads it from its cache.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.int64]
Table = NDArray[np.int64]
Text = NDArray[np.uint8]

HEAD, TAIL, LOTS, BACKGROUND = range(4)
ENTRY_LOTS, OWNER, NEXT, PREVIOUS, LEVEL, TAG = range(6)
LEVELS, FREE_LEVELS, FREE_ENTRIES, USER_ENTRIES = range(4)
NONE = -1
# The most bytes that one level takes in a message: two numbers of 19 digits and 18 decimals, and what is around them.
LEVEL_TEXT = 96

_SIDE = "int64[::1], int64[::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[::1]"


@nb.njit("int64(int64[::1], int64, int64)", cache=True, nogil=True)
def find(keys: Vector, count: int, key: int) -> int:
    """The index of the first of ``count`` ascending keys that is not below ``key``."""
    low, high = 0, count
    for _ in range(64):
        if low >= high:
            break
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@nb.njit(f"int64({_SIDE}, int64)", cache=True, nogil=True)
def level_at(keys: Vector, slots: Vector, levels: Table, entries: Table, free: Table, meta: Vector, key: int) -> int:
    """The row of the level with a key, made empty when there is none."""
    count = meta[LEVELS]
    index = find(keys, count, key)
    if index < count and keys[index] == key:
        return int(slots[index])
    meta[FREE_LEVELS] -= 1
    slot = free[0, meta[FREE_LEVELS]]
    for position in range(count, index, -1):
        keys[position], slots[position] = keys[position - 1], slots[position - 1]
    keys[index], slots[index] = key, slot
    meta[LEVELS] = count + 1
    levels[slot, HEAD] = levels[slot, TAIL] = NONE
    levels[slot, LOTS] = levels[slot, BACKGROUND] = 0
    return int(slot)


@nb.njit(f"void({_SIDE}, int64)", cache=True, nogil=True)
def drop_level(keys: Vector, slots: Vector, levels: Table, entries: Table, free: Table, meta: Vector, key: int) -> None:
    count = meta[LEVELS]
    index = find(keys, count, key)
    free[0, meta[FREE_LEVELS]] = slots[index]
    meta[FREE_LEVELS] += 1
    for position in range(index, count - 1):
        keys[position], slots[position] = keys[position + 1], slots[position + 1]
    meta[LEVELS] = count - 1


@nb.njit(f"int64({_SIDE}, int64, int64, int64)", cache=True, nogil=True)
def append_entry(
    keys: Vector,
    slots: Vector,
    levels: Table,
    entries: Table,
    free: Table,
    meta: Vector,
    key: int,
    lots: int,
    owner: int,
) -> int:
    """Queue lots behind everything at a key; the row of the entry."""
    slot = level_at(keys, slots, levels, entries, free, meta, key)
    meta[FREE_ENTRIES] -= 1
    row = free[1, meta[FREE_ENTRIES]]
    tail = levels[slot, TAIL]
    entries[row, ENTRY_LOTS], entries[row, OWNER], entries[row, LEVEL] = lots, owner, slot
    entries[row, NEXT], entries[row, PREVIOUS], entries[row, TAG] = NONE, tail, NONE
    if tail == NONE:
        levels[slot, HEAD] = row
    else:
        entries[tail, NEXT] = row
    levels[slot, TAIL] = row
    levels[slot, LOTS] += lots
    if owner == 0:
        levels[slot, BACKGROUND] += lots
    else:
        meta[USER_ENTRIES] += 1
    return int(row)


@nb.njit(f"void({_SIDE}, int64, int64, int64)", cache=True, nogil=True)
def reduce_entry(
    keys: Vector, slots: Vector, levels: Table, entries: Table, free: Table, meta: Vector, key: int, row: int, lots: int
) -> None:
    """Take lots out of an entry; an empty entry leaves its queue, an empty level the side."""
    slot = entries[row, LEVEL]
    entries[row, ENTRY_LOTS] -= lots
    levels[slot, LOTS] -= lots
    if entries[row, OWNER] == 0:
        levels[slot, BACKGROUND] -= lots
    if entries[row, ENTRY_LOTS] == 0:
        before, after = entries[row, PREVIOUS], entries[row, NEXT]
        if before == NONE:
            levels[slot, HEAD] = after
        else:
            entries[before, NEXT] = after
        if after == NONE:
            levels[slot, TAIL] = before
        else:
            entries[after, PREVIOUS] = before
        if entries[row, OWNER] != 0:
            meta[USER_ENTRIES] -= 1
        entries[row, TAG] = NONE
        free[1, meta[FREE_ENTRIES]] = row
        meta[FREE_ENTRIES] += 1
    if levels[slot, LOTS] == 0:
        drop_level(keys, slots, levels, entries, free, meta, key)


@nb.njit(f"void({_SIDE}, int64, int64)", cache=True, nogil=True)
def set_background(
    keys: Vector, slots: Vector, levels: Table, entries: Table, free: Table, meta: Vector, key: int, lots: int
) -> None:
    """Make the background quantity of a level so many lots: more comes to the back, less goes from the back."""
    count = meta[LEVELS]
    index = find(keys, count, key)
    if index == count or keys[index] != key:
        if lots > 0:
            append_entry(keys, slots, levels, entries, free, meta, key, lots, 0)
        return
    slot = slots[index]
    change = lots - levels[slot, BACKGROUND]
    tail = levels[slot, TAIL]
    if change > 0:
        if entries[tail, OWNER] == 0:
            entries[tail, ENTRY_LOTS] += change
            levels[slot, LOTS] += change
            levels[slot, BACKGROUND] += change
        else:
            append_entry(keys, slots, levels, entries, free, meta, key, change, 0)
        return
    left = -change
    for _ in range(entries.shape[0]):
        if left == 0 or tail == NONE:
            break
        before = entries[tail, PREVIOUS]
        if entries[tail, OWNER] == 0:
            gone = min(left, entries[tail, ENTRY_LOTS])
            left -= gone
            reduce_entry(keys, slots, levels, entries, free, meta, key, tail, gone)
        tail = before


@nb.njit(f"int64({_SIDE}, int64, int64, int64[:, ::1])", cache=True, nogil=True)
def take(
    keys: Vector,
    slots: Vector,
    levels: Table,
    entries: Table,
    free: Table,
    meta: Vector,
    lots: int,
    limit_key: int,
    matches: Table,
) -> int:
    """Match lots against the best entries down to ``limit_key``, in price-time order, until a user's entry stands in
    front or ``matches`` (rows of key, lots) is full. Returns how many rows were written."""
    found = 0
    for _ in range(entries.shape[0]):
        count = meta[LEVELS]
        if lots == 0 or count == 0 or found == matches.shape[0] or keys[count - 1] < limit_key:
            break
        key = keys[count - 1]
        row = levels[slots[count - 1], HEAD]
        if entries[row, OWNER] != 0:
            break
        traded = min(lots, entries[row, ENTRY_LOTS])
        lots -= traded
        reduce_entry(keys, slots, levels, entries, free, meta, key, row, traded)
        if found and matches[found - 1, 0] == key:
            matches[found - 1, 1] += traded
        else:
            matches[found, 0], matches[found, 1] = key, traded
            found += 1
    return found


@nb.njit("int64(int64[::1], int64[::1], int64[:, ::1], int64, int64)", cache=True, nogil=True)
def available(keys: Vector, slots: Vector, levels: Table, count: int, limit_key: int) -> int:
    """Lots from the best level down to ``limit_key``."""
    total = 0
    for index in range(count - 1, -1, -1):
        if keys[index] < limit_key:
            break
        total += levels[slots[index], LOTS]
    return total


@nb.njit("int64(int64[::1], int64[::1], int64[:, ::1], int64, int64, int64[:, ::1])", cache=True, nogil=True)
def top(keys: Vector, slots: Vector, levels: Table, count: int, wanted: int, rows: Table) -> int:
    """Write the best levels as rows of key, lots; returns how many."""
    written = min(count, wanted)
    for index in range(written):
        rows[index, 0] = keys[count - 1 - index]
        rows[index, 1] = levels[slots[count - 1 - index], LOTS]
    return written


@nb.njit("int64(int64[:, ::1], int64, int64[:, ::1], int64, int64[:, ::1])", cache=True, nogil=True)
def changes(before: Table, before_count: int, after: Table, after_count: int, rows: Table) -> int:
    """What turns one list of best levels into another, as rows of key, lots (0: gone); both descend by key."""
    written, old, new = 0, 0, 0
    for _ in range(before_count + after_count):
        if new == after_count or (old < before_count and before[old, 0] > after[new, 0]):
            rows[written, 0], rows[written, 1] = before[old, 0], 0
            written += 1
            old += 1
        elif old == before_count or before[old, 0] < after[new, 0]:
            rows[written, 0], rows[written, 1] = after[new, 0], after[new, 1]
            written += 1
            new += 1
        else:
            if before[old, 1] != after[new, 1]:
                rows[written, 0], rows[written, 1] = after[new, 0], after[new, 1]
                written += 1
            old += 1
            new += 1
        if old == before_count and new == after_count:
            break
    return written


@nb.njit(f"int64({_SIDE}, {_SIDE}, int64[:, ::1], int64[::1], int64[:, ::1])", cache=True, nogil=True)
def process_orders(
    bid_keys: Vector,
    bid_slots: Vector,
    bid_levels: Table,
    bid_entries: Table,
    bid_free: Table,
    bid_meta: Vector,
    ask_keys: Vector,
    ask_slots: Vector,
    ask_levels: Table,
    ask_entries: Table,
    ask_free: Table,
    ask_meta: Vector,
    orders: Table,
    rows: Vector,
    matches: Table,
) -> int:
    """A whole batch of anonymous orders: rows of kind (1 limit, 2 cancel), side (1 buy, -1 sell), tick, lots.

    A limit order takes what it crosses and rests with what is left; ``rows`` (filled with -1) remembers its entry under
    its number, and a cancel names that number in its tick column. Returns the lots that traded.
    """
    traded = 0
    for number in range(orders.shape[0]):
        kind, side, tick, lots = orders[number, 0], orders[number, 1], orders[number, 2], orders[number, 3]
        if kind == 1:
            # A key is the tick for bids and its negative for asks.
            if side > 0:
                found = take(ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta, lots, -tick, matches)
            else:
                found = take(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta, lots, tick, matches)
            for match in range(found):
                lots -= matches[match, 1]
                traded += matches[match, 1]
            if lots > 0 and side > 0:
                row = append_entry(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta, tick, lots, 0)
                bid_entries[row, TAG], rows[number] = number, row
            elif lots > 0:
                row = append_entry(ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta, -tick, lots, 0)
                ask_entries[row, TAG], rows[number] = number, row
        elif 0 <= tick < number and rows[tick] != NONE:
            row, key = rows[tick], orders[tick, 2]
            if orders[tick, 1] > 0 and bid_entries[row, TAG] == tick:
                left = bid_entries[row, ENTRY_LOTS]
                bid_entries[row, TAG] = NONE
                reduce_entry(bid_keys, bid_slots, bid_levels, bid_entries, bid_free, bid_meta, key, row, left)
            elif orders[tick, 1] < 0 and ask_entries[row, TAG] == tick:
                left = ask_entries[row, ENTRY_LOTS]
                ask_entries[row, TAG] = NONE
                reduce_entry(ask_keys, ask_slots, ask_levels, ask_entries, ask_free, ask_meta, -key, row, left)
    return traded


@nb.njit(
    "int64(int64[::1], int64[::1], int64[:, ::1], int64, int64, int64[:, ::1], int64, int64[:, ::1], int64[:, ::1])",
    cache=True,
    nogil=True,
)
def follow(
    keys: Vector,
    slots: Vector,
    levels: Table,
    count: int,
    wanted: int,
    before: Table,
    before_count: int,
    after: Table,
    rows: Table,
) -> int:
    """Write the best levels into ``after`` and what turns ``before`` into them into ``rows``; how many these are."""
    return int(changes(before, before_count, after, top(keys, slots, levels, count, wanted, after), rows))


@nb.njit("int64(uint8[::1], int64, int64, int64, int64, int64)", cache=True, nogil=True)
def write_number(text: Text, at: int, units: int, step: int, scale: int, decimals: int) -> int:
    """Write ``units * step / scale`` with so many decimals; returns where the text ends."""
    value = units * step
    whole, fraction = value // scale, value % scale
    digits = 1
    for _ in range(19):
        whole //= 10
        if whole == 0:
            break
        digits += 1
    whole = value // scale
    for position in range(at + digits - 1, at - 1, -1):
        text[position] = 48 + whole % 10
        whole //= 10
    at += digits
    if decimals == 0:
        return at
    text[at] = 46
    for position in range(at + decimals, at, -1):
        text[position] = 48 + fraction % 10
        fraction //= 10
    return at + decimals + 1


@nb.njit(
    "int64(int64[:, ::1], int64, int64, int64, int64, int64, int64, int64, int64, uint8[::1])", cache=True, nogil=True
)
def write_levels(
    rows: Table,
    count: int,
    sign: int,
    price_step: int,
    price_scale: int,
    price_decimals: int,
    lot_step: int,
    lot_scale: int,
    lot_decimals: int,
    text: Text,
) -> int:
    """Write rows of key, lots as the inside of a JSON list of ``["price","quantity"]``; returns the length. A quantity
    of nothing is ``"0"``. ``text`` must have room for ``LEVEL_TEXT`` bytes a row."""
    at = 0
    for index in range(count):
        if index:
            text[at] = 44
            at += 1
        text[at], text[at + 1] = 91, 34
        at = write_number(text, at + 2, -sign * rows[index, 0], price_step, price_scale, price_decimals)
        text[at], text[at + 1], text[at + 2] = 34, 44, 34
        if rows[index, 1] == 0:
            text[at + 3] = 48
            at += 4
        else:
            at = write_number(text, at + 3, rows[index, 1], lot_step, lot_scale, lot_decimals)
        text[at], text[at + 1] = 34, 93
        at += 2
    return at
