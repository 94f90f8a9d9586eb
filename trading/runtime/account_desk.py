"""The owner of one account: sends its orders, books its reports, keeps its exposure, reconciles it.

Four threads a desk: one talks to the venue about orders and may block for seconds on a lost answer; one books reports
meanwhile; one asks for the wallet, so that no order waits for that; one does what a kill switch asks for, whatever
keeps the others busy. Rows are locked by the services, so they cannot contradict each other. What is asked for all
accounts at once, their leases too, is trading/runtime/account_desks.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from django.db import DatabaseError, Error
from django.utils import timezone

from audit.services import dead_letters
from mlops.validation import Verdict
from risk.checks import Decision, Refusal
from risk.exposure import Exposure
from risk.intents import OrderIntent
from risk.selectors import limits_for
from risk.slippage import BookSide, side_of_quotes
from strategies.models import Signal as SignalRow
from trading.gateways.base import GatewayError
from trading.gateways.bybit import BybitEndpoints
from trading.gateways.bybit_stream import BybitPrivateStream
from trading.lifecycle import OrderState
from trading.models import Account, Order
from trading.pipeline import Pipeline, PipelineResult, UnjudgedSignal
from trading.report_text import Report, reports_as_text
from trading.reports import PositionReport
from trading.runtime.cancellation import end_tasks
from trading.runtime.database import with_connection
from trading.runtime.exposure_reader import ExposureReader
from trading.runtime.kill_execution import KillExecution
from trading.runtime.order_sender import TOO_OLD, OrderSender
from trading.runtime.outside_watch import OutsideWatch
from trading.runtime.ownership import AccountLease
from trading.runtime.position_guard import PositionGuard
from trading.runtime.position_watch import PositionWatch
from trading.runtime.reconciler import reconcile_account
from trading.runtime.recorded import as_intent, as_value
from trading.runtime.venue_access import venue_guard
from trading.runtime.venue_link import stored_keys, venue_link
from trading.selectors import (
    pending_signal,
    venue_dead_man_seconds,
    waiting_amendment,
    working_order,
)
from trading.services.accounts import wallet_apply
from trading.services.amendments import grows
from trading.services.exposures import account_exposure
from trading.services.kill_switch import dead_man_refused
from trading.services.leases import LeaseLost, LeaseToken, symbol_quote
from trading.services.order_commits import INTENT_LIFETIME
from trading.services.order_gate import halt_refusal
from trading.services.owner_work import OwnerWork
from trading.services.reports import frame_refuse, reports_apply
from trading.services.signals import signal_hand_over

log = logging.getLogger(__name__)
Result = TypeVar("Result")

# Where nothing is at stake, only a transfer changes a wallet, and the private stream tells that.
WALLET_SECONDS, IDLE_WALLET_SECONDS = 5.0, 30.0
# Each reading costs as much of the interpreter as an order does.
EXPOSURE_SECONDS = 0.1
RECONCILIATION_RETRY_SECONDS = 5.0
FIRST_PROOF_SECONDS = 15.0


class AccountDesk:
    """Lives in the engine's event loop. ``state`` is one of waiting, reconciling, trading, refused, with a reason."""

    def __init__(
        self,
        account: Account,
        pipeline: Pipeline,
        endpoints: BybitEndpoints,
        exposures: ExposureReader,
        engine_name: str = "engine",
    ) -> None:
        self.account_id = account.pk
        self.account_name = account.name
        self.state, self.reason = "waiting", "another engine may own the account"
        self.stream_connected = False
        self._pipeline, self._exposures = pipeline, exposures
        self.keys = stored_keys(account)
        link = venue_link(account, endpoints)
        self.mode = link.mode
        self.lease = AccountLease(account.pk, f"{engine_name}: {account.name}", link.mode)
        fence = self.lease.refusal
        # pybit's session is not for two threads at once: each thread has one of its own.
        guard = venue_guard(link.endpoints.rest)
        self._gateway = link.gateway(fence=fence, guard=guard)
        self._reading_gateway = link.gateway(fence=fence, guard=guard)
        self._watching_gateway = link.gateway(fence=fence, guard=guard)
        self.orders = OrderSender(account.pk, account.name, self._gateway, pipeline.reference_prices)
        killing = link.gateway(fence=fence, guard=guard, priority="kill")
        self._kill = KillExecution(account.pk, killing, self.lease)
        self._stream = BybitPrivateStream(
            f"{link.endpoints.websocket}/v5/private",
            link.api_key,
            link.api_secret,
            on_reports=self._on_reports,
            on_connected=self._on_connected,
            on_disconnected=self._on_disconnected,
            on_trouble=self._on_trouble,
        )
        # What it holds stays while nobody can say whose the account is, and goes when another engine owns it.
        self.watch, self._database_away = PositionWatch(), False
        self._refused_at, self._heeded_at, self._wallet_at = 0.0, 0.0, 0.0
        self._told: LeaseToken | None = None
        self._ours_since, self._was_proven = 0.0, False
        self._attending: asyncio.Task[None] | None = None
        self._sender = ThreadPoolExecutor(1, thread_name_prefix=f"sender-{account.pk}")
        self._bookkeeper = ThreadPoolExecutor(1, thread_name_prefix=f"books-{account.pk}")
        self._watcher = ThreadPoolExecutor(1, thread_name_prefix=f"watch-{account.pk}")
        self._killer = ThreadPoolExecutor(1, thread_name_prefix=f"kill-{account.pk}")
        self._tasks: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Future[Any]] = set()
        self._exposure_at, self._refresh_waits = 0.0, False
        # When the reading of the books began that was gone by last.
        self._known_since = 0.0
        self._taking: set[int] = set()
        self._taking_signals: set[int] = set()
        self._stop_rung = asyncio.Event()
        # Once the account was ours for the first time.
        self._taken = asyncio.Event()
        self.guard = PositionGuard(
            account.pk,
            pipeline,
            on_books=self._books,
            exit_recorded=self.take_up,
            venue_wallet=lambda: self._in_thread(self._watcher, self._watching_gateway.wallet),
        )
        self._outside = OutsideWatch(account.pk, on_books=self._books, reconcile=self._reconcile)

    def start(self) -> None:
        loops = (self._follow_venue, self._stop_when_told)
        self._tasks += [asyncio.create_task(loop(), name=f"{loop.__name__} {self.account_name}") for loop in loops]

    async def stop(self) -> None:
        """Its lease stays: see :meth:`AccountDesks.remove`."""
        await end_tasks([*self._tasks, *([] if self._attending is None else [self._attending])])
        await self.guard.stop()
        if self._background:
            await asyncio.wait(self._background, timeout=5.0)
        for thread in (self._sender, self._bookkeeper, self._watcher, self._killer):
            thread.shutdown(wait=False, cancel_futures=True)
        # What was known of it here is no base for whoever opens it next, perhaps in another mode.
        self._pipeline.update_exposure(self.account_id, Exposure())

    @property
    def owns(self) -> bool:
        """Whether this engine owns the account: nobody else can by now, whatever it has slept through."""
        return self.lease.valid

    def lease_heard(self, *, database_away: bool) -> None:
        """The lease was asked for. It is ours, or another's, or still ours by the clock."""
        self._database_away = database_away
        if not database_away and not self.owns:
            self.watch.booked({})
        if self.lease.token != self._told:
            self._told = self.lease.token
            self._ownership_changed()

    def attend(self, work: OwnerWork, booked: set[str], began: float) -> None:
        """What the books say, which were read since ``began`` (monotonic), with ``booked`` asked for before. An account
        that its venue keeps busy is not attended to twice at once."""
        if self._attending is None or self._attending.done():
            self._attending = asyncio.create_task(self._attend(work, booked, began))

    def obey_kill_switch(self) -> None:
        """One that is engaged has something left to do here."""
        self._stop_rung.set()

    def on_price(self, symbol: str, price: Decimal, receive_ns: int) -> None:
        """A mark price has changed."""
        if self.owns:
            self.guard.on_price(symbol, price, receive_ns, may_exit=self.state == "trading")

    def place(self, result: PipelineResult, frame_ns: int, lease: LeaseToken) -> None:
        """Carry out an approved result: committed first, then sent, on the sender's thread."""
        intent, owner = result.intent, self.lease.token
        if intent is None or owner is None:
            return
        self.orders.reserve(intent, result.signal.entry_price)
        self._send(partial(self.orders.place, result, intent, frame_ns, lease, owner))

    def note(self, result: PipelineResult, lease: LeaseToken) -> None:
        """Keep a signal that was vetoed or denied, with its reasons."""
        self._book(partial(self.orders.note, result, lease))

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

    async def _follow_venue(self) -> None:
        await self._taken.wait()
        await self._ask_venue_to_watch()
        await self._stream.run()

    async def _attend(self, work: OwnerWork, booked: set[str], began: float) -> None:
        try:
            if not self.owns:
                return
            if self.state == "refused" and time.monotonic() - self._refused_at > RECONCILIATION_RETRY_SECONDS:
                await self._reconcile("retry")
            await self._heed_others(work)
            await self._sweep(work)
            await self._wallet_when_due(work.exposure)
            await self._know(work.exposure, booked, began)
            await self.guard.tick(work.limits, work.strategy_limits, may_exit=self.state == "trading")
            await self._prepare_leverages()
        except (DatabaseError, GatewayError) as error:
            log.warning("account %s: %s: %s", self.account_name, type(error).__name__, error)
        except Exception:  # the next round looks after it again
            log.exception("account %s: the desk stumbled and goes on", self.account_name)

    def _ownership_changed(self) -> None:
        self._pipeline.update_exposure(self.account_id, Exposure())
        if not self.owns:
            self.guard.forget()
            self.state, self.reason = "waiting", "the account's lease was lost; another engine may own it"
            log.warning("account %s: %s", self.account_name, self.reason)
            return
        log.info("account %s is ours: %s", self.account_name, self.lease.token)
        self._ours_since, self._was_proven = time.monotonic(), False
        self.orders.forget_leverages()
        self._taken.set()
        self.state, self.reason = "reconciling", "before the first order"
        if self.stream_connected:
            # The stream went on while somebody else was the owner: nothing else would reconcile.
            self.reconcile_soon("ownership")

    async def _ask_venue_to_watch(self) -> None:
        """The venue's own dead-man switch, where the account's managers want it and the venue grants it."""
        try:
            seconds = await self._books(partial(venue_dead_man_seconds, self.account_id))
            if seconds is not None:
                self._stream.dead_man = True
                await self._in_thread(self._watcher, partial(self._watching_gateway.set_disconnect_cancel, seconds))
        except (Error, GatewayError) as error:
            self._stream.dead_man = False
            log.warning("account %s: the venue does not watch over it: %s", self.account_name, error)
            with suppress(Error):
                await self._books(partial(dead_man_refused, account_id=self.account_id, reason=str(error)))

    async def _stop_when_told(self) -> None:
        """Goes on where another process stopped, in rounds until nothing is left; rung for again every second."""
        while True:
            await self._stop_rung.wait()
            self._stop_rung.clear()
            pause = await self._kill_step()
            while pause is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stop_rung.wait()
                self._stop_rung.clear()
                pause = await self._kill_step()

    async def _kill_step(self) -> float | None:
        try:
            return await self._in_thread(self._killer, self._kill.step) if self.owns else None
        except Error as error:
            log.warning("account %s: is it stopped? The database does not answer: %s", self.account_name, error)
        except Exception:  # a kill switch that gave up would be none
            log.exception("account %s: the kill switch stumbled and goes on", self.account_name)
        return None

    async def _sweep(self, work: OwnerWork) -> None:
        """Work whose doorbell was lost, and orders whose fate is open."""
        self.orders.forget_requests(work.changes)
        # What was recorded while the account had no owner is not refused because its new one is not ready yet.
        waits = not self._was_proven and time.monotonic() - self._ours_since < FIRST_PROOF_SECONDS
        for order_id in (*work.changes, *(() if waits else work.intents)):
            await self._alone(self._take_up(order_id))
        for signal_id in () if waits else work.signals:
            await self._alone(self._take_signal(signal_id))
        if self.state == "trading":
            for order_id in work.unresolved:
                await self._alone(self._on_sender(partial(self.orders.resolve, order_id)))

    async def _heed_others(self, work: OwnerWork) -> None:
        """Scheduled comparisons by other processes that fail again and again: this one looks for itself."""
        if not work.doubted or self.state != "trading":
            return
        if time.monotonic() - self._heeded_at > RECONCILIATION_RETRY_SECONDS:
            self._heeded_at = time.monotonic()
            await self._reconcile("doubt")

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
                if not self.orders.knows_leverage(symbol):
                    await self._on_sender(partial(self.orders.ensure_leverage, symbol, leverage))

    async def _wallet_when_due(self, exposure: Exposure) -> None:
        at_stake = exposure.positions or exposure.pending
        if time.monotonic() - self._wallet_at > (WALLET_SECONDS if at_stake else IDLE_WALLET_SECONDS):
            self._wallet_at = time.monotonic()
            await self._wallet()

    async def _wallet(self) -> None:
        report = await self._in_thread(self._watcher, self._watching_gateway.wallet)
        await self._books(
            partial(wallet_apply, account_id=self.account_id, report=report, snapshot=True, mode=self.mode)
        )

    async def _refresh_exposure(self) -> None:
        """Rebuild the exposure from the books, plus what is approved but not in them yet."""
        self._exposure_at = time.monotonic()
        booked = self.orders.booked()
        books, began = await self._exposures.read(self.account_id)
        await self._know(books, booked, began)

    def _refresh_soon(self) -> None:
        """After news that came in: at once, and not again before EXPOSURE_SECONDS. Until then what was approved counts
        as pending, whatever became of it."""
        if not self._refresh_waits:
            self._refresh_waits = True
            self._send_async(self._refresh_paced())

    async def _refresh_paced(self) -> None:
        await asyncio.sleep(self._exposure_at + EXPOSURE_SECONDS - time.monotonic())
        self._refresh_waits = False
        with suppress(DatabaseError):  # what is approved counts on; the account's loop reads again within a second
            await self._refresh_exposure()

    async def _know(self, books: Exposure, booked: set[str], began: float) -> None:
        """Go by what the books said, unless a later reading of them has come in first."""
        if began < self._known_since:
            return
        exposure = self.orders.with_reserved(books, booked, self._pipeline.reference_prices())
        self.watch.booked(exposure.positions)
        if self.state == "trading":
            self._known_since = began
            self._pipeline.update_exposure(self.account_id, exposure)
            await self.guard.follow(exposure)

    async def _reconcile(self, trigger: str) -> None:
        token = self.lease.token
        if token is None:
            return
        try:
            run = await self._books(partial(reconcile_account, self.account_id, self._reading_gateway, trigger))
            error = run.refusal or run.error
            booked = self.orders.booked()
            books, began = await self._exposures.read(self.account_id)
        except Exception as raised:  # whatever it was, the account is not proven; the loop tries again
            log.exception("account %s: reconciliation (%s) broke", self.account_name, trigger)
            error = f"{type(raised).__name__}: {raised}"
        # Ownership and the stream may have been lost while it ran. What another owner did meanwhile it has not seen.
        if self.state == "waiting" or self.lease.token != token:
            return
        if error:
            self.state, self.reason = "refused", f"reconciliation failed: {error}"
            self._refused_at = time.monotonic()
            self._pipeline.update_exposure(self.account_id, Exposure())
        elif not self.stream_connected:
            self.state, self.reason = "reconciling", "the private stream is not connected"
        else:
            # Together with what is at stake: an order that is judged in between would be refused.
            self.state, self.reason, self._was_proven = "trading", "", True
            await self._know(books, booked, began)

    # The private stream.

    async def _on_connected(self) -> None:
        self.stream_connected = True
        await self._reconcile("connect")

    def _on_disconnected(self, reason: str) -> None:
        # Fills may happen unseen from here on; what we believe of the account is no base for new orders.
        self.stream_connected = False
        if self.owns:
            self.state, self.reason = "reconciling", f"private stream lost: {reason}"
        self._pipeline.update_exposure(self.account_id, Exposure())
        log.warning("account %s: private stream lost: %s", self.account_name, reason)

    def _on_trouble(self, sentence: str, frame: bytes) -> None:
        log.error("account %s: %s: %r", self.account_name, sentence, frame[:500])
        self._lay_aside("private_frame", sentence, frame.decode(errors="replace"))
        self._book(partial(frame_refuse, account_id=self.account_id, reason=sentence))
        self.reconcile_soon("unreadable")

    async def _on_reports(self, reports: list[Report]) -> None:
        for report in reports:
            if isinstance(report, PositionReport) and (self.owns or self._database_away):
                self.watch.reported(report)
                self.orders.leverage_reported(report.symbol, report.leverage)
        try:
            refused = await self._books(
                partial(reports_apply, account_id=self.account_id, reports=reports, mode=self.mode)
            )
            for report, reason in refused:
                self._lay_aside("reports", reason, reports_as_text([report]), same=reason)
            if refused:
                self.reconcile_soon("contradiction")
            self._refresh_soon()
            for comparison in self._outside.heard(reports) if self.owns else ():
                self._send_async(comparison)
        except Exception as error:
            # The news is not lost: reconciliation asks for it again.
            log.exception("account %s: reports could not be booked", self.account_name)
            self._lay_aside("reports", f"{type(error).__name__}: {error}", reports_as_text(reports))
            if self.owns:
                self.state, self.reason = "reconciling", f"reports could not be booked: {error}"
                self._pipeline.update_exposure(self.account_id, Exposure())
            self.reconcile_soon("unbooked")

    # On the bookkeeper's thread.

    def _hand_over(self, unjudged: UnjudgedSignal, lease: LeaseToken) -> None:
        try:
            signal_hand_over(
                account_id=self.account_id,
                config_id=unjudged.running.config_id,
                code=unjudged.running.code,
                signal=unjudged.signal,
                verdict=unjudged.verdict,
                trace_id=unjudged.trace_id,
                reference_price=unjudged.reference_price,
                lease=lease,
            )
        except LeaseLost as error:
            self.orders.count_lost_lease(error)
        except DatabaseError as error:
            log.error("account %s: a signal did not reach the account's owner: %s", self.account_name, error)

    # Intents that people and bots recorded.

    async def _take_up(self, order_id: int) -> None:
        # Every engine hears the doorbell; only the owner acts. The timer finds the same work: one of them does it.
        if not self.owns or order_id in self._taking:
            return
        self._taking.add(order_id)
        try:
            order = await self._books(partial(working_order, self.account_id, order_id))
            if order is None:
                return
            if order.state == OrderState.PENDING_CANCEL:
                await self._on_sender(partial(self.orders.cancel, order))
            elif order.state == OrderState.PENDING_REPLACE:
                await self._take_amendment(order)
            elif order.state == OrderState.NEW:
                await self._take_intent(order)
            await self._refresh_exposure()
        finally:
            self._taking.discard(order_id)

    async def _take_intent(self, order: Order) -> None:
        # Before it is judged: what is approved is reserved, and stays so until somebody has tried to send it.
        owner = self.lease.token
        if owner is not None:
            intent = as_intent(order)
            refusals, prices = await self._refusals(order, intent)
            shared = None if prices is None else (intent, prices)
            await self._on_sender(partial(self.orders.take_and_submit, order, refusals, owner, shared))

    async def _unfollowed_side(self, symbol: str, side: str) -> BookSide | None:
        """What a market order would take, as the venue tells it, where this engine does not follow the symbol."""
        rules = self._pipeline.rules(symbol)
        if rules is None or self._pipeline.reference_price(symbol) is not None:
            return None
        try:
            bids, asks = await self._in_thread(self._watcher, partial(self._watching_gateway.book, symbol))
        except GatewayError as error:
            log.warning("account %s: the book of %s is not known: %s", self.account_name, symbol, error)
            return None
        return side_of_quotes(side, bids, asks, rules.tick_size, rules.lot_size)

    def _prices(self, symbol: str, price: Decimal | None) -> dict[str, Decimal]:
        """Marks, with the price of a symbol that another engine follows."""
        known = dict(self._pipeline.reference_prices())
        if price is not None:
            known.setdefault(symbol, price)
        return known

    async def _take_amendment(self, order: Order) -> None:
        amendment = await self._books(partial(waiting_amendment, order.pk))
        if amendment is None:
            await self._on_sender(partial(self.orders.follow_amendment, order))
            return
        refusals: tuple[Refusal, ...] = ()
        if grows(order, amendment.quantity, amendment.price):
            left = amendment.quantity - order.filled_quantity
            intent = replace(as_intent(order), quantity=left, price=amendment.price)
            if not self.owns:
                return
            refusals, _ = await self._refusals(order, intent, replacing=True)
        owner = self.lease.token
        if owner is not None:
            await self._on_sender(partial(self.orders.amend, order, refusals, owner))

    async def _refusals(
        self, order: Order, intent: OrderIntent, *, replacing: bool = False
    ) -> tuple[tuple[Refusal, ...], dict[str, Decimal] | None]:
        """What our own checks say against a person's or a bot's intent, and marks where limits span several accounts;
        what is approved is reserved. ``replacing``: it is judged in the place of the order as it is."""
        if self.state != "trading" and not order.reduce_only:
            message = f"the account does not trade now: {self.state}, {self.reason}"
            return (Refusal("account_state", "trading", self.state, message),), None
        limits = await self._books(partial(limits_for, order.account))
        if order.account.trading_state == Account.TradingState.HALTED and not order.reduce_only:
            return (halt_refusal(order.account.halt_reason),), None
        quote = None
        if self._pipeline.reference_price(intent.symbol) is None:
            quote = await self._books(partial(symbol_quote, intent.symbol))
        without = await self._exposure_without(order) if replacing else None
        judges = intent.order_type == "Market" and not intent.reduce_only
        side = await self._unfollowed_side(intent.symbol, intent.side) if judges else None
        excess: tuple[Refusal, ...] = ()
        if limits.max_leverage is not None and not intent.reduce_only:
            asked = partial(self.orders.excess_leverage, intent.symbol, limits.max_leverage, self._watching_gateway)
            excess = await self._in_thread(self._watcher, asked)
        # Judged and reserved without a wait in between, or two would be judged as if there were one.
        refusals = (*excess, *self._pipeline.check(intent, limits, quote, side, replacing=without).refusals)
        told = None if quote is None else quote.price
        if not refusals:
            self.orders.reserve(intent, told)
        return refusals, self._prices(intent.symbol, told) if limits.shared else None

    async def _exposure_without(self, order: Order) -> Exposure:
        """As if the order were not there, and its margin still free: then what its replacement needs is judged."""
        booked, prices = self.orders.booked(), self._pipeline.reference_prices()
        books = await self._books(partial(account_exposure, self.account_id, prices, without=order.pk))
        freed = Decimal(0) if order.reduce_only else (order.quantity - order.filled_quantity) * (order.price or 0)
        books = replace(books, available_balance=books.available_balance + freed / as_intent(order).leverage)
        return self.orders.with_reserved(books, booked, prices)

    # Signals of other engines.

    async def _take_signal(self, signal_id: int) -> None:
        if not self.owns or signal_id in self._taking_signals:
            return
        self._taking_signals.add(signal_id)
        try:
            signal = await self._books(partial(pending_signal, self.account_id, signal_id))
            # Before it is judged: what is approved is reserved, and stays so until somebody has tried to send it.
            owner = self.lease.token
            if signal is not None and owner is not None:
                side = await self._unfollowed_side(signal.symbol, signal.side)
                intent, decision = self._judge(signal, side)
                running = self._pipeline.strategy(signal.config_id)
                shared = running is not None and running.limits.shared
                prices = self._prices(signal.symbol, signal.reference_price) if shared else None
                await self._on_sender(partial(self.orders.settle, signal, intent, decision, owner, prices))
                await self._refresh_exposure()
        finally:
            self._taking_signals.discard(signal_id)

    def _judge(self, signal: SignalRow, side: BookSide | None) -> tuple[OrderIntent | None, Decision]:
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
        result = self._pipeline.decide(running, as_value(signal), verdict, price, signal.trace_id, side)
        decision = result.decision or Decision(False)
        if result.intent is None or not decision.approved:
            return None, decision
        self.orders.reserve(result.intent, price)
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
            error = future.exception()
            log.error("account %s: background work failed", self.account_name, exc_info=error)
            self._lay_aside("desk_work", f"{type(error).__name__}: {error}", "", same=type(error).__name__)

    def _lay_aside(self, kind: str, error: str, payload: str, same: str = "") -> None:
        """Keep what could not be handled as a dead letter, on the thread that no order waits for."""
        known_as = f"{self.account_id}:{same}" if same else ""
        context = {"account": self.account_id, "mode": self.mode}
        put = partial(dead_letters().put, kind, error=error, payload=payload, context=context, same=known_as)
        with suppress(RuntimeError):  # the desk has ended, and its threads with it
            self._keep(self._in_thread(self._watcher, put))
