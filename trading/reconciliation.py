"""What differs between our books and the venue's, as values. Pure comparison: who asked and what is done about it is
elsewhere (trading/runtime/reconciler.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from trading.reports import OrderReport, PositionReport


class DifferenceKind(StrEnum):
    MISSED_FILL = "missed_fill"
    FOREIGN_ORDER = "foreign_order"
    FOREIGN_FILL = "foreign_fill"
    LOST_ORDER = "lost_order"
    NEVER_PLACED = "never_placed"
    ENDED_HERE_ONLY = "ended_here_only"
    POSITION = "position"
    AMENDED = "amended"


@dataclass(frozen=True, slots=True)
class Difference:
    kind: DifferenceKind
    subject: str
    ours: str
    theirs: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


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
