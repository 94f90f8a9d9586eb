"""Where everything of a book lies in its block of memory. Indexes count 8-byte words from the block's address.

A block is: the header with the statistics of windows, two rings of lots, two bitmaps, two rings of birth times, two
overflow lists. Prices are ticks and quantities lots: multiples of the book's own steps, which may be finer than the
venue's but never coarser. A level within the window (``RING_MASK + 1`` ticks from ``WINDOW_LOW``) lies in its side's
ring at ``tick & RING_MASK``, with its bit set in the bitmap; every other level lies in the side's overflow list, sorted
by tick. Nothing is dropped.
"""

from __future__ import annotations

from itertools import count

BID, ASK = 0, 1
SIDES = 2
# A price further than any: the best ask of an empty side. The best bid of an empty side is NO_BID.
NO_ASK = 1 << 52
NO_BID = -1
# Text that a frame of this book must begin with is kept in the header, eight bytes a word.
TEMPLATE_WORDS = 16

BAND_PER_MILLE = (15, 30, 50, 80, 150, 300)
BANDS = len(BAND_PER_MILLE)
BUCKETS = BANDS + 1


_next = count()


def _word() -> int:
    return next(_next)


def _words(number: int) -> int:
    first = next(_next)
    for _ in range(number - 1):
        next(_next)
    return first


# The grid: a price text is scaled by 10**PRICE_DECIMALS and must then be a multiple of PRICE_UNIT.
PRICE_DECIMALS = _word()
PRICE_UNIT = _word()
PRICE_INVERSE = _word()  # float: 1 / PRICE_UNIT
QUANTITY_DECIMALS = _word()
QUANTITY_UNIT = _word()
QUANTITY_INVERSE = _word()
TICK_SIZE = _word()  # float, quote coins
LOT_SIZE = _word()  # float, base coins

# The window and the overflow.
RING_MASK = _word()
WINDOW_LOW = _word()
OVERFLOW_ROOM = _word()
OVERFLOW_COUNT = _words(SIDES)
LEVEL_COUNT = _words(SIDES)
BEST = _words(SIDES)  # ticks
WORST = _words(SIDES)  # ticks: the furthest known level

# Sequence and clocks.
STATE = _word()
FORMAT = _word()  # how its frames look: see marketdata.engine.frames
RULE = _word()  # how its updates follow each other: see marketdata.engine.sync
UPDATE_ID = _word()
FRESH_SNAPSHOT = _word()  # 1 between a REST snapshot and the first update that bridges it
SEQUENCE = _word()
SENT_MS = _word()  # the venue's clock when it sent the newest message
VENUE_MS = _word()  # the venue's clock at the matching engine, where told
RECEIVE_NS = _word()
REASON = _word()  # why it is not LIVE: see marketdata.engine.sync
MESSAGES, DELTAS, CHANGES, SNAPSHOTS = _word(), _word(), _word(), _word()  # since the block was made
DEPTH_LIMIT = _word()  # levels a side that the stream shows at most; 0: every level that changes
REACH = _words(SIDES)  # ticks: how far a snapshot reached, for streams without a depth limit
OBSERVE_MESSAGE = _word()  # the address of what lets its detectors look; 0: it has none

# The beginnings that its frames must have, and their lengths in bytes.
HEAD_LENGTH, DATA_LENGTH = _word(), _word()
HEAD = _words(TEMPLATE_WORDS)
DATA = _words(TEMPLATE_WORDS)

# Bands: six limits a side, and what lies between them (bucket 6: beyond the last).
BANDS_READY = _word()
BAND_BEST = _words(SIDES)  # the best prices that the limits belong to
BAND_LIMIT = _words(SIDES * BANDS)
BAND_LOTS = _words(SIDES * BUCKETS)
BAND_NOTIONAL = _words(SIDES * BUCKETS)  # ticks times lots

# What features carry from message to message: see marketdata.engine.windows and marketdata.engine.features.
NOW_MS = _word()  # the venue's clock: see marketdata.engine.windows.move_clock
SECOND = _word()  # the whole second of NOW_MS; 0 before the first message
# Other books that features compare with: addresses, 0 for none.
REFERENCE_BOOK, OTHER_VENUE_BOOK = _word(), _word()
# Exponential means (float), and when they were last moved.
MEANS_MS = _word()
IMBALANCE_FAST, IMBALANCE_SLOW, SPREAD_MEAN = _word(), _word(), _word()
# What a second sums up, by its place: of the running one, and of those that are over.
FLOW_SERIES, BOUGHT_SERIES, SOLD_SERIES, TRADE_SERIES, TRADED_NOTIONAL_SERIES = range(5)
ADDED_SERIES, REMOVED_SERIES, UPDATE_SERIES = range(5, 8)
LIVES_SERIES, LIFETIME_SERIES = 8, 10  # a side each: levels that vanished and were seen to appear
SERIES = 12
RUNNING = _words(SERIES)
RUNNING_MID = _word()  # float: the newest
# Sums of the whole seconds of a window, without the running one.
FIRST_SUM = FLOW_SUM_10 = _word()
FLOW_SUM_60 = _word()
BOUGHT_SUM_10, BOUGHT_SUM_60, BOUGHT_SUM_300 = _word(), _word(), _word()
SOLD_SUM_10, SOLD_SUM_60, SOLD_SUM_300 = _word(), _word(), _word()
TRADE_SUM_10, TRADED_NOTIONAL_SUM_60 = _word(), _word()
ADDED_SUM_10, UPDATE_SUM_10 = _word(), _word()
REMOVED_SUM_10, LIVES_SUM_60, LIFETIME_SUM_60 = _word(), _words(SIDES), _words(SIDES)
AFTER_SUMS = LIFETIME_SUM_60 + SIDES
# Statistics of the whole seconds, as features show them (float).
SECOND_STATISTICS = _words(12)
TOXICITY_FILLED = _word()  # volume-synchronised buckets so far
TOXICITY_MEAN = _word()  # float: of the shares of the last ones
# The newest message's predecessor: the best ten levels of both sides, ticks and lots.
FLOW_LEVELS = 10
BEFORE_COUNT = _words(SIDES)
BEFORE_LEVELS = _words(SIDES * 2 * FLOW_LEVELS)
# Up to here a message reads nearly every line; what follows is for few messages, or for one a second.
MISSED_ID = _word()  # the update that revealed the newest gap
SNAPSHOT_LIMIT = _word()  # levels a side that a REST snapshot was asked for, for streams without a depth limit
IGNORED, GAPS, REFUSED = _word(), _word(), _word()
# The block of its detectors (marketdata.engine.detectors.layout): its address, 0 for none.
DETECTORS = _word()
OBSERVE_TRADE = _word()  # as OBSERVE_MESSAGE
FIRST_SECOND = _word()
DOUBTED_MS = _word()  # the newest frame's time, where the clock did not follow it; 0: it did
TOXICITY_SIZE, TOXICITY_BOUGHT, TOXICITY_SOLD = _word(), _word(), _word()
TOXICITY_BUCKETS = 50
TOXICITY_SHARES = _words(TOXICITY_BUCKETS)  # float
# The seconds that are over, by second modulo SERIES_SECONDS. A second's sums lie beside each other, as they are used;
# returns and prices (float) are read along the seconds.
SERIES_SECONDS = 512
MID_SERIES = _words(SERIES_SECONDS)
RETURN_SERIES = _words(SERIES_SECONDS)  # log returns
HISTORY = _words(SERIES_SECONDS * SERIES)

HEADER_WORDS = (next(_next) + 7) // 8 * 8

# What is in lots, and in ticks times lots: words, and places within a second's sums.
LOT_WORDS = (
    slice(FLOW_SUM_10, TRADE_SUM_10),
    slice(TOXICITY_SIZE, TOXICITY_SOLD + 1),
)
LOT_SERIES = (FLOW_SERIES, BOUGHT_SERIES, SOLD_SERIES)
