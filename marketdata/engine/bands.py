"""Resting volume within 1.5, 3, 5, 8, 15 and 30 percent of the best bid and the best ask, kept up message by message.

A bid belongs to a band when ``price >= best_bid * (1 - d/100)``, an ask when ``price <= best_ask * (1 + d/100)``, both
inclusive, in exact integers. Levels lie in seven buckets a side: between one limit and the next, the last beyond 30 %.
A change of a level moves its bucket; a change of the best price moves the limits, and what lies between the old and the
new place of one changes buckets. Sums are int64 of lots, and of ticks times lots.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import compiled, inlined, kernel
from marketdata.engine.ladder import EVERYTHING, NOTHING, ONE, bitmap, overflow, position_of, ring
from marketdata.engine.layout import (
    ASK,
    BAND_BEST,
    BAND_LIMIT,
    BAND_LOTS,
    BAND_NOTIONAL,
    BAND_PER_MILLE,
    BANDS,
    BANDS_READY,
    BEST,
    BID,
    BUCKETS,
    DEPTH_LIMIT,
    LEVEL_COUNT,
    OVERFLOW_COUNT,
    OVERFLOW_ROOM,
    REACH,
    RING_MASK,
    WINDOW_LOW,
    WORST,
)
from marketdata.engine.memory import count_ones, filled_words, load, load_bits, store, sum_slots, trailing_zeros
from marketdata.engine.scratch import ALL_CHANGES, BID_CHANGES, LOTS, OLD_LOTS, TICKS

U = np.uint64
PER_MILLE = np.array(BAND_PER_MILLE, dtype=np.int64)
# A limit that moved further than this, in ticks, is cheaper counted anew than followed.
FURTHEST_MOVE = 4_096
# Ticks whose words of the bitmap are looked at together.
GROUP = 512
# So many levels in a word of the bitmap are added up faster with all others of its slots.
DENSE = 4
# One message adds less than 2**60 to a sum of ticks times lots, and eight such sums fit an int64.
LARGEST_SUM_BITS = 60


@inlined
def limit_of(best, side, band):
    """The furthest tick that still belongs to a band."""
    if side == BID:
        return -((-best * (1000 - PER_MILLE[band])) // 1000)
    return best * (1000 + PER_MILLE[band]) // 1000


@inlined
def bucket_of(book, side, tick):
    limits = book + 8 * (BAND_LIMIT + side * BANDS)
    bucket = 0
    for band in range(BANDS):
        limit = load(limits, band)
        bucket += np.int64(tick < limit) if side == BID else np.int64(tick > limit)
    return bucket


@kernel
def _sum_far_levels(book: int, side: int, first: int, last: int) -> tuple[int, int]:
    ticks, far = overflow(book, side), load(book, OVERFLOW_COUNT + side)
    quantities = ticks + 8 * load(book, OVERFLOW_ROOM)
    sum_lots, sum_notional = 0, 0
    for index in range(position_of(ticks, far, first), far):
        tick = load(ticks, index)
        if tick > last:
            break
        sum_lots += load(quantities, index)
        sum_notional += load(quantities, index) * tick
    return sum_lots, sum_notional


@kernel
def _sum_levels(book: int, side: int, first: int, last: int) -> tuple[int, int]:
    """The lots, and ticks times lots, of the levels from tick ``first`` to ``last``."""
    mask, low = load(book, RING_MASK), load(book, WINDOW_LOW)
    lots, bits = ring(book, side), bitmap(book, side)
    sum_lots, sum_notional = 0, 0
    lowest, highest = max(first, low), min(last, low + mask)
    size = min(np.int64(GROUP), mask + 1)
    for group in range(lowest // size * size, highest + 1, size):
        words = filled_words(bits, (group & mask) >> 6)
        if group < lowest:
            words &= EVERYTHING << U((lowest - group) >> 6)
        # Those after the group are not of these ticks where a ring is smaller.
        words &= EVERYTHING >> U(63 - ((min(highest, group + size - 1) - group) >> 6))
        for _ in range(GROUP >> 6):
            if words == NOTHING:
                break
            base = group + 64 * trailing_zeros(words)
            words &= words - ONE
            found = load_bits(bits, (base & mask) >> 6)
            if base < lowest:
                found &= EVERYTHING << U(lowest - base)
            if base + 63 > highest:
                found &= EVERYTHING >> U(63 - (highest - base))
            elif count_ones(found) >= DENSE and base >= lowest:
                # All slots at once: those without a level hold 0.
                quantity, weighed = sum_slots(lots, base & mask)
                sum_lots += quantity
                sum_notional += quantity * base + weighed
                continue
            for _level in range(64):
                if found == NOTHING:
                    break
                tick = base + trailing_zeros(found)
                quantity = load(lots, tick & mask)
                sum_lots += quantity
                sum_notional += quantity * tick
                found &= found - ONE
    if load(book, OVERFLOW_COUNT + side) > 0 and (first < low or last > low + mask):
        far_lots, far_notional = _sum_far_levels(book, side, first, last)
        sum_lots += far_lots
        sum_notional += far_notional
    return sum_lots, sum_notional


@kernel
def count_bands(book: int, side: int) -> None:
    """Fill a side's buckets from all of its levels."""
    best, worst = load(book, BEST + side), load(book, WORST + side)
    store(book, BAND_BEST + side, best)
    for band in range(BANDS):
        store(book, BAND_LIMIT + side * BANDS + band, limit_of(best, side, band))
    # From the best price to the first limit, from limit to limit, and from the last to the furthest level.
    nearer = best + 1 if side == BID else best - 1
    for bucket in range(BUCKETS):
        limit = load(book, BAND_LIMIT + side * BANDS + bucket) if bucket < BANDS else worst
        if side == BID:
            lots, notional = _sum_levels(book, side, max(limit, worst), nearer - 1)
        else:
            lots, notional = _sum_levels(book, side, nearer + 1, min(limit, worst))
        store(book, BAND_LOTS + side * BUCKETS + bucket, lots)
        store(book, BAND_NOTIONAL + side * BUCKETS + bucket, notional)
        nearer = limit


@kernel
def _transfer(book: int, side: int, band: int, first: int, last: int, sign: int) -> None:
    """Levels from tick ``first`` to ``last`` come into a band (sign 1) from the bucket beyond it, or leave it (-1)."""
    sum_lots, sum_notional = _sum_levels(book, side, first, last)
    sum_lots *= sign
    sum_notional *= sign
    bucket = side * BUCKETS + band
    store(book, BAND_LOTS + bucket, load(book, BAND_LOTS + bucket) + sum_lots)
    store(book, BAND_LOTS + bucket + 1, load(book, BAND_LOTS + bucket + 1) - sum_lots)
    store(book, BAND_NOTIONAL + bucket, load(book, BAND_NOTIONAL + bucket) + sum_notional)
    store(book, BAND_NOTIONAL + bucket + 1, load(book, BAND_NOTIONAL + bucket + 1) - sum_notional)


@compiled("void(int64)")
def count_sides(book: int) -> None:
    """Fill the buckets of both sides."""
    count_bands(book, BID)
    count_bands(book, ASK)
    store(book, BANDS_READY, 1)


@inlined
def follow_side(book, scratch, side, start, stop):
    """The changes ``start`` to ``stop`` into the buckets, then the limits to the new best price."""
    ticks, news, olds = scratch + 8 * TICKS, scratch + 8 * LOTS, scratch + 8 * OLD_LOTS
    nearest = load(book, BAND_LIMIT + side * BANDS)
    lots, notional = 0, 0
    for index in range(start, stop):
        tick = load(ticks, index)
        change = load(news, index) - load(olds, index)
        if (tick >= nearest) if side == BID else (tick <= nearest):
            lots += change
            notional += change * tick
        else:
            bucket = side * BUCKETS + bucket_of(book, side, tick)
            store(book, BAND_LOTS + bucket, load(book, BAND_LOTS + bucket) + change)
            store(book, BAND_NOTIONAL + bucket, load(book, BAND_NOTIONAL + bucket) + change * tick)
    bucket = side * BUCKETS
    store(book, BAND_LOTS + bucket, load(book, BAND_LOTS + bucket) + lots)
    store(book, BAND_NOTIONAL + bucket, load(book, BAND_NOTIONAL + bucket) + notional)
    best, old_best = load(book, BEST + side), load(book, BAND_BEST + side)
    if best == old_best:
        return
    if abs(best - old_best) > FURTHEST_MOVE:
        count_bands(book, side)
        return
    store(book, BAND_BEST + side, best)
    worst = load(book, WORST + side)
    for band in range(BANDS):
        old = load(book, BAND_LIMIT + side * BANDS + band)
        new = limit_of(best, side, band)
        store(book, BAND_LIMIT + side * BANDS + band, new)
        if side == BID:
            # Beyond the furthest level there is nothing to count.
            if new < old and old > worst:
                _transfer(book, side, band, new, old - 1, 1)
            elif new > old and new > worst:
                _transfer(book, side, band, old, new - 1, -1)
        elif new > old and old < worst:
            _transfer(book, side, band, old + 1, new, 1)
        elif new < old and new < worst:
            _transfer(book, side, band, new + 1, old, -1)


@kernel
def follow_bands(book: int, scratch: int, is_snapshot: int) -> None:
    """Bring the bands up to date with the message in the scratch, after it was applied."""
    if is_snapshot or load(book, BANDS_READY) == 0:
        count_sides(book)
        return
    bids, changes = load(scratch, BID_CHANGES), load(scratch, ALL_CHANGES)
    follow_side(book, scratch, BID, 0, bids)
    follow_side(book, scratch, ASK, bids, changes)


@kernel
def sums_are_too_large(book: int) -> int:
    """Whether a sum has come so far that the next message could carry it beyond an int64."""
    bits = np.int64(0)
    for bucket in range(2 * BUCKETS):
        bits |= load(book, BAND_NOTIONAL + bucket)
    return 1 if bits >> LARGEST_SUM_BITS != 0 else 0


@kernel
def known_reach(book: int, side: int) -> int:
    """The furthest tick up to which every level is known.

    A stream of N levels shows all there are while it shows fewer than N; otherwise it is blind behind its last one. A
    book built from a REST snapshot is blind behind the snapshot's last level, but for levels that changed since.
    """
    limit = load(book, DEPTH_LIMIT)
    if limit == 0:
        return load(book, REACH + side)
    if load(book, LEVEL_COUNT + side) < limit:
        return 0 if side == BID else (1 << 52)
    return load(book, WORST + side)
