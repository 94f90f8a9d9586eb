"""Where a parsed message waits until it is known whether it may change a book. Indexes count 8-byte words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# More changes in one message than any venue sends (10,000 levels a side); what has more is not believed.
CHANGES_ROOM = 32_768
TOP_LEVELS = 50

# What the message says of itself.
KIND = 0
SENT_MS = 1
VENUE_MS = 2
FIRST_ID = 3
UPDATE_ID = 4
PREVIOUS_ID = 5
SEQUENCE = 6
BID_CHANGES = 7
ALL_CHANGES = 8  # bids first, then asks
TOP_COUNT = 9  # two words: levels found a side by top_levels
TOP_LARGEST = 11  # two words: the most lots that one of them holds
TOP_LARGEST_TICK = 13  # two words: where, the nearest if several hold as much
POWERS = 16  # ten to the power of 0 to 18
# Places that lie a multiple of 4 KiB apart share one set of the first-level cache, whose eight lines the nine lists
# below would throw each other out of: so each begins eleven lines further on.
_STAGGER = 11 * 8
_LIST = CHANGES_ROOM + _STAGGER
TICKS = 64
LOTS = TICKS + _LIST
OLD_LOTS = LOTS + _LIST  # what each changed level held before
# Numbers on their way from text: see marketdata.engine.parse_text.
PRICE_TEXT = OLD_LOTS + _LIST
PRICE_SCALE = PRICE_TEXT + _LIST
PRICE_VALUE = PRICE_SCALE + _LIST
QUANTITY_TEXT = PRICE_VALUE + _LIST
QUANTITY_SCALE = QUANTITY_TEXT + _LIST
QUANTITY_VALUE = QUANTITY_SCALE + _LIST
# The best levels of a side (twice: bids, asks): ticks, lots, and both running sums.
TOP_ROOM = 64
TOP = QUANTITY_VALUE + _LIST
TOP_TICKS, TOP_LOTS, TOP_SUM_LOTS, TOP_SUM_NOTIONAL = 0, TOP_ROOM, 2 * TOP_ROOM, 3 * TOP_ROOM
TOP_SIDE_WORDS = 4 * TOP_ROOM
SCRATCH_WORDS = TOP + 2 * TOP_SIDE_WORDS

SNAPSHOT, DELTA = 0, 1


def new_scratch() -> NDArray[np.int64]:
    """One for every thread that runs kernels; nothing in it outlives a call."""
    scratch = np.zeros(SCRATCH_WORDS, dtype=np.int64)
    scratch[POWERS : POWERS + 19] = 10 ** np.arange(19, dtype=np.int64)
    return scratch
