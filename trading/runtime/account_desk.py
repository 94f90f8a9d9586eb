"""The owner of one account: sends its orders, books its reports, keeps its exposure, reconciles it.

Three threads a desk: one talks to the venue about orders and may block for seconds on a lost answer; one books reports
meanwhile; one asks for the wallet, so that no order waits for that. Rows are locked by the services, so they cannot
contradict each other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import psycopg
from django.db import DatabaseError, transaction
from django.utils import timezone

from audit.services import recorded_together
from mlops.validation import Verdict
from risk.checks import Decision, Refusal
from risk.exposure import Exposure
from risk.intents import OrderIntent
from risk.selectors import limits_for
from strategies.models import Signal as SignalRow
from strategies.signals import Signal
from trading.credentials import decrypt
from trading.gateways.base import GatewayError, OrderRequest
from trading.gateways.bybit import RECEIVE_WINDOW_MS, BybitEndpoints, BybitGateway
from trading.gateways.bybit_stream import BybitPrivateStream, Report
from trading.lifecycle import OrderState
from trading.models import Account, Order
from trading.pipeline import Pipeline, PipelineResult, UnjudgedSignal
from trading.reports import FillReport, OrderReport, PositionReport, Submission, SubmissionResult, WalletReport
from trading.runtime.cancellation import end_tasks
from trading.runtime.database import with_connection
from trading.runtime.latency import LatencyWindow
from trading.runtime.outside_watch import OutsideWatch
from trading.runtime.ownership import AccountLock
from trading.runtime.position_guard import PositionGuard
from trading.runtime.reconciler import WINDOW_MARGIN_MS, reconcile_account, resolve_order
from trading.services.accounts import wallet_apply
from trading.services.exposures import account_exposure
from trading.services.fills import fill_apply, order_report_apply, position_report_apply
from trading.services.leases import LeaseLost, LeaseToken, symbol_quote
from trading.services.orders import (
    INTENT_LIFETIME,
    order_cancel_apply,
    order_intend,
    order_submission_apply,
    order_take,
)
from trading.services.outside_changes import outside_fill_note
from trading.services.signals import signal_hand_over, signal_note, signal_take

log = logging.getLogger(__name__)
Result = TypeVar("Result")
TOO_OLD = Refusal(
    "signal_age",
    f"{INTENT_LIFETIME.seconds} s",
    "older",
    f"the venue kept other orders waiting for more than {INTENT_LIFETIME.seconds} s; prices have moved on",
)

TICK_SECONDS = 1.0
WALLET_SECONDS = 5.0
OWNERSHIP_RETRY_SECONDS = 2.0
RECONCILIATION_RETRY_SECONDS = 5.0
# The venue took the request or is asked what became of the order: asking again at once would only use up the rate.
CANCEL_RETRY_SECONDS = 10.0
# An order's absence is concluded from the time in its row; what leaves much later would prove that conclusion wrong.
LATEST_SUBMISSION = timedelta(milliseconds=WINDOW_MARGIN_MS) / 2


class AccountDesk:
    """Lives in the engine's event loop. ``state`` is one of waiting, reconciling, trading, refused, with a reason."""

    def __init__(self, account: Account, pipeline: Pipeline, endpoints: BybitEndpoints) -> None:
        self.account_id = account.pk
        self.account_name = account.name
        self.state, self.reason = "waiting", "another engine may own the account"
        self.stream_connected = False
        self.committed, self.sent, self.answered = LatencyWindow(), LatencyWindow(), LatencyWindow()
        self._pipeline = pipeline
        self.keys = stored_keys(account)
        key, secret = decrypt(account.api_key_encrypted), decrypt(account.api_secret_encrypted)
        # pybit's session is not for two threads at once: each thread has one of its own.
        self._gateway = BybitGateway(endpoints, key, secret)
        self._reading_gateway = BybitGateway(endpoints, key, secret)
        self._watching_gateway = BybitGateway(endpoints, key, secret)
        self._stream = BybitPrivateStream(
            f"{endpoints.websocket}/v5/private",
            key,
            secret,
            on_reports=self._on_reports,
            on_connected=self._on_connected,
            on_disconnected=self._on_disconnected,
            on_trouble=self._on_trouble,
        )
        self._lock = AccountLock(account.pk)
        self._owns = False
        self._refused_at = 0.0
        self._sender = ThreadPoolExecutor(1, thread_name_prefix=f"sender-{account.pk}")
        self._bookkeeper = ThreadPoolExecutor(1, thread_name_prefix=f"books-{account.pk}")
        self._watcher = ThreadPoolExecutor(1, thread_name_prefix=f"watch-{account.pk}")
        self._tasks: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Future[Any]] = set()
        # Approved but not yet in the database: their exposure is counted from memory until they are.
        self._in_flight: dict[str, OrderIntent] = {}
        self._committed_ids: set[str] = set()
        self._leverages: dict[str, Decimal] = {}
        self._taking: set[int] = set()
        self._taking_signals: set[int] = set()
        self.refused_by_lease = 0
        self._cancelled_at: dict[int, float] = {}
        self.guard = PositionGuard(
            account.pk,
            pipeline,
            on_books=self._books,
            exit_recorded=self.take_up,
            venue_wallet=lambda: self._in_thread(self._watcher, self._watching_gateway.wallet),
        )
        self._outside = OutsideWatch(account.pk, on_books=self._books, reconcile=self._reconcile)

    def start(self) -> None:
        self._tasks.append(asyncio.create_task(self._run(), name=f"desk {self.account_name}"))

    async def stop(self) -> None:
        await end_tasks(self._tasks)
        await self.guard.stop()
        if self._background:
            await asyncio.wait(self._background, timeout=5.0)
        await self._books(self._lock.release)
        self._sender.shutdown(wait=False, cancel_futures=True)
        self._bookkeeper.shutdown(wait=False, cancel_futures=True)
        self._watcher.shutdown(wait=False, cancel_futures=True)

    @property
    def owns(self) -> bool:
        """Whether this engine owns the account, as far as it knows."""
        return self._owns

    def on_price(self, symbol: str, price: Decimal, receive_ns: int) -> None:
        """A mark price has changed."""
        if self._owns:
            self.guard.on_price(symbol, price, receive_ns, may_exit=self.state == "trading")

    def place(self, result: PipelineResult, frame_ns: int, lease: LeaseToken) -> None:
        """Carry out an approved result: committed first, then sent, on the sender's thread."""
        intent = result.intent
        if intent is None:
            return
        self._in_flight[intent.client_order_id] = intent
        self._send(partial(self._place, result, intent, frame_ns, lease))

    def note(self, result: PipelineResult, lease: LeaseToken) -> None:
        """Keep a signal that was vetoed or denied, with its reasons."""
        self._book(partial(self._note, result, lease))

    def hand_over(self, unjudged: UnjudgedSignal, lease: LeaseToken) -> None:
        """Leave a signal to the engine that owns the account."""
        self._book(partial(self._hand_over, unjudged, lease))

    def take_up(self, order_id: int) -> None:
        """Send an intent that a person or a bot recorded, or cancel an order: whichever the row asks for."""
        self._send_async(self._take_up(order_id))

    def take_signal(self, signal_id: int) -> None:
        """Judge a signal that another engine made for this account, and order what it wants."""
        self._send_async(self._take_signal(signal_id))

    def reconcile_soon(self, trigger: str) -> None:
        self._send_async(self._reconcile(trigger))

    # The account's loop.

    async def _run(self) -> None:
        while not await self._acquire():
            await asyncio.sleep(OWNERSHIP_RETRY_SECONDS)
        self.state, self.reason = "reconciling", "before the first order"
        self._tasks.append(asyncio.create_task(self._stream.run(), name=f"stream {self.account_name}"))
        last_wallet = 0.0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                if not (self._owns and await self._books(self._lock.held)):
                    await self._lost_ownership()
                    continue
                if self.state == "refused" and time.monotonic() - self._refused_at > RECONCILIATION_RETRY_SECONDS:
                    await self._reconcile("retry")
                await self._sweep()
                if time.monotonic() - last_wallet > WALLET_SECONDS:
                    last_wallet = time.monotonic()
                    await self._wallet()
                await self._refresh_exposure()
                await self.guard.tick(may_exit=self.state == "trading")
                await self._prepare_leverages()
            except (DatabaseError, GatewayError) as error:
                log.warning("account %s: %s: %s", self.account_name, type(error).__name__, error)
            except Exception:  # a desk whose loop ended would own its account and never look after it again
                log.exception("account %s: the desk stumbled and goes on", self.account_name)

    async def _acquire(self) -> bool:
        try:
            self._owns = await self._books(self._lock.acquire)
        except psycopg.Error as error:
            log.warning("account %s: the ownership lock cannot be asked for: %s", self.account_name, error)
        return self._owns

    async def _lost_ownership(self) -> None:
        self._owns = False
        self.guard.forget()
        self.state, self.reason = "waiting", "the ownership lock was lost"
        self._pipeline.update_exposure(self.account_id, Exposure())
        if await self._acquire():
            self.state, self.reason = "reconciling", "the ownership lock was lost and found again"
            await self._reconcile("ownership")

    async def _sweep(self) -> None:
        """Find work whose doorbell was lost, and orders whose fate is open."""
        unsent = await self._books(partial(_unsent_work, self.account_id))
        self._cancelled_at = {pk: moment for pk, moment in self._cancelled_at.items() if pk in unsent}
        for order_id in unsent:
            await self._alone(self._take_up(order_id))
        for signal_id in await self._books(partial(_pending_signals, self.account_id)):
            await self._alone(self._take_signal(signal_id))
        if self.state == "trading":
            for order_id in await self._books(partial(_unresolved, self.account_id)):
                await self._alone(self._on_sender(partial(self._resolve, order_id)))

    async def _alone(self, work: Awaitable[None]) -> None:
        """One order that the venue does not answer for must not keep the others waiting."""
        try:
            await work
        except GatewayError as error:
            log.warning("account %s: %s", self.account_name, error)

    async def _prepare_leverages(self) -> None:
        """Ahead of the first order, which would otherwise wait for this request."""
        if self.state == "trading":
            for symbol, leverage in self._pipeline.leverages(self.account_id).items():
                if symbol not in self._leverages:
                    await self._on_sender(partial(self._ensure_leverage, symbol, leverage))

    async def _wallet(self) -> None:
        report = await self._in_thread(self._watcher, self._watching_gateway.wallet)
        await self._books(partial(wallet_apply, account_id=self.account_id, report=report, snapshot=True))

    async def _refresh_exposure(self) -> None:
        """Rebuild the exposure from the books, plus what is approved but not in them yet."""
        booked = set(self._committed_ids)
        prices = self._pipeline.reference_prices()
        exposure = await self._books(partial(account_exposure, self.account_id, prices))
        for identifier in booked:
            self._in_flight.pop(identifier, None)
        self._committed_ids -= booked
        for intent in self._in_flight.values():
            exposure = exposure.with_intent(intent, prices.get(intent.symbol))
        if self.state == "trading":
            self._pipeline.update_exposure(self.account_id, exposure)
            await self.guard.follow(exposure)

    async def _reconcile(self, trigger: str) -> None:
        if not self._owns:
            return
        try:
            run = await self._books(partial(reconcile_account, self.account_id, self._reading_gateway, trigger))
            error = run.error
        except Exception as raised:  # whatever it was, the account is not proven; the loop tries again
            log.exception("account %s: reconciliation (%s) broke", self.account_name, trigger)
            error = f"{type(raised).__name__}: {raised}"
        # Ownership and the stream may have been lost while it ran.
        if self.state == "waiting":
            return
        if error:
            self.state, self.reason = "refused", f"reconciliation failed: {error}"
            self._refused_at = time.monotonic()
            self._pipeline.update_exposure(self.account_id, Exposure())
        elif not self.stream_connected:
            self.state, self.reason = "reconciling", "the private stream is not connected"
        else:
            self.state, self.reason = "trading", ""
            await self._refresh_exposure()

    # The private stream.

    async def _on_connected(self) -> None:
        self.stream_connected = True
        await self._reconcile("connect")

    def _on_disconnected(self, reason: str) -> None:
        # Fills may happen unseen from here on; what we believe of the account is no base for new orders.
        self.stream_connected = False
        if self._owns:
            self.state, self.reason = "reconciling", f"private stream lost: {reason}"
        self._pipeline.update_exposure(self.account_id, Exposure())
        log.warning("account %s: private stream lost: %s", self.account_name, reason)

    def _on_trouble(self, sentence: str, frame: bytes) -> None:
        log.error("account %s: %s: %r", self.account_name, sentence, frame[:500])
        self.reconcile_soon("unreadable")

    async def _on_reports(self, reports: list[Report]) -> None:
        try:
            await self._books(partial(self._apply, reports))
            await self._refresh_exposure()
            for comparison in self._outside.heard(reports):
                self._send_async(comparison)
        except Exception as error:
            # The news is not lost: reconciliation asks for it again.
            log.exception("account %s: reports could not be booked", self.account_name)
            if self._owns:
                self.state, self.reason = "reconciling", f"reports could not be booked: {error}"
                self._pipeline.update_exposure(self.account_id, Exposure())
            self.reconcile_soon("unbooked")

    # On the bookkeeper's thread.

    def _apply(self, reports: list[Report]) -> None:
        for report in reports:
            match report:
                case OrderReport():
                    order_report_apply(account_id=self.account_id, report=report)
                case FillReport():
                    with transaction.atomic():
                        fill = fill_apply(account_id=self.account_id, report=report)
                        if fill is not None:
                            outside_fill_note(account_id=self.account_id, fill=fill, report=report)
                case PositionReport():
                    position_report_apply(account_id=self.account_id, report=report)
                case WalletReport():
                    wallet_apply(account_id=self.account_id, report=report)

    def _note(self, result: PipelineResult, lease: LeaseToken) -> None:
        try:
            with transaction.atomic():
                _record_signal(result, lease)
        except LeaseLost as error:
            self._refused(error)
        except DatabaseError as error:
            log.error("account %s: a signal was not recorded: %s", self.account_name, error)

    def _hand_over(self, unjudged: UnjudgedSignal, lease: LeaseToken) -> None:
        try:
            signal_hand_over(
                account_id=self.account_id,
                config_id=unjudged.running.config_id,
                signal=unjudged.signal,
                verdict=unjudged.verdict,
                trace_id=unjudged.trace_id,
                reference_price=unjudged.reference_price,
                lease=lease,
            )
        except LeaseLost as error:
            self._refused(error)
        except DatabaseError as error:
            log.error("account %s: a signal did not reach the account's owner: %s", self.account_name, error)

    def _refused(self, error: LeaseLost) -> None:
        self.refused_by_lease += 1
        log.warning("account %s: a signal came too late and is dropped: %s", self.account_name, error)

    # On the sender's thread.

    def _place(self, result: PipelineResult, intent: OrderIntent, frame_ns: int, lease: LeaseToken) -> None:
        if time.time_ns() - frame_ns > INTENT_LIFETIME / timedelta(microseconds=1) * 1_000:
            self._committed_ids.add(intent.client_order_id)
            self._note(replace(result, decision=Decision(False, (TOO_OLD,))), lease)
            return
        try:
            self._ensure_leverage(intent.symbol, intent.leverage, reduce_only=intent.reduce_only)
            with transaction.atomic(), recorded_together():
                signal = _record_signal(result, lease)
                order = order_intend(
                    account_id=self.account_id,
                    intent=intent,
                    signal_id=signal.pk,
                    receive_window_ms=RECEIVE_WINDOW_MS,
                )
        except LeaseLost as error:
            self._refused(error)
            return
        except (DatabaseError, GatewayError) as error:
            # Nothing was committed, so nothing may be sent: the signal is gone, and that is the safe side.
            log.error("account %s: an approved order was not committed: %s", self.account_name, error)
            return
        finally:
            self._committed_ids.add(intent.client_order_id)
        self.committed.add(time.time_ns() - frame_ns)
        self._submit(order, frame_ns)

    def _settle(self, signal: SignalRow, intent: OrderIntent | None, decision: Decision) -> None:
        try:
            if intent is not None:
                self._ensure_leverage(intent.symbol, intent.leverage, reduce_only=intent.reduce_only)
            order = signal_take(signal=signal, intent=intent, decision=decision, receive_window_ms=RECEIVE_WINDOW_MS)
        finally:
            if intent is not None:
                self._committed_ids.add(intent.client_order_id)
        if order is not None:
            self._submit(order)

    def _ensure_leverage(self, symbol: str, leverage: Decimal, *, reduce_only: bool = False) -> None:
        if not reduce_only and self._leverages.get(symbol) != leverage:
            self._gateway.set_leverage(symbol, leverage)
            self._leverages[symbol] = leverage

    def _take_and_submit(self, order: Order, refusals: Sequence[Refusal]) -> None:
        # In one go: what waits for other orders between its commit and its sending could be proven absent meanwhile.
        try:
            taken = order_take(order_id=order.pk, refusals=refusals, receive_window_ms=RECEIVE_WINDOW_MS)
        finally:
            self._committed_ids.add(order.client_order_id)
        if taken is not None and taken.state == OrderState.PENDING_SUBMIT:
            self._submit(taken)

    def _submit(self, order: Order, frame_ns: int = 0) -> None:
        if order.sent_at is None or timezone.now() - order.sent_at > LATEST_SUBMISSION:
            late = "it came too late to its sending: its absence might have been concluded already"
            order_submission_apply(order_id=order.pk, result=SubmissionResult(Submission.NOT_SENT, message=late))
            return
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
        )
        started_ns = time.time_ns()
        if frame_ns:
            self.sent.add(started_ns - frame_ns)
        result = self._gateway.submit(request)
        self.answered.add(time.time_ns() - started_ns)
        order_submission_apply(order_id=order.pk, result=result)

    def _cancel(self, order: Order) -> None:
        if time.monotonic() - self._cancelled_at.get(order.pk, -CANCEL_RETRY_SECONDS) < CANCEL_RETRY_SECONDS:
            return
        result = self._gateway.cancel(order.instrument.symbol, order.client_order_id, order.venue_order_id)
        if result.outcome not in (Submission.REJECTED, Submission.THROTTLED):
            self._cancelled_at[order.pk] = time.monotonic()
        order_cancel_apply(order_id=order.pk, result=result)
        if result.outcome in (Submission.CLOSED, Submission.UNKNOWN):
            self._resolve(order.pk)

    def _resolve(self, order_id: int) -> None:
        resolve_order(Order.objects.select_related("instrument").get(pk=order_id), self._gateway)

    # Intents that people and bots recorded.

    async def _take_up(self, order_id: int) -> None:
        # Every engine hears the doorbell; only the owner acts. The timer finds the same work: one of them does it.
        if not self._owns or order_id in self._taking:
            return
        self._taking.add(order_id)
        try:
            order = await self._books(partial(_working_order, self.account_id, order_id))
            if order is None:
                return
            if order.state == OrderState.PENDING_CANCEL:
                await self._on_sender(partial(self._cancel, order))
            elif order.state == OrderState.NEW:
                await self._take_intent(order)
            await self._refresh_exposure()
        finally:
            self._taking.discard(order_id)

    async def _take_intent(self, order: Order) -> None:
        refusals: tuple[Refusal, ...] = ()
        if self.state != "trading" and not order.reduce_only:
            message = f"the account does not trade now: {self.state}, {self.reason}"
            refusals = (Refusal("account_state", "trading", self.state, message),)
        else:
            limits = await self._books(partial(limits_for, order.account))
            if order.account.trading_state == Account.TradingState.HALTED and not order.reduce_only:
                message = f"the account is halted: {order.account.halt_reason or 'no reason was given'}"
                refusals = (Refusal("trading_state", "active", "halted", message),)
            else:
                intent = _as_intent(order)
                quote = None
                if self._pipeline.reference_price(intent.symbol) is None:
                    quote = await self._books(partial(symbol_quote, intent.symbol))
                refusals = self._pipeline.check(intent, limits, quote).refusals
                if not refusals:
                    self._in_flight[order.client_order_id] = intent
        await self._on_sender(partial(self._take_and_submit, order, refusals))

    # Signals of other engines.

    async def _take_signal(self, signal_id: int) -> None:
        if not self._owns or signal_id in self._taking_signals:
            return
        self._taking_signals.add(signal_id)
        try:
            signal = await self._books(partial(_pending_signal, self.account_id, signal_id))
            if signal is not None:
                intent, decision = self._judge(signal)
                await self._on_sender(partial(self._settle, signal, intent, decision))
                await self._refresh_exposure()
        finally:
            self._taking_signals.discard(signal_id)

    def _judge(self, signal: SignalRow) -> tuple[OrderIntent | None, Decision]:
        """By this account's exposure, which only its owner knows; what is approved is reserved."""
        if timezone.now() - signal.recorded_at > INTENT_LIFETIME:
            return None, Decision(False, (TOO_OLD,))
        if self.state != "trading":
            message = f"the account does not trade now: {self.state}, {self.reason}"
            return None, Decision(False, (Refusal("account_state", "trading", self.state, message),))
        running = self._pipeline.strategy(signal.config_id)
        if running is None:
            message = f"{signal.strategy} is not enabled any more"
            return None, Decision(False, (Refusal("strategy", "enabled", "not enabled", message),))
        verdict = Verdict(**signal.verdict)
        price = signal.reference_price or signal.entry_price
        result = self._pipeline.decide(running, _as_value(signal), verdict, price, signal.trace_id)
        decision = result.decision or Decision(False)
        if result.intent is None or not decision.approved:
            return None, decision
        self._in_flight[result.intent.client_order_id] = result.intent
        return result.intent, decision

    # Threads.

    async def _books(self, work: Callable[[], Result]) -> Result:
        return await self._in_thread(self._bookkeeper, work)

    async def _on_sender(self, work: Callable[[], Result]) -> Result:
        return await self._in_thread(self._sender, work)

    def _send(self, work: Callable[[], None]) -> None:
        self._keep(self._in_thread(self._sender, work))

    def _book(self, work: Callable[[], None]) -> None:
        self._keep(self._in_thread(self._bookkeeper, work))

    def _in_thread(self, thread: ThreadPoolExecutor, work: Callable[[], Result]) -> asyncio.Future[Result]:
        return asyncio.get_running_loop().run_in_executor(thread, partial(with_connection, work))

    def _send_async(self, work: Any) -> None:
        self._keep(asyncio.ensure_future(work))

    def _keep(self, future: asyncio.Future[Any]) -> None:
        self._background.add(future)
        future.add_done_callback(self._done)

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._background.discard(future)
        if not future.cancelled() and future.exception() is not None:
            log.error("account %s: background work failed", self.account_name, exc_info=future.exception())


def stored_keys(account: Account) -> tuple[bytes, bytes]:
    """The account's keys as they are stored: another encryption is another entry of them."""
    return bytes(account.api_key_encrypted), bytes(account.api_secret_encrypted)


def _record_signal(result: PipelineResult, lease: LeaseToken) -> SignalRow:
    return signal_note(
        account_id=result.running.account_id,
        config_id=result.running.config_id,
        signal=result.signal,
        verdict=result.verdict,
        decision=result.decision,
        trace_id=result.trace_id,
        lease=lease,
    )


def _as_value(row: SignalRow) -> Signal:
    return Signal(
        strategy=row.strategy,
        symbol=row.symbol,
        side=row.side,
        strength=row.strength,
        entry_price=row.entry_price,
        take_profit=row.take_profit,
        stop_loss=row.stop_loss,
        reason=row.reason,
        time_ns=int(row.signalled_at.timestamp() * 1_000) * 1_000_000,
    )


def _as_intent(order: Order) -> OrderIntent:
    return OrderIntent(
        account_id=order.account_id,
        symbol=order.instrument.symbol,
        side=order.side,
        order_type=order.order_type,
        quantity=order.quantity,
        price=order.price,
        time_in_force=order.time_in_force,
        reduce_only=order.reduce_only,
        take_profit=order.take_profit,
        stop_loss=order.stop_loss,
        strategy=order.strategy,
        client_order_id=order.client_order_id,
        reason=order.reason,
        trace_id=order.trace_id,
    )


def _working_order(account_id: int, order_id: int) -> Order | None:
    return Order.objects.select_related("instrument", "account").filter(account_id=account_id, pk=order_id).first()


def _unsent_work(account_id: int) -> list[int]:
    """Recorded intents, and cancels that were asked for and are not done."""
    states = [str(OrderState.NEW), str(OrderState.PENDING_CANCEL)]
    return list(
        Order.objects.filter(account_id=account_id, state__in=states)
        .order_by("created_at")
        .values_list("pk", flat=True)
    )


def _pending_signals(account_id: int) -> list[int]:
    """Signals that other engines left to the account's owner, oldest first."""
    rows = SignalRow.objects.filter(account_id=account_id, outcome=SignalRow.Outcome.PENDING)
    return list(rows.order_by("pk").values_list("pk", flat=True))


def _pending_signal(account_id: int, signal_id: int) -> SignalRow | None:
    rows = SignalRow.objects.filter(account_id=account_id, outcome=SignalRow.Outcome.PENDING)
    return rows.filter(pk=signal_id).first()


def _unresolved(account_id: int) -> list[int]:
    """Orders that the venue has not confirmed although they left a while ago."""
    states = [str(OrderState.UNKNOWN), str(OrderState.PENDING_SUBMIT)]
    return list(Order.objects.filter(account_id=account_id, state__in=states).values_list("pk", flat=True))
