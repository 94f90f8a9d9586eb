"""What differs between our books and the venue's, as values. Pure comparison: who asked and what is done about it is
elsewhere (trading/runtime/reconciler.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from trading.reports import OrderReport, PositionReport

# After so many failures in a row, whichever process had them, the account's owner looks for itself before it trades on.
MOST_FAILURES = 3


class DifferenceKind(StrEnum):
    MISSED_FILL = "missed_fill"
    FOREIGN_ORDER = "foreign_order"
    FOREIGN_FILL = "foreign_fill"
    LOST_ORDER = "lost_order"
    NEVER_PLACED = "never_placed"
    ENDED_HERE_ONLY = "ended_here_only"
    POSITION = "position"
    AMENDED = "amended"
    BALANCE = "balance"
    FEE = "fee"
    FUNDING = "funding"
    UNBOOKED_TRADE = "unbooked_trade"


@dataclass(frozen=True, slots=True)
class Difference:
    """``stands``: nothing put it right; it is open until it is gone or a person has settled it. ``amount``: theirs less
    ours, where it is one."""

    kind: DifferenceKind
    subject: str
    ours: str
    theirs: str
    stands: bool = False
    amount: Decimal | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "subject": self.subject, "ours": self.ours, "theirs": self.theirs}


# What the end of a difference is called when the comparison itself put it right.
PUT_RIGHT: Mapping[DifferenceKind, str] = {
    DifferenceKind.MISSED_FILL: "booked",
    DifferenceKind.FOREIGN_ORDER: "adopted",
    DifferenceKind.FOREIGN_FILL: "booked",
    DifferenceKind.AMENDED: "the order took the venue's values",
    DifferenceKind.LOST_ORDER: "the order was brought up to date",
    DifferenceKind.NEVER_PLACED: "the order has failed",
    DifferenceKind.POSITION: "ours was made equal to the venue's",
}
# Compared at each run, and with the ledger: one that is not found any more is over. Others are facts, for a person.
ENDS_BY_ITSELF = frozenset({DifferenceKind.FOREIGN_ORDER, DifferenceKind.ENDED_HERE_ONLY})
ENDS_WITH_LEDGER = frozenset({DifferenceKind.BALANCE})


@dataclass(frozen=True, slots=True)
class LocalPosition:
    symbol: str
    side: str
    quantity: Decimal


def foreign_orders(local_ids: Iterable[tuple[str, str]], reports: Iterable[OrderReport]) -> list[OrderReport]:
    """Working orders of the venue that are in our books under neither their client nor their venue id.

    Exits of positions are not among them: they belong to the position, which shows them, and end with it.
    """
    known: set[str] = {identifier for pair in local_ids for identifier in pair if identifier}
    return [
        report
        for report in reports
        if not report.is_exit
        and report.venue_order_id not in known
        and (not report.client_order_id or report.client_order_id not in known)
    ]


def position_differences(
    local: Mapping[str, LocalPosition], reports: Iterable[PositionReport]
) -> list[tuple[Difference, PositionReport]]:
    """Symbols whose side or quantity differ, with the venue's word for each (an empty one where it holds nothing)."""
    found = []
    reported = {report.symbol: report for report in reports}
    for symbol in sorted(set(local) | set(reported)):
        ours, theirs = local.get(symbol), reported.get(symbol) or _nothing(symbol)
        our_text = f"{ours.side} {ours.quantity:f}" if ours and ours.quantity else "flat"
        their_text = f"{theirs.side} {theirs.quantity:f}" if theirs.quantity else "flat"
        same = (
            ours is not None and ours.side == theirs.side and ours.quantity == theirs.quantity
            if theirs.quantity
            else our_text == "flat"
        )
        if not same:
            found.append((Difference(DifferenceKind.POSITION, symbol, our_text, their_text), theirs))
    return found


def _nothing(symbol: str) -> PositionReport:
    zero = Decimal(0)
    return PositionReport(symbol, "", zero, zero, Decimal(1), None, None, None, None, 0)
