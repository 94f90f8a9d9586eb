"""What others recorded for an account and its owner carries out: intents of people and bots, changes of their orders,
signals that other engines made. Each is judged here, by the exposure that only the owner knows, before it is sent."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial

from django.utils import timezone

from mlops.validation import Verdict
from risk.checks import Decision, Refusal
from risk.exposure import Exposure
from risk.intents import OrderIntent
from risk.selectors import limits_for
from risk.slippage import BookSide, side_of_quotes
from strategies.models import Signal as SignalRow
from trading.gateways.base import GatewayError
from trading.gateways.bybit import BybitGateway
from trading.lifecycle import OrderState
from trading.models import Account, Order
from trading.pipeline import Pipeline
from trading.runtime.desk_threads import DeskThreads
from trading.runtime.order_sender import TOO_OLD, OrderSender
from trading.runtime.ownership import AccountLease
from trading.runtime.recorded import as_intent, as_value
from trading.selectors import pending_signal, waiting_amendment, working_order
from trading.services.amendments import grows
from trading.services.exposures import account_exposure
from trading.services.leases import symbol_quote
from trading.services.order_commits import INTENT_LIFETIME
from trading.services.order_gate import halt_refusal

log = logging.getLogger(__name__)


class OrderIntake:
    """Lives in the engine's event loop. ``gateway`` is asked on the watcher's thread. ``standstill`` tells why the
    account does not trade now, None while it does; ``refresh`` reads anew what is at stake."""

    def __init__(
        self,
        account_id: int,
        account_name: str,
        *,
        lease: AccountLease,
        pipeline: Pipeline,
        orders: OrderSender,
        threads: DeskThreads,
        gateway: BybitGateway,
        standstill: Callable[[], Refusal | None],
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._account_id, self._account_name, self._lease = account_id, account_name, lease
        self._pipeline, self._orders, self._threads, self._gateway = pipeline, orders, threads, gateway
        self._standstill, self._refresh = standstill, refresh
        self._taking: set[int] = set()
        self._taking_signals: set[int] = set()

    async def take_up(self, order_id: int) -> None:
        # Every engine hears the doorbell; only the owner acts. The timer finds the same work: one of them does it.
        if not self._lease.valid or order_id in self._taking:
            return
        self._taking.add(order_id)
        try:
            order = await self._threads.on_books(partial(working_order, self._account_id, order_id))
            if order is None:
                return
            if order.state == OrderState.PENDING_CANCEL:
                await self._threads.on_sender(partial(self._orders.cancel, order))
            elif order.state == OrderState.PENDING_REPLACE:
                await self._take_amendment(order)
            elif order.state == OrderState.NEW:
                await self._take_intent(order)
            await self._refresh()
        finally:
            self._taking.discard(order_id)

    async def _take_intent(self, order: Order) -> None:
        # Before it is judged: what is approved is reserved, and stays so until somebody has tried to send it.
        owner = self._lease.token
        if owner is not None:
            intent = as_intent(order)
            refusals, prices = await self._refusals(order, intent)
            shared = None if prices is None else (intent, prices)
            await self._threads.on_sender(partial(self._orders.take_and_submit, order, refusals, owner, shared))

    async def _unfollowed_side(self, symbol: str, side: str) -> BookSide | None:
        """What a market order would take, as the venue tells it, where this engine does not follow the symbol."""
        rules = self._pipeline.rules(symbol)
        if rules is None or self._pipeline.reference_price(symbol) is not None:
            return None
        try:
            bids, asks = await self._threads.on_watcher(partial(self._gateway.book, symbol))
        except GatewayError as error:
            log.warning("account %s: the book of %s is not known: %s", self._account_name, symbol, error)
            return None
        return side_of_quotes(side, bids, asks, rules.tick_size, rules.lot_size)

    def _prices(self, symbol: str, price: Decimal | None) -> dict[str, Decimal]:
        """Marks, with the price of a symbol that another engine follows."""
        known = dict(self._pipeline.reference_prices())
        if price is not None:
            known.setdefault(symbol, price)
        return known

    async def _take_amendment(self, order: Order) -> None:
        amendment = await self._threads.on_books(partial(waiting_amendment, order.pk))
        if amendment is None:
            await self._threads.on_sender(partial(self._orders.follow_amendment, order))
            return
        refusals: tuple[Refusal, ...] = ()
        if grows(order, amendment.quantity, amendment.price):
            left = amendment.quantity - order.filled_quantity
            intent = replace(as_intent(order), quantity=left, price=amendment.price)
            if not self._lease.valid:
                return
            refusals, _ = await self._refusals(order, intent, replacing=True)
        owner = self._lease.token
        if owner is not None:
            await self._threads.on_sender(partial(self._orders.amend, order, refusals, owner))

    async def _refusals(
        self, order: Order, intent: OrderIntent, *, replacing: bool = False
    ) -> tuple[tuple[Refusal, ...], dict[str, Decimal] | None]:
        """What our own checks say against a person's or a bot's intent, and marks where limits span several accounts;
        what is approved is reserved. ``replacing``: it is judged in the place of the order as it is."""
        standstill = self._standstill()
        if standstill is not None and not order.reduce_only:
            return (standstill,), None
        limits = await self._threads.on_books(partial(limits_for, order.account))
        if order.account.trading_state == Account.TradingState.HALTED and not order.reduce_only:
            return (halt_refusal(order.account.halt_reason),), None
        quote = None
        if self._pipeline.reference_price(intent.symbol) is None:
            quote = await self._threads.on_books(partial(symbol_quote, intent.symbol))
        without = await self._exposure_without(order) if replacing else None
        judges = intent.order_type == "Market" and not intent.reduce_only
        side = await self._unfollowed_side(intent.symbol, intent.side) if judges else None
        excess: tuple[Refusal, ...] = ()
        if limits.max_leverage is not None and not intent.reduce_only:
            asked = partial(self._orders.excess_leverage, intent.symbol, limits.max_leverage, self._gateway)
            excess = await self._threads.on_watcher(asked)
        # Judged and reserved without a wait in between, or two would be judged as if there were one.
        refusals = (*excess, *self._pipeline.check(intent, limits, quote, side, replacing=without).refusals)
        told = None if quote is None else quote.price
        if not refusals:
            self._orders.reserve(intent, told)
        return refusals, self._prices(intent.symbol, told) if limits.shared else None

    async def _exposure_without(self, order: Order) -> Exposure:
        """As if the order were not there, and its margin still free: then what its replacement needs is judged."""
        booked, prices = self._orders.booked(), self._pipeline.reference_prices()
        books = await self._threads.on_books(partial(account_exposure, self._account_id, prices, without=order.pk))
        freed = Decimal(0) if order.reduce_only else (order.quantity - order.filled_quantity) * (order.price or 0)
        books = replace(books, available_balance=books.available_balance + freed / as_intent(order).leverage)
        return self._orders.with_reserved(books, booked, prices)

    async def take_signal(self, signal_id: int) -> None:
        if not self._lease.valid or signal_id in self._taking_signals:
            return
        self._taking_signals.add(signal_id)
        try:
            signal = await self._threads.on_books(partial(pending_signal, self._account_id, signal_id))
            # Before it is judged: what is approved is reserved, and stays so until somebody has tried to send it.
            owner = self._lease.token
            if signal is not None and owner is not None:
                side = await self._unfollowed_side(signal.symbol, signal.side)
                intent, decision = self._judge(signal, side)
                running = self._pipeline.strategy(signal.config_id)
                shared = running is not None and running.limits.shared
                prices = self._prices(signal.symbol, signal.reference_price) if shared else None
                await self._threads.on_sender(partial(self._orders.settle, signal, intent, decision, owner, prices))
                await self._refresh()
        finally:
            self._taking_signals.discard(signal_id)

    def _judge(self, signal: SignalRow, side: BookSide | None) -> tuple[OrderIntent | None, Decision]:
        """By this account's exposure, which only its owner knows; what is approved is reserved."""
        if timezone.now() - signal.recorded_at > INTENT_LIFETIME:
            return None, Decision(False, (TOO_OLD,))
        standstill = self._standstill()
        if standstill is not None:
            return None, Decision(False, (standstill,))
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
        self._orders.reserve(result.intent, price)
        return result.intent, decision
