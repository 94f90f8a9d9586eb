"""Other values for a working order: asked for once, sent once, booked when the venue says so; and the rude cases."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from audit.models import AuditEvent
from audit.selectors import chain_break
from risk.checks import Refusal
from tests.builders import fill_report, order_report, ownership
from trading.lifecycle import OrderState
from trading.models import Account, Order, OrderAmendment, OrderTransition
from trading.reports import ReportRefused, Submission, SubmissionResult
from trading.services.amendments import (
    OrderNotAmendable,
    order_amend_apply,
    order_amend_prove_lost,
    order_amend_request,
    order_amend_take,
)
from trading.services.exposures import account_exposure
from trading.services.fills import fill_apply, order_report_apply
from trading.services.kill_switch import kill_switch_engage
from trading.services.order_commits import order_take
from trading.services.order_outcomes import order_cancel_apply, order_submission_apply
from trading.services.order_refusals import KillSwitchEngaged, OrderRefused
from trading.services.orders import order_cancel_request, order_place

pytestmark = pytest.mark.django_db
D = Decimal
LATER = {"updated_ms": 1_795_000_001_000}
GONE = SubmissionResult(Submission.CLOSED, code=110001, message="order not exists or too late to replace")


@pytest.fixture
def order(account: Account) -> Order:
    """Buy 0.010 at 60,000.0, on the venue's book."""
    placed = order_place(
        account=account,
        actor="alice",
        symbol="BTCUSDT",
        side="Buy",
        order_type="Limit",
        quantity=D("0.01"),
        price=D("60000.0"),
        client_order_id="order-1",
    )
    order_take(order_id=placed.pk, refusals=(), receive_window_ms=5000, owner=ownership(account.pk))
    order_submission_apply(order_id=placed.pk, result=SubmissionResult(Submission.ACCEPTED, "venue-1"))
    report(placed, status="New")
    return Order.objects.get()


def ask(order: Order, **values: Any) -> Order:
    return order_amend_request(order=order, actor="alice", **values)


def take(order: Order, *refusals: Refusal) -> OrderAmendment | None:
    owner = ownership(order.account_id)
    return order_amend_take(order_id=order.pk, refusals=refusals, receive_window_ms=5000, owner=owner)


def sent(order: Order, **values: Any) -> OrderAmendment:
    """An amendment on its way, of which nothing is known yet."""
    ask(order, **values)
    amendment = take(order)
    assert amendment is not None and amendment.sent_at is not None
    return amendment


def answered(amendment: OrderAmendment, result: SubmissionResult) -> Order:
    return order_amend_apply(amendment_id=amendment.pk, result=result)


def report(order: Order, **values: Any) -> Order | None:
    return order_report_apply(account_id=order.account_id, report=order_report(**values))


def fill(order: Order, identifier: str, quantity: str) -> None:
    fill_apply(
        account_id=order.account_id, report=fill_report(execution_id=identifier, quantity=D(quantity), price=D(60000))
    )


def now(order: Order) -> tuple[str, Decimal, Decimal | None, Decimal]:
    order.refresh_from_db(fields=["state", "quantity", "price", "filled_quantity"])
    return order.state, order.quantity, order.price, order.filled_quantity


def outcome() -> str:
    return OrderAmendment.objects.get().outcome


def pending(order: Order) -> Decimal:
    exposure = account_exposure(order.account_id).pending.get("BTCUSDT")
    return exposure.buy_quantity if exposure else D(0)


def test_it_is_recorded_then_sent_and_applied_only_when_the_venue_says_so(order: Order) -> None:
    amendment = sent(order, quantity=D("0.02"), price=D("59000.0"))
    answered(amendment, SubmissionResult(Submission.ACCEPTED, "venue-1"))
    assert now(order) == (OrderState.PENDING_REPLACE, D("0.01"), D(60000), 0)
    report(order, status="New", quantity=D("0.02"), price=D(59000), **LATER)
    assert now(order) == (OrderState.ACKNOWLEDGED, D("0.02"), D(59000), 0)
    assert outcome() == "applied"
    steps = list(OrderTransition.objects.filter(order=order).values_list("event", flat=True))
    assert steps[-4:] == ["request_replace", "send_replace", "accept_replace", "replace"]
    last = OrderTransition.objects.filter(order=order).last()
    assert last is not None and last.payload["before"] == {"quantity": "0.01", "price": "60000"}
    actions = set(AuditEvent.objects.filter(subject=f"order:{order.pk}").values_list("action", flat=True))
    assert {"order.request_replace", "order.send_replace", "amendment.applied", "order.replace"} <= actions
    assert chain_break(f"account:{order.account_id}") is None


def test_the_stream_may_overtake_the_answer(order: Order) -> None:
    amendment = sent(order, price=D("59000.0"))
    report(order, status="New", price=D(59000), **LATER)
    answered(amendment, SubmissionResult(Submission.UNKNOWN, message="timed out"))
    assert now(order)[:3] == (OrderState.ACKNOWLEDGED, D("0.01"), D(59000))
    assert outcome() == "applied"


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"quantity": D("0.0105")}, "multiple of the lot size"),
        ({"price": D("60000.05")}, "multiple of the tick size"),
        ({"quantity": D("-1")}, "above 0"),
        ({"quantity": D("0.004")}, "above the 0.004 that are filled"),
        ({"quantity": D("0.01"), "price": D("60000")}, "already"),
    ],
)
def test_values_that_cannot_be_are_refused_and_change_nothing(order: Order, values: dict[str, Any], rule: str) -> None:
    fill(order, "a", "0.004")
    with pytest.raises(OrderRefused, match=rule):
        ask(order, **values)
    assert now(order)[0] == OrderState.PARTIALLY_FILLED and not OrderAmendment.objects.exists()


def test_one_change_at_a_time_and_none_of_what_has_ended_or_is_not_confirmed(order: Order, account: Account) -> None:
    ask(order, price=D("59000.0"))
    with pytest.raises(OrderNotAmendable, match="being changed already"):
        ask(order, price=D("58000.0"))
    order_cancel_request(order=order, actor="alice")
    with pytest.raises(OrderNotAmendable, match="being cancelled"):
        ask(order, price=D("58000.0"))
    report(order, status="Cancelled")
    with pytest.raises(OrderNotAmendable, match="has ended: it is cancelled"):
        ask(order, price=D("58000.0"))
    fresh = order_place(
        account=account, actor="alice", symbol="BTCUSDT", side="Buy", order_type="Limit", quantity=D("0.01"),
        price=D("60000.0"),
    )  # fmt: skip
    with pytest.raises(OrderNotAmendable, match="has not confirmed it yet"):
        ask(fresh, price=D("58000.0"))


def test_the_larger_of_both_stays_reserved_until_the_outcome_is_proven(order: Order) -> None:
    amendment = sent(order, quantity=D("0.03"))
    assert pending(order) == D("0.03")
    answered(amendment, SubmissionResult(Submission.UNKNOWN, message="timed out"))
    assert pending(order) == D("0.03") and outcome() == "unknown"
    order_amend_prove_lost(amendment_id=amendment.pk, evidence={"read": "test"})
    assert pending(order) == D("0.01") and outcome() == "failed"
    smaller = sent(order, quantity=D("0.005"))
    assert pending(order) == D("0.01")
    report(order, quantity=D("0.005"), **LATER)
    smaller.refresh_from_db()
    assert pending(order) == D("0.005") and smaller.outcome == "applied"


def test_what_risk_denies_is_never_sent_and_the_order_goes_on(order: Order) -> None:
    ask(order, quantity=D("0.03"))
    assert take(order, Refusal("max_order_notional", "1000", "1800", "worth 1800 USD; at most 1000")) is None
    assert now(order)[:2] == (OrderState.ACKNOWLEDGED, D("0.01"))
    denied = OrderAmendment.objects.get()
    assert (denied.outcome, denied.sent_at) == ("denied", None) and "at most 1000" in denied.cause


def test_a_wish_is_taken_once_and_not_when_it_grew_too_old(order: Order) -> None:
    sent(order, price=D("59000.0"))
    assert take(order) is None
    report(order, price=D(59000), **LATER)
    ask(order, price=D("58000.0"))
    OrderAmendment.objects.filter(outcome="requested").update(created_at=timezone.now() - timedelta(minutes=2))
    assert take(order) is None
    assert now(order)[0] == OrderState.ACKNOWLEDGED
    assert OrderAmendment.objects.filter(outcome="expired").count() == 1


def test_a_stopped_account_only_takes_back(order: Order, account: Account) -> None:
    kill_switch_engage(account=account, actor="alice", reason="test", closes_positions=False)
    with pytest.raises(KillSwitchEngaged):
        ask(order, quantity=D("0.02"))
    with pytest.raises(KillSwitchEngaged):
        ask(order, price=D("60001.0"))
    assert ask(order, quantity=D("0.005")).state == OrderState.PENDING_REPLACE


def test_a_switch_that_is_thrown_before_the_sending_stops_it(order: Order, account: Account) -> None:
    ask(order, quantity=D("0.02"))
    kill_switch_engage(account=account, actor="alice", reason="test", closes_positions=False)
    assert take(order) is None and outcome() == "denied"


@pytest.mark.parametrize("refused", [GONE, SubmissionResult(Submission.REJECTED, code=110007, message="no balance")])
def test_a_refused_change_leaves_the_order_as_it_was(order: Order, refused: SubmissionResult) -> None:
    fill(order, "a", "0.004")
    answered(sent(order, quantity=D("0.02")), refused)
    assert now(order) == (OrderState.PARTIALLY_FILLED, D("0.01"), D(60000), D("0.004"))
    assert outcome() == "refused" and str(refused.code) in OrderAmendment.objects.get().cause


def test_a_fill_while_replacing_is_booked_and_leaves_the_outcome_open(order: Order) -> None:
    sent(order, quantity=D("0.02"))
    fill(order, "a", "0.004")
    assert now(order) == (OrderState.PENDING_REPLACE, D("0.01"), D(60000), D("0.004"))
    report(order, status="PartiallyFilled", quantity=D("0.02"), **LATER)
    assert now(order)[:2] == (OrderState.PARTIALLY_FILLED, D("0.02"))


def test_a_fill_of_the_old_quantity_is_the_end_only_if_the_larger_one_was_refused(order: Order) -> None:
    amendment = sent(order, quantity=D("0.02"))
    fill(order, "a", "0.01")
    assert now(order)[0] == OrderState.PENDING_REPLACE and pending(order) == D("0.01")
    answered(amendment, GONE)
    assert now(order)[0] == OrderState.FILLED and pending(order) == 0


def test_a_fill_beyond_the_old_quantity_proves_the_larger_one(order: Order) -> None:
    sent(order, quantity=D("0.02"))
    fill(order, "a", "0.015")
    assert now(order) == (OrderState.PARTIALLY_FILLED, D("0.02"), D(60000), D("0.015"))
    assert outcome() == "applied"
    fill(order, "b", "0.005")
    assert now(order)[0] == OrderState.FILLED


def test_a_complete_fill_of_the_larger_quantity_while_replacing_ends_the_order(order: Order) -> None:
    amendment = sent(order, quantity=D("0.02"))
    fill(order, "a", "0.02")
    assert now(order)[0] == OrderState.FILLED and outcome() == "applied"
    answered(amendment, SubmissionResult(Submission.ACCEPTED))
    assert now(order)[0] == OrderState.FILLED


def test_a_fill_beyond_what_was_only_wished_for_is_refused(order: Order) -> None:
    ask(order, quantity=D("0.02"))
    with pytest.raises(ReportRefused, match="expected at most"):
        fill(order, "a", "0.015")
    assert now(order) == (OrderState.PENDING_REPLACE, D("0.01"), D(60000), 0)


def test_a_smaller_quantity_that_was_filled_meanwhile_is_the_end(order: Order) -> None:
    sent(order, quantity=D("0.004"))
    fill(order, "a", "0.004")
    assert now(order)[0] == OrderState.PENDING_REPLACE  # the old quantity may still be the venue's
    report(order, status="Filled", quantity=D("0.004"), **LATER)
    assert now(order) == (OrderState.FILLED, D("0.004"), D(60000), D("0.004"))


def test_a_complete_fill_that_was_faster_than_a_smaller_quantity_wins(order: Order) -> None:
    amendment = sent(order, quantity=D("0.004"))
    fill(order, "a", "0.01")
    assert now(order)[0] == OrderState.FILLED and outcome() == "overtaken"
    answered(amendment, GONE)
    assert now(order)[:2] == (OrderState.FILLED, D("0.01"))


@pytest.mark.parametrize("status", ["Cancelled", "Deactivated", "Rejected"])
def test_an_order_that_the_venue_ended_meanwhile_has_ended(order: Order, status: str) -> None:
    amendment = sent(order, quantity=D("0.02"))
    report(order, status=status, **LATER)
    ended = OrderState.REJECTED if status == "Rejected" else OrderState.CANCELLED
    assert now(order)[:2] == (ended, D("0.01")) and outcome() == "overtaken" and pending(order) == 0
    answered(amendment, GONE)
    assert now(order)[0] == ended


def test_an_order_that_was_changed_and_then_ended_keeps_its_last_values(order: Order) -> None:
    sent(order, quantity=D("0.02"))
    report(order, status="Cancelled", quantity=D("0.02"), **LATER)
    assert now(order)[:2] == (OrderState.CANCELLED, D("0.02")) and outcome() == "applied"
    fill(order, "late", "0.015")  # after the cancel, and real
    assert now(order)[3] == D("0.015")


def test_a_wish_that_was_not_sent_yet_is_withdrawn_by_a_cancel(order: Order) -> None:
    ask(order, quantity=D("0.02"))
    order_cancel_request(order=order, actor="alice")
    assert now(order)[0] == OrderState.PENDING_CANCEL and outcome() == "overtaken"
    assert take(order) is None and pending(order) == D("0.01")


def test_a_cancel_while_replacing_waits_for_both_outcomes(order: Order) -> None:
    amendment = sent(order, quantity=D("0.02"))
    order_cancel_request(order=order, actor="alice")
    assert now(order)[0] == OrderState.PENDING_CANCEL and pending(order) == D("0.02")
    answered(amendment, SubmissionResult(Submission.UNKNOWN))
    refused = SubmissionResult(Submission.THROTTLED, code=10006, message="Too many visits!")
    assert order_cancel_apply(order_id=order.pk, result=refused).state == OrderState.PENDING_REPLACE
    order_cancel_request(order=order, actor="alice")
    report(order, status="New", quantity=D("0.02"), **LATER)
    assert now(order)[:2] == (OrderState.PENDING_CANCEL, D("0.02")) and outcome() == "applied"
    report(order, status="Cancelled", quantity=D("0.02"), **LATER)
    assert now(order)[0] == OrderState.CANCELLED


def test_an_order_that_somebody_changed_at_the_venue_has_the_venues_values(order: Order) -> None:
    report(order, quantity=D("0.007"), price=D(58000), **LATER)
    assert now(order)[:3] == (OrderState.ACKNOWLEDGED, D("0.007"), D(58000))
    changed = AuditEvent.objects.get(action="order.changed_outside")
    assert (changed.before, changed.after) == (
        {"quantity": "0.01", "price": "60000"},
        {"quantity": "0.007", "price": "58000"},
    )
    # What the venue said earlier and is told again, or late, is no news.
    report(order, quantity=D("0.01"))
    assert now(order)[1] == D("0.007")


def test_a_third_value_while_replacing_is_booked_and_ours_stays_open(order: Order) -> None:
    sent(order, quantity=D("0.02"))
    report(order, quantity=D("0.015"), **LATER)
    assert now(order)[:2] == (OrderState.PENDING_REPLACE, D("0.015")) and outcome() == "sent"
    assert pending(order) == D("0.02")


def test_a_quantity_below_what_is_filled_is_a_contradiction(order: Order) -> None:
    fill(order, "a", "0.006")
    with pytest.raises(ReportRefused, match=r"below the 0\.006 that are filled"):
        report(order, status="PartiallyFilled", quantity=D("0.005"), **LATER)
    assert now(order) == (OrderState.PARTIALLY_FILLED, D("0.01"), D(60000), D("0.006"))
