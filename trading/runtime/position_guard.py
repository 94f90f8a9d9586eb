"""Watches one account's positions at every change of a mark price: ends them by the account's exit rules, and asks for
its kill switch when it has lost too much.

Lives in the engine's event loop and decides on what it was last told of the account. An exit is a recorded intent like
anybody's: the account's owner checks and sends it. Orders at the venue stay as the net below.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from django.db import DatabaseError

from risk.checks import CENT, NO_TOTALS, loss_percent
from risk.exits import Exit, ExitState, advance, exit_quantity, judge
from risk.exposure import ZERO, Exposure, PositionExposure
from risk.limits import Limits
from risk.reversal import indicators_against
from trading.crash_points import reach
from trading.gateways.base import GatewayError
from trading.pipeline import Pipeline
from trading.reports import WalletReport
from trading.selectors import shared_drawdown_peaks
from trading.services.exit_states import exit_order_place, exit_states, exit_states_save
from trading.services.leases import symbol_quote
from trading.services.loss_alarms import loss_alarm_raise, loss_alarm_recovered, peak_equity_raise
from trading.services.order_refusals import OrderRefused

log = logging.getLogger(__name__)
Result = TypeVar("Result")

# An exit that changes nothing (refused, lost) is tried again after a second, then after two, and so on.
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 30.0
SAVE_SECONDS = 0.25
# After a fill its profit may be in the wallet already and in the position still: such a worth is no peak.
PEAK_SETTLE_SECONDS = 2.0
CONFIRM_SECONDS, CONFIRM_WAIT_SECONDS = 1.0, 3.0
# An alarm that was raised may be armed again by a person: for so long nobody asks.
ALARM_SECONDS = 10.0
DAILY_LOSS, DRAWDOWN = "max_daily_loss_percent", "max_drawdown_percent"
NO_LIMITS: Mapping[str, Limits] = MappingProxyType({})
WHOSE = {
    "account": "the account",
    "strategy": "strategy {strategy}",
    "user": "the accounts of the user together",
    "platform": "the accounts of the platform together",
}


class OnBooks(Protocol):
    def __call__(self, work: Callable[[], Result]) -> Awaitable[Result]: ...


@dataclass(frozen=True, slots=True)
class Loss:
    """A limit on losses that is crossed, of which level (and strategy). ``episode``: the day or the peak that it is
    crossed for; ``peak``: of several accounts together, whose drawdown is one until they are worth that again."""

    level: str
    limit: str
    value: Decimal
    percent: Decimal
    episode: date | Decimal | None
    strategy: str = ""
    peak: Decimal | None = None

    @property
    def named(self) -> str:
        return self.limit if self.level == "account" else f"{self.level}.{self.limit}"

    @property
    def crossing(self) -> tuple[Any, ...]:
        """What has one alarm."""
        return self.level, self.strategy, self.limit, self.value, self.episode

    @property
    def message(self) -> str:
        since = "midnight (UTC)" if self.limit == DAILY_LOSS else "the peak of equity"
        whose = WHOSE[self.level].format(strategy=self.strategy)
        return f"{whose} lost {self.percent} % since {since}; {self.named} is {self.value:f} %"


@dataclass(slots=True)
class _Asked:
    """An exit that was ordered, and when it may be ordered again."""

    again_at: float
    wait: float


class PositionGuard:
    """``on_books`` runs work on the account's bookkeeping thread, ``exit_recorded`` is told the order that shall end a
    position, ``venue_wallet`` asks the venue for its figures."""

    def __init__(
        self,
        account_id: int,
        pipeline: Pipeline,
        *,
        on_books: OnBooks,
        exit_recorded: Callable[[int], None],
        venue_wallet: Callable[[], Awaitable[WalletReport]],
    ) -> None:
        self.account_id, self._pipeline = account_id, pipeline
        self._on_books, self._exit_recorded, self._venue_wallet = on_books, exit_recorded, venue_wallet
        self._exposure = Exposure()
        self._limits = Limits()
        self._strategy_limits = NO_LIMITS
        self._states: dict[str, tuple[int, ExitState]] | None = None
        self._unrealised: dict[str, Decimal] = {}
        self._peak, self._peak_from = ZERO, 0.0
        # By level, the peaks of drawdowns that have had their alarm; None: not read yet.
        self._standing: dict[str, Decimal] | None = None
        self._asked: dict[str, _Asked] = {}
        self._unsaved: set[str] = set()
        self._saving = False
        self._confirm_at = 0.0
        # When the alarm of a crossing may be asked for again.
        self._alarmed: dict[tuple[Any, ...], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self, exposure: Exposure) -> None:
        """Take over what the account has at stake now; the first time with what was remembered before a restart."""
        if self._states is None:
            self._states = await self._on_books(partial(exit_states, self.account_id))
        for symbol, position in exposure.positions.items():
            before = self._exposure.positions.get(symbol)
            if before is None or before.quantity != position.quantity or before.side != position.side:
                self._asked.pop(symbol, None)
            position_id, state = self._states.get(symbol, (0, None))
            if state is None or position_id != position.position_id:
                since = state.reversal_ns if state is not None else 0
                self._states[symbol] = (position.position_id, ExitState.of(position, since))
                self._unsaved.add(symbol)
        if _holdings(exposure) != _holdings(self._exposure):
            self._peak_from = time.monotonic() + PEAK_SETTLE_SECONDS
        if exposure.peak_equity < self._exposure.peak_equity:
            self._peak = ZERO  # a person has begun anew
        self._exposure = exposure
        self._unrealised = {
            symbol: position.unrealised_pnl(self._pipeline.reference_price(symbol) or position.mark_price)
            for symbol, position in exposure.positions.items()
        }
        self._save_soon()

    def forget(self) -> None:
        """The account is not ours, or not known, any more."""
        self._exposure, self._states, self._peak, self._standing = Exposure(), None, ZERO, None
        self._unrealised.clear()
        self._unsaved.clear()

    async def tick(self, limits: Limits, strategy_limits: Mapping[str, Limits] = NO_LIMITS, *, may_exit: bool) -> None:
        """Once a second: the account's and its strategies' limits as they are now, and prices of symbols that other
        engines follow."""
        self._limits, self._strategy_limits = limits, strategy_limits
        for symbol in list(self._exposure.positions):
            if self._pipeline.reference_price(symbol) is None:
                quote = await self._on_books(partial(symbol_quote, symbol))
                if quote is not None and quote.price is not None:
                    self.on_price(symbol, quote.price, time.time_ns(), may_exit=may_exit)
        await self._end_recovered()
        self._watch_losses()
        await self._keep_peak()

    async def stop(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)

    def on_price(self, symbol: str, price: Decimal, time_ns: int, *, may_exit: bool = True) -> None:
        """A mark price has changed; ``time_ns`` is when that was heard. ``may_exit`` False: what we hold is not certain
        now, so that only losses are watched."""
        position = self._exposure.positions.get(symbol)
        if position is None:
            return
        self._unrealised[symbol] = position.unrealised_pnl(price)
        if may_exit and self._states is not None:
            self._judge(symbol, position, self._states, price, time_ns)
        self._watch_losses()

    def _judge(
        self,
        symbol: str,
        position: PositionExposure,
        states: dict[str, tuple[int, ExitState]],
        price: Decimal,
        time_ns: int,
    ) -> None:
        rules = self._pipeline.exit_rules(self.account_id)
        position_id, state = states[symbol]
        against = 0
        if rules.reversal and (features := self._pipeline.features(symbol)) is not None:
            against = indicators_against(position.side, features)
        then, exit_now = judge(rules, position, state, price, time_ns, against)
        if exit_now is not None:
            # What an exit counts as done is kept with its order only.
            done, then = then, advance(rules, position, state, price)
            self._end(symbol, position, done, exit_now)
        if then != state:
            states[symbol] = (position_id, then)
            self._unsaved.add(symbol)
            self._save_soon()

    # Exits.

    def _end(self, symbol: str, position: PositionExposure, done: ExitState, exit_now: Exit) -> None:
        asked = self._asked.get(symbol)
        if asked is not None and time.monotonic() < asked.again_at:
            return
        quantity = self._quantity(symbol, position, exit_now)
        if quantity <= 0:
            return
        wait = FIRST_RETRY_SECONDS if asked is None else min(asked.wait * 2, LAST_RETRY_SECONDS)
        self._asked[symbol] = _Asked(time.monotonic() + wait, wait)
        log.info("account %s: %s of %s %s: %s", self.account_id, exit_now.kind, quantity, symbol, exit_now.reason)
        self._spawn(self._order(symbol, position, done, exit_now, quantity))

    def _quantity(self, symbol: str, position: PositionExposure, exit_now: Exit) -> Decimal:
        """What to close now: not what is being closed already, and not more than the venue takes at once."""
        rules = self._pipeline.rules(symbol)
        if rules is None:
            return ZERO
        pending = self._pipeline.exposure(self.account_id).pending.get(symbol)
        taken = ZERO
        if pending is not None:
            taken = pending.closing_sell if position.side == "Buy" else pending.closing_buy
        return exit_quantity(rules, position.quantity, taken, exit_now.share)

    async def _order(
        self, symbol: str, position: PositionExposure, done: ExitState, exit_now: Exit, quantity: Decimal
    ) -> None:
        try:
            order = await self._on_books(
                partial(
                    exit_order_place,
                    account_id=self.account_id,
                    symbol=symbol,
                    side="Sell" if position.side == "Buy" else "Buy",
                    quantity=quantity,
                    strategy=position.strategy,
                    reason=f"{exit_now.kind}: {exit_now.reason}",
                    position_id=position.position_id,
                    state=done,
                )
            )
        except (DatabaseError, OrderRefused) as error:
            log.error("account %s: an exit of %s was not recorded: %s", self.account_id, symbol, error)
            return
        reach("exit.ordered")
        if self._states is not None and self._states.get(symbol, (0, None))[0] == position.position_id:
            self._states[symbol] = (position.position_id, done)
        self._exit_recorded(order.pk)

    # What must survive a restart.

    def _save_soon(self) -> None:
        if self._unsaved and not self._saving:
            self._saving = True
            self._spawn(self._save())

    async def _save(self) -> None:
        try:
            while self._unsaved and self._states is not None:
                states = {symbol: self._states[symbol] for symbol in self._unsaved if symbol in self._states}
                self._unsaved.clear()
                try:
                    await self._on_books(partial(exit_states_save, account_id=self.account_id, states=states))
                    reach("exit.saved")
                except DatabaseError as error:
                    log.warning("account %s: exits are not remembered yet: %s", self.account_id, error)
                    self._unsaved |= set(states)
                await asyncio.sleep(SAVE_SECONDS)
        finally:
            self._saving = False

    # Losses.

    def equity(self) -> Decimal:
        """What the account is worth at the newest mark prices, USD."""
        return self._exposure.wallet_balance + sum(self._unrealised.values(), ZERO)

    @property
    def peak_equity(self) -> Decimal:
        """The highest worth that wallet reports or mark prices have shown."""
        return max(self._peak, self._exposure.peak_equity)

    async def _keep_peak(self) -> None:
        seen = self._exposure.peak_equity
        if self._exposure.known and self._peak > seen:
            raised = partial(peak_equity_raise, account_id=self.account_id, equity=self._peak, seen=seen)
            await self._on_books(raised)

    def _watch_losses(self) -> None:
        if not self._exposure.known:
            return
        now = time.monotonic()
        if now >= self._peak_from:
            self._peak = max(self._peak, self.equity())
        if now < self._confirm_at:
            return
        crossed = self._crossed(self.equity())
        if crossed:
            self._confirm_at = time.monotonic() + CONFIRM_SECONDS
            self._spawn(self._confirm())

    def _crossed(self, equity: Decimal) -> list[Loss]:
        """Limits that a worth of the account crosses, and that have not had their alarm."""
        now = time.monotonic()
        return [loss for loss in self._losses(equity) if self._alarmed.get(loss.crossing, 0.0) <= now]

    def _losses(self, equity: Decimal) -> Iterator[Loss]:
        exposure, today = self._exposure, datetime.now(UTC).date()
        for level, limits in (("account", self._limits), *self._limits.other_levels):
            if level == "strategy":
                continue
            others = {"user": exposure.user, "platform": exposure.platform}.get(level, NO_TOTALS)
            if others is None:
                continue
            worth = equity + others.equity
            daily, drawdown = limits.max_daily_loss_percent, limits.max_drawdown_percent
            # From midnight to its first report a day has no start yet: yesterday's loss is not today's.
            if daily is not None and exposure.day == today:
                percent = loss_percent(exposure.day_start_equity + others.day_start_equity, worth)
                if percent >= daily:
                    yield Loss(level, DAILY_LOSS, daily, percent.quantize(CENT), today)
            if drawdown is not None:
                peak = self.peak_equity + others.peak_equity
                percent = loss_percent(peak, worth)
                if percent >= drawdown and level == "account":
                    yield Loss(level, DRAWDOWN, drawdown, percent.quantize(CENT), peak)
                elif percent >= drawdown:
                    yield Loss(level, DRAWDOWN, drawdown, percent.quantize(CENT), None, peak=peak)
        if exposure.day == today:
            yield from self._losses_of_strategies(today)

    def _losses_of_strategies(self, today: date) -> Iterator[Loss]:
        """By what the books told of them last."""
        for name, limits in self._strategy_limits.items():
            daily, share = limits.max_daily_loss_percent, self._exposure.strategies.get(name)
            if daily is not None and share is not None:
                percent = loss_percent(share.day_start_equity, share.equity)
                if percent >= daily:
                    yield Loss("strategy", DAILY_LOSS, daily, percent.quantize(CENT), today, name)

    async def _end_recovered(self) -> None:
        """Drawdowns of several accounts that are worth again what was lost since."""
        if not self._exposure.known:
            return
        if self._standing is None:
            self._standing = await self._on_books(partial(shared_drawdown_peaks, self.account_id))
        for level, peak in list(self._standing.items()):
            others = {"user": self._exposure.user, "platform": self._exposure.platform}[level]
            if others is not None and self.equity() + others.equity >= peak:
                del self._standing[level]
                await self._on_books(partial(loss_alarm_recovered, account_id=self.account_id, level=level, peak=peak))

    async def _confirm(self) -> None:
        """By the venue's own figure: for a moment after a fill, a profit may be in the wallet not yet and in no
        position any more. A venue that does not answer must not delay the alarm."""
        equity = self.equity()
        try:
            await self._keep_peak()  # the alarm is of this peak
        except DatabaseError as error:
            log.warning("account %s: the peak of its equity is not kept yet: %s", self.account_id, error)
        try:
            async with asyncio.timeout(CONFIRM_WAIT_SECONDS):
                equity = (await self._venue_wallet()).equity
        except (GatewayError, TimeoutError) as error:
            log.warning("account %s: a loss is not confirmed by the venue: %s", self.account_id, error)
        for loss in self._crossed(equity):
            try:
                raised = await self._on_books(
                    partial(
                        loss_alarm_raise,
                        account_id=self.account_id,
                        level=loss.level,
                        strategy=loss.strategy,
                        limit=loss.limit,
                        value=loss.value,
                        percent=loss.percent,
                        equity=equity,
                        message=loss.message,
                        peak=loss.peak,
                    )
                )
            except DatabaseError as error:
                log.error("account %s: the alarm of a loss was not raised: %s", self.account_id, error)
                continue
            self._alarmed[loss.crossing] = time.monotonic() + ALARM_SECONDS
            self._standing = None
            if raised:
                log.critical("account %s: %s", self.account_id, loss.message)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("account %s: the guard stumbled", self.account_id, exc_info=task.exception())


def _holdings(exposure: Exposure) -> tuple[Decimal, dict[str, tuple[str, Decimal]]]:
    held = {symbol: (each.side, each.quantity) for symbol, each in exposure.positions.items()}
    return exposure.wallet_balance, held
