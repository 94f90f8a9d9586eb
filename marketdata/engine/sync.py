"""When a message may change a book: each venue's rules for snapshots, updates and gaps, and the states they lead to.

Bybit: any snapshot resets the book, and so does ``u == 1`` (its service restarted), whatever the type says; an update
must follow by exactly one.

Binance: a REST snapshot, then updates; those that end at or before it are dropped. Spot: an update must not start after
the one that is due. Futures: the first must span the snapshot's id or name it, each later one names the one before it
(``pu``). The snapshot alone proves nothing: the book becomes LIVE with the first update that bridges it.
"""

from __future__ import annotations

from enum import IntEnum

from marketdata.engine.compiled import kernel
from marketdata.engine.layout import FRESH_SNAPSHOT, RULE, STATE
from marketdata.engine.layout import UPDATE_ID as BOOK_UPDATE_ID
from marketdata.engine.memory import load
from marketdata.engine.scratch import FIRST_ID, KIND, PREVIOUS_ID, UPDATE_ID
from marketdata.engine.scratch import SNAPSHOT as SNAPSHOT_MESSAGE


class BookState(IntEnum):
    """Only a LIVE book signals or trades."""

    SYNCING = 0  # waiting for a snapshot, or for the update that bridges it
    LIVE = 1  # proven
    STALE = 2  # silent for too long
    BROKEN = 3  # contradicts itself


class Reason(IntEnum):
    """Why a book is not LIVE."""

    NONE = 0
    GAP = 1
    EMPTY_SIDE = 2
    CROSSED = 3
    NOT_BRIDGED = 4  # a snapshot was loaded; the update that bridges it is still to come
    TOLD = 5  # in words, by whoever marked the book
    TOO_LARGE = 6  # the sums of its levels would not fit an int64


class BookOutcome(IntEnum):
    """What one message did."""

    SNAPSHOT = 0
    DELTA = 1
    IGNORED = 2  # older than the book, or an update while waiting for a snapshot
    GAP = 3  # something between was missed: the book waits for a snapshot
    REFUSED = 4  # not understood: the book is untouched and waits for a snapshot


class SyncRule(IntEnum):
    BYBIT = 0
    BINANCE_SPOT = 1
    BINANCE_FUTURES = 2


_SYNCING, _BROKEN = int(BookState.SYNCING), int(BookState.BROKEN)
_RESET, _FOLLOWS = int(BookOutcome.SNAPSHOT), int(BookOutcome.DELTA)
_OLD, _MISSED = int(BookOutcome.IGNORED), int(BookOutcome.GAP)
_BYBIT, _BINANCE_SPOT = int(SyncRule.BYBIT), int(SyncRule.BINANCE_SPOT)


@kernel
def judge(book: int, scratch: int) -> int:
    """What the message in the scratch may do to the book: a BookOutcome. Nothing is changed."""
    rule, update = load(book, RULE), load(scratch, UPDATE_ID)
    if load(scratch, KIND) == SNAPSHOT_MESSAGE or (rule == _BYBIT and update == 1):
        return _RESET
    state, fresh, due = load(book, STATE), load(book, FRESH_SNAPSHOT), load(book, BOOK_UPDATE_ID) + 1
    if state == _BROKEN or (state == _SYNCING and fresh == 0):
        return _OLD
    if rule == _BYBIT:
        if update < due:
            return _OLD
        return _FOLLOWS if update == due else _MISSED
    if rule == _BINANCE_SPOT:
        if update < due:
            return _OLD
        return _FOLLOWS if load(scratch, FIRST_ID) <= due else _MISSED
    if update < due - 1 or (fresh == 0 and update < due):
        return _OLD
    if fresh and load(scratch, FIRST_ID) < due:
        return _FOLLOWS
    return _FOLLOWS if load(scratch, PREVIOUS_ID) == due - 1 else _MISSED
