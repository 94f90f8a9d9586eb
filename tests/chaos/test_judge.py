"""The judge: whatever is planted in either ledger is found, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_site.chaos.judge import Kind, judge
from platform_site.chaos.ledgers import Execution, OurLedger, OurOrder, VenueLedger, VenueOrder, signed

D = Decimal
Ledgers = tuple[VenueLedger, OurLedger]


def their_order(name: str, **changes: Any) -> VenueOrder:
    return replace(VenueOrder(f"v-{name}", name, "BTCUSDT", "Buy", D("0.01"), D(0), "New", True), **changes)


def our_order(name: str, **changes: Any) -> OurOrder:
    order = OurOrder(name, f"v-{name}", "BTCUSDT", "Buy", D("0.01"), D(0), "acknowledged", "manual")
    return replace(order, **changes)


def execution(name: str, order: str, **changes: Any) -> Execution:
    return replace(Execution(name, order, "BTCUSDT", "Buy", D(60_000), D("0.01"), D("0.33")), **changes)


def agreeing() -> Ledgers:
    """One that rests, one that filled, one that was denied."""
    fill = execution("e-1", "filled")
    venue = VenueLedger(
        [their_order("resting"), their_order("filled", status="Filled", filled=D("0.01"))],
        [fill],
        {"BTCUSDT": D("0.01")},
        D("99999.670000001"),
    )
    ours = OurLedger(
        [
            our_order("resting"),
            our_order("filled", state="filled", filled=D("0.01")),
            our_order("denied", state="denied", venue_order_id=""),
        ],
        [fill],
        {"BTCUSDT": D("0.01")},
        D("99999.67"),
    )
    return venue, ours


ACCEPTED = {"resting": 201, "filled": 200, "denied": 201, "refused": 400, "never-heard": 0}


def kinds(venue: VenueLedger, ours: OurLedger) -> set[Kind]:
    return {found.kind for found in judge("alice", ACCEPTED, venue, ours)}


def test_two_ledgers_that_agree_have_no_violation() -> None:
    assert judge("alice", ACCEPTED, *agreeing()) == []


def with_venue_orders(*orders: VenueOrder) -> Callable[[Ledgers], Ledgers]:
    return lambda both: (replace(both[0], orders=[*both[0].orders, *orders]), both[1])


def with_our_orders(*orders: OurOrder) -> Callable[[Ledgers], Ledgers]:
    return lambda both: (both[0], replace(both[1], orders=[*both[1].orders, *orders]))


def with_both(order: OurOrder, **theirs: Any) -> Callable[[Ledgers], Ledgers]:
    """Of the venue's it is 0.01 at 59,000 where nothing else is said."""
    values = {"price": D(59_000), **theirs}
    return lambda both: with_our_orders(order)(with_venue_orders(their_order(order.client_order_id, **values))(both))


def with_our_fills(*fills: Execution) -> Callable[[Ledgers], Ledgers]:
    return lambda both: (both[0], replace(both[1], executions=list(fills)))


def ours_with(**changes: Any) -> Callable[[Ledgers], Ledgers]:
    return lambda both: (both[0], replace(both[1], **changes))


PLANTED: list[tuple[str, Callable[[Ledgers], Ledgers], set[Kind]]] = [
    ("an order twice under its id", with_venue_orders(their_order("filled", venue_order_id="v-2")), {Kind.DUPLICATED}),
    ("an order again under another id", with_venue_orders(their_order("other")), {Kind.DUPLICATED}),
    ("an order again without an id", with_venue_orders(their_order("", venue_order_id="v-3")), {Kind.DUPLICATED}),
    (
        "an order again, adopted by reconciliation",
        lambda both: with_our_orders(our_order("other", strategy="external"))(
            with_venue_orders(their_order("other"))(both)
        ),
        {Kind.DUPLICATED},
    ),
    ("an order that is confirmed here and not there", with_our_orders(our_order("gone")), {Kind.LOST}),
    ("an order that filled here and is not there", with_our_orders(our_order("gone", state="filled")), {Kind.LOST}),
    (
        "an order that works there and failed here",
        lambda both: with_our_orders(our_order("alive", state="failed"))(with_venue_orders(their_order("alive"))(both)),
        {Kind.LOST},
    ),
    ("an order that its author was told of and nobody has", lambda both: (both[0], forgotten(both[1])), {Kind.LOST}),
    ("an order of which nobody knows", with_our_orders(our_order("open", state="unknown")), {Kind.STUCK}),
    ("an order that is about to be sent", with_our_orders(our_order("open", state="pending_submit")), {Kind.STUCK}),
    ("an order that nobody took", with_our_orders(our_order("open", state="new")), {Kind.STUCK}),
    (
        "an order that ended there and works here",
        lambda both: with_our_orders(our_order("ended"))(
            with_venue_orders(their_order("ended", status="Cancelled"))(both)
        ),
        {Kind.STATE},
    ),
    (
        "an order of another quantity",
        with_both(our_order("amended", price=D(59_000)), quantity=D("0.02")),
        {Kind.STATE},
    ),
    ("an order at another price", with_both(our_order("amended", price=D(58_000))), {Kind.STATE}),
    (
        "an order that was cancelled at another price",
        with_both(our_order("amended", price=D(58_000), state="cancelled"), status="Cancelled"),
        {Kind.STATE},
    ),
    (
        "an amendment without an outcome",
        with_both(our_order("amended", price=D(59_000), state="pending_replace", is_replacing=True)),
        {Kind.STUCK},
    ),
    (
        "an ended order's amendment without an outcome",
        with_both(our_order("amended", price=D(59_000), state="cancelled", is_replacing=True), status="Cancelled"),
        {Kind.STUCK},
    ),
    ("a fill that is not booked", with_our_fills(), {Kind.FILL_MISSED, Kind.POSITION}),
    (
        "a fill that is booked twice",
        with_our_fills(execution("e-1", "filled"), execution("e-1", "filled")),
        {Kind.FILL_DOUBLED, Kind.POSITION},
    ),
    (
        "a fill that the venue never had",
        with_our_fills(execution("e-1", "filled"), execution("e-2", "filled")),
        {Kind.FILL_DOUBLED, Kind.POSITION},
    ),
    ("a fill at another price", with_our_fills(execution("e-1", "filled", price=D(60_001))), {Kind.FILL_DIFFERS}),
    ("a fill with another fee", with_our_fills(execution("e-1", "filled", fee=D("0.3300001"))), {Kind.FILL_DIFFERS}),
    ("a fill of another order", with_our_fills(execution("e-1", "resting")), {Kind.FILL_DIFFERS}),
    ("a position of another size", ours_with(positions={"BTCUSDT": D("0.011")}), {Kind.POSITION}),
    ("a position on the other side", ours_with(positions={"BTCUSDT": D("-0.01")}), {Kind.POSITION}),
    ("a position that is not there", ours_with(positions={}), {Kind.POSITION}),
    ("a balance that differs by little", ours_with(balance=D("99999.67000002")), {Kind.BALANCE}),
]


def forgotten(ours: OurLedger) -> OurLedger:
    return replace(ours, orders=[order for order in ours.orders if order.client_order_id != "denied"])


@pytest.mark.parametrize(("plant", "expected"), [row[1:] for row in PLANTED], ids=[row[0] for row in PLANTED])
def test_what_is_planted_is_found(plant: Callable[[Ledgers], Ledgers], expected: set[Kind]) -> None:
    assert kinds(*plant(agreeing())) == expected


def test_an_order_that_its_author_withdrew_before_it_was_sent_is_no_lost_one() -> None:
    withdrawn = our_order("withdrawn", state="cancelled", venue_order_id="")
    assert kinds(*with_our_orders(withdrawn)(agreeing())) == set()


@pytest.mark.parametrize(
    ("order", "theirs"),
    [
        (our_order("amended", price=D(59_000)), {}),
        (our_order("market", state="cancelled"), {"price": D(63_000), "status": "Cancelled"}),
        (our_order("cut", price=D(59_000), reduce_only=True), {"quantity": D("0.004")}),
    ],
    ids=["equal", "a market order's price is the venue's own", "the venue cuts reduce-only orders"],
)
def test_values_that_may_differ_are_no_violation(order: OurOrder, theirs: dict[str, Any]) -> None:
    assert kinds(*with_both(order, **theirs)(agreeing())) == set()


def test_the_venues_own_orders_are_nobodys_duplicates() -> None:
    taken_over = their_order("", venue_order_id="v-9", created_by_user=False, status="Filled")
    assert kinds(*with_venue_orders(taken_over)(agreeing())) == set()


SIDES = st.sampled_from(["Buy", "Sell"])
LOTS = st.integers(1, 1_000).map(lambda lots: D(lots) / 1_000)


@given(st.lists(st.tuples(SIDES, LOTS, st.integers(1, 100_000).map(D)), min_size=1, max_size=8), st.data())
def test_of_any_executions_the_one_that_is_lost_is_the_one_that_is_missed(
    rows: list[tuple[str, Decimal, Decimal]], data: st.DataObject
) -> None:
    orders = [f"o-{number}" for number in range(len(rows))]
    fills = [
        execution(f"e-{name}", name, side=side, quantity=quantity, price=price)
        for name, (side, quantity, price) in zip(orders, rows, strict=True)
    ]
    held = sum((signed(side, quantity) for side, quantity, _ in rows), D(0))
    positions = {"BTCUSDT": held} if held else {}
    values = [(name, each.side, each.quantity) for name, each in zip(orders, fills, strict=True)]
    venue = VenueLedger(
        [their_order(name, side=side, quantity=size, filled=size, status="Filled") for name, side, size in values],
        fills,
        positions,
        D(1),
    )
    ours = OurLedger(
        [our_order(name, side=side, quantity=size, filled=size, state="filled") for name, side, size in values],
        fills,
        positions,
        D(1),
    )
    assert judge("alice", {}, venue, ours) == []
    lost = data.draw(st.sampled_from(fills))
    found = judge("alice", {}, venue, replace(ours, executions=[each for each in fills if each is not lost]))
    assert {(each.kind, each.subject) for each in found} == {
        (Kind.FILL_MISSED, lost.execution_id),
        (Kind.POSITION, "BTCUSDT"),
    }
