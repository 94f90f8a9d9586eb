"""The owner of one account: takes it over, books what its private stream reports, reconciles it, looks after it in
rounds. What others recorded for it is taken up in trading/runtime/order_intake.py; what is asked for all accounts at
once, their leases too, is trading/runtime/account_desks.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import suppress
from decimal import Decimal
from functools import partial

from django.db import DatabaseError, Error

from risk.checks import Refusal
from risk.exposure import Exposure
from trading.gateways.base import GatewayError
from trading.gateways.bybit import BybitEndpoints
from trading.gateways.bybit_stream import BybitPrivateStream
from trading.models import Account
from trading.pipeline import Pipeline, PipelineResult, UnjudgedSignal
from trading.report_text import Report, reports_as_text
from trading.reports import PositionReport
from trading.runtime.cancellation import end_tasks
from trading.runtime.desk_threads import DeskThreads
from trading.runtime.exposure_reader import ExposureReader
from trading.runtime.kill_execution import KillExecution
from trading.runtime.kill_rounds import KillRounds
from trading.runtime.known_exposure import KnownExposure
from trading.runtime.order_intake import OrderIntake
from trading.runtime.order_sender import OrderSender
from trading.runtime.outside_watch import OutsideWatch
from trading.runtime.ownership import AccountLease
from trading.runtime.position_guard import PositionGuard
from trading.runtime.position_watch import PositionWatch
from trading.runtime.reconciler import reconcile_account
from trading.runtime.venue_access import venue_guard
from trading.runtime.venue_link import stored_keys, venue_link
from trading.selectors import venue_dead_man_seconds
from trading.services.accounts import wallet_apply
from trading.services.kill_switch import dead_man_refused
from trading.services.leases import LeaseLost, LeaseToken
from trading.services.owner_work import OwnerWork
from trading.services.reports import frame_refuse, reports_apply
from trading.services.signals import signal_hand_over

log = logging.getLogger(__name__)

# Where nothing is at stake, only a transfer changes a wallet, and the private stream tells that.
WALLET_SECONDS, IDLE_WALLET_SECONDS = 5.0, 30.0
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
        self._pipeline = pipeline
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
        self.threads = DeskThreads(account.pk, account.name, link.mode)
        self.orders = OrderSender(account.pk, account.name, self._gateway, pipeline.reference_prices)
        killing = link.gateway(fence=fence, guard=guard, priority="kill")
        self._kill = KillRounds(account.name, self.lease, KillExecution(account.pk, killing, self.lease), self.threads)
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
        self._tasks: list[asyncio.Task[None]] = []
        # Once the account was ours for the first time.
        self._taken = asyncio.Event()
        self.guard = PositionGuard(
            account.pk,
            pipeline,
            on_books=self.threads.on_books,
            exit_recorded=self.take_up,
            venue_wallet=lambda: self.threads.on_watcher(self._watching_gateway.wallet),
        )
        self._outside = OutsideWatch(account.pk, on_books=self.threads.on_books, reconcile=self._reconcile)
        self.exposure = KnownExposure(
            account.pk,
            exposures,
            orders=self.orders,
            pipeline=pipeline,
            guard=self.guard,
            watch=self.watch,
            trades=lambda: self.state == "trading",
            spawn=self.threads.spawn,
        )
        self.intake = OrderIntake(
            account.pk,
            account.name,
            lease=self.lease,
            pipeline=pipeline,
            orders=self.orders,
            threads=self.threads,
            gateway=self._watching_gateway,
            standstill=self._standstill,
            refresh=self.exposure.refresh,
        )

    def start(self) -> None:
        for work, name in ((self._follow_venue(), "venue"), (self._kill.run(), "kill switch")):
            self._tasks.append(asyncio.create_task(work, name=f"{name} of {self.account_name}"))

    async def stop(self) -> None:
        """Its lease stays: see :meth:`AccountDesks.remove`."""
        await end_tasks([*self._tasks, *([] if self._attending is None else [self._attending])])
        await self.guard.stop()
        await self.threads.close()
        # What was known of it here is no base for whoever opens it next, perhaps in another mode.
        self.exposure.forget()

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
        self._kill.ring()

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
        self.threads.send(partial(self.orders.place, result, intent, frame_ns, lease, owner))

    def note(self, result: PipelineResult, lease: LeaseToken) -> None:
        """Keep a signal that was vetoed or denied, with its reasons."""
        self.threads.book(partial(self.orders.note, result, lease))

    def hand_over(self, unjudged: UnjudgedSignal, lease: LeaseToken) -> None:
        """Leave a signal to the engine that owns the account."""
        self.threads.book(partial(self._hand_over, unjudged, lease))

    def take_up(self, order_id: int) -> None:
        """Send an intent that a person or a bot recorded, or cancel an order: whichever the row asks for."""
        self.threads.spawn(self.intake.take_up(order_id))

    def take_signal(self, signal_id: int) -> None:
        """Judge a signal that another engine made for this account, and order what it wants."""
        self.threads.spawn(self.intake.take_signal(signal_id))

    def reconcile_soon(self, trigger: str) -> None:
        self.threads.spawn(self._reconcile(trigger))

    def _standstill(self) -> Refusal | None:
        if self.state == "trading":
            return None
        message = f"the account does not trade now: {self.state}, {self.reason}"
        return Refusal("account_state", "trading", self.state, message)

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
            await self.exposure.know(work.exposure, booked, began)
            await self.guard.tick(work.limits, work.strategy_limits, may_exit=self.state == "trading")
            await self._prepare_leverages()
        except (DatabaseError, GatewayError) as error:
            log.warning("account %s: %s: %s", self.account_name, type(error).__name__, error)
        except Exception:  # the next round looks after it again
            log.exception("account %s: the desk stumbled and goes on", self.account_name)

    def _ownership_changed(self) -> None:
        self.exposure.forget()
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
            seconds = await self.threads.on_books(partial(venue_dead_man_seconds, self.account_id))
            if seconds is not None:
                self._stream.dead_man = True
                await self.threads.on_watcher(partial(self._watching_gateway.set_disconnect_cancel, seconds))
        except (Error, GatewayError) as error:
            self._stream.dead_man = False
            log.warning("account %s: the venue does not watch over it: %s", self.account_name, error)
            with suppress(Error):
                await self.threads.on_books(partial(dead_man_refused, account_id=self.account_id, reason=str(error)))

    async def _sweep(self, work: OwnerWork) -> None:
        """Work whose doorbell was lost, and orders whose fate is open."""
        self.orders.forget_requests(work.changes)
        # What was recorded while the account had no owner is not refused because its new one is not ready yet.
        waits = not self._was_proven and time.monotonic() - self._ours_since < FIRST_PROOF_SECONDS
        for order_id in (*work.changes, *(() if waits else work.intents)):
            await self._alone(self.intake.take_up(order_id))
        for signal_id in () if waits else work.signals:
            await self._alone(self.intake.take_signal(signal_id))
        if self.state == "trading":
            for order_id in work.unresolved:
                await self._alone(self.threads.on_sender(partial(self.orders.resolve, order_id)))

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
                    await self.threads.on_sender(partial(self.orders.ensure_leverage, symbol, leverage))

    async def _wallet_when_due(self, exposure: Exposure) -> None:
        at_stake = exposure.positions or exposure.pending
        if time.monotonic() - self._wallet_at > (WALLET_SECONDS if at_stake else IDLE_WALLET_SECONDS):
            self._wallet_at = time.monotonic()
            await self._wallet()

    async def _wallet(self) -> None:
        report = await self.threads.on_watcher(self._watching_gateway.wallet)
        await self.threads.on_books(
            partial(wallet_apply, account_id=self.account_id, report=report, snapshot=True, mode=self.mode)
        )

    async def _reconcile(self, trigger: str) -> None:
        token = self.lease.token
        if token is None:
            return
        try:
            run = await self.threads.on_books(
                partial(reconcile_account, self.account_id, self._reading_gateway, trigger)
            )
            error = run.refusal or run.error
            reading = await self.exposure.read()
        except Exception as raised:  # whatever it was, the account is not proven; the loop tries again
            log.exception("account %s: reconciliation (%s) broke", self.account_name, trigger)
            error = f"{type(raised).__name__}: {raised}"
        # Ownership and the stream may have been lost while it ran. What another owner did meanwhile it has not seen.
        if self.state == "waiting" or self.lease.token != token:
            return
        if error:
            self.state, self.reason = "refused", f"reconciliation failed: {error}"
            self._refused_at = time.monotonic()
            self.exposure.forget()
        elif not self.stream_connected:
            self.state, self.reason = "reconciling", "the private stream is not connected"
        else:
            # Together with what is at stake: an order that is judged in between would be refused.
            self.state, self.reason, self._was_proven = "trading", "", True
            await self.exposure.know(*reading)

    # The private stream.

    async def _on_connected(self) -> None:
        self.stream_connected = True
        await self._reconcile("connect")

    def _on_disconnected(self, reason: str) -> None:
        # Fills may happen unseen from here on; what we believe of the account is no base for new orders.
        self.stream_connected = False
        if self.owns:
            self.state, self.reason = "reconciling", f"private stream lost: {reason}"
        self.exposure.forget()
        log.warning("account %s: private stream lost: %s", self.account_name, reason)

    def _on_trouble(self, sentence: str, frame: bytes) -> None:
        log.error("account %s: %s: %r", self.account_name, sentence, frame[:500])
        self.threads.lay_aside("private_frame", sentence, frame.decode(errors="replace"))
        self.threads.book(partial(frame_refuse, account_id=self.account_id, reason=sentence))
        self.reconcile_soon("unreadable")

    async def _on_reports(self, reports: list[Report]) -> None:
        for report in reports:
            if isinstance(report, PositionReport) and (self.owns or self._database_away):
                self.watch.reported(report)
                self.orders.leverage_reported(report.symbol, report.leverage)
        try:
            refused = await self.threads.on_books(
                partial(reports_apply, account_id=self.account_id, reports=reports, mode=self.mode)
            )
            for report, reason in refused:
                self.threads.lay_aside("reports", reason, reports_as_text([report]), same=reason)
            if refused:
                self.reconcile_soon("contradiction")
            self.exposure.refresh_soon()
            for comparison in self._outside.heard(reports) if self.owns else ():
                self.threads.spawn(comparison)
        except Exception as error:
            # The news is not lost: reconciliation asks for it again.
            log.exception("account %s: reports could not be booked", self.account_name)
            self.threads.lay_aside("reports", f"{type(error).__name__}: {error}", reports_as_text(reports))
            if self.owns:
                self.state, self.reason = "reconciling", f"reports could not be booked: {error}"
                self.exposure.forget()
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
