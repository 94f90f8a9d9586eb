"""What a book says, as numbers: the compiled function that fills a row of ``marketdata.engine.feature_table``.

Verified against an independent computation in tests/marketdata/engine/test_features.py.
"""

from __future__ import annotations

import numpy as np

from marketdata.engine.bands import known_reach
from marketdata.engine.compiled import inlined, kernel
from marketdata.engine.feature_table import DEPTHS, FEATURES, IMPACT_NOTIONAL, feature_index
from marketdata.engine.ladder import top_levels
from marketdata.engine.layout import (
    ADDED_SERIES,
    ADDED_SUM_10,
    ASK,
    BAND_LOTS,
    BANDS,
    BEFORE_COUNT,
    BEFORE_LEVELS,
    BID,
    BOUGHT_SERIES,
    BOUGHT_SUM_10,
    BOUGHT_SUM_60,
    BUCKETS,
    FLOW_LEVELS,
    FLOW_SERIES,
    FLOW_SUM_10,
    FLOW_SUM_60,
    IMBALANCE_FAST,
    IMBALANCE_SLOW,
    LEVEL_COUNT,
    LIFETIME_SERIES,
    LIFETIME_SUM_60,
    LIVES_SERIES,
    LIVES_SUM_60,
    LOT_SIZE,
    MEANS_MS,
    NO_ASK,
    NOW_MS,
    OTHER_VENUE_BOOK,
    REMOVED_SERIES,
    REMOVED_SUM_10,
    SECOND,
    SECOND_STATISTICS,
    SIDES,
    SOLD_SERIES,
    SOLD_SUM_10,
    SOLD_SUM_60,
    SPREAD_MEAN,
    STATE,
    TICK_SIZE,
    TRADE_SERIES,
    TRADE_SUM_10,
    TRADED_NOTIONAL_SERIES,
    TRADED_NOTIONAL_SUM_60,
    UPDATE_SERIES,
    UPDATE_SUM_10,
)
from marketdata.engine.memory import load, load_float, store, store_float
from marketdata.engine.scratch import (
    TOP,
    TOP_COUNT,
    TOP_LARGEST,
    TOP_LARGEST_TICK,
    TOP_LEVELS,
    TOP_LOTS,
    TOP_SIDE_WORDS,
    TOP_SUM_LOTS,
    TOP_SUM_NOTIONAL,
    TOP_TICKS,
)
from marketdata.engine.windows import (
    CORRELATION_60,
    CORRELATION_300,
    MEAN_60,
    MID_1,
    MID_10,
    MID_60,
    NOISE_60,
    RETURN_BEFORE,
    SKEW_300,
    VOLATILITY_10,
    VOLATILITY_60,
    VOLATILITY_300,
    add,
    mid_of_second,
    note_mid,
    running,
    toxicity,
)

NUMBER = len(FEATURES)
NAN = np.nan
TOP_BIDS, TOP_ASKS = TOP, TOP + TOP_SIDE_WORDS
DEPTH_TABLE = np.array(DEPTHS, dtype=np.int64)
DEPTH_COUNT = len(DEPTHS)
BASIS_POINTS = 10_000.0
FAST_MS, SLOW_MS, SPREAD_MS = 1_000.0, 10_000.0, 60_000.0
LIVE_STATE = 1
FLOW_SIDE = 2 * FLOW_LEVELS

# Where groups of features start in a row.
F_BEST = feature_index("best_bid")
F_DEPTH = feature_index("depth_bid_1")
F_BAND = feature_index("band_bid_1_5")
F_REACH = feature_index("reach_bid")
F_SLOPE = feature_index("slope_bid")
F_FLOW = feature_index("order_flow_imbalance")
F_MEANS = feature_index("imbalance_fast")
F_RETURN = feature_index("return_1s")
F_TRADES = feature_index("bought_10s")
F_TOXICITY = feature_index("toxicity")
F_LIVES = feature_index("added_10s")
F_OTHERS = feature_index("venue_spread")


@inlined
def ratio(part, whole):
    return part / whole if whole != 0.0 else NAN


@kernel
def walk_price(top: int, count: int, notional: float) -> float:
    """The mean price, in ticks, of taking ``notional`` (ticks times lots) from the levels of one side, NaN if they
    do not hold it."""
    if count == 0 or load(top, TOP_SUM_NOTIONAL + count - 1) < notional:
        return NAN
    # Counted, not searched: a search could not be predicted.
    wanted, low = np.int64(np.ceil(notional)), 0
    for index in range(count - 1):
        low += np.int64(load(top, TOP_SUM_NOTIONAL + index) < wanted)
    tick = load(top, TOP_TICKS + low)
    lots = load(top, TOP_SUM_LOTS + low) - (load(top, TOP_SUM_NOTIONAL + low) - notional) / tick
    return notional / lots


@kernel
def _depths(book: int, scratch: int, row: int, tick_size: float, lot_size: float) -> None:
    bid_count, ask_count = load(scratch, TOP_COUNT + BID), load(scratch, TOP_COUNT + ASK)
    bids, asks = scratch + 8 * TOP_BIDS, scratch + 8 * TOP_ASKS
    for each in range(DEPTH_COUNT):
        bid_last = min(DEPTH_TABLE[each], bid_count) - 1
        ask_last = min(DEPTH_TABLE[each], ask_count) - 1
        bid_lots, ask_lots = (
            np.float64(load(bids, TOP_SUM_LOTS + bid_last)),
            np.float64(load(asks, TOP_SUM_LOTS + ask_last)),
        )
        place = F_DEPTH + 5 * each
        store_float(row, place, bid_lots * lot_size)
        store_float(row, place + 1, ask_lots * lot_size)
        store_float(row, place + 2, (bid_lots - ask_lots) / (bid_lots + ask_lots))
        store_float(row, place + 3, load(bids, TOP_SUM_NOTIONAL + bid_last) / bid_lots * tick_size)
        store_float(row, place + 4, load(asks, TOP_SUM_NOTIONAL + ask_last) / ask_lots * tick_size)


@kernel
def _bands(book: int, row: int, side: int, lot_size: float) -> None:
    lots = 0
    for band in range(BANDS):
        lots += load(book, BAND_LOTS + side * BUCKETS + band)
        store_float(row, F_BAND + 3 * band + side, lots * lot_size)


@kernel
def _shape(book: int, scratch: int, row: int, tick_size: float, lot_size: float) -> None:
    middle = 0.5 * (load(scratch, TOP_BIDS) + load(scratch, TOP_ASKS))
    wanted = IMPACT_NOTIONAL / (tick_size * lot_size)
    for side in range(SIDES):
        top = scratch + 8 * (TOP + side * TOP_SIDE_WORDS)
        count = load(scratch, TOP_COUNT + side)
        best = load(top, TOP_TICKS)
        last = count - 1
        total = np.float64(load(top, TOP_SUM_LOTS + last))
        distance = abs(load(top, TOP_TICKS + last) - best) * BASIS_POINTS / best
        store_float(row, F_SLOPE + side, ratio(total * lot_size, distance))
        paid = walk_price(top, count, wanted)
        # Buying takes asks: impact_buy comes first in the table.
        above = (paid - middle) if side == ASK else (middle - paid)
        store_float(row, F_SLOPE + 3 - side, above / middle * BASIS_POINTS)
        wall = abs(load(scratch, TOP_LARGEST_TICK + side) - best) * BASIS_POINTS / best
        store_float(row, F_SLOPE + 4 + side, wall)
        store_float(row, F_SLOPE + 6 + side, load(scratch, TOP_LARGEST + side) / total)
        reach = known_reach(book, side)
        # The price may have passed what a snapshot knew.
        beyond = max(best - reach, 0) if side == BID else max(reach - best, 0)
        known = np.inf if reach >= NO_ASK else beyond / best
        store_float(row, F_REACH + side, known)


@kernel
def _flow(book: int, scratch: int, row: int, lot_size: float) -> None:
    """Order-flow imbalance against the message before, rank by rank; then this one is kept for the next."""
    one, five, ten = 0, 0, 0
    for side in range(SIDES):
        top = scratch + 8 * (TOP + side * TOP_SIDE_WORDS)
        count = min(load(scratch, TOP_COUNT + side), FLOW_LEVELS)
        before = book + 8 * (BEFORE_LEVELS + side * FLOW_SIDE)
        compared = min(count, load(book, BEFORE_COUNT + side))
        sign = 1 if side == BID else -1
        for rank in range(compared):
            tick, lots = load(top, TOP_TICKS + rank), load(top, TOP_LOTS + rank)
            old_tick, old_lots = load(before, rank), load(before, FLOW_LEVELS + rank)
            better = (tick - old_tick) * sign
            change = (lots if better >= 0 else 0) - (old_lots if better <= 0 else 0)
            ten += sign * change
            if rank < 5:
                five += sign * change
            if rank == 0:
                one += sign * change
        for rank in range(count):
            store(before, rank, load(top, TOP_TICKS + rank))
            store(before, FLOW_LEVELS + rank, load(top, TOP_LOTS + rank))
        store(book, BEFORE_COUNT + side, count)
    add(book, FLOW_SERIES, one)
    second = running(book, FLOW_SERIES)
    store_float(row, F_FLOW, one * lot_size)
    store_float(row, F_FLOW + 1, five * lot_size)
    store_float(row, F_FLOW + 2, ten * lot_size)
    store_float(row, F_FLOW + 3, second * lot_size)
    store_float(row, F_FLOW + 4, (second + load(book, FLOW_SUM_10)) * lot_size)
    store_float(row, F_FLOW + 5, (second + load(book, FLOW_SUM_60)) * lot_size)
    pressure = load_float(row, F_DEPTH + 5) + load_float(row, F_DEPTH + 6)
    store_float(row, F_FLOW + 6, load_float(row, F_FLOW + 4) / pressure)


@kernel
def _means(book: int, row: int) -> None:
    """Exponential means by time: a silence of one time constant forgets 63 % of what was before."""
    now, before = load(book, NOW_MS), load(book, MEANS_MS)
    imbalance, spread = load_float(row, F_DEPTH + 7), load_float(row, F_BEST + 5)
    fast, slow, mean = imbalance, imbalance, spread
    if before != 0:
        passed = np.float64(now - before)
        fast = imbalance + (load_float(book, IMBALANCE_FAST) - imbalance) * np.exp(-passed / FAST_MS)
        slow = imbalance + (load_float(book, IMBALANCE_SLOW) - imbalance) * np.exp(-passed / SLOW_MS)
        mean = spread + (load_float(book, SPREAD_MEAN) - spread) * np.exp(-passed / SPREAD_MS)
    store(book, MEANS_MS, now)
    store_float(book, IMBALANCE_FAST, fast)
    store_float(book, IMBALANCE_SLOW, slow)
    store_float(book, SPREAD_MEAN, mean)
    store_float(row, F_MEANS, fast)
    store_float(row, F_MEANS + 1, slow)
    store_float(row, F_MEANS + 2, fast - slow)
    store_float(row, F_MEANS + 3, mean)
    store_float(row, F_MEANS + 4, spread / mean)


@kernel
def _returns(book: int, row: int, mid: float) -> None:
    statistics = book + 8 * SECOND_STATISTICS
    last = mid / load_float(statistics, MID_1) - 1.0
    store_float(row, F_RETURN, last)
    store_float(row, F_RETURN + 1, mid / load_float(statistics, MID_10) - 1.0)
    store_float(row, F_RETURN + 2, mid / load_float(statistics, MID_60) - 1.0)
    store_float(row, F_RETURN + 3, last - load_float(statistics, RETURN_BEFORE))
    store_float(row, F_RETURN + 4, load_float(statistics, VOLATILITY_10))
    store_float(row, F_RETURN + 5, load_float(statistics, VOLATILITY_60))
    store_float(row, F_RETURN + 6, load_float(statistics, VOLATILITY_300))
    store_float(row, F_RETURN + 7, load_float(statistics, MEAN_60))
    store_float(row, F_RETURN + 8, load_float(statistics, SKEW_300))
    store_float(row, F_RETURN + 9, load_float(statistics, NOISE_60))


@kernel
def _trades(book: int, row: int, mid: float, tick_size: float, lot_size: float) -> None:
    bought, sold = running(book, BOUGHT_SERIES), running(book, SOLD_SERIES)
    bought_10, sold_10 = np.float64(bought + load(book, BOUGHT_SUM_10)), np.float64(sold + load(book, SOLD_SUM_10))
    bought_60, sold_60 = np.float64(bought + load(book, BOUGHT_SUM_60)), np.float64(sold + load(book, SOLD_SUM_60))
    notional = np.float64(running(book, TRADED_NOTIONAL_SERIES) + load(book, TRADED_NOTIONAL_SUM_60))
    mean = ratio(notional, bought_60 + sold_60) * tick_size
    store_float(row, F_TRADES, bought_10 * lot_size)
    store_float(row, F_TRADES + 1, sold_10 * lot_size)
    store_float(row, F_TRADES + 2, (bought - sold) * lot_size)
    store_float(row, F_TRADES + 3, (bought_10 - sold_10) * lot_size)
    store_float(row, F_TRADES + 4, (bought_60 - sold_60) * lot_size)
    store_float(row, F_TRADES + 5, ratio(bought_10 - sold_10, bought_10 + sold_10))
    store_float(row, F_TRADES + 6, ratio(bought_60 - sold_60, bought_60 + sold_60))
    store_float(row, F_TRADES + 7, np.float64(running(book, TRADE_SERIES) + load(book, TRADE_SUM_10)))
    store_float(row, F_TRADES + 8, mean)
    store_float(row, F_TRADES + 9, mid / mean - 1.0)
    store_float(row, F_TOXICITY, toxicity(book))


@kernel
def _lives(book: int, row: int) -> None:
    store_float(row, F_LIVES, np.float64(running(book, ADDED_SERIES) + load(book, ADDED_SUM_10)))
    store_float(row, F_LIVES + 1, np.float64(running(book, REMOVED_SERIES) + load(book, REMOVED_SUM_10)))
    store_float(row, F_LIVES + 2, np.float64(running(book, UPDATE_SERIES) + load(book, UPDATE_SUM_10)))
    for side in range(SIDES):
        lives = running(book, LIVES_SERIES + side) + load(book, LIVES_SUM_60 + side)
        lifetime = running(book, LIFETIME_SERIES + side) + load(book, LIFETIME_SUM_60 + side)
        store_float(row, F_LIVES + 3 + side, ratio(lifetime / 1000.0, np.float64(lives)))


@kernel
def _others(book: int, row: int, mid: float) -> None:
    other, there = load(book, OTHER_VENUE_BOOK), NAN
    if other != 0 and load(other, STATE) == LIVE_STATE:
        there = mid_of_second(other, load(other, SECOND))
    store_float(row, F_OTHERS, mid / there - 1.0)
    statistics = book + 8 * SECOND_STATISTICS
    store_float(row, F_OTHERS + 1, load_float(statistics, CORRELATION_60))
    store_float(row, F_OTHERS + 2, load_float(statistics, CORRELATION_300))


@kernel
def compute_features(book: int, scratch: int, row: int) -> None:
    """Fill the row at an address (float64, one value a feature) from a book that has just taken a message."""
    bid_levels, ask_levels = load(book, LEVEL_COUNT + BID), load(book, LEVEL_COUNT + ASK)
    if bid_levels == 0 or ask_levels == 0:
        for index in range(NUMBER):
            store_float(row, index, NAN)
        store_float(row, F_BEST + 8, np.float64(bid_levels))
        store_float(row, F_BEST + 9, np.float64(ask_levels))
        store(book, BEFORE_COUNT + BID, 0)
        store(book, BEFORE_COUNT + ASK, 0)
        return
    top_levels(book, scratch, TOP_LEVELS)
    tick_size, lot_size = load_float(book, TICK_SIZE), load_float(book, LOT_SIZE)
    bid_ticks, ask_ticks = load(scratch, TOP_BIDS), load(scratch, TOP_ASKS)
    bid, ask = bid_ticks * tick_size, ask_ticks * tick_size
    bid_lots = np.float64(load(scratch, TOP_BIDS + TOP_LOTS))
    ask_lots = np.float64(load(scratch, TOP_ASKS + TOP_LOTS))
    mid, spread = 0.5 * (bid_ticks + ask_ticks) * tick_size, (ask_ticks - bid_ticks) * tick_size
    micro = (bid * ask_lots + ask * bid_lots) / (bid_lots + ask_lots)
    store_float(row, F_BEST, bid)
    store_float(row, F_BEST + 1, ask)
    store_float(row, F_BEST + 2, mid)
    store_float(row, F_BEST + 3, spread)
    store_float(row, F_BEST + 4, np.float64(ask_ticks - bid_ticks))
    store_float(row, F_BEST + 5, spread / mid)
    store_float(row, F_BEST + 6, micro)
    store_float(row, F_BEST + 7, ratio(2.0 * (micro - mid), spread))
    store_float(row, F_BEST + 8, np.float64(bid_levels))
    store_float(row, F_BEST + 9, np.float64(ask_levels))
    _depths(book, scratch, row, tick_size, lot_size)
    _bands(book, row, BID, lot_size)
    _bands(book, row, ASK, lot_size)
    for band in range(BANDS):
        bids, asks = load_float(row, F_BAND + 3 * band), load_float(row, F_BAND + 3 * band + 1)
        store_float(row, F_BAND + 3 * band + 2, ratio(bids - asks, bids + asks))
    _shape(book, scratch, row, tick_size, lot_size)
    note_mid(book)
    _flow(book, scratch, row, lot_size)
    _means(book, row)
    _returns(book, row, mid)
    _trades(book, row, mid, tick_size, lot_size)
    _lives(book, row)
    _others(book, row, mid)
