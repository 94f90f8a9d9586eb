"""Whether an order may be: small rules, each of which names the limit, its value and what was asked, or says nothing.

All rules are asked, so that a refusal is complete. Orders that only reduce a position are never held back by limits on
growth: getting out must always be possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from marketdata.instruments import InstrumentRules, violations
from risk.exposure import IMMEDIATE, NOTHING_PENDING, ZERO, Exposure, PendingExposure, Totals, loss_at_stop
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
    where the book is not known here or the order is no market order."""

    groups: SymbolGroups = field(default_factory=SymbolGroups)
    correlations: Correlations = field(default_factory=NoCorrelations)
    fill: FillEstimate | None = None


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


def _refuse(limit: str, value: object, requested: object, message: str) -> Refusal:
    return Refusal(limit, _shown(value), _shown(requested), message)


def _refuse_of(scope: Scope, limit: str, value: object, requested: object, message: str) -> Refusal:
    """The account's limits go by their own names, those of other levels by theirs."""
    if scope.level == "account":
        return _refuse(limit, value, requested, message)
    return _refuse(f"{scope.level}.{limit}", value, requested, f"{scope.level}: {message}")


def _shown(value: object) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def exposure_known(question: Question) -> Refusal | None:
    if question.exposure.known or question.intent.reduce_only:
        return None
    return _refuse("reconciliation", "required", "none yet", "the account has not been reconciled with the venue yet")


def trading_enabled(question: Question) -> Refusal | None:
    if question.limits.trading_enabled or not question.grows:
        return None
    return _refuse(
        "trading_enabled", "off", question.intent.side, "trading is off; only orders that reduce a position pass"
    )


def instrument_grid(question: Question) -> Refusal | None:
    intent = question.intent
    found = violations(
        question.rules,
        order_type=intent.order_type,
        quantity=intent.quantity,
        price=intent.price,
        reference_price=question.reference_price,
        reduce_only=intent.reduce_only,
    )
    if not found:
        return None
    first = found[0]
    return _refuse(f"instrument.{first.field}", first.rule, first.value, f"{first.field} {first.value}: {first.rule}")


def price_collar(question: Question) -> Refusal | None:
    collar, price = question.limits.price_collar_percent, question.intent.price
    if collar is None or price is None or question.reference_price <= 0:
        return None
    # Only the aggressive side is dangerous: a buy far below the market rests, far above it pays too much.
    ahead = price - question.reference_price if question.intent.side == "Buy" else question.reference_price - price
    percent = ahead / question.reference_price * HUNDRED
    if percent <= collar:
        return None
    return _refuse(
        "price_collar_percent", collar, percent.quantize(Decimal("0.01")),
        f"the price {_shown(price)} is {percent:.2f} % beyond the market {_shown(question.reference_price)}; "
        f"at most {_shown(collar)} % is allowed",
    )  # fmt: skip


def order_notional(question: Question) -> Refusal | None:
    limit = question.limits.max_order_notional
    if limit is None or not question.grows or question.notional <= limit:
        return None
    return _refuse(
        "max_order_notional",
        limit,
        question.notional,
        f"the order is worth {question.notional:.2f} USD; at most {_shown(limit)} is allowed",
    )


def leverage(question: Question) -> Refusal | None:
    limit = min(value for value in (question.limits.max_leverage, question.rules.max_leverage) if value is not None)
    if not question.grows or question.intent.leverage <= limit:
        return None
    return _refuse(
        "max_leverage",
        limit,
        question.intent.leverage,
        f"leverage {_shown(question.intent.leverage)} is above the allowed {_shown(limit)}",
    )


def available_balance(question: Question) -> Refusal | None:
    if not question.grows:
        return None
    margin = question.notional / max(question.intent.leverage, Decimal(1))
    if margin <= question.exposure.available_balance:
        return None
    return _refuse(
        "available_balance",
        question.exposure.available_balance,
        margin,
        f"it needs {margin:.2f} USD margin; {question.exposure.available_balance:.2f} is available",
    )


def reduce_only_quantity(question: Question) -> Refusal | None:
    """Reduce-only orders may not together exceed the position. A closing market order is counted against its like
    alone: the venue shrinks resting reduce-only orders when the position does, so they must not keep anybody in."""
    intent, pending = question.intent, question.pending
    if not intent.reduce_only or not question.exposure.known:
        return None
    immediate = intent.order_type == "Market" or intent.time_in_force in IMMEDIATE
    if intent.side == "Buy":
        position, taken = -question.held, pending.closing_buy if immediate else pending.reduce_buy
    else:
        position, taken = question.held, pending.closing_sell if immediate else pending.reduce_sell
    left = max(position - taken, ZERO)
    if intent.quantity <= left:
        return None
    return _refuse(
        "reduce_only",
        left,
        intent.quantity,
        f"{_shown(intent.quantity)} would reduce more than is open: {_shown(max(position, ZERO))} {intent.symbol} "
        f"against a {intent.side}, of which {_shown(taken)} is being closed already",
    )


def risk_per_trade(question: Question) -> Refusal | None:
    limit, equity = question.limits.max_risk_per_trade_percent, question.exposure.equity
    if limit is None or not question.grows:
        return None
    loss = question.loss
    if loss * HUNDRED <= limit * equity:
        return None
    percent = _percent(loss, equity)
    return _refuse(
        "max_risk_per_trade_percent",
        limit,
        percent,
        f"its stop would lose {loss:.2f} USD, {percent} % of equity; at most {_shown(limit)} % is allowed",
    )


def slippage(question: Question) -> Refusal | None:
    limit, fill = question.limits.max_slippage_percent, question.market.fill
    if limit is None or fill is None or not question.grows or question.intent.order_type != "Market":
        return None
    if fill.missing > 0:
        return _refuse(
            "max_slippage_percent",
            limit,
            question.intent.quantity,
            f"the known book holds {_shown(fill.missing)} {question.intent.symbol} less than the order wants",
        )
    if fill.slippage_percent <= limit:
        return None
    percent = fill.slippage_percent.quantize(CENT)
    return _refuse(
        "max_slippage_percent",
        limit,
        percent,
        f"it would fill {percent} % from the middle of the book on average; at most {_shown(limit)} % is allowed",
    )


def correlated_positions(question: Question) -> Refusal | None:
    """Either direction counts: correlations turn when they are needed. Where too little has been seen of a pair, its
    group decides."""
    limits, market, symbol = question.limits, question.market, question.intent.symbol
    most, threshold = limits.max_correlated_positions, limits.max_correlation
    if most is None or threshold is None or not question.grows or symbol in question.exposure.notional:
        return None
    named, least, known = [], float(threshold), market.correlations.of(symbol)
    for other in question.exposure.notional:
        correlation = known.get(other)
        if market.groups.together(symbol, other) if correlation is None else abs(correlation) >= least:
            named.append(other)
    if len(named) < most:
        return None
    return _refuse(
        "max_correlated_positions",
        most,
        len(named) + 1,
        f"{symbol} moves with {', '.join(sorted(named))} (correlation of {_shown(threshold)} or more, or one group); "
        f"at most {most} such positions are allowed together",
    )


def symbol_group(question: Question) -> Refusal | None:
    exposure, symbol = question.exposure, question.intent.symbol
    if not question.grows:
        return None
    for group in question.market.groups.of(symbol):
        held = [other for other in exposure.notional if other in group.symbols and other != symbol]
        if group.max_positions is not None and len(held) + 1 > group.max_positions:
            message = f"it would be position number {len(held) + 1} in {group.name}; at most {group.max_positions}"
            return _refuse(f"group.{group.name}.max_positions", group.max_positions, len(held) + 1, message)
        if group.max_notional is not None:
            notional = sum((exposure.notional[other] for other in held), question.worst_notional)
            if notional > group.max_notional:
                message = (
                    f"{group.name} could reach {notional:.2f} USD; at most {_shown(group.max_notional)} is allowed"
                )
                return _refuse(f"group.{group.name}.max_notional", group.max_notional, notional, message)
    return None


# Rules of a level: what it spans counts together.


def others_known(question: Question, scope: Scope) -> Refusal | None:
    if scope.others is not None:
        return None
    message = "what counts together with this order is not known yet; it is read once a second"
    return _refuse_of(scope, "exposure", "known", "not yet", message)


def position_notional(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_position_notional
    if limit is None:
        return None
    notional = question.worst_notional + scope.other_notional(question.intent.symbol)
    if notional <= limit:
        return None
    return _refuse_of(
        scope,
        "max_position_notional",
        limit,
        notional,
        f"{question.intent.symbol} could reach {notional:.2f} USD with pending orders; "
        f"at most {_shown(limit)} is allowed",
    )


def position_count(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_positions
    if limit is None or scope.holds(question.intent.symbol):
        return None
    count = scope.positions + 1
    if count <= limit:
        return None
    message = f"it would be position number {count}; at most {limit} are allowed"
    return _refuse_of(scope, "max_positions", limit, count, message)


def positions_per_symbol(question: Question, scope: Scope) -> Refusal | None:
    """One-way mode: an account has one position in a symbol. A user and the platform have one for each account."""
    limit, symbol = scope.limits.max_positions_per_symbol, question.intent.symbol
    if limit is None or symbol in question.exposure.notional:
        return None
    count = scope.holders(symbol) + 1
    if count <= limit:
        return None
    message = f"it would be position number {count} in {symbol}; at most {limit} are allowed"
    return _refuse_of(scope, "max_positions_per_symbol", limit, count, message)


def open_orders(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_open_orders
    if limit is None or scope.open_orders < limit:
        return None
    message = f"{scope.open_orders} orders are open; at most {limit} are allowed"
    return _refuse_of(scope, "max_open_orders", limit, scope.open_orders + 1, message)


def total_risk(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_total_risk_percent
    if limit is None:
        return None
    risk, equity = scope.risk + question.loss, scope.equity
    if risk * HUNDRED <= limit * equity:
        return None
    percent = _percent(risk, equity)
    return _refuse_of(
        scope,
        "max_total_risk_percent",
        limit,
        percent,
        f"the stops of all positions and orders would lose {risk:.2f} USD together, {percent} % of equity; "
        f"at most {_shown(limit)} % is allowed",
    )


def daily_loss(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_daily_loss_percent
    if limit is None:
        return None
    start, now = scope.day_start_equity, scope.equity
    if now >= start:
        return None
    percent = loss_percent(start, now)
    if percent < limit:
        return None
    message = f"today's loss is {percent:.2f} % of equity; new risk stops at {_shown(limit)} %"
    return _refuse_of(scope, "max_daily_loss_percent", limit, percent.quantize(CENT), message)


def drawdown(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_drawdown_percent
    if limit is None:
        return None
    percent = loss_percent(scope.peak_equity, scope.equity)
    if percent < limit:
        return None
    message = (
        f"equity is {percent:.2f} % below its peak of {scope.peak_equity:.2f}; new risk stops at {_shown(limit)} %"
    )
    return _refuse_of(scope, "max_drawdown_percent", limit, percent.quantize(CENT), message)


def order_rate(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_order_rate
    if limit is None or scope.orders_last_second < limit:
        return None
    message = f"{scope.orders_last_second} orders in the last second; at most {limit} are allowed"
    return _refuse_of(scope, "max_order_rate", limit, scope.orders_last_second + 1, message)


def loss_percent(start: Decimal, now: Decimal) -> Decimal:
    """How much of what there was at the start is lost now, 0 to 100; all of it where there was nothing to lose and now
    there is a debt."""
    if now >= start:
        return ZERO
    return min((start - now) / start * HUNDRED, HUNDRED) if start > 0 else HUNDRED


def _percent(part: Decimal, whole: Decimal) -> Decimal:
    return (part / whole * HUNDRED).quantize(CENT) if whole > 0 else HUNDRED


CHECKS: tuple[Rule, ...] = (
    exposure_known,
    trading_enabled,
    instrument_grid,
    reduce_only_quantity,
    price_collar,
    slippage,
    order_notional,
    risk_per_trade,
    correlated_positions,
    symbol_group,
    leverage,
    available_balance,
)
CHECKS_OF_A_LEVEL: tuple[ScopeRule, ...] = (
    others_known,
    position_notional,
    position_count,
    positions_per_symbol,
    open_orders,
    total_risk,
    daily_loss,
    drawdown,
    order_rate,
)


def check_intent(
    intent: OrderIntent,
    limits: Limits,
    exposure: Exposure,
    rules: InstrumentRules,
    reference_price: Decimal,
    market: Market = NO_MARKET,
) -> Decision:
    """Ask every rule, and those of each level for each level whose limits apply."""
    question = Question.of(intent, limits, exposure, rules, reference_price, market)
    refusals = [refusal for rule in CHECKS if (refusal := rule(question)) is not None]
    for scope in question.scopes:
        refusals += [refusal for rule in CHECKS_OF_A_LEVEL if (refusal := rule(question, scope)) is not None]
    return Decision(not refusals, tuple(refusals))
