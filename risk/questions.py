"""What risk is asked and what it answers: the order, all that a rule may look at, and the refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from marketdata.instruments import InstrumentRules
from risk.exposure import NOTHING_PENDING, ZERO, Exposure, PendingExposure, Totals, loss_at_stop
from risk.groups import SymbolGroups
from risk.intents import OrderIntent
from risk.limits import Limits
from risk.slippage import FillEstimate

HUNDRED = Decimal(100)
CENT = Decimal("0.01")
NO_TOTALS = Totals()


@dataclass(frozen=True, slots=True)
class Refusal:
    limit: str
    value: str
    requested: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    approved: bool
    refusals: tuple[Refusal, ...] = ()


class Correlations(Protocol):
    def of(self, symbol: str) -> Mapping[str, float | None]:
        """A symbol's correlation with each other one, -1 to 1; None or nothing where too little was seen of the two."""


class NoCorrelations:
    def of(self, symbol: str) -> Mapping[str, float | None]:
        return {}


@dataclass(frozen=True, slots=True)
class Market:
    """What is known of the market besides a price. ``fill``: what the order would fill at in the book as it is, None
    where that was not asked. ``book_unread``: it was, and nobody here could read the book."""

    groups: SymbolGroups = field(default_factory=SymbolGroups)
    correlations: Correlations = field(default_factory=NoCorrelations)
    fill: FillEstimate | None = None
    book_unread: bool = False


NO_MARKET = Market()


# Scope and Question live for one check: frozen ones take several times as long to make.
@dataclass(slots=True, eq=False)
class Scope:
    """One level with what it spans: for the account its exposure, for a user or the platform the account's exposure and
    that of the others, for a strategy its ``share``. ``others`` None: not known; ``rest`` is empty then."""

    level: str
    limits: Limits
    exposure: Exposure
    others: Totals | None

    share: bool
    rest: Totals

    @property
    def equity(self) -> Decimal:
        return self.rest.equity if self.share else self.exposure.equity + self.rest.equity

    @property
    def day_start_equity(self) -> Decimal:
        return self.rest.day_start_equity if self.share else self.exposure.day_start_equity + self.rest.day_start_equity

    @property
    def peak_equity(self) -> Decimal:
        return self.rest.peak_equity if self.share else self.exposure.peak_equity + self.rest.peak_equity

    @property
    def risk(self) -> Decimal:
        return self.rest.risk if self.share else self.exposure.total_risk + self.rest.risk

    @property
    def orders_last_second(self) -> int:
        return self.rest.orders_last_second + (0 if self.share else self.exposure.orders_last_second)

    @property
    def open_orders(self) -> int:
        return self.rest.open_orders + (0 if self.share else self.exposure.open_orders)

    @property
    def positions(self) -> int:
        return self.rest.positions + (0 if self.share else len(self.exposure.notional))

    def holders(self, symbol: str) -> int:
        """How many accounts hold the symbol, or may come to hold it."""
        own = 0 if self.share else int(symbol in self.exposure.notional)
        return own + self.rest.holders.get(symbol, 0)

    def holds(self, symbol: str) -> bool:
        """Whether an order in the symbol adds to a position that is counted here already."""
        return symbol in (self.rest.notional if self.share else self.exposure.notional)

    def among(self, symbols: frozenset[str]) -> set[str]:
        """Which of some symbols are held, or may come to be held, at this level."""
        others = self.rest.notional.keys() & symbols
        return others if self.share else others | (self.exposure.notional.keys() & symbols)

    def positions_in(self, symbols: frozenset[str]) -> int:
        """How many positions are held, or may come to be, in some symbols."""
        holders = self.rest.holders
        count = sum([holders[symbol] for symbol in holders.keys() & symbols]) if holders else 0
        return count if self.share else count + len(self.exposure.notional.keys() & symbols)

    def in_group(self, symbols: frozenset[str], without: str) -> tuple[int, Decimal]:
        """How many positions are held, or may come to be, in some symbols, and what all but one symbol's are worth
        together, USD; of that one only what others of this level hold."""
        count, worth = self.rest.in_group(symbols)
        if self.share:
            return count, worth - self.rest.notional.get(without, ZERO)
        own_count, own_worth = self.exposure.in_group(symbols)
        return own_count + count, own_worth - self.exposure.notional.get(without, ZERO) + worth

    def other_notional(self, symbol: str) -> Decimal:
        """What others of this level hold of the symbol; of a strategy, nobody does."""
        return ZERO if self.share else self.rest.notional.get(symbol, ZERO)


@dataclass(slots=True, eq=False)
class Question:
    """Everything a rule may look at. ``reference_price`` is the mark (or last) price in quote coin.

    ``price``: what the order may trade at. ``grows``: whether it could make the position in its symbol larger, or turn
    it around: pending orders of its side may have closed the position before it fills. ``growth``: by how much, with
    ``loss`` at its stop; ``worst_notional``: what the symbol could reach, pending orders counted. USD.
    """

    intent: OrderIntent
    limits: Limits
    exposure: Exposure
    rules: InstrumentRules
    reference_price: Decimal
    market: Market
    pending: PendingExposure
    held: Decimal
    price: Decimal
    notional: Decimal
    grows: bool
    growth: Decimal
    loss: Decimal
    worst_notional: Decimal
    scopes: tuple[Scope, ...]
    _moving: dict[Decimal, frozenset[str]] = field(default_factory=dict)

    def moving_with(self, threshold: Decimal) -> frozenset[str]:
        """What is held at any level and moves with the order's symbol, itself too: by a correlation of ``threshold`` or
        more either way, or by a group where too little was seen of the pair."""
        found = self._moving.get(threshold)
        if found is None:
            symbol, market, least = self.intent.symbol, self.market, float(threshold)
            known = market.correlations.of(symbol)
            held = set(self.exposure.notional).union(*(scope.rest.notional for scope in self.scopes))
            found = self._moving[threshold] = frozenset(
                other
                for other in held
                if other == symbol
                or (
                    market.groups.together(symbol, other)
                    if (correlation := known.get(other)) is None
                    else abs(correlation) >= least
                )
            )
        return found

    @classmethod
    def of(
        cls,
        intent: OrderIntent,
        limits: Limits,
        exposure: Exposure,
        rules: InstrumentRules,
        reference_price: Decimal,
        market: Market,
    ) -> Question:
        held = exposure.signed_quantity(intent.symbol)
        pending = exposure.pending.get(intent.symbol, NOTHING_PENDING)
        buys = intent.side == "Buy"
        if intent.price is None:
            price = reference_price
        else:
            # A sell below the market fills at the market: its limit says nothing of what it is worth.
            price = intent.price if buys else max(intent.price, reference_price)
        if buys:
            closable = max(-held - pending.reduce_buy - pending.buy_quantity, ZERO)
        else:
            closable = max(held - pending.reduce_sell - pending.sell_quantity, ZERO)
        growth = ZERO if intent.reduce_only else max(intent.quantity - closable, ZERO)
        if growth <= 0:
            return cls(
                intent, limits, exposure, rules, reference_price, market, pending, held, price,
                intent.quantity * price, False, ZERO, ZERO, ZERO, (),
            )  # fmt: skip
        bought, sold = (intent.quantity, ZERO) if buys else (ZERO, intent.quantity)
        # What is held is worth the market, however far below it this order may buy.
        worst = pending.worst_quantity(held, bought, sold) * max(price, reference_price)
        loss = loss_at_stop(intent.side, growth, price, intent.stop_loss)
        return cls(
            intent, limits, exposure, rules, reference_price, market, pending, held, price,
            intent.quantity * price, True, growth, loss, worst, tuple(_scopes(intent, limits, exposure)),
        )  # fmt: skip


def _scopes(intent: OrderIntent, limits: Limits, exposure: Exposure) -> Iterator[Scope]:
    yield Scope("account", limits, exposure, NO_TOTALS, False, NO_TOTALS)
    for level, of_level in limits.other_levels:
        share = level == "strategy"
        if share:
            others = exposure.strategies.get(intent.strategy)
        else:
            others = exposure.user if level == "user" else exposure.platform
        yield Scope(level, of_level, exposure, others, share, others or NO_TOTALS)


Rule = Callable[[Question], Refusal | None]
ScopeRule = Callable[[Question, Scope], Refusal | None]


def refuse(limit: str, value: object, requested: object, message: str) -> Refusal:
    return Refusal(limit, shown(value), shown(requested), message)


def refuse_of(scope: Scope, limit: str, value: object, requested: object, message: str) -> Refusal:
    """The account's limits go by their own names, those of other levels by theirs."""
    if scope.level == "account":
        return refuse(limit, value, requested, message)
    return refuse(f"{scope.level}.{limit}", value, requested, f"{scope.level}: {message}")


def shown(value: object) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def percent_of(part: Decimal, whole: Decimal) -> Decimal:
    return (part / whole * HUNDRED).quantize(CENT) if whole > 0 else HUNDRED
