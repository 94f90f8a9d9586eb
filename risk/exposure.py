"""What an account has at stake, as a value that trading builds and risk reads.

Sums are made once, when the value is made: a check only looks them up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal, localcontext
from types import MappingProxyType
from typing import Any

from risk.intents import OrderIntent

ZERO = Decimal(0)
# What is lost by a position without a stop at the venue: the engine's own exit closes it there (risk/exits.py).
UNSTOPPED_SHARE = Decimal("0.02")
IMMEDIATE = frozenset({"IOC", "FOK"})
# Sums of many accounts of all sizes are exact: what is taken off again leaves nothing behind.
EXACT_DIGITS = 100


def loss_at_stop(side: str, quantity: Decimal, price: Decimal, stop_loss: Decimal | None) -> Decimal:
    """What is lost, in quote coin, when a quantity that was opened at a price ends at its stop; never negative: a stop
    beyond the entry has locked a profit in."""
    if stop_loss is None:
        return quantity * price * UNSTOPPED_SHARE
    distance = price - stop_loss if side == "Buy" else stop_loss - price
    return quantity * distance if distance > 0 else ZERO


def worth_in(notional: Mapping[str, Decimal], symbols: frozenset[str]) -> Decimal:
    """What some of the symbols that are held are worth together."""
    return sum((notional[symbol] for symbol in notional.keys() & symbols), ZERO)


@dataclass(frozen=True, slots=True)
class PositionExposure:
    side: str
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal
    leverage: Decimal
    stop_loss: Decimal | None = None
    strategy: str = ""
    position_id: int = 0

    @property
    def signed_quantity(self) -> Decimal:
        return self.quantity if self.side == "Buy" else -self.quantity

    @property
    def risk(self) -> Decimal:
        return loss_at_stop(self.side, self.quantity, self.entry_price, self.stop_loss)

    def unrealised_pnl(self, price: Decimal) -> Decimal:
        return (price - self.entry_price) * self.signed_quantity


@dataclass(frozen=True, slots=True)
class PendingExposure:
    """Orders that may still fill, those of UNKNOWN fate counted: quantities in base coin, by side.

    ``reduce_*``: of reduce-only orders, which cannot open anything; ``closing_*``: of those among them that fill at
    once or never. ``risk``: the loss at their stops, USD. ``price``: the highest of theirs, to value them.
    """

    buy_quantity: Decimal = ZERO
    sell_quantity: Decimal = ZERO
    reduce_buy: Decimal = ZERO
    reduce_sell: Decimal = ZERO
    closing_buy: Decimal = ZERO
    closing_sell: Decimal = ZERO
    risk: Decimal = ZERO
    price: Decimal = ZERO

    def plus(
        self, side: str, quantity: Decimal, price: Decimal = ZERO, stop_loss: Decimal | None = None
    ) -> PendingExposure:
        """With one more order that may open something."""
        risk = self.risk + (loss_at_stop(side, quantity, price, stop_loss) if price > 0 else ZERO)
        bought, sold = (quantity, ZERO) if side == "Buy" else (ZERO, quantity)
        # replace() takes several times as long, and this is done for each order.
        return PendingExposure(
            self.buy_quantity + bought, self.sell_quantity + sold, self.reduce_buy, self.reduce_sell,
            self.closing_buy, self.closing_sell, risk, max(self.price, price),
        )  # fmt: skip

    def plus_reducing(self, side: str, quantity: Decimal, *, immediate: bool) -> PendingExposure:
        """With one more reduce-only order."""
        closing = quantity if immediate else ZERO
        if side == "Buy":
            return replace(self, reduce_buy=self.reduce_buy + quantity, closing_buy=self.closing_buy + closing)
        return replace(self, reduce_sell=self.reduce_sell + quantity, closing_sell=self.closing_sell + closing)

    @property
    def opens(self) -> bool:
        return self.buy_quantity > 0 or self.sell_quantity > 0

    def worst_quantity(self, held: Decimal, more_bought: Decimal = ZERO, more_sold: Decimal = ZERO) -> Decimal:
        """The largest position, long or short, that can come of a held (signed) quantity, these orders and one more.
        Reduce-only orders may fill first: then what sells after them opens a short of its whole size."""
        long = held + min(self.reduce_buy, -held) if held < 0 else held
        short = -held + min(self.reduce_sell, held) if held > 0 else -held
        return max(abs(held), long + self.buy_quantity + more_bought, short + self.sell_quantity + more_sold)


NOTHING_PENDING = PendingExposure()


@dataclass(frozen=True, slots=True)
class Totals:
    """What a strategy, or the other accounts of a user or of the platform, have at stake together. USD.

    ``holders``: by symbol, how many accounts hold or may come to hold it. ``peak_equity`` is the sum of the accounts'
    peaks, which is never less than the peak of their sum.
    """

    equity: Decimal = ZERO
    day_start_equity: Decimal = ZERO
    peak_equity: Decimal = ZERO
    risk: Decimal = ZERO
    notional: Mapping[str, Decimal] = field(default_factory=lambda: MappingProxyType({}))
    holders: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    positions: int = 0
    open_orders: int = 0
    orders_last_second: int = 0
    # Asked with every order, changed once a second.
    _in_groups: dict[frozenset[str], tuple[int, Decimal]] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )

    def in_group(self, symbols: frozenset[str]) -> tuple[int, Decimal]:
        """How many positions are held, or may come to be, in some symbols, and their worth in USD."""
        found = self._in_groups.get(symbols)
        if found is None:
            count = sum(self.holders[symbol] for symbol in self.holders.keys() & symbols)
            found = self._in_groups[symbols] = count, worth_in(self.notional, symbols)
        return found

    def with_intent(self, intent: OrderIntent, price: Decimal) -> Totals:
        """Once another account's order is on its way."""
        changed: dict[str, Any] = {
            "open_orders": self.open_orders + 1,
            "orders_last_second": self.orders_last_second + 1,
        }
        if intent.reduce_only:
            return replace(self, **changed)
        symbol, worth = intent.symbol, intent.quantity * price
        return replace(
            self,
            risk=self.risk + loss_at_stop(intent.side, intent.quantity, price, intent.stop_loss),
            notional=MappingProxyType({**self.notional, symbol: self.notional.get(symbol, ZERO) + worth}),
            holders=MappingProxyType({**self.holders, symbol: self.holders.get(symbol, 0) + 1}),
            positions=self.positions + 1,
            **changed,
        )


@dataclass(frozen=True, slots=True)
class Exposure:
    """``equity``, ``available_balance``, ``day_pnl`` and ``peak_equity`` in USD. ``known`` is False before the first
    reconciliation: then nothing may trade. ``day`` is the UTC day that ``day_pnl`` is of.

    ``strategies``: what each strategy has at stake of it, by name, where limits ask for it. ``user`` and ``platform``:
    all *other* accounts of the same user, and of the platform; None where limits do not ask for it.
    """

    known: bool = False
    equity: Decimal = ZERO
    available_balance: Decimal = ZERO
    day_pnl: Decimal = ZERO
    day: date | None = None
    positions: Mapping[str, PositionExposure] = field(default_factory=lambda: MappingProxyType({}))
    pending: Mapping[str, PendingExposure] = field(default_factory=lambda: MappingProxyType({}))
    open_orders: int = 0
    orders_last_second: int = 0
    wallet_balance: Decimal = ZERO
    peak_equity: Decimal = ZERO
    owner_id: int = 0
    strategies: Mapping[str, Totals] = field(default_factory=lambda: MappingProxyType({}))
    user: Totals | None = None
    platform: Totals | None = None
    # Made of the above.
    total_risk: Decimal = field(init=False, default=ZERO, compare=False)
    notional: Mapping[str, Decimal] = field(init=False, default_factory=dict, compare=False)
    _in_groups: dict[frozenset[str], tuple[int, Decimal]] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        risk, notional = ZERO, {}
        for symbol, position in self.positions.items():
            quantity = position.quantity
            risk += loss_at_stop(position.side, quantity, position.entry_price, position.stop_loss)
            notional[symbol] = quantity * position.mark_price
        for symbol, pending in self.pending.items():
            if pending.opens:
                risk += pending.risk
                held = self.positions.get(symbol)
                price = max(pending.price, held.mark_price) if held else pending.price
                notional[symbol] = pending.worst_quantity(held.signed_quantity if held else ZERO) * price
        object.__setattr__(self, "total_risk", risk)
        object.__setattr__(self, "notional", MappingProxyType(notional))

    @property
    def day_start_equity(self) -> Decimal:
        return self.equity - self.day_pnl

    def in_group(self, symbols: frozenset[str]) -> tuple[int, Decimal]:
        """How many of some symbols are held, or may come to be, and their worth in USD."""
        found = self._in_groups.get(symbols)
        if found is None:
            found = self._in_groups[symbols] = len(self.notional.keys() & symbols), worth_in(self.notional, symbols)
        return found

    def with_pending(self, symbol: str, side: str, quantity: Decimal) -> Exposure:
        """The exposure once one more order is on its way that may open something."""
        return self._with(symbol, self.pending.get(symbol, PendingExposure()).plus(side, quantity))

    def with_intent(self, intent: OrderIntent, reference_price: Decimal | None = None) -> Exposure:
        """The exposure once an intent is on its way: the next one must see it before any report comes."""
        pending = self.pending.get(intent.symbol, PendingExposure())
        if intent.reduce_only:
            immediate = intent.order_type == "Market" or intent.time_in_force in IMMEDIATE
            pending = pending.plus_reducing(intent.side, intent.quantity, immediate=immediate)
        else:
            held = self.positions.get(intent.symbol)
            price = intent.price or reference_price or (held.mark_price if held else ZERO)
            pending = pending.plus(intent.side, intent.quantity, price, intent.stop_loss)
        totals = self.strategies.get(intent.strategy)
        if totals is None:
            return self._with(intent.symbol, pending)
        worth = intent.price or reference_price or ZERO
        own = {**self.strategies, intent.strategy: totals.with_intent(intent, worth)}
        return self._with(intent.symbol, pending, strategies=MappingProxyType(own))

    def with_others_intent(self, intent: OrderIntent, price: Decimal, *, same_owner: bool) -> Exposure:
        """The exposure once an order of another account is on its way."""
        user = self.user.with_intent(intent, price) if self.user is not None and same_owner else self.user
        platform = self.platform.with_intent(intent, price) if self.platform is not None else None
        return replace(self, user=user, platform=platform)

    def _with(self, symbol: str, pending: PendingExposure, **changes: Any) -> Exposure:
        return replace(
            self,
            pending=MappingProxyType({**self.pending, symbol: pending}),
            open_orders=self.open_orders + 1,
            orders_last_second=self.orders_last_second + 1,
            **changes,
        )

    def signed_quantity(self, symbol: str) -> Decimal:
        position = self.positions.get(symbol)
        return position.signed_quantity if position else ZERO

    def worst_quantity(self, symbol: str, side: str, quantity: Decimal) -> Decimal:
        """The largest position, long or short, that the symbol could reach if this order and all pending ones on
        either side fill while the other side's do not."""
        pending = self.pending.get(symbol, NOTHING_PENDING)
        bought, sold = (quantity, ZERO) if side == "Buy" else (ZERO, quantity)
        return pending.worst_quantity(self.signed_quantity(symbol), bought, sold)


def together(exposures: Iterable[Exposure]) -> Totals:
    """What is held, and may come to be held, in several exposures: risk, worth, holders and positions."""
    notional: dict[str, Decimal] = defaultdict(Decimal)
    holders: dict[str, int] = defaultdict(int)
    risk, positions = ZERO, 0
    for each in exposures:
        risk += each.total_risk
        positions += len(each.notional)
        for symbol, worth in each.notional.items():
            notional[symbol] += worth
            holders[symbol] += 1
    return Totals(
        risk=risk,
        notional=MappingProxyType(dict(notional)),
        holders=MappingProxyType(dict(holders)),
        positions=positions,
    )


_SUMS = ("equity", "day_start_equity", "peak_equity", "risk", "positions", "open_orders", "orders_last_second")


def plus(many: Iterable[Totals]) -> Totals:
    """What several have at stake together, of accounts that are in one of them only."""
    sums: dict[str, Any] = dict.fromkeys(_SUMS, 0)
    notional: dict[str, Decimal] = defaultdict(Decimal)
    holders: dict[str, int] = defaultdict(int)
    with localcontext(prec=EXACT_DIGITS):
        for each in many:
            for name in _SUMS:
                sums[name] += getattr(each, name)
            for symbol, worth in each.notional.items():
                notional[symbol] += worth
                holders[symbol] += each.holders[symbol]
    return _totals(sums, notional, holders)


def minus(whole: Totals, part: Totals) -> Totals:
    """A sum less one of those that it was made of (:func:`plus`), as if that had never been in it."""
    with localcontext(prec=EXACT_DIGITS):
        sums: dict[str, Any] = {name: getattr(whole, name) - getattr(part, name) for name in _SUMS}
        notional, holders = dict(whole.notional), dict(whole.holders)
        for symbol, worth in part.notional.items():
            holders[symbol] -= part.holders[symbol]
            notional[symbol] -= worth
            if not holders[symbol]:
                del holders[symbol], notional[symbol]
    return _totals(sums, notional, holders)


def _totals(sums: dict[str, Any], notional: Mapping[str, Decimal], holders: Mapping[str, int]) -> Totals:
    money = {name: ZERO + sums[name] for name in ("equity", "day_start_equity", "peak_equity", "risk")}
    return Totals(**(sums | money), notional=MappingProxyType(dict(notional)), holders=MappingProxyType(dict(holders)))
