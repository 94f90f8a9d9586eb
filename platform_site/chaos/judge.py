"""Compares the exchange's own ledger with our books: every difference is a violation, named and with its evidence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import StrEnum

from platform_site.chaos.ledgers import Execution, OurLedger, OurOrder, VenueLedger, VenueOrder
from trading.lifecycle import LIVE, TERMINAL, OrderState

# What reconciliation finds at the venue and nobody here has asked for.
ADOPTED = "external"
NEVER_AT_VENUE = frozenset({OrderState.DENIED, OrderState.EXPIRED, OrderState.FAILED})
# The venue tells balances rounded to eight decimals; its own ledger is exact.
TOLD_TO = Decimal("0.00000001")
# Nobody knows, or nobody has said yet: for a moment only.
UNSETTLED = LIVE - {OrderState.ACKNOWLEDGED, OrderState.PARTIALLY_FILLED}


class Kind(StrEnum):
    DUPLICATED = "duplicated"
    LOST = "lost"
    STUCK = "stuck"
    STATE = "state"
    FILL_MISSED = "fill missed"
    FILL_DOUBLED = "fill doubled"
    FILL_DIFFERS = "fill differs"
    POSITION = "position"
    BALANCE = "balance"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Violation:
    """``subject``: an order's or execution's id, a symbol, an audit chain. ``evidence``: what either side has."""

    kind: Kind
    account: str
    subject: str
    evidence: str

    def as_dict(self) -> dict[str, str]:
        return {**asdict(self), "kind": str(self.kind)}


def judge(account: str, accepted: Mapping[str, int], venue: VenueLedger, ours: OurLedger) -> list[Violation]:
    """All violations of one account. ``accepted``: what its authors were told of their orders, as HTTP statuses by
    client order id; 0 where they never heard."""

    def violation(kind: Kind, subject: str, evidence: str) -> Violation:
        return Violation(kind, account, subject, evidence)

    return [
        *_orders(violation, accepted, venue, ours),
        *_fills(violation, venue.executions, ours.executions),
        *_sums(violation, venue, ours),
    ]


Make = Callable[[Kind, str, str], Violation]


def _orders(make: Make, accepted: Mapping[str, int], venue: VenueLedger, ours: OurLedger) -> Iterator[Violation]:
    theirs: dict[str, list[VenueOrder]] = defaultdict(list)
    for each in venue.orders:
        if each.created_by_user:
            theirs[each.client_order_id].append(each)
    mine = {order.client_order_id: order for order in ours.orders if order.strategy != ADOPTED}
    for name, status in accepted.items():
        if 200 <= status < 300 and name not in mine:
            yield make(Kind.LOST, name, f"its author was told {status}, there is no such order in our books")
    for name, found in theirs.items():
        if len(found) > 1 and name:
            yield make(Kind.DUPLICATED, name, f"{len(found)} orders at the venue: {_shown(found)}")
        if name not in mine:
            yield make(Kind.DUPLICATED, name or found[0].venue_order_id, f"nobody intended it: {_shown(found)}")
    for name, order in mine.items():
        yield from _order(make, order, theirs.get(name, []))


def _order(make: Make, order: OurOrder, found: list[VenueOrder]) -> Iterator[Violation]:
    state, name = OrderState(order.state), order.client_order_id
    if state in UNSETTLED or order.is_replacing:
        amended = ", an amendment of it undecided" if order.is_replacing else ""
        yield make(Kind.STUCK, name, f"it is {state}{amended}; at the venue: {_shown(found)}")
        return
    if not found:
        was_there = state not in NEVER_AT_VENUE | {OrderState.REJECTED} and not _withdrawn(order)
        if was_there:
            yield make(Kind.LOST, name, f"it is {state} here, the venue never had it")
        return
    theirs = found[0]
    if state in NEVER_AT_VENUE:
        yield make(Kind.LOST, name, f"it is {state} here; at the venue: {_shown(found)}")
    elif theirs.is_open != (state not in TERMINAL) or theirs.filled != order.filled:
        yield make(Kind.STATE, name, f"it is {state}, {order.filled:f} filled; at the venue: {_shown(found)}")
    elif _keeps_values(order) and (theirs.quantity, theirs.price) != (order.quantity, order.price):
        yield make(Kind.STATE, name, f"{order.quantity:f} at {order.price:f}; at the venue: {_shown(found)}")


def _keeps_values(order: OurOrder) -> bool:
    """Whether its quantity and price are the venue's. A filled order keeps what it was when its last fill was booked,
    and the venue cuts reduce-only orders to the position, also while they end."""
    return order.price is not None and order.state != OrderState.FILLED and not order.reduce_only


def _withdrawn(order: OurOrder) -> bool:
    """Cancelled by its author before it was sent."""
    return order.state == OrderState.CANCELLED and not order.venue_order_id and not order.filled


def _shown(found: list[VenueOrder]) -> str:
    if not found:
        return "nothing"
    return "; ".join(
        f"{each.venue_order_id} {each.status} {each.side} {each.quantity:f} {each.symbol} at {each.price:f}, "
        f"{each.filled:f} filled"
        for each in found
    )


def _fills(make: Make, theirs: Sequence[Execution], mine: Sequence[Execution]) -> Iterator[Violation]:
    booked = {each.execution_id: each for each in mine}
    told = {each.execution_id: each for each in theirs}
    for name, count in Counter(each.execution_id for each in mine).items():
        if count > 1:
            yield make(Kind.FILL_DOUBLED, name, f"booked {count} times")
    for name, each in told.items():
        if name not in booked:
            yield make(Kind.FILL_MISSED, name, f"not booked: {_value(each)}")
        elif booked[name] != each:
            yield make(Kind.FILL_DIFFERS, name, f"booked as {_value(booked[name])}; the venue's is {_value(each)}")
    for name, each in booked.items():
        if name not in told:
            yield make(Kind.FILL_DOUBLED, name, f"the venue has no such execution: {_value(each)}")


def _value(each: Execution) -> str:
    what = f"{each.side} {each.quantity:f} {each.symbol} at {each.price:f}, fee {each.fee:f}"
    return f"{what}, of {each.client_order_id or 'no order of ours'}"


def _sums(make: Make, venue: VenueLedger, ours: OurLedger) -> Iterator[Violation]:
    zero = Decimal(0)
    for symbol in sorted({*venue.positions, *ours.positions}):
        here, there = ours.positions.get(symbol, zero), venue.positions.get(symbol, zero)
        traded = sum((_signed(each) for each in ours.executions if each.symbol == symbol), zero)
        if here != there or traded != there:
            evidence = f"{here:f} here and {traded:f} by our fills, {there:f} at the venue"
            yield make(Kind.POSITION, symbol, evidence)
    if abs(ours.balance - venue.balance) > TOLD_TO:
        yield make(Kind.BALANCE, "USDT", f"{ours.balance:f} here, {venue.balance:f} at the venue")


def _signed(each: Execution) -> Decimal:
    return each.quantity if each.side == "Buy" else -each.quantity
