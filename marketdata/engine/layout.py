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
SEQUENCE = _word()
FRESH_SNAPSHOT = _word()  # 1 between a REST snapshot and the first update that bridges it
SENT_MS = _word()  # the venue's clock when it sent the newest message
VENUE_MS = _word()  # the venue's clock at the matching engine, where told
RECEIVE_NS = _word()
REASON = _word()  # why it is not LIVE: see marketdata.engine.sync
MISSED_ID = _word()  # the update that revealed the newest gap
DEPTH_LIMIT = _word()  # levels a side that the stream shows at most; 0: every level that changes
SNAPSHOT_LIMIT = _word()  # levels a side that a REST snapshot was asked for, for streams without a depth limit
REACH = _words(SIDES)  # ticks: how far a snapshot reached, for streams without a depth limit

# Counters since the block was made.
MESSAGES = _word()
SNAPSHOTS = _word()
DELTAS = _word()
IGNORED = _word()
GAPS = _word()
REFUSED = _word()
CHANGES = _word()

# Bands: six limits a side, and what lies between them (bucket 6: beyond the last).
BAND_LIMIT = _words(SIDES * BANDS)
BAND_LOTS = _words(SIDES * BUCKETS)
BAND_NOTIONAL = _words(SIDES * BUCKETS)  # ticks times lots
BANDS_READY = _word()
BAND_BEST = _words(SIDES)  # the best prices that the limits belong to

# The beginnings that its frames must have, and their lengths in bytes.
HEAD_LENGTH = _word()
HEAD = _words(TEMPLATE_WORDS)
DATA_LENGTH = _word()
DATA = _words(TEMPLATE_WORDS)

# Other books that features compare with: addresses, 0 for none.
REFERENCE_BOOK = _word()
OTHER_VENUE_BOOK = _word()
# The block of its detectors (marketdata.engine.detectors.layout): its address, 0 for none.
DETECTORS = _word()
OBSERVE_MESSAGE, OBSERVE_TRADE = _word(), _word()  # addresses of what lets them look, 0 for none

# What features carry from message to message: see marketdata.engine.windows and marketdata.engine.features.
NOW_MS = _word()  # the venue's clock, never going back
SECOND = _word()  # the whole second of NOW_MS; 0 before the first message
FIRST_SECOND = _word()
# Sums of one second each, by second modulo SERIES_SECONDS: integers, but for prices and returns (float).
SERIES_SECONDS = 512
MID_SERIES = _words(SERIES_SECONDS)
RETURN_SERIES = _words(SERIES_SECONDS)  # float: log returns of the seconds that are over
FLOW_SERIES = _words(SERIES_SECONDS)
BOUGHT_SERIES = _words(SERIES_SECONDS)
SOLD_SERIES = _words(SERIES_SECONDS)
TRADE_SERIES = _words(SERIES_SECONDS)
TRADED_NOTIONAL_SERIES = _words(SERIES_SECONDS)
ADDED_SERIES = _words(SERIES_SECONDS)
REMOVED_SERIES = _words(SERIES_SECONDS)
LIVES_SERIES = _words(SIDES * SERIES_SECONDS)  # levels that vanished and were seen to appear
LIFETIME_SERIES = _words(SIDES * SERIES_SECONDS)
UPDATE_SERIES = _words(SERIES_SECONDS)
# Sums of the whole seconds of a window, without the running one.
FLOW_SUM_10, FLOW_SUM_60 = _word(), _word()
BOUGHT_SUM_10, BOUGHT_SUM_60, BOUGHT_SUM_300 = _word(), _word(), _word()
SOLD_SUM_10, SOLD_SUM_60, SOLD_SUM_300 = _word(), _word(), _word()
TRADE_SUM_10, TRADED_NOTIONAL_SUM_60 = _word(), _word()
ADDED_SUM_10, UPDATE_SUM_10 = _word(), _word()
REMOVED_SUM_10, LIVES_SUM_60, LIFETIME_SUM_60 = _word(), _words(SIDES), _words(SIDES)
# Statistics of the whole seconds, as features show them (float).
SECOND_STATISTICS = _words(16)
# The newest message's predecessor: the best ten levels of both sides, ticks and lots.
FLOW_LEVELS = 10
BEFORE_COUNT = _words(SIDES)
BEFORE_LEVELS = _words(SIDES * 2 * FLOW_LEVELS)
# Exponential means (float), and when they were last moved.
MEANS_MS = _word()
IMBALANCE_FAST, IMBALANCE_SLOW, SPREAD_MEAN = _word(), _word(), _word()
# Volume-synchronised buckets.
TOXICITY_BUCKETS = 50
TOXICITY_SIZE, TOXICITY_BOUGHT, TOXICITY_SOLD, TOXICITY_FILLED = _word(), _word(), _word(), _word()
TOXICITY_SHARES = _words(TOXICITY_BUCKETS)  # float

HEADER_WORDS = (next(_next) + 7) // 8 * 8

# What is in lots, and in ticks times lots: first word and number of words.
LOT_WORDS = (
    (FLOW_SERIES, SERIES_SECONDS),
    (BOUGHT_SERIES, SERIES_SECONDS),
    (SOLD_SERIES, SERIES_SECONDS),
    (FLOW_SUM_10, 2),
    (BOUGHT_SUM_10, 3),
    (SOLD_SUM_10, 3),
    (TOXICITY_SIZE, 3),
)
NOTIONAL_WORDS = ((TRADED_NOTIONAL_SERIES, SERIES_SECONDS), (TRADED_NOTIONAL_SUM_60, 1))
