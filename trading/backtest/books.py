"""One account's books in a backtest: its balance, what it holds, and the record of how both came to be.

The arithmetic of fees, positions and profits is the simulator's and the desk's own (trading/positions.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from risk.exits import ExitState
from risk.exposure import ZERO, Exposure, PendingExposure, PositionExposure, Totals, together
from risk.questions import NO_TOTALS
from trading.backtest.result import BacktestFill, BacktestTrade
from trading.positions import ENTRY_DIGITS, funding_payment, pnl, trade_fee
from trading.simulator.positions import SimulatedPosition

if TYPE_CHECKING:
    from trading.backtest.exit_watch import Watched

ACCOUNT = 1


@dataclass(slots=True, eq=False)
class Order:
    """A market order on its way: it is filled at the open of its symbol's bar number ``bar``."""

    symbol: str
    side: str
    quantity: Decimal
    reduce_only: bool
    strategy: str
    why: str
    bar: int
    leverage: Decimal
    reference_price: Decimal
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None


class Execution(NamedTuple):
    """One fill: ``bar`` is the bar of its symbol, ``step`` the test's moment."""

    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    rate: Decimal
    time_ms: int
    step: int
    bar: int
    strategy: str
    why: str
    is_maker: bool = False


@dataclass(slots=True, eq=False)
class Holding:
    """A position from nothing to nothing. ``number`` tells it from the one before; the fields of exits are those of the
    order that opened it. ``quiet``: prices between which nothing happens to it, None where that is not known now;
    ``worst``: what it is worth to the account there at least, maintenance taken off. ``margin`` is what it ties up.
    ``size`` and ``entry`` are the book's quantity and entry price as floats. While a kernel looks for its exits it is
    ``watched``, and ``state`` is behind; ``fits``: whether one can."""

    symbol: str
    number: int
    book: SimulatedPosition
    strategy: str
    side: str
    is_long: bool
    opened_ms: int
    opened_bar: int
    take_profit: Decimal | None
    stop_loss: Decimal | None
    state: ExitState
    largest: Decimal = ZERO
    entered: Decimal = ZERO
    entered_worth: Decimal = ZERO
    left: Decimal = ZERO
    left_worth: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    realised: Decimal = ZERO
    since_step: int = 0
    margin: Decimal = ZERO
    quiet: tuple[Decimal, Decimal] | None = None
    worst: float = 0.0
    size: float = 0.0
    entry: float = 0.0
    watched: Watched | None = None
    fits: bool = True

    def exposure(self, mark_price: Decimal) -> PositionExposure:
        book = self.book
        return PositionExposure(
            self.side, book.quantity, book.entry_price, mark_price, book.leverage, self.stop_loss, self.strategy,
            self.number,
        )  # fmt: skip


class Stretch(NamedTuple):
    """What was held of a symbol at the ends of the steps ``[first, end)``."""

    symbol: str
    first: int
    end: int
    signed_quantity: float
    entry_price: float


@dataclass(slots=True, eq=False)
class Books:
    balance: Decimal
    maintenance_rate: Decimal
    holdings: dict[str, Holding] = field(default_factory=dict)
    fills: list[BacktestFill] = field(default_factory=list)
    trades: list[BacktestTrade] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    # The balance from the end of a step on.
    balances: list[tuple[int, Decimal]] = field(default_factory=list)
    opened: int = 0
    # How often what is held has changed.
    changes: int = 0
    # Of all holdings together; reckoned with, not booked.
    worst: float = 0.0

    def fear(self, holding: Holding, worst: float) -> None:
        """What a holding may be worth at worst from now on."""
        self.worst += worst - holding.worst
        holding.worst = worst

    def execute(
        self,
        done: Execution,
        *,
        leverage: Decimal,
        take_profit: Decimal | None,
        stop_loss: Decimal | None,
        seen: tuple[float, float] | None = None,
    ) -> None:
        """Book one fill. ``seen``: the best and the worst percent that a position which it ends has seen."""
        holding = self.holdings.get(done.symbol)
        book = holding.book if holding is not None else SimulatedPosition(done.symbol)
        held = book.quantity
        self.changes += 1
        if holding is not None and holding.since_step < done.step:
            self._stretch(holding, done.step)
        realised, closed = book.apply(done.side, done.quantity, done.price, done.time_ms)
        fee = trade_fee(done.price, done.quantity, done.rate)
        self._pay(realised - fee, done.step)
        self.fills.append(
            BacktestFill(
                done.time_ms, done.symbol, done.strategy, done.side, done.price, done.quantity, fee, done.is_maker,
                realised, done.why,
            )
        )  # fmt: skip
        if holding is not None and closed:
            self._reduce(holding, done, closed, realised)
            if closed == held:
                self._finish(holding, done, seen or (0.0, 0.0))
                holding = None
        opening = done.quantity - closed
        if opening:
            book.leverage, book.maintenance_rate = leverage, self.maintenance_rate
            if holding is None:
                holding = self._open(done, book, take_profit, stop_loss)
            holding.take_profit, holding.stop_loss = take_profit, stop_loss
            holding.entered += opening
            holding.entered_worth += opening * done.price
            holding.fees += trade_fee(done.price, opening, done.rate)
            holding.largest = max(holding.largest, book.quantity)
            holding.since_step = done.step
        if holding is not None:
            holding.margin, holding.quiet = book.initial_margin, None
            holding.size, holding.entry = float(book.quantity), float(book.entry_price)

    def pay_funding(self, holding: Holding, price: Decimal, rate: Decimal, step: int) -> None:
        payment = funding_payment(holding.side, holding.book.quantity, price, rate)
        holding.funding -= payment
        self._pay(-payment, step)

    def _pay(self, amount: Decimal, step: int) -> None:
        self.balance += amount
        self.balances.append((step, self.balance))

    def _open(
        self, done: Execution, book: SimulatedPosition, take_profit: Decimal | None, stop_loss: Decimal | None
    ) -> Holding:
        self.opened += 1
        holding = self.holdings[done.symbol] = Holding(
            done.symbol, self.opened, book, done.strategy, done.side, done.side == "Buy", done.time_ms, done.bar,
            take_profit, stop_loss,
            ExitState(best_price=book.entry_price), since_step=done.step,
        )  # fmt: skip
        return holding

    def _reduce(self, holding: Holding, done: Execution, closed: Decimal, realised: Decimal) -> None:
        holding.left += closed
        holding.left_worth += closed * done.price
        holding.fees += trade_fee(done.price, closed, done.rate)
        holding.realised += realised
        holding.since_step = done.step

    def _finish(self, holding: Holding, done: Execution, seen: tuple[float, float]) -> None:
        del self.holdings[holding.symbol]
        self.worst = self.worst - holding.worst if self.holdings else 0.0
        self.trades.append(
            BacktestTrade(
                symbol=holding.symbol,
                strategy=holding.strategy,
                side=holding.side,
                opened_ms=holding.opened_ms,
                closed_ms=done.time_ms,
                quantity=holding.largest,
                entry_price=_mean(holding.entered_worth, holding.entered),
                exit_price=_mean(holding.left_worth, holding.left),
                fees=holding.fees,
                funding=holding.funding,
                pnl=holding.realised - holding.fees + holding.funding,
                best=seen[0],
                worst=seen[1],
                why=done.why,
            )
        )

    def _stretch(self, holding: Holding, end: int) -> None:
        signed = holding.size if holding.is_long else -holding.size
        self.stretches.append(Stretch(holding.symbol, holding.since_step, end, signed, holding.entry))

    # What it is worth.

    def equity(self, prices: Mapping[str, Decimal]) -> Decimal:
        total = self.balance
        for symbol, holding in self.holdings.items():
            book = holding.book
            total += pnl(book.side, book.quantity, book.entry_price, prices[symbol])
        return total

    def mark(self, prices: Mapping[str, Decimal]) -> None:
        for symbol, holding in self.holdings.items():
            holding.book.mark_price = prices[symbol]

    def exposure(
        self,
        prices: Mapping[str, Decimal],
        orders: Iterable[Order],
        *,
        day_start: Decimal,
        peak: Decimal,
        strategies: Iterable[str] = (),
        midnight_ms: int = 0,
    ) -> Exposure:
        """What the account has at stake when its positions have these prices; and what each of the ``strategies`` has
        of it, ``midnight_ms`` being when its day began."""
        equity = self.equity(prices)
        margin = sum([each.margin for each in self.holdings.values()], ZERO)
        orders = list(orders)
        positions = {name: each.exposure(prices[name]) for name, each in self.holdings.items()}
        return Exposure(
            known=True,
            equity=equity,
            available_balance=max(equity - margin, ZERO),
            day_pnl=equity - day_start,
            positions=MappingProxyType(positions),
            pending=MappingProxyType(_pending(orders)),
            open_orders=len(orders),
            wallet_balance=self.balance,
            peak_equity=max(peak, equity),
            strategies=MappingProxyType(
                {name: self._share(name, equity, positions, orders, midnight_ms) for name in strategies}
            ),
            user=NO_TOTALS,
            platform=NO_TOTALS,
        )

    def _share(
        self,
        name: str,
        equity: Decimal,
        positions: Mapping[str, PositionExposure],
        orders: Iterable[Order],
        midnight_ms: int,
    ) -> Totals:
        """What a strategy has at stake, and what it has made since midnight, as live: realised, less fees, and
        unrealised."""
        held = {symbol: each for symbol, each in positions.items() if each.strategy == name}
        mine = [order for order in orders if order.strategy == name]
        made = sum((each.unrealised_pnl(each.mark_price) for each in held.values()), ZERO)
        for fill in reversed(self.fills):
            if fill.time_ms < midnight_ms:
                break
            if fill.strategy == name:
                made += fill.realised_pnl - fill.fee
        share = together([Exposure(positions=held, pending=_pending(mine))])
        return replace(share, equity=equity, day_start_equity=equity - made, open_orders=len(mine))


def _pending(orders: Iterable[Order]) -> dict[str, PendingExposure]:
    pending: dict[str, PendingExposure] = {}
    for order in orders:
        before = pending.get(order.symbol, PendingExposure())
        if order.reduce_only:
            pending[order.symbol] = before.plus_reducing(order.side, order.quantity, immediate=True)
        else:
            price, stop = order.reference_price, order.stop_loss
            pending[order.symbol] = before.plus(order.side, order.quantity, price, stop)
    return pending


def _mean(worth: Decimal, quantity: Decimal) -> Decimal:
    return (worth / quantity).quantize(ENTRY_DIGITS).normalize()
