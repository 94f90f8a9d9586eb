"""What is wrong with recorded events, row by row, and what may be done about it when somebody says so."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from trading.backtest.errors import BacktestError
from trading.backtest.feed import Event, EventKind, Feed
from trading.backtest.replay import crossings
from trading.simulator.instruments import Grids

LEVEL, TRADE, END, SNAPSHOT = (int(kind) for kind in EventKind)
ROWS_TOLD = 20
Rows = NDArray[np.int64]
# Ticks and lots are compared only.
_ANY_GRIDS = Grids.of(Decimal(1), Decimal(1))


class Fault(StrEnum):
    UNKNOWN = "unknown"
    NEGATIVE = "negative"
    DISORDER = "disorder"
    TORN = "torn"
    UNSTARTED = "unstarted"
    REPEATED = "repeated"
    GAP = "gap"
    CROSSED = "crossed"


class FeedRepair(StrEnum):
    """What may be done; nothing of it happens by itself."""

    DROP_BAD_ROWS = "drop_bad_rows"
    SORT = "sort"
    WAIT_FOR_SNAPSHOT = "wait_for_snapshot"


FAULTS = {
    Fault.UNKNOWN: "a kind or a side that there is not",
    Fault.NEGATIVE: "a price or a traded quantity that is not above 0, or a level's that is below",
    Fault.DISORDER: "earlier than the row before",
    Fault.TORN: "a message of the book with two times, with something else within it, or without its end",
    Fault.UNSTARTED: "a change of a book before its first snapshot",
    Fault.REPEATED: "a message of the book with a number that is not above the one before",
    Fault.GAP: "messages of the book are missing before it",
    Fault.CROSSED: "the best bid is at or above the best ask after it",
}
REPAIRS = {
    Fault.UNKNOWN: FeedRepair.DROP_BAD_ROWS,
    Fault.NEGATIVE: FeedRepair.DROP_BAD_ROWS,
    Fault.DISORDER: FeedRepair.SORT,
    Fault.UNSTARTED: FeedRepair.WAIT_FOR_SNAPSHOT,
    Fault.REPEATED: FeedRepair.WAIT_FOR_SNAPSHOT,
    Fault.GAP: FeedRepair.WAIT_FOR_SNAPSHOT,
    Fault.CROSSED: FeedRepair.WAIT_FOR_SNAPSHOT,
}
REPAIR_HELP = {
    FeedRepair.DROP_BAD_ROWS: "leave those rows out",
    FeedRepair.SORT: "put messages and trades in the order of their times",
    FeedRepair.WAIT_FOR_SNAPSHOT: "leave the book as it was before that message, until its next snapshot",
}


@dataclass(frozen=True, slots=True)
class FeedFinding:
    """``rows``: numbers of the first of them in the table, from 0 on."""

    fault: Fault
    count: int
    rows: tuple[int, ...]

    @property
    def text(self) -> str:
        told = ", ".join(map(str, self.rows)) + (", ..." if self.count > len(self.rows) else "")
        repair = REPAIRS.get(self.fault)
        remedy = f"{repair}: {REPAIR_HELP[repair]}" if repair else "record or fetch it again"
        return f"{self.fault}: {FAULTS[self.fault]} ({self.count} rows: {told}); {remedy}"


def inspect_events(events: Rows, *, consecutive: bool = False) -> list[FeedFinding]:
    """Everything that is wrong with a table of events. ``consecutive``: update ids rise by one from message to message
    (Bybit's do)."""
    found = [(Fault.UNKNOWN, _unknown(events)), (Fault.NEGATIVE, _negative(events))]
    if any(len(rows) for _, rows in found):
        return _told(found)  # nothing else can be said of such a table
    found += [(Fault.DISORDER, np.flatnonzero(np.diff(events[:, Event.TIME]) < 0) + 1), (Fault.TORN, _torn(events))]
    if not any(len(rows) for _, rows in found):
        found += _numbered(events, consecutive=consecutive)
        found.append((Fault.CROSSED, _crossed(events)))
    return _told(found)


def checked_events(
    name: str, events: Rows, repairs: Collection[FeedRepair] = (), *, consecutive: bool = False
) -> tuple[Rows, list[FeedFinding]]:
    """The events as they may be replayed, and what was repaired.

    Raises:
        BacktestError: what is wrong and no named repair is for; all of it, with rows.
    """
    repaired: list[FeedFinding] = []
    for _ in range(len(FeedRepair) + 1):
        findings = inspect_events(events, consecutive=consecutive)
        if not findings:
            return np.ascontiguousarray(events), repaired
        refused = [each for each in findings if REPAIRS.get(each.fault) not in repairs]
        if refused:
            raise BacktestError(f"{name} cannot be replayed: " + "; ".join(each.text for each in refused))
        repaired += findings
        events = _repaired(events, {REPAIRS[each.fault] for each in findings}, consecutive=consecutive)
    raise BacktestError(f"{name} cannot be replayed: {findings[0].text}")


def _told(found: list[tuple[Fault, Rows]]) -> list[FeedFinding]:
    return [FeedFinding(fault, len(rows), tuple(rows[:ROWS_TOLD].tolist())) for fault, rows in found if len(rows)]


def _unknown(events: Rows) -> Rows:
    kinds, sides = events[:, Event.KIND], events[:, Event.SIDE]
    sided = (kinds == LEVEL) | (kinds == TRADE)
    return np.flatnonzero((kinds < LEVEL) | (kinds > SNAPSHOT) | (sided & (np.abs(sides) != 1)))


def _negative(events: Rows) -> Rows:
    kinds, ticks, lots = events[:, Event.KIND], events[:, Event.TICK], events[:, Event.LOTS]
    bad_level = (kinds == LEVEL) & ((ticks <= 0) | (lots < 0))
    return np.flatnonzero(bad_level | ((kinds == TRADE) & ((ticks <= 0) | (lots <= 0))))


def _torn(events: Rows) -> Rows:
    rows = np.flatnonzero(events[:, Event.KIND] != TRADE)
    if not len(rows):
        return rows
    kinds, times = events[rows, Event.KIND], events[rows, Event.TIME]
    goes_on = kinds[:-1] != END
    broken = (times[1:] != times[:-1]) | (np.diff(rows) != 1) | (kinds[1:] == SNAPSHOT)
    torn = rows[1:][goes_on & broken]
    return torn if kinds[-1] == END else np.append(torn, rows[-1])


def _messages(events: Rows) -> tuple[Rows, Rows, NDArray[np.bool_]]:
    """First and last row of each message of the book, and whether it is a snapshot."""
    rows = np.flatnonzero(events[:, Event.KIND] != TRADE)
    ends = np.flatnonzero(events[rows, Event.KIND] == END)
    firsts = rows[np.concatenate(([0], ends[:-1] + 1))] if len(ends) else rows[:0]
    return firsts, rows[ends], events[firsts, Event.KIND] == SNAPSHOT


def _numbered(events: Rows, *, consecutive: bool) -> list[tuple[Fault, Rows]]:
    firsts, ends, whole = _messages(events)
    if not len(ends):
        return []
    numbers = events[ends, Event.UPDATE]
    follows, step = ~whole[1:] & (numbers[1:] > 0) & (numbers[:-1] > 0), np.diff(numbers)
    missing = follows & (step > 1) if consecutive else np.zeros_like(follows)
    return [
        (Fault.UNSTARTED, firsts[: 0 if whole[0] else 1]),
        # The update that bridges a snapshot may end where it does.
        (Fault.REPEATED, firsts[1:][follows & ((step < 0) | ((step == 0) & ~whole[:-1]))]),
        (Fault.GAP, firsts[1:][missing]),
    ]


def _crossed(events: Rows) -> Rows:
    """Ends of messages that leave a crossed book."""
    return crossings(Feed("", _ANY_GRIDS, events))


def _repaired(events: Rows, repairs: Collection[FeedRepair], *, consecutive: bool) -> Rows:
    if FeedRepair.DROP_BAD_ROWS in repairs:
        return np.delete(events, np.concatenate((_unknown(events), _negative(events))), axis=0)
    if FeedRepair.SORT in repairs:
        return in_order(events)
    bad = [rows for _, rows in _numbered(events, consecutive=consecutive)]
    firsts, ends, whole = _messages(events)
    # Of what a book went wrong by, the message that crossed it.
    crossed = firsts[np.searchsorted(ends, _crossed(events))]
    starts = np.union1d(np.concatenate(bad), crossed)
    snapshots = firsts[whole]
    keep = np.ones(len(events), dtype=bool)
    for start in starts.tolist():
        index = int(np.searchsorted(snapshots, start, side="right"))
        until = int(snapshots[index]) if index < len(snapshots) else len(events)
        keep[start:until] = False
    return events[keep | (events[:, Event.KIND] == TRADE)]


def in_order(events: Rows) -> Rows:
    """Messages and trades by their times; of one instant trades come before the book that shows what they left."""
    return events[np.lexsort((events[:, Event.KIND] != TRADE, events[:, Event.TIME]))]
