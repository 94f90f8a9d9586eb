"""Whatever the venue says, in any order and however often: our books stay true. A small venue is the reference."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.db.models import Count
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from audit.models import Alert, AuditEvent
from audit.selectors import chain_break
from risk.checks import Refusal
from tests import builders
from trading.lifecycle import LIVE, TERMINAL, TRANSITIONS, OrderEvent, OrderState
from trading.models import Account, Fill, Order, OrderAmendment, OrderTransition, Position
from trading.reports import FillReport, OrderReport, Submission, SubmissionResult
from trading.services.amendments import (
    OrderNotAmendable,
    order_amend_apply,
    order_amend_prove_lost,
    order_amend_request,
    order_amend_take,
)
from trading.services.exposures import account_exposure
from trading.services.order_commits import order_take
from trading.services.order_outcomes import order_cancel_apply, order_prove_absent, order_submission_apply
from trading.services.order_refusals import OrderNotCancellable, OrderRefused
from trading.services.orders import order_cancel_request, order_place
from trading.services.reports import reports_apply

D = Decimal
LOT = D("0.001")
EXAMPLES = int(os.environ.get("LIFECYCLE_EXAMPLES", "25"))
STEPS = int(os.environ.get("LIFECYCLE_STEPS", "30"))
quantities = st.integers(1, 20).map(lambda lots: lots * LOT)
prices = st.sampled_from([D("59000.0"), D("60000.0"), D("61000.0")])
sides = st.sampled_from(["Buy", "Sell"])
NO = SubmissionResult(Submission.REJECTED, code=110007, message="no balance")
LOST = SubmissionResult(Submission.UNKNOWN, message="timed out")
GONE = SubmissionResult(Submission.CLOSED, code=110001, message="order not exists or too late")


@dataclass
class VenueOrder:
    """One order as the venue knows it; what it ever said of it can be said again."""

    identifier: str
    client_order_id: str
    side: str
    quantity: Decimal
    price: Decimal
    status: str = "New"
    filled: Decimal = Decimal(0)
    reports: list[OrderReport] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.status in ("New", "PartiallyFilled")


class Venue:
    """Truth. Everything that it says is kept; who hears it, when and how often is the machine's choice."""

    def __init__(self) -> None:
        self.clock_ms = 1_795_000_000_000
        self.orders: dict[str, VenueOrder] = {}
        self.fills: list[FillReport] = []

    def accept(self, order: Order) -> VenueOrder:
        assert order.price is not None
        made = VenueOrder(f"v{len(self.orders)}", order.client_order_id, order.side, order.quantity, order.price)
        self.orders[order.client_order_id] = made
        self.say(made)
        return made

    def say(self, order: VenueOrder) -> None:
        self.clock_ms += 1
        order.reports.append(
            builders.order_report(
                venue_order_id=order.identifier,
                client_order_id=order.client_order_id,
                side=order.side,
                status=order.status,
                quantity=order.quantity,
                price=order.price,
                filled_quantity=order.filled,
                updated_ms=self.clock_ms,
            )
        )

    def fill(self, order: VenueOrder, quantity: Decimal) -> None:
        order.filled += quantity
        order.status = "Filled" if order.filled == order.quantity else "PartiallyFilled"
        self.say(order)
        self.fills.append(
            builders.fill_report(
                execution_id=f"x{len(self.fills)}",
                venue_order_id=order.identifier,
                client_order_id=order.client_order_id,
                side=order.side,
                price=order.price,
                quantity=quantity,
                executed_ms=self.clock_ms,
            )
        )

    def amend(self, order: VenueOrder, quantity: Decimal, price: Decimal) -> bool:
        if not order.is_open or quantity <= order.filled:
            return False
        order.quantity, order.price = quantity, price
        self.say(order)
        return True

    def end(self, order: VenueOrder, status: str) -> None:
        order.status = status
        self.say(order)


class Lifecycle(RuleBasedStateMachine):
    """One account, a few orders, and a second tenant whose books nothing here may touch."""

    def __init__(self) -> None:
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.venue = Venue()
        self.answers: dict[str, Callable[[], Any]] = {}  # of requests that the venue has seen, not told yet
        self.refused = 0
        self.known: dict[int, tuple[str, int]] = {}  # by order: its state and how many steps it had
        self.account, self.bobs = Account.objects.order_by("pk")
        self.owner = builders.ownership(self.account.pk, seconds=3_600)

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)

    def _ours(self, states: set[OrderState]) -> list[Order]:
        return list(Order.objects.filter(account=self.account, state__in=[str(s) for s in states]).order_by("pk"))

    def _pick(self, data: st.DataObject, rows: list[Any]) -> Any:
        return data.draw(st.sampled_from(rows)) if rows else None

    def _hear(self, *reports: Any) -> None:
        self.refused += len(reports_apply(account_id=self.account.pk, reports=reports))

    # What we want.

    @initialize(side=sides, quantity=quantities, price=prices)
    def begin(self, side: str, quantity: Decimal, price: Decimal) -> None:
        self.place(side, quantity, price)

    @precondition(lambda self: Order.objects.filter(account=self.account).count() < 4)
    @rule(side=sides, quantity=quantities, price=prices)
    def place(self, side: str, quantity: Decimal, price: Decimal) -> None:
        number = Order.objects.count()
        order_place(
            account=self.account, actor="alice", symbol="BTCUSDT", side=side, order_type="Limit",
            quantity=quantity, price=price, client_order_id=f"order-{number}",
        )  # fmt: skip

    @rule(data=st.data(), fate=st.sampled_from(["accepted", "lost after", "lost before", "rejected", "denied"]))
    def take_and_send(self, data: st.DataObject, fate: str) -> None:
        order = self._pick(data, self._ours({OrderState.NEW}))
        if order is None:
            return
        refusals = (Refusal("test", "0", "1", "denied"),) if fate == "denied" else ()
        taken = order_take(order_id=order.pk, refusals=refusals, receive_window_ms=5000, owner=self.owner)
        assert taken is not None
        if taken.state != OrderState.PENDING_SUBMIT:
            return
        result = {"rejected": NO}.get(fate, LOST)
        if fate in ("accepted", "lost after"):
            made = self.venue.accept(taken)
            result = SubmissionResult(Submission.ACCEPTED, made.identifier) if fate == "accepted" else LOST
        self.answers[f"submit {order.pk}"] = lambda: order_submission_apply(order_id=order.pk, result=result)

    @rule(data=st.data(), quantity=quantities, price=prices)
    def ask_for_a_change(self, data: st.DataObject, quantity: Decimal, price: Decimal) -> None:
        order = self._pick(data, list(Order.objects.filter(account=self.account).order_by("pk")))
        with suppress(OrderRefused, OrderNotAmendable):
            order_amend_request(order=order, actor="alice", quantity=quantity, price=price)

    @rule(data=st.data(), arrives=st.booleans(), answer=st.sampled_from(["true", "lost"]))
    def send_a_change(self, data: st.DataObject, arrives: bool, answer: str) -> None:
        order = self._pick(data, self._ours({OrderState.PENDING_REPLACE}))
        if order is None:
            return
        amendment = order_amend_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=self.owner)
        if amendment is None:
            return
        truth = LOST
        if arrives:
            taken = self.venue.amend(self.venue.orders[order.client_order_id], amendment.quantity, amendment.price)
            truth = SubmissionResult(Submission.ACCEPTED) if taken else GONE
        result = truth if answer == "true" else LOST
        self.answers[f"amend {amendment.pk}"] = lambda: order_amend_apply(amendment_id=amendment.pk, result=result)

    @rule(data=st.data(), arrives=st.booleans(), answer=st.sampled_from(["true", "lost", "throttled"]))
    def cancel(self, data: st.DataObject, arrives: bool, answer: str) -> None:
        order = self._pick(data, list(Order.objects.filter(account=self.account).order_by("pk")))
        with suppress(OrderNotCancellable):
            order = order_cancel_request(order=order, actor="alice")
            theirs = self.venue.orders.get(order.client_order_id)
            if theirs is None or order.state != OrderState.PENDING_CANCEL:
                return
            result = LOST
            if answer == "throttled":
                result = SubmissionResult(Submission.THROTTLED, code=10006, message="Too many visits!")
            elif arrives:
                result = SubmissionResult(Submission.ACCEPTED) if theirs.is_open else GONE
                if theirs.is_open:
                    self.venue.end(theirs, "Cancelled")
            self.answers[f"cancel {order.pk}"] = lambda: order_cancel_apply(order_id=order.pk, result=result)

    @rule(data=st.data())
    def an_answer_comes(self, data: st.DataObject) -> None:
        name = self._pick(data, list(self.answers))
        if name is not None:
            self.answers.pop(name)()

    # What happens at the venue.

    @rule(data=st.data(), lots=st.integers(1, 20))
    def the_venue_fills(self, data: st.DataObject, lots: int) -> None:
        order = self._pick(data, [each for each in self.venue.orders.values() if each.is_open])
        if order is not None:
            self.venue.fill(order, min(lots * LOT, order.quantity - order.filled))

    @rule(data=st.data(), status=st.sampled_from(["Cancelled", "Deactivated", "Rejected"]))
    def the_venue_ends(self, data: st.DataObject, status: str) -> None:
        order = self._pick(data, [each for each in self.venue.orders.values() if each.is_open])
        if order is not None and not (status == "Rejected" and order.filled):
            self.venue.end(order, status)

    @rule(data=st.data(), quantity=quantities, price=prices)
    def somebody_changes_it_there(self, data: st.DataObject, quantity: Decimal, price: Decimal) -> None:
        order = self._pick(data, [each for each in self.venue.orders.values() if each.is_open])
        if order is not None:
            self.venue.amend(order, quantity, price)

    # What we hear of it: any of what was ever said, in any order, as often as it likes.

    @rule(data=st.data())
    def an_order_report_comes(self, data: st.DataObject) -> None:
        report = self._pick(data, [report for order in self.venue.orders.values() for report in order.reports])
        if report is not None:
            self._hear(report)

    @rule(data=st.data())
    def a_fill_comes(self, data: st.DataObject) -> None:
        report = self._pick(data, self.venue.fills)
        if report is not None:
            self._hear(report)

    @rule(data=st.data())
    def a_lie_comes(self, data: st.DataObject) -> None:
        """A contradiction is told and changes nothing."""
        said = [report for order in self.venue.orders.values() for report in order.reports]
        if not said:
            return
        truth = data.draw(st.sampled_from(said))
        other = "Sell" if truth.side == "Buy" else "Buy"
        names = {"client_order_id": truth.client_order_id, "venue_order_id": truth.venue_order_id}
        fill = builders.fill_report(execution_id="lie", side=truth.side, quantity=LOT, **names)
        lies: list[dict[str, Any]] = [
            {"side": other}, {"quantity": D(1_000)}, {"quantity": -LOT}, {"symbol": "ETHUSDT"}, {"symbol": "NOPE"},
            {"quantity": D(0)}, {"price": D(0)},
        ]  # fmt: skip
        if _venue_id(truth):  # before we know it, a fill under our id and any of theirs contradicts nothing
            lies.append({"venue_order_id": "of another order"})
        before = self._snapshot()
        refused = reports_apply(
            account_id=self.account.pk, reports=[_changed(fill, **data.draw(st.sampled_from(lies)))]
        )
        assert len(refused) == 1 and self._snapshot() == before
        assert Alert.objects.filter(kind="report_refused", account_id=self.account.pk).exists()

    @rule(data=st.data())
    def a_booked_execution_comes_with_other_content(self, data: st.DataObject) -> None:
        booked = [fill for fill in self.venue.fills if Fill.objects.filter(execution_id=fill.execution_id).exists()]
        report = self._pick(data, booked)
        if report is not None:
            before = self._snapshot()
            refused = reports_apply(
                account_id=self.account.pk, reports=[_changed(report, quantity=report.quantity + LOT)]
            )
            assert len(refused) == 1 and self._snapshot() == before

    @rule(data=st.data())
    def another_account_hears_of_our_order(self, data: st.DataObject) -> None:
        """Bob's stream names Alice's order: her books do not move."""
        said = [report for order in self.venue.orders.values() for report in order.reports]
        report = self._pick(data, said)
        if report is not None:
            before = self._snapshot()
            reports_apply(account_id=self.bobs.pk, reports=[report])
            assert self._snapshot() == before and not Order.objects.filter(account=self.bobs).exists()

    @rule(data=st.data())
    def an_illegal_move_is_told_and_changes_nothing(self, data: st.DataObject) -> None:
        never_sent = self._ours({OrderState.NEW, OrderState.DENIED})
        order = self._pick(data, never_sent)
        if order is None:
            return
        before = self._snapshot()
        status = data.draw(st.sampled_from(["New", "Cancelled", "Rejected", "Filled", "PartiallyFilled"]))
        report = builders.order_report(
            client_order_id=order.client_order_id, side=order.side, quantity=order.quantity, status=status
        )
        self._hear(report)
        assert self._snapshot() == before
        assert Alert.objects.filter(kind="illegal_transition", detail__order=order.pk).exists()
        assert AuditEvent.objects.filter(action="order.illegal_transition", subject=f"order:{order.pk}").exists()

    # Reconciliation.

    @rule()
    def reconcile(self) -> None:
        """Everything that the venue knows by now is read: afterwards we agree."""
        for name in list(self.answers):
            self.answers.pop(name)()
        for _ in range(2):  # fills first, as the reconciler does, and again once the orders are true
            self._hear(*self.venue.fills)
            self._hear(*(order.reports[-1] for order in self.venue.orders.values()))
        for order in self._ours(set(LIVE) - {OrderState.NEW}):
            if order.client_order_id not in self.venue.orders:
                order_prove_absent(order_id=order.pk, evidence={"read": "reference"})
            for amendment in order.amendments.filter(outcome__in=["sent", "unknown"]):
                order_amend_prove_lost(amendment_id=amendment.pk, evidence={"read": "reference"})
        for theirs in self.venue.orders.values():
            ours = Order.objects.get(client_order_id=theirs.client_order_id)
            text = f"{theirs} is {ours.state} {ours.filled_quantity}/{ours.quantity} here"
            if not self._overtaken(ours, theirs):
                assert ours.filled_quantity == theirs.filled, text
                assert (ours.state in LIVE) == theirs.is_open, text
                assert (ours.quantity, ours.price) == (theirs.quantity, theirs.price) or ours.state in TERMINAL, text

    @staticmethod
    def _overtaken(ours: Order, theirs: VenueOrder) -> bool:
        """Ended here by reports that were complete at their time, and made larger at the venue by somebody else before
        we heard of it: reconciliation tells it at every run (``ended_here_only``), and corrects the position."""
        return ours.state in TERMINAL and ours.quantity < theirs.quantity

    # What must be true after every step.

    def _snapshot(self) -> Any:
        return (
            list(Order.objects.order_by("pk").values_list("pk", "state", "quantity", "price", "filled_quantity")),
            list(
                Fill.objects.order_by("pk")
                .values_list("execution_id", "order_id", "quantity")
                .filter(account=self.account)
            ),
            list(Position.objects.filter(account=self.account).order_by("pk").values_list("side", "quantity", "state")),
            OrderTransition.objects.count(),
            list(OrderAmendment.objects.order_by("pk").values_list("outcome", flat=True)),
        )

    @invariant()
    def filled_is_the_sum_of_distinct_fills_and_never_more_than_the_quantity(self) -> None:
        for order in Order.objects.filter(account=self.account).prefetch_related("fills"):
            assert order.filled_quantity == sum((fill.quantity for fill in order.fills.all()), D(0)) <= order.quantity

    @invariant()
    def the_position_is_the_sum_of_the_fills(self) -> None:
        fills = Fill.objects.filter(account=self.account)
        total = sum((fill.quantity if fill.side == "Buy" else -fill.quantity for fill in fills), D(0))
        held = Position.objects.filter(account=self.account).exclude(state="closed").first()
        signed = D(0) if held is None else held.quantity if held.side == "Buy" else -held.quantity
        assert signed == total

    @invariant()
    def every_change_of_state_is_legal_and_has_one_step_and_one_audit_event(self) -> None:
        actions = [f"order.{event}" for event in (*OrderEvent, "send_replace", "accept_replace", "lose_replace")]
        events = AuditEvent.objects.filter(chain=f"account:{self.account.pk}", action__in=actions).order_by()
        told = dict(events.values_list("subject").annotate(Count("pk")))
        for order in Order.objects.filter(account=self.account).prefetch_related("transitions"):
            steps = sorted(order.transitions.all(), key=lambda step: step.pk)
            moved = [step for step in steps if step.source != step.target]
            state = str(OrderState.NEW)
            for step in steps:
                assert step.source == state, f"{order}: {step} does not follow {state}"
                state = step.target
            assert state == order.state
            for step in moved:
                assert OrderState(step.source) in TRANSITIONS[OrderEvent(step.event)]
                fills = step.event in ("fill_partially", "fill_completely")
                assert step.source not in TERMINAL or fills, f"{step} left a terminal state"
            assert told.get(f"order:{order.pk}", 0) == len(steps)

    @invariant()
    def what_is_reserved_is_never_less_than_what_could_still_fill(self) -> None:
        pending = account_exposure(self.account.pk).pending.get("BTCUSDT")
        for side, reserved in (("Buy", pending and pending.buy_quantity), ("Sell", pending and pending.sell_quantity)):
            could = D(0)
            for order in Order.objects.filter(account=self.account, side=side, state__in=[str(s) for s in LIVE]):
                theirs = self.venue.orders.get(order.client_order_id)
                by_hand = theirs is not None and theirs.quantity > order.largest_quantity
                if theirs is not None and theirs.is_open and not by_hand:
                    could += theirs.quantity - theirs.filled
            assert (reserved or D(0)) >= could

    @invariant()
    def an_amendment_is_open_exactly_while_the_order_says_so(self) -> None:
        for order in Order.objects.filter(account=self.account).prefetch_related("amendments"):
            open_ones = sum(each.outcome in OrderAmendment.OPEN for each in order.amendments.all())
            assert open_ones == int(order.is_replacing)
            assert not order.is_replacing or order.state in (OrderState.PENDING_REPLACE, OrderState.PENDING_CANCEL)

    @invariant()
    def the_other_tenant_has_nothing(self) -> None:
        assert not Position.objects.filter(account=self.bobs).exists()


def _changed(report: Any, **values: Any) -> Any:
    return type(report)(**({name: getattr(report, name) for name in type(report).__slots__} | values))


def _venue_id(report: OrderReport) -> str:
    return Order.objects.get(client_order_id=report.client_order_id).venue_order_id


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The services let the database end a transaction whose process sleeps; here one lasts for a whole example."""
    monkeypatch.setattr("trading.services.leases.IDLE_MILLISECONDS", 0)


def judge_play(examples: int) -> None:
    builders.list_instruments()
    accounts = [builders.account(builders.user(name)) for name in ("alice", "bob")]
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    assert all(chain_break(f"account:{account.pk}") is None for account in accounts)


# A test's time limit ends it in the middle of a query. Hypothesis takes that for a failure of the example, and plays it
# again on a connection that is still at that query: what is told then is about neither.
@pytest.mark.timeout(300 + 20 * EXAMPLES)
@pytest.mark.django_db
@pytest.mark.usefixtures("patient")
def test_our_books_are_true_whatever_the_venue_says() -> None:
    judge_play(EXAMPLES)


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.django_db
@pytest.mark.usefixtures("patient")
def test_our_books_are_true_whatever_the_venue_says_for_long() -> None:
    judge_play(max(EXAMPLES, 200))
