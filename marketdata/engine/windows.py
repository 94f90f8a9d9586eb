"""What a book remembers of the last minutes, by the venue's seconds: flows, trades, lives of levels, returns.

Each second has a sum in every series; a window is the running second and the whole ones before it, whose sums are
renewed when a second ends. Quantities are summed in lots, so nothing drifts. A message finds the running second and
the sums of windows side by side in the header: a hundred books share a cache.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.compiled import compiled, inlined, kernel
from marketdata.engine.ladder import births
from marketdata.engine.layout import (
    ADDED_SERIES,
    ADDED_SUM_10,
    AFTER_SUMS,
    ASK,
    BEST,
    BID,
    BOUGHT_SERIES,
    BOUGHT_SUM_10,
    BOUGHT_SUM_60,
    BOUGHT_SUM_300,
    DOUBTED_MS,
    FIRST_SECOND,
    FIRST_SUM,
    FLOW_SERIES,
    FLOW_SUM_10,
    FLOW_SUM_60,
    HISTORY,
    LIFETIME_SERIES,
    LIFETIME_SUM_60,
    LIVES_SERIES,
    LIVES_SUM_60,
    MEANS_MS,
    MID_SERIES,
    NOW_MS,
    OBSERVE_TRADE,
    RECEIVE_NS,
    REFERENCE_BOOK,
    REMOVED_SERIES,
    REMOVED_SUM_10,
    RETURN_SERIES,
    RING_MASK,
    RUNNING,
    RUNNING_MID,
    SECOND,
    SECOND_STATISTICS,
    SERIES,
    SERIES_SECONDS,
    SIDES,
    SOLD_SERIES,
    SOLD_SUM_10,
    SOLD_SUM_60,
    SOLD_SUM_300,
    TICK_SIZE,
    TOXICITY_BOUGHT,
    TOXICITY_BUCKETS,
    TOXICITY_FILLED,
    TOXICITY_MEAN,
    TOXICITY_SHARES,
    TOXICITY_SIZE,
    TOXICITY_SOLD,
    TRADE_SERIES,
    TRADE_SUM_10,
    TRADED_NOTIONAL_SERIES,
    TRADED_NOTIONAL_SUM_60,
    UPDATE_SERIES,
    UPDATE_SUM_10,
    WINDOW_LOW,
)
from marketdata.engine.memory import call_back, load, load_float, load_half, store, store_float, store_half
from marketdata.engine.scratch import ALL_CHANGES, BID_CHANGES, LOTS, OLD_LOTS, TICKS

U = np.uint64
MASK = SERIES_SECONDS - 1
# Places in SECOND_STATISTICS.
VOLATILITY_10, VOLATILITY_60, VOLATILITY_300, MEAN_60, SKEW_300, NOISE_60, RETURN_BEFORE = range(7)
CORRELATION_60, CORRELATION_300 = 7, 8
# Mid prices of the last whole second, and of those 10 and 60 before the running one.
MID_1, MID_10, MID_60 = range(9, 12)
STATISTICS = 12
# A venue whose time is further ahead of ours than its largest recvWindow would take none of our orders. Replays without
# times of receipt tell 0, or count; no venue is as old as 2010.
MOST_AHEAD_MS = 60_000
EARLIEST_RECEIPT_MS = 1_262_304_000_000
# A toxicity bucket is a fiftieth of what was traded in the 300 s before it.
TOXICITY_SECONDS = 300
FEWEST_BUCKETS = 10
MOST_BUCKETS_A_TRADE = 200


@inlined
def add(book, series, amount):
    """Add to the running second."""
    store(book, RUNNING + series, load(book, RUNNING + series) + amount)


@inlined
def running(book, series):
    return load(book, RUNNING + series)


@inlined
def sum_of_second(book, series, second):
    """Of the running second, or of one of the last that are over."""
    place = HISTORY + (second & MASK) * SERIES if second < load(book, SECOND) else RUNNING
    return load(book, place + series)


@kernel
def mid_of_second(book: int, second: int) -> float:
    """The last mid price of a second that is over, or the newest one; NaN where it is not known any more."""
    current, first = load(book, SECOND), load(book, FIRST_SECOND)
    if current == 0 or second < first or second <= current - SERIES_SECONDS:
        return np.nan
    return load_float(book, MID_SERIES + (second & MASK)) if second < current else load_float(book, RUNNING_MID)


@kernel
def return_of_second(book: int, second: int) -> float:
    """The log return of a second; of one that the book has not seen end, so far: 0 where nothing of it was seen.

    Books hear of a new second one after the other, so the newest is not over yet for half of those compared with.
    """
    current = load(book, SECOND)
    if second < current:
        return load_float(book, RETURN_SERIES + (second & MASK))
    if second > current:
        return 0.0
    return np.log(mid_of_second(book, second) / mid_of_second(book, second - 1))


@kernel
def _moments(book: int, last: int, seconds: int, place: int) -> None:
    """The deviation (and mean, skewness, noise) of the returns of the seconds up to ``last``."""
    total, squares, cubes, successive = 0.0, 0.0, 0.0, 0.0
    previous = 0.0
    for second in range(last - seconds + 1, last + 1):
        change = load_float(book, RETURN_SERIES + (second & MASK))
        total += change
        squares += change * change
        cubes += change * change * change
        successive += change * previous
        previous = change
    mean = total / seconds
    variance = max(squares / seconds - mean * mean, 0.0)
    statistics = book + 8 * SECOND_STATISTICS
    store_float(statistics, place, np.sqrt(variance * seconds / (seconds - 1)))
    if seconds == 60:
        store_float(statistics, MEAN_60, mean)
        store_float(statistics, NOISE_60, mean * mean - successive / (seconds - 1))
    if seconds == 300:
        third = cubes / seconds - 3.0 * mean * squares / seconds + 2.0 * mean * mean * mean
        store_float(statistics, SKEW_300, third / (variance * np.sqrt(variance)) if variance > 0.0 else np.nan)


@kernel
def correlation(book: int, other: int, last: int, seconds: int) -> float:
    """Of the returns of two books over the seconds up to ``last``; NaN while one of them stands still or is unknown."""
    sum_a, sum_b, sum_aa, sum_bb, sum_ab = 0.0, 0.0, 0.0, 0.0, 0.0
    first = last - seconds + 1
    if first <= load(book, FIRST_SECOND) or first <= load(other, FIRST_SECOND) or load(other, SECOND) == 0:
        return np.nan
    if first <= load(other, SECOND) - SERIES_SECONDS:
        return np.nan
    for second in range(first, last + 1):
        a, b = return_of_second(book, second), return_of_second(other, second)
        sum_a += a
        sum_b += b
        sum_aa += a * a
        sum_bb += b * b
        sum_ab += a * b
    variance_a = sum_aa - sum_a * sum_a / seconds
    variance_b = sum_bb - sum_b * sum_b / seconds
    if not (variance_a > 1e-18 and variance_b > 1e-18):
        return np.nan
    return (sum_ab - sum_a * sum_b / seconds) / np.sqrt(variance_a * variance_b)


@inlined
def _slide(book, total, series, second, seconds):
    """Move a sum of the whole seconds of a window on, when ``second`` begins."""
    left = load(book, HISTORY + ((second - seconds) & MASK) * SERIES + series)
    store(book, total, load(book, total) + running(book, series) - left)


@kernel
def _begin_second(book: int, second: int) -> None:
    """What ran until now is over."""
    _slide(book, FLOW_SUM_10, FLOW_SERIES, second, 10)
    _slide(book, FLOW_SUM_60, FLOW_SERIES, second, 60)
    _slide(book, BOUGHT_SUM_10, BOUGHT_SERIES, second, 10)
    _slide(book, BOUGHT_SUM_60, BOUGHT_SERIES, second, 60)
    _slide(book, BOUGHT_SUM_300, BOUGHT_SERIES, second, 300)
    _slide(book, SOLD_SUM_10, SOLD_SERIES, second, 10)
    _slide(book, SOLD_SUM_60, SOLD_SERIES, second, 60)
    _slide(book, SOLD_SUM_300, SOLD_SERIES, second, 300)
    _slide(book, TRADE_SUM_10, TRADE_SERIES, second, 10)
    _slide(book, TRADED_NOTIONAL_SUM_60, TRADED_NOTIONAL_SERIES, second, 60)
    _slide(book, ADDED_SUM_10, ADDED_SERIES, second, 10)
    _slide(book, REMOVED_SUM_10, REMOVED_SERIES, second, 10)
    _slide(book, UPDATE_SUM_10, UPDATE_SERIES, second, 10)
    for side in range(SIDES):
        _slide(book, LIVES_SUM_60 + side, LIVES_SERIES + side, second, 60)
        _slide(book, LIFETIME_SUM_60 + side, LIFETIME_SERIES + side, second, 60)
    over = (second - 1) & MASK
    store_float(book, MID_SERIES + over, load_float(book, RUNNING_MID))
    for series in range(SERIES):
        store(book, HISTORY + over * SERIES + series, running(book, series))
        store(book, RUNNING + series, 0)


@kernel
def _forget(book: int, second: int) -> None:
    """Nothing before this second is known: the first message, or the first after a long silence."""
    for series in range(SERIES):
        store(book, RUNNING + series, 0)
    for place in range(FIRST_SUM, AFTER_SUMS):
        store(book, place, 0)
    for place in range(HISTORY, HISTORY + SERIES_SECONDS * SERIES):
        store(book, place, 0)
    for each in range(SERIES_SECONDS):
        store_float(book, MID_SERIES + each, np.nan)
        store_float(book, RETURN_SERIES + each, np.nan)
    store_float(book, RUNNING_MID, np.nan)
    store(book, FIRST_SECOND, second)
    store(book, SECOND, second)


@kernel
def _describe_seconds(book: int) -> None:
    """Renew what only whole seconds tell. The running second has just begun."""
    last, first = load(book, SECOND) - 1, load(book, FIRST_SECOND)
    statistics = book + 8 * SECOND_STATISTICS
    for place in range(STATISTICS):
        store_float(statistics, place, np.nan)
    if last - 10 >= first:
        _moments(book, last, 10, VOLATILITY_10)
    if last - 60 >= first:
        _moments(book, last, 60, VOLATILITY_60)
    if last - 300 >= first:
        _moments(book, last, 300, VOLATILITY_300)
    store_float(statistics, RETURN_BEFORE, mid_of_second(book, last) / mid_of_second(book, last - 1) - 1.0)
    store_float(statistics, MID_1, mid_of_second(book, last))
    store_float(statistics, MID_10, mid_of_second(book, last - 9))
    store_float(statistics, MID_60, mid_of_second(book, last - 59))
    other = load(book, REFERENCE_BOOK)
    if other != 0:
        store_float(statistics, CORRELATION_60, correlation(book, other, last, 60))
        store_float(statistics, CORRELATION_300, correlation(book, other, last, 300))


@inlined
def _received_ms(book):
    """When the newest message was received; 0 where that is not known."""
    received = load(book, RECEIVE_NS) // 1_000_000
    return received if received >= EARLIEST_RECEIPT_MS else 0


@inlined
def _is_plausible(book, venue_ms):
    """Neither far ahead of the time of receipt nor, where that is another's time, of the clock itself."""
    received, now = _received_ms(book), load(book, NOW_MS)
    return received == 0 or now == 0 or venue_ms <= max(received, now) + MOST_AHEAD_MS


@kernel
def correct_clock(book: int, venue_ms: int) -> None:
    """Before a frame moves the clock: it starts anew if it was wrong, or if a second frame says so."""
    # A snapshot by REST may not name its time.
    if venue_ms == 0:
        return
    doubted = load(book, DOUBTED_MS)
    store(book, DOUBTED_MS, 0 if _is_plausible(book, venue_ms) else venue_ms)
    confirmed = doubted != 0 and load(book, DOUBTED_MS) != 0 and abs(venue_ms - doubted) <= MOST_AHEAD_MS
    if not confirmed and load(book, NOW_MS) <= max(_received_ms(book), venue_ms) + MOST_AHEAD_MS:
        return
    store(book, NOW_MS, venue_ms)
    store(book, DOUBTED_MS, 0)
    store(book, MEANS_MS, 0)
    _forget(book, venue_ms // 1000)
    _describe_seconds(book)
    for side in range(SIDES):
        born = births(book, side)
        for slot in range(load(book, RING_MASK) + 1):
            store_half(born, slot, np.int32(0))


@kernel
def move_clock(book: int, venue_ms: int) -> None:
    """Bring the venue's clock forward; what is older, or cannot be right, leaves it where it is."""
    now = load(book, NOW_MS)
    if venue_ms > now and _is_plausible(book, venue_ms):
        now = venue_ms
    store(book, NOW_MS, now)
    second, before = now // 1000, load(book, SECOND)
    if second == before:
        return
    if before == 0 or second - before >= SERIES_SECONDS:
        _forget(book, second)
    else:
        mid = load_float(book, RUNNING_MID)
        change = np.log(mid / mid_of_second(book, before - 1))
        quiet = 0.0 if mid == mid else np.nan
        for each in range(before + 1, second + 1):
            store_float(book, RETURN_SERIES + ((each - 1) & MASK), change if each == before + 1 else quiet)
            _begin_second(book, each)
        store(book, SECOND, second)
    _describe_seconds(book)


@kernel
def note_changes(book: int, scratch: int, is_snapshot: int) -> None:
    """Births and deaths of the window's levels among the changes of a message that was applied."""
    mask, low, now = load(book, RING_MASK), load(book, WINDOW_LOW), load(book, NOW_MS)
    ticks, news, olds = scratch + 8 * TICKS, scratch + 8 * LOTS, scratch + 8 * OLD_LOTS
    # Whoever was in the book before we looked has no known birth.
    # Odd, so that it is never 0; the time of death must be, too, or who dies in the same millisecond lives for weeks.
    stamp = (now & 0x7FFFFFFF) | 1
    born_ms = np.int32(0) if is_snapshot else np.int32(stamp)
    added, removed = 0, 0
    for side in range(SIDES):
        start = 0 if side == BID else load(scratch, BID_CHANGES)
        stop = load(scratch, BID_CHANGES) if side == BID else load(scratch, ALL_CHANGES)
        born = births(book, side)
        lives, lifetime = 0, 0
        # Without branches: which of the changes are births and deaths cannot be predicted.
        for index in range(start, stop):
            tick, new, old = load(ticks, index), load(news, index), load(olds, index)
            appeared, vanished = np.int64(old == 0) & np.int64(new != 0), np.int64(old != 0) & np.int64(new == 0)
            added += appeared
            removed += vanished
            inside = np.int64(U(tick - low) <= U(mask))
            slot = tick & mask
            since = load_half(born, slot)
            # Only levels that exist have a birth.
            newer = born_ms if appeared != 0 else (np.int32(0) if vanished != 0 else since)
            store_half(born, slot, newer if inside != 0 else since)
            ended = vanished & inside & np.int64(since != 0)
            lives += ended
            lifetime += ended * ((stamp - np.int64(since)) & 0x7FFFFFFF)
        add(book, LIVES_SERIES + side, lives)
        add(book, LIFETIME_SERIES + side, lifetime)
    if is_snapshot == 0:
        add(book, ADDED_SERIES, added)
        add(book, REMOVED_SERIES, removed)
    add(book, UPDATE_SERIES, 1)


@kernel
def note_mid(book: int) -> None:
    """The newest mid price of the running second."""
    middle = 0.5 * (load(book, BEST + BID) + load(book, BEST + ASK)) * load_float(book, TICK_SIZE)
    store_float(book, RUNNING_MID, middle)


@kernel
def _describe_buckets(book: int) -> None:
    number, total = min(load(book, TOXICITY_FILLED), TOXICITY_BUCKETS), 0.0
    for bucket in range(number):
        total += load_float(book, TOXICITY_SHARES + bucket)
    store_float(book, TOXICITY_MEAN, total / number)


@compiled("void(int64, int64, int64, int64, int64)")
def note_trade(book: int, venue_ms: int, tick: int, lots: int, is_bought: int) -> None:
    """One trade of the market; ``is_bought``: a buyer took it."""
    move_clock(book, venue_ms)
    add(book, BOUGHT_SERIES if is_bought else SOLD_SERIES, lots)
    add(book, TRADE_SERIES, 1)
    add(book, TRADED_NOTIONAL_SERIES, lots * tick)
    left = lots
    for _ in range(MOST_BUCKETS_A_TRADE):
        size = load(book, TOXICITY_SIZE)
        if size == 0:
            traded = load(book, BOUGHT_SUM_300) + load(book, SOLD_SUM_300)
            traded += running(book, BOUGHT_SERIES) + running(book, SOLD_SERIES)
            # At the rate seen so far while that is less: a young book's first trade does not fill every bucket.
            seen = min(load(book, SECOND) - load(book, FIRST_SECOND) + 1, TOXICITY_SECONDS)
            size = max(traded * (TOXICITY_SECONDS // TOXICITY_BUCKETS) // seen, 1)
            store(book, TOXICITY_SIZE, size)
        bought, sold = load(book, TOXICITY_BOUGHT), load(book, TOXICITY_SOLD)
        taken = min(left, size - bought - sold)
        bought += taken if is_bought else 0
        sold += 0 if is_bought else taken
        left -= taken
        if bought + sold == size:
            filled = load(book, TOXICITY_FILLED)
            share = abs(bought - sold) / size
            store_float(book, TOXICITY_SHARES + filled % TOXICITY_BUCKETS, share)
            store(book, TOXICITY_FILLED, filled + 1)
            _describe_buckets(book)
            store(book, TOXICITY_SIZE, 0)
            bought, sold = 0, 0
        store(book, TOXICITY_BOUGHT, bought)
        store(book, TOXICITY_SOLD, sold)
        if left == 0:
            break
    if load(book, OBSERVE_TRADE) != 0:
        call_back(load(book, OBSERVE_TRADE), book, tick, lots, is_bought)


@inlined
def toxicity(book):
    """The mean share of the last buckets; NaN with too few."""
    return load_float(book, TOXICITY_MEAN) if load(book, TOXICITY_FILLED) >= FEWEST_BUCKETS else np.nan
