"""Where everything lies in the block of memory of one symbol's detectors. Indexes count 8-byte words from its address.

It is a block of its own: the book's header only knows its address (``marketdata.engine.layout.DETECTORS``, 0 while
nobody detects). Times are the venue's, in ms; prices and quantities are the book's ticks and lots.
"""

from __future__ import annotations

from itertools import count

from marketdata.engine.detectors.parameters import NAMES
from marketdata.engine.layout import SIDES

_next = count()


def _word() -> int:
    return next(_next)


def _words(number: int) -> int:
    first = next(_next)
    for _ in range(number - 1):
        next(_next)
    return first


PARAMETERS = _words(len(NAMES))  # float

# The grid that everything here is counted in; another one of the book's begins everything anew.
KNOWN_TICK_SIZE, KNOWN_LOT_SIZE = _word(), _word()  # float
START_MS, SECOND_SEEN, CHECKED_MS = _word(), _word(), _word()

# Events on their way out: a ring of records. The oldest are overwritten when nobody fetches them.
EVENTS = 256
RECORD_EVIDENCE = 8
(
    RECORD_KIND,
    RECORD_SIDE,
    RECORD_LOW,
    RECORD_HIGH,
    RECORD_BEGIN_MS,
    RECORD_DETECTED_MS,
    RECORD_SCORE,  # float, as is the rest
    RECORD_TICK_SIZE,
    RECORD_LOT_SIZE,
    RECORD_FIRST_EVIDENCE,
) = range(10)
RECORD_WORDS = RECORD_FIRST_EVIDENCE + RECORD_EVIDENCE
EVENTS_WRITTEN = _word()
EVENT_RING = _words(EVENTS * RECORD_WORDS)

# Distributions: the sum of all weights, then weights by bucket (float).
BUCKETS = 256
DISTRIBUTION_WORDS = BUCKETS + 1
DISTRIBUTIONS = next(_next)
SIZES = DISTRIBUTIONS  # lots of the best levels
IMBALANCES = SIZES + DISTRIBUTION_WORDS
CLUSTER_RATIOS = IMBALANCES + DISTRIBUTION_WORDS
ATTACKS = CLUSTER_RATIOS + DISTRIBUTION_WORDS  # lots that attacked levels took
TRADED_ZONES = ATTACKS + DISTRIBUTION_WORDS  # lots traded in the zone of the price
LIVES = TRADED_ZONES + DISTRIBUTION_WORDS  # ms that large levels lived
NUMBER_OF_DISTRIBUTIONS = 6
_words(NUMBER_OF_DISTRIBUTIONS * DISTRIBUTION_WORDS - 1)

# Renewed every few seconds from the distributions.
RENEWED_SECOND = _word()
CLUSTER_LIMIT, HOT_SPOT_MEDIAN, HOT_SPOT_LIMIT = _word(), _word(), _word()  # float
LARGE_LOTS, NOTABLE_LOTS, USUAL_LOTS = _word(), _word(), _word()
IMBALANCE_LOW, IMBALANCE_HIGH = _word(), _word()  # float

# What was traded: totals since the start, and their decaying sums (float) by takers who bought and who sold.
BOUGHT, SOLD = _word(), _word()
RECENT_BOUGHT, RECENT_SOLD, RECENT_MS = _word(), _word(), _word()
FAST_BOUGHT, FAST_SOLD = _word(), _word()

# Large levels that are watched, a side. Those that ended wait for late trades before they are judged.
WATCHED = 48
(
    WATCH_TICK,
    WATCH_BORN_MS,
    WATCH_ENDED_MS,
    WATCH_BEFORE,
    WATCH_ADDED,
    WATCH_TRADED,
    WATCH_NEAREST,
    WATCH_DISTANCE,
    WATCH_OTHER_TRADED,
    WATCH_OWN_TRADED,
    WATCH_OTHER_USUAL,  # float: lots a ms
    WATCH_GROUPED,
    WATCH_RANK,
    WATCH_WORDS,
) = range(14)
WATCH_COUNT = _words(SIDES)
WATCH_DUE_MS = _word()  # when the first ended one is to be judged
WATCH = _words(SIDES * WATCHED * WATCH_WORDS)

# Spoofs that were told, a side: how many, fading (float), and when the last one was.
SPOOFS_TOLD, SPOOF_TOLD_MS = _words(SIDES), _words(SIDES)

# Levels that takers hit, a side.
ATTACKED = 8
(
    ATTACK_TICK,
    ATTACK_BEGIN_MS,
    ATTACK_LAST_MS,
    ATTACK_TRADED,
    ATTACK_TRADES,
    ATTACK_SHOWN,
    ATTACK_REACHED_MS,
    ATTACK_BEHIND_MS,
    ATTACK_TOLD,
    ATTACK_WORDS,
) = range(10)
ATTACK_COUNT = _words(SIDES)
ATTACK_LEAST = _word()
ATTACK = _words(SIDES * ATTACKED * ATTACK_WORDS)

# Imbalance: its mean (float), when it was last moved, and the side that weighs too much (0 neither, 1 bids, -1 asks).
IMBALANCE_MEAN, IMBALANCE_MS, IMBALANCE_SIDE, IMBALANCE_SINCE, IMBALANCE_TOLD = (_word() for _ in range(5))

# Toxicity: the running bucket of equal volume, the signed shares of the last ones (float), the times when they
# began, and since when the regime is toxic (0: it is not).
FLOW_BUCKETS = 50
BUCKET_SIZE, BUCKET_BOUGHT, BUCKET_SOLD, BUCKET_BEGIN_MS, BUCKETS_FILLED, TOXICITY_SINCE = (_word() for _ in range(6))
BUCKET_SHARES = _words(FLOW_BUCKETS)
BUCKET_TIMES = _words(FLOW_BUCKETS)

# Explosion: the extremes of the window without the running second (float), and when each direction was last told.
WINDOW_LOWEST, WINDOW_HIGHEST = _word(), _word()
EXPLOSION_TOLD_MS = _words(SIDES)

# Zones: so many ticks wide (a power of two), counted from price 0. Resting volume of a scan, nearest first.
ZONE_SHIFT = _word()
ZONES = 48
ZONE_LOTS = _words(ZONES)
ZONE_ORDER = _words(ZONES)
CLUSTERS = 12
(
    CLUSTER_ZONE,
    CLUSTER_BEGIN_MS,
    CLUSTER_SEEN,
    CLUSTER_MISSED,
    CLUSTER_TOLD,
    CLUSTER_LOTS,
    CLUSTER_WORDS,
) = range(7)
CLUSTER_COUNT = _words(SIDES)
CLUSTER = _words(SIDES * CLUSTERS * CLUSTER_WORDS)
# Traded volume by zone, direct-mapped: a zone that shares its slot with another one begins anew.
PROFILE = 512
PROFILE_ZONE, PROFILE_LOTS, PROFILE_TRADES, PROFILE_MS, PROFILE_SINCE, PROFILE_TOLD, PROFILE_WORDS = range(7)
PROFILE_NEWEST = _word()
TRADED_PROFILE = _words(PROFILE * PROFILE_WORDS)

# Turns of the price. Twice the mid price, in ticks.
TURN_DIRECTION, TURN_EXTREME, TURN_MS, TURN_TICK = (_word() for _ in range(4))
MID_BEFORE, CHANGE_BEFORE, CHANGE_SQUARES = _word(), _word(), _word()  # float
TURNS = 16
TURN_PLACE, TURN_AT_MS, TURN_WORDS = range(3)
TURN_COUNT = _words(SIDES)
TURN = _words(SIDES * TURNS * TURN_WORDS)

DETECTOR_WORDS = (next(_next) + 7) // 8 * 8
