"""The sending of one account's orders: what is approved is committed, then sent, then its answer is booked.

What sends runs on the sender's thread, which may block for seconds on a lost answer. Two things are proven before
every request: that the account is still ours, in the transaction that commits the order and once more before the first
byte leaves; and that the order's absence cannot have been concluded yet.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import DatabaseError, transaction
from django.utils import timezone

from audit.trace import tracing
from marketdata.selectors import instrument_rules
from risk.checks import Decision, Refusal
from risk.exposure import Exposure
from risk.intents import OrderIntent
from strategies.models import Signal as SignalRow
from trading.crash_points import reach
from trading.gateways.base import AmendRequest, Gateway, GatewayError, OrderRequest
from trading.gateways.bybit import RECEIVE_WINDOW_MS
from trading.lifecycle import OrderState
from trading.models import Order, OrderAmendment
from trading.pipeline import PipelineResult
from trading.reports import Submission, SubmissionResult
from trading.runtime.latency import LatencyWindow
from trading.runtime.reconciler import WINDOW_MARGIN_MS, resolve_order
from trading.services.accounts import leverage_note
from trading.services.amendments import order_amend_apply, order_amend_take
from trading.services.leases import LeaseLost, LeaseToken
from trading.services.modes import crossing_record
from trading.services.order_commits import INTENT_LIFETIME, order_take
from trading.services.order_outcomes import order_cancel_apply, order_submission_apply
from trading.services.order_refusals import OrderRefused
from trading.services.shared_limits import RiskDenied
from trading.services.signals import signal_note, signal_order, signal_take

log = logging.getLogger(__name__)

TOO_OLD = Refusal(
    "signal_age",
    f"{INTENT_LIFETIME.seconds} s",
    "older",
    f"the venue kept other orders waiting for more than {INTENT_LIFETIME.seconds} s; prices have moved on",
)
# The venue took the request or is asked what became of the order: asking again at once would only use up the rate.
CANCEL_RETRY_SECONDS = 10.0
AMEND_LOOK_SECONDS = 3.0
# An order's absence is concluded from the time in its row; what leaves much later would prove that conclusion wrong.
LATEST_SUBMISSION = timedelta(milliseconds=WINDOW_MARGIN_MS) / 2


class OrderSender:
    """What sends blocks, and is called on the sender's thread alone; ``note`` is the bookkeeper's and
    ``excess_leverage`` the watcher's. All that only reads or changes what is kept here is the loop's. ``prices``: the
    newest marks."""

    def __init__(
        self,
        account_id: int,
        account_name: str,
        gateway: Gateway,
        prices: Callable[[], Mapping[str, Decimal]] = dict,
    ) -> None:
        self._prices = prices
        self.account_id, self.account_name = account_id, account_name
        self.gateway = gateway
        self.committed, self.sent, self.answered = LatencyWindow(), LatencyWindow(), LatencyWindow()
        self.refused_by_lease = 0
        # Approved but not yet in the database: their exposure is counted from memory until they are.
        self._in_flight: dict[str, tuple[OrderIntent, Decimal | None]] = {}
        self._committed_ids: set[str] = set()
        self._leverages: dict[str, Decimal] = {}
        self._asked_at: dict[int, float] = {}
        self._followed_at: dict[int, float] = {}

    def reserve(self, intent: OrderIntent, price: Decimal | None) -> None:
        """``price`` values it where the symbol has no price here."""
        self._in_flight[intent.client_order_id] = intent, price

    def booked(self) -> set[str]:
        """What is in the books by now. Ask before the books are read."""
        return set(self._committed_ids)

    def with_reserved(self, exposure: Exposure, booked: set[str], prices: Mapping[str, Decimal]) -> Exposure:
        """The exposure of the books, read after ``booked`` was asked for, plus what is not in them yet, market orders
        valued at ``prices``."""
        for identifier in booked:
            self._in_flight.pop(identifier, None)
        self._committed_ids -= booked
        for intent, price in self._in_flight.values():
            exposure = exposure.with_intent(intent, prices.get(intent.symbol, price))
        return exposure

    def knows_leverage(self, symbol: str) -> bool:
        return symbol in self._leverages

    def forget_leverages(self) -> None:
        """Somebody else was the owner, and may have set others."""
        self._leverages.clear()

    def forget_requests(self, still_wanted: Sequence[int]) -> None:
        self._asked_at = {pk: moment for pk, moment in self._asked_at.items() if pk in still_wanted}
        self._followed_at = {pk: moment for pk, moment in self._followed_at.items() if pk in still_wanted}

    def count_lost_lease(self, error: LeaseLost) -> None:
        self.refused_by_lease += 1
        log.warning("account %s: what was decided came too late and is dropped: %s", self.account_name, error)

    def place(
        self, result: PipelineResult, intent: OrderIntent, frame_ns: int, lease: LeaseToken, owner: LeaseToken
    ) -> None:
        """Carry out an approved result that was decided under the symbol's ``lease`` and as the account's ``owner``."""
        with tracing(result.trace_id):
            self._place(result, intent, frame_ns, lease, owner)

    def _place(
        self, result: PipelineResult, intent: OrderIntent, frame_ns: int, lease: LeaseToken, owner: LeaseToken
    ) -> None:
        if time.time_ns() - frame_ns > INTENT_LIFETIME / timedelta(microseconds=1) * 1_000:
            self._committed_ids.add(intent.client_order_id)
            self.note(replace(result, decision=Decision(False, (TOO_OLD,))), lease)
            return
        try:
            self.ensure_leverage(intent.symbol, intent.leverage, reduce_only=intent.reduce_only)
            self.gateway.prepare_order()
            reach("order.before_commit")
            order = signal_order(
                **_as_recorded(result, lease),
                intent=intent,
                receive_window_ms=RECEIVE_WINDOW_MS,
                owner=owner,
                prices=self._prices() if result.running.limits.shared else None,
            )
        except LeaseLost as error:
            self.count_lost_lease(error)
            return
        except OrderRefused as error:
            refusals = tuple(Refusal(each.field, "", each.value, each.rule) for each in error.violations)
            self.note(replace(result, decision=Decision(False, refusals)), lease)
            return
        except RiskDenied as error:
            self.note(replace(result, decision=Decision(False, error.refusals)), lease)
            return
        except (DatabaseError, GatewayError) as error:
            # Nothing was committed, so nothing may be sent: the signal is gone, and that is the safe side.
            log.error("account %s: an approved order was not committed: %s", self.account_name, error)
            return
        finally:
            self._committed_ids.add(intent.client_order_id)
        self.committed.add(time.time_ns() - frame_ns)
        self.submit(order, frame_ns)

    def note(self, result: PipelineResult, lease: LeaseToken) -> None:
        """Keep a signal that becomes no order, with its reasons."""
        try:
            with tracing(result.trace_id), transaction.atomic():
                signal_note(**_as_recorded(result, lease))
        except LeaseLost as error:
            self.count_lost_lease(error)
        except DatabaseError as error:
            log.error("account %s: a signal was not recorded: %s", self.account_name, error)

    def settle(
        self,
        signal: SignalRow,
        intent: OrderIntent | None,
        decision: Decision,
        owner: LeaseToken,
        prices: Mapping[str, Decimal] | None = None,
    ) -> None:
        """Answer another engine's signal, and order what it wants if it may. ``prices``: marks, where limits span
        several accounts."""
        try:
            if intent is not None:
                self.ensure_leverage(intent.symbol, intent.leverage, reduce_only=intent.reduce_only)
                self.gateway.prepare_order()
                reach("order.before_commit")
            order = signal_take(
                signal=signal,
                intent=intent,
                decision=decision,
                receive_window_ms=RECEIVE_WINDOW_MS,
                owner=owner,
                prices=prices,
            )
        except LeaseLost as error:
            self.count_lost_lease(error)  # it is still pending: the account's owner answers it
            return
        finally:
            if intent is not None:
                self._committed_ids.add(intent.client_order_id)
        if order is not None:
            self.submit(order)

    def ensure_leverage(self, symbol: str, leverage: Decimal, *, reduce_only: bool = False) -> None:
        if not reduce_only and self._leverages.get(symbol) != leverage:
            self.gateway.set_leverage(symbol, leverage)
            before, self._leverages[symbol] = self._leverages.get(symbol), leverage
            leverage_note(account_id=self.account_id, symbol=symbol, leverage=leverage, before=before)

    def leverage_reported(self, symbol: str, leverage: Decimal) -> None:
        """It may be set by hand at the venue."""
        if symbol in self._leverages:
            self._leverages[symbol] = leverage

    def excess_leverage(self, symbol: str, limit: Decimal, gateway: Gateway) -> tuple[Refusal, ...]:
        """Why an order that takes the leverage which the venue holds, as a person's does, must not open anything. Asked
        once a symbol, through a ``gateway`` that nothing is sent through: orders do not wait for it."""
        known = self._leverages.get(symbol)
        if known is None:
            try:
                known = gateway.leverage(symbol)
            except GatewayError as error:
                rule = f"leverage of {symbol} at the venue is not known, {limit:f} is allowed: {error}"
                return (Refusal("max_leverage", f"{limit:f}", "unknown", rule),)
        if known <= limit:
            self._leverages[symbol] = known
            return ()
        rule = f"leverage {known:f} of {symbol} at the venue is above the allowed {limit:f}: set it lower there"
        return (Refusal("max_leverage", f"{limit:f}", f"{known:f}", rule),)

    def take_and_submit(
        self,
        order: Order,
        refusals: Sequence[Refusal],
        owner: LeaseToken,
        shared: tuple[OrderIntent, Mapping[str, Decimal]] | None = None,
    ) -> None:
        # In one go: what waits for other orders between its commit and its sending could be proven absent meanwhile.
        # What has to wait for the venue's rate waits before; without room it stays recorded, and is taken up again.
        try:
            if not refusals:
                self.gateway.prepare_order()
                reach("order.before_commit")
            taken = order_take(
                order_id=order.pk,
                refusals=refusals,
                receive_window_ms=RECEIVE_WINDOW_MS,
                owner=owner,
                shared=shared,
            )
        except LeaseLost as error:
            self.count_lost_lease(error)  # it is still recorded: the account's owner takes it
            return
        finally:
            self._committed_ids.add(order.client_order_id)
        if taken is not None and taken.state == OrderState.PENDING_SUBMIT:
            self.submit(taken)

    def submit(self, order: Order, frame_ns: int = 0) -> None:
        started_ns = time.time_ns()
        if frame_ns:
            self.sent.add(started_ns - frame_ns)
        submit_order(order, self.gateway)
        self.answered.add(time.time_ns() - started_ns)

    def amend(self, order: Order, refusals: Sequence[Refusal], owner: LeaseToken) -> None:
        """Send a recorded amendment; what was sent before is only asked after."""
        try:
            amendment = order_amend_take(
                order_id=order.pk, refusals=refusals, receive_window_ms=RECEIVE_WINDOW_MS, owner=owner
            )
        except LeaseLost as error:
            self.count_lost_lease(error)
            return
        finally:
            self._committed_ids.add(order.client_order_id)
        if amendment is not None:
            with tracing(order.trace_id):
                log.info("order_amend_sent %s", order.client_order_id)
                result = amend_order(amendment, self.gateway)
            self._followed_at[order.pk] = time.monotonic()
            if result.outcome in (Submission.CLOSED, Submission.UNKNOWN):
                self.resolve(order.pk)

    def follow_amendment(self, order: Order) -> None:
        """Ask what became of an amendment whose outcome nobody told."""
        if time.monotonic() - self._followed_at.get(order.pk, -AMEND_LOOK_SECONDS) >= AMEND_LOOK_SECONDS:
            self._followed_at[order.pk] = time.monotonic()
            self.resolve(order.pk)

    def cancel(self, order: Order) -> None:
        if time.monotonic() - self._asked_at.get(order.pk, -CANCEL_RETRY_SECONDS) < CANCEL_RETRY_SECONDS:
            return
        if order.mode != self.gateway.mode:
            self._asked_at[order.pk] = time.monotonic()
            log.error("account %s: order %s is %s: not cancelled here", self.account_name, order, order.mode)
            return
        with tracing(order.trace_id):
            log.info("order_cancel_sent %s", order.client_order_id)
            reach("cancel.taken")
            result = self.gateway.cancel(order.instrument.symbol, order.client_order_id, order.venue_order_id)
            reach("cancel.answered")
        if result.outcome not in (Submission.REJECTED, Submission.THROTTLED, Submission.NOT_SENT):
            self._asked_at[order.pk] = time.monotonic()
        order_cancel_apply(order_id=order.pk, result=result)
        reach("cancel.booked")
        if result.outcome in (Submission.CLOSED, Submission.UNKNOWN):
            self.resolve(order.pk)

    def resolve(self, order_id: int) -> None:
        resolve_order(Order.objects.select_related("instrument").get(pk=order_id), self.gateway)


def submit_order(order: Order, gateway: Gateway) -> SubmissionResult:
    """Send an order that is committed, and book what the answer proves."""
    with tracing(order.trace_id):
        return _submit(order, gateway)


def _submit(order: Order, gateway: Gateway) -> SubmissionResult:
    reach("order.committed")
    latest = None if order.sent_at is None else order.sent_at + LATEST_SUBMISSION
    if order.mode != gateway.mode:
        sentence = crossing_record(order=order, gateway_mode=gateway.mode)
        result = SubmissionResult(Submission.NOT_SENT, message=sentence)
    elif latest is None or timezone.now() > latest:
        late = "it came too late to its sending: its absence might have been concluded already"
        result = SubmissionResult(Submission.NOT_SENT, message=late)
    else:
        request = OrderRequest(
            client_order_id=order.client_order_id,
            symbol=order.instrument.symbol,
            side=order.side,
            order_type=order.order_type,
            time_in_force=order.time_in_force,
            quantity=order.quantity,
            price=order.price,
            reduce_only=order.reduce_only,
            take_profit=order.take_profit,
            stop_loss=order.stop_loss,
            latest_ms=int(latest.timestamp() * 1000),
            position_index=order.position_index,
            closes_position=_closes_position(order),
        )
        result = sent(request, gateway)
    reach("order.answered")
    order_submission_apply(order_id=order.pk, result=result)
    reach("order.booked")
    return result


def _closes_position(order: Order) -> bool:
    """An order of a size that the venue takes of nobody was recorded because it is all that is held."""
    if not order.reduce_only or order.order_type != Order.OrderType.MARKET:
        return False
    rules = instrument_rules(order.instrument.symbol)
    return rules is not None and not rules.orderable(order.quantity)


def sent(request: OrderRequest, gateway: Gateway) -> SubmissionResult:
    """Send a request between two lines of the log."""
    what = f"{request.side} {request.quantity} {request.symbol} {request.order_type}"
    log.info("order_sent %s %s", request.client_order_id, what)
    result = gateway.submit(request)
    log.info("order_answered %s %s %s", request.client_order_id, result.outcome, result.message)
    return result


def amend_order(amendment: OrderAmendment, gateway: Gateway) -> SubmissionResult:
    """Send an amendment that is committed, and book what the answer proves."""
    order, sent_at = amendment.order, amendment.sent_at
    assert sent_at is not None
    reach("amend.committed")
    request = AmendRequest(
        client_order_id=order.client_order_id,
        venue_order_id=order.venue_order_id,
        symbol=order.instrument.symbol,
        quantity=amendment.quantity,
        price=amendment.price,
        latest_ms=int((sent_at + LATEST_SUBMISSION).timestamp() * 1000),
    )
    if order.mode != gateway.mode:
        sentence = crossing_record(order=order, gateway_mode=gateway.mode)
        result = SubmissionResult(Submission.NOT_SENT, message=sentence)
    else:
        result = gateway.amend(request)
    reach("amend.answered")
    order_amend_apply(amendment_id=amendment.pk, result=result)
    reach("amend.booked")
    return result


def _as_recorded(result: PipelineResult, lease: LeaseToken) -> dict[str, Any]:
    return {
        "account_id": result.running.account_id,
        "config_id": result.running.config_id,
        "code": result.running.code,
        "signal": result.signal,
        "verdict": result.verdict,
        "decision": result.decision,
        "trace_id": result.trace_id,
        "lease": lease,
    }
