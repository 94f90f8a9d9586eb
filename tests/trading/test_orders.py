"""Orders are recorded before they are sent, once, and move only as the table says."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from audit.models import AuditEvent
from audit.selectors import chain_break
from risk.checks import Refusal
from tests.builders import fill_report, intent, order_report, ownership
from trading.lifecycle import OrderState
from trading.models import Account, Fill, Order, OrderTransition, Position
from trading.reports import ReportRefused, Submission, SubmissionResult
from trading.services.exposures import account_exposure
from trading.services.fills import fill_apply, order_report_apply
from trading.services.order_commits import order_intend, order_take
from trading.services.order_outcomes import order_cancel_apply, order_prove_absent, order_submission_apply
from trading.services.order_refusals import ClientOrderIdTaken, OrderNotCancellable, OrderRefused
from trading.services.orders import order_cancel_request, order_place

pytestmark = pytest.mark.django_db
D = Decimal


def place(account: Account, **changes: Any) -> Order:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": D("0.01")}
    values |= {"price": D("60000.0"), "client_order_id": "order-1"}
    return order_place(account=account, actor="alice", **(values | changes))


def working(account: Account) -> Order:
    order = place(account)
    order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=ownership(order.account_id))
    order_submission_apply(order_id=order.pk, result=SubmissionResult(Submission.ACCEPTED, "venue-1"))
    return Order.objects.get(pk=order.pk)


def test_an_order_is_recorded_audited_and_waits_for_its_owner(account: Account) -> None:
    order = place(account)
    assert order.state == OrderState.NEW and order.actor == "alice" and order.trace_id
    event = AuditEvent.objects.get(subject=f"order:{order.pk}")
    assert (event.action, event.actor, event.parameters["quantity"]) == ("order.intended", "alice", "0.01")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"symbol": "NOPEUSDT"}, "symbol"),
        ({"quantity": D("0.0105")}, "quantity"),
        ({"quantity": D("-1")}, "quantity"),
        ({"price": D("60000.05")}, "price"),
        ({"price": None}, "price"),
        ({"order_type": "Market"}, "price"),
        ({"quantity": D("0.001"), "price": D("100.0")}, "quantity"),
        ({"take_profit": D("0.01")}, "take_profit"),
    ],
)
def test_an_order_off_its_grid_is_refused_with_field_value_and_rule(
    account: Account, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(OrderRefused) as refused:
        place(account, **changes)
    assert refused.value.violations[0].field == field and refused.value.violations[0].rule
    assert not Order.objects.exists()


def test_the_same_id_with_the_same_body_is_the_same_order(account: Account) -> None:
    first = place(account)
    assert place(account).pk == first.pk
    assert Order.objects.count() == 1


def test_the_same_id_with_another_body_is_refused(account: Account) -> None:
    place(account)
    with pytest.raises(ClientOrderIdTaken):
        place(account, quantity=D("0.02"))


def test_an_order_is_taken_once_however_often_it_is_asked(account: Account) -> None:
    order = place(account)
    taken = order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=ownership(order.account_id))
    assert taken is not None and taken.state == OrderState.PENDING_SUBMIT and taken.sent_at is not None
    assert order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=ownership(order.account_id)) is None


def test_a_denied_order_says_why_and_is_never_sent(account: Account) -> None:
    order = place(account)
    refusal = Refusal("max_order_notional", "100", "600", "the order is worth 600 USD; at most 100 is allowed")
    denied = order_take(
        order_id=order.pk, refusals=(refusal,), receive_window_ms=5000, owner=ownership(order.account_id)
    )
    assert denied is not None and denied.state == OrderState.DENIED and "at most 100" in denied.refusal


def test_an_intent_that_nobody_took_in_time_expires(account: Account) -> None:
    order = place(account)
    Order.objects.filter(pk=order.pk).update(created_at=timezone.now() - timedelta(minutes=2))
    expired = order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=ownership(order.account_id))
    assert expired is not None and expired.state == OrderState.EXPIRED


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Submission.ACCEPTED, OrderState.SUBMITTED),
        (Submission.DUPLICATE, OrderState.SUBMITTED),
        (Submission.REJECTED, OrderState.REJECTED),
        (Submission.THROTTLED, OrderState.REJECTED),
        (Submission.UNKNOWN, OrderState.UNKNOWN),
        (Submission.NOT_SENT, OrderState.FAILED),
    ],
)
def test_the_answer_decides_what_is_known(account: Account, outcome: Submission, state: OrderState) -> None:
    order = place(account)
    order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=ownership(order.account_id))
    assert order_submission_apply(order_id=order.pk, result=SubmissionResult(outcome)).state == state


def test_a_fill_may_overtake_the_answer_and_the_answer_then_changes_nothing(account: Account) -> None:
    order = place(account)
    order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=ownership(order.account_id))
    fill_apply(account_id=account.pk, report=fill_report())
    late = order_submission_apply(order_id=order.pk, result=SubmissionResult(Submission.UNKNOWN))
    assert (late.state, late.filled_quantity, late.average_price) == (OrderState.FILLED, D("0.01"), D(60000))


def test_an_execution_is_booked_once_however_often_it_is_reported(account: Account) -> None:
    working(account)
    first = fill_apply(account_id=account.pk, report=fill_report(quantity=D("0.004")))
    assert first is not None
    assert all(fill_apply(account_id=account.pk, report=fill_report(quantity=D("0.004"))) is None for _ in range(3))
    assert Fill.objects.count() == 1
    assert Order.objects.get().filled_quantity == D("0.004")
    assert Position.objects.get().quantity == D("0.004")


@pytest.mark.parametrize("report_first", [True, False], ids=["told before its fill", "told after its fill"])
def test_an_order_that_the_venue_made_smaller_is_over_when_that_much_is_filled(
    account: Account, report_first: bool
) -> None:
    """A reduce-only order shrinks with the position that it reduces."""
    working(account)
    over = order_report(status="Filled", quantity=D("0.004"), filled_quantity=D("0.004"))
    if report_first:
        order_report_apply(account_id=account.pk, report=over)
    fill_apply(account_id=account.pk, report=fill_report(quantity=D("0.004")))
    for _ in range(2):
        order_report_apply(account_id=account.pk, report=over)
        order = Order.objects.get()
        assert (order.state, order.filled_quantity, order.quantity) == (OrderState.FILLED, D("0.004"), D("0.004"))
    assert not AuditEvent.objects.filter(action="order.illegal_transition").exists()


def test_partial_fills_make_the_order_and_the_position_grow(account: Account) -> None:
    working(account)
    fill_apply(account_id=account.pk, report=fill_report(execution_id="a", quantity=D("0.004"), price=D(60000)))
    fill_apply(account_id=account.pk, report=fill_report(execution_id="b", quantity=D("0.006"), price=D(59000)))
    order, position = Order.objects.get(), Position.objects.get()
    assert (order.state, order.average_price, order.fees) == (OrderState.FILLED, D(59400), D("0.66"))
    assert (position.quantity, position.entry_price, position.state) == (D("0.01"), D(59400), "open")


def test_a_fill_that_turns_the_position_closes_one_and_opens_another(account: Account) -> None:
    fill_apply(account_id=account.pk, report=fill_report(execution_id="a", client_order_id="", venue_order_id=""))
    sell = {"side": "Sell", "quantity": D("0.03"), "price": D(61000), "client_order_id": "", "venue_order_id": ""}
    fill_apply(account_id=account.pk, report=fill_report(execution_id="b", **sell))
    closed = Position.objects.get(state="closed")
    opened = Position.objects.exclude(state="closed").get()
    assert (closed.quantity, closed.realised_pnl) == (0, D(10))
    assert (opened.side, opened.quantity, opened.entry_price) == ("Sell", D("0.02"), D(61000))
    assert closed.fees + opened.fees == D("0.66")


def test_a_fill_after_the_cancel_is_real_and_is_booked(account: Account) -> None:
    working(account)
    order_report_apply(account_id=account.pk, report=order_report(status="Cancelled", cancel_type="CancelByUser"))
    fill_apply(account_id=account.pk, report=fill_report(quantity=D("0.004")))
    order = Order.objects.get()
    assert (order.state, order.filled_quantity) == (OrderState.CANCELLED, D("0.004"))


def test_a_cancel_that_lost_the_race_leaves_the_order_filled(account: Account) -> None:
    order = working(account)
    order_cancel_request(order=order, actor="alice")
    fill_apply(account_id=account.pk, report=fill_report())
    order_report_apply(account_id=account.pk, report=order_report(status="Cancelled"))
    assert Order.objects.get().state == OrderState.FILLED
    assert not AuditEvent.objects.filter(action="order.illegal_transition").exists()


def test_a_refused_cancel_gives_the_order_back(account: Account) -> None:
    order = working(account)
    order_cancel_request(order=order, actor="alice")
    result = SubmissionResult(Submission.THROTTLED, code=10006, message="Too many visits!")
    assert order_cancel_apply(order_id=order.pk, result=result).state == OrderState.ACKNOWLEDGED


def test_an_ended_order_cannot_be_cancelled(account: Account) -> None:
    order = working(account)
    fill_apply(account_id=account.pk, report=fill_report())
    with pytest.raises(OrderNotCancellable, match="has ended: it is filled"):
        order_cancel_request(order=order, actor="alice")


def test_an_illegal_report_is_recorded_and_changes_nothing(account: Account) -> None:
    order = place(account)
    order_report_apply(account_id=account.pk, report=order_report(status="Rejected"))
    assert Order.objects.get(pk=order.pk).state == OrderState.NEW
    assert AuditEvent.objects.filter(action="order.illegal_transition", subject=f"order:{order.pk}").exists()


def test_an_order_proven_absent_has_failed(account: Account) -> None:
    order = place(account)
    order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=ownership(order.account_id))
    order_submission_apply(order_id=order.pk, result=SubmissionResult(Submission.UNKNOWN, message="timed out"))
    assert order_prove_absent(order_id=order.pk, evidence={"read": []}).state == OrderState.FAILED


def test_every_step_is_stored_and_the_trail_verifies(account: Account) -> None:
    order = order_intend(
        account_id=account.pk,
        intent=intent(client_order_id="order-1"),
        signal_id=None,
        receive_window_ms=5000,
        owner=ownership(account.pk),
    )
    order_submission_apply(order_id=order.pk, result=SubmissionResult(Submission.ACCEPTED, "venue-1"))
    order_report_apply(account_id=account.pk, report=order_report(status="New"))
    fill_apply(account_id=account.pk, report=fill_report())
    steps = [(step.source, step.target) for step in OrderTransition.objects.filter(order=order)]
    assert steps == [
        ("new", "pending_submit"),
        ("pending_submit", "submitted"),
        ("submitted", "acknowledged"),
        ("acknowledged", "filled"),
    ]
    actions = AuditEvent.objects.filter(chain=f"account:{account.pk}").values_list("action", flat=True)
    assert {"order.intended", "order.approve", "order.submit", "order.acknowledge", "fill.booked"} <= set(actions)
    assert chain_break(f"account:{account.pk}") is None


def test_funding_is_no_fill(account: Account) -> None:
    assert fill_apply(account_id=account.pk, report=fill_report(execution_type="Funding")) is None
    assert not Fill.objects.exists()


def test_an_execution_that_cannot_be_booked_is_not_taken_for_one_that_was(account: Account) -> None:
    with pytest.raises(ReportRefused, match="NEWUSDT, which we do not know"):
        fill_apply(account_id=account.pk, report=fill_report(symbol="NEWUSDT"))


def test_an_intent_that_nobody_approved_yet_is_not_at_stake(account: Account) -> None:
    """Counted against itself it would break limits that it keeps, and hide that it opens a position."""
    order = place(account)
    before = account_exposure(account.pk)
    assert (before.open_orders, before.orders_last_second, dict(before.pending)) == (0, 0, {})
    order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=ownership(order.account_id))
    after = account_exposure(account.pk)
    assert (after.open_orders, after.orders_last_second) == (1, 1)
    assert after.pending["BTCUSDT"].buy_quantity == D("0.01")
