"""When a message may change a book: Bybit's rules for snapshots, deltas and gaps, and the states they lead to."""

from __future__ import annotations

from enum import Enum, IntEnum


class BookState(Enum):
    """Only a LIVE book signals or trades."""

    SYNCING = "waiting for a snapshot"
    LIVE = "proven"
    STALE = "silent for too long"
    BROKEN = "contradicts itself"


class BookOutcome(IntEnum):
    """What one message did."""

    SNAPSHOT = 0
    DELTA = 1
    IGNORED = 2  # older than the book, or a delta while waiting for a snapshot
    GAP = 3  # something between was missed: the book waits for a snapshot
    REFUSED = 4  # not understood: the book is untouched and waits for a snapshot


def judge(*, is_snapshot: bool, update_id: int, book_update_id: int, state: BookState) -> BookOutcome:
    """What to do with a message, before anything is applied.

    Any snapshot resets the book. ``u == 1`` is a snapshot after a restart of the venue's service, whatever its type
    says. A delta must follow by exactly one.
    """
    if is_snapshot or update_id == 1:
        return BookOutcome.SNAPSHOT
    if state in (BookState.SYNCING, BookState.BROKEN) or update_id <= book_update_id:
        return BookOutcome.IGNORED
    if update_id != book_update_id + 1:
        return BookOutcome.GAP
    return BookOutcome.DELTA
