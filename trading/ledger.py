"""A coin's balance, explained: what was there before the first entry that we know, and every entry since. Values only;
who asked, and what is done about a difference, is elsewhere (trading/runtime/ledger_comparison.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from trading.reconciliation import Difference, DifferenceKind
from trading.reports import FillReport, LedgerReport

ZERO = Decimal(0)
# Venues tell balances rounded to 8 places, and entries exactly.
TOLERANCE = Decimal("1e-7")
# The ledger may be behind the wallet, for minutes when markets are wild; what is younger is no difference yet.
SETTLING = timedelta(minutes=2)
FUNDING = "SETTLEMENT"
# Executions and ledger tell the same payment with times that may differ a little.
SAME_PAYMENT_MS = 60_000


@dataclass(frozen=True, slots=True)
class ExplainedBalance:
    """``explained`` is the opening balance and all changes since; ``venue`` what the venue says now."""

    currency: str
    explained: Decimal
    venue: Decimal

    @property
    def unexplained(self) -> Decimal:
        """Zero when the balance is explained."""
        rest = self.venue - self.explained
        return rest if abs(rest) > TOLERANCE else ZERO

    def difference(self) -> Difference:
        return Difference(
            DifferenceKind.BALANCE,
            self.currency,
            f"{self.explained:f} {self.currency}",
            f"{self.venue:f} {self.currency}",
            stands=True,
            amount=self.unexplained,
        )


def change_of(entry: LedgerReport) -> Decimal:
    """What an entry must have changed by its own parts."""
    return entry.cash_flow + entry.funding - entry.fee


def contradiction(entry: LedgerReport) -> Difference | None:
    """An entry whose parts do not make its change."""
    expected = change_of(entry)
    if abs(expected - entry.change) <= TOLERANCE:
        return None
    return Difference(
        DifferenceKind.BALANCE,
        f"entry {entry.venue_id}"[:100],
        f"{expected:f} {entry.currency} by its cash flow, funding and fee",
        f"{entry.change:f} {entry.currency}",
        stands=True,
        amount=entry.change - expected,
    )


def fee_difference(execution_id: str, ours: Decimal, theirs: Decimal, currency: str) -> Difference | None:
    """The fee of our fill against that of the ledger."""
    if abs(ours - theirs) <= TOLERANCE:
        return None
    return Difference(
        DifferenceKind.FEE,
        execution_id,
        f"{ours:f} {currency}",
        f"{theirs:f} {currency}",
        stands=True,
        amount=theirs - ours,
    )


def funding_differences(paid: Sequence[FillReport], booked: Sequence[LedgerReport]) -> list[Difference]:
    """Funding that the venue told as executions, and its ledger has not, or with another amount. An execution's fee is
    the payment: positive when we pay. Give the ledger of a longer time than the executions."""
    by_execution = {entry.execution_id: entry for entry in booked if entry.execution_id}
    found = []
    for payment in paid:
        entry = by_execution.get(payment.execution_id) or _at_its_time(payment, booked)
        theirs = ZERO if entry is None else entry.funding
        if entry is not None and abs(theirs + payment.fee) <= TOLERANCE:
            continue
        found.append(
            Difference(
                DifferenceKind.FUNDING,
                payment.execution_id,
                f"{-payment.fee:f} {payment.fee_currency} for {payment.symbol} by its execution",
                "no entry" if entry is None else f"{theirs:f} {entry.currency}",
                stands=True,
                amount=theirs + payment.fee,
            )
        )
    return found


def _at_its_time(payment: FillReport, booked: Sequence[LedgerReport]) -> LedgerReport | None:
    near = (
        entry
        for entry in booked
        if entry.kind == FUNDING
        and entry.symbol == payment.symbol
        and abs(entry.booked_ms - payment.executed_ms) <= SAME_PAYMENT_MS
    )
    return next(near, None)


def windows(start: datetime, end: datetime, length: timedelta) -> list[tuple[datetime, datetime]]:
    """The time from ``start`` to ``end`` in pieces of at most ``length``, oldest first."""
    pieces = []
    while start < end:
        until = min(start + length, end)
        pieces.append((start, until))
        start = until
    return pieces
