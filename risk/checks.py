"""Whether an order may be: small rules, each of which names the limit, its value and what was asked, or says nothing.

All rules are asked, so that a refusal is complete. Orders that only reduce a position are never held back by limits on
growth: getting out must always be possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from marketdata.instruments import InstrumentRules, violations
from risk.exposure import IMMEDIATE, ZERO, Exposure
from risk.groups import SymbolGroups
from risk.intents import OrderIntent
from risk.level_checks import CHECKS_OF_A_LEVEL, loss_percent, symbol_groups
from risk.limits import Limits
from risk.questions import (
    CENT,
    HUNDRED,
    NO_MARKET,
    NO_TOTALS,
    Correlations,
    Decision,
    Market,
    NoCorrelations,
    Question,
    Refusal,
    Rule,
    percent_of,
    refuse,
    shown,
)

__all__ = [
    "CENT",
    "NO_TOTALS",
    "Correlations",
    "Decision",
    "Market",
    "NoCorrelations",
    "Question",
    "Refusal",
    "check_intent",
    "check_levels",
    "loss_percent",
]


def exposure_known(question: Question) -> Refusal | None:
    if question.exposure.known or question.intent.reduce_only:
        return None
    return refuse("reconciliation", "required", "none yet", "the account has not been reconciled with the venue yet")


def trading_enabled(question: Question) -> Refusal | None:
    if question.limits.trading_enabled or not question.grows:
        return None
    return refuse(
        "trading_enabled", "off", question.intent.side, "trading is off; only orders that reduce a position pass"
    )


def instrument_grid(question: Question) -> Refusal | None:
    intent = question.intent
    held = question.held if intent.side == "Sell" else -question.held
    found = violations(
        question.rules,
        order_type=intent.order_type,
        quantity=intent.quantity,
        price=intent.price,
        reference_price=question.reference_price,
        reduce_only=intent.reduce_only,
        closes_position=intent.reduce_only and intent.quantity == held,
    )
    if not found:
        return None
    first = found[0]
    return refuse(f"instrument.{first.field}", first.rule, first.value, f"{first.field} {first.value}: {first.rule}")


def price_collar(question: Question) -> Refusal | None:
    collar, price = question.limits.price_collar_percent, question.intent.price
    if collar is None or price is None or question.reference_price <= 0:
        return None
    # Only the aggressive side is dangerous: a buy far below the market rests, far above it pays too much.
    ahead = price - question.reference_price if question.intent.side == "Buy" else question.reference_price - price
    percent = ahead / question.reference_price * HUNDRED
    if percent <= collar:
        return None
    return refuse(
        "price_collar_percent", collar, percent.quantize(Decimal("0.01")),
        f"the price {shown(price)} is {percent:.2f} % beyond the market {shown(question.reference_price)}; "
        f"at most {shown(collar)} % is allowed",
    )  # fmt: skip


def order_notional(question: Question) -> Refusal | None:
    limit = question.limits.max_order_notional
    if limit is None or not question.grows or question.notional <= limit:
        return None
    return refuse(
        "max_order_notional",
        limit,
        question.notional,
        f"the order is worth {question.notional:.2f} USD; at most {shown(limit)} is allowed",
    )


def leverage(question: Question) -> Refusal | None:
    limit = min(value for value in (question.limits.max_leverage, question.rules.max_leverage) if value is not None)
    if not question.grows or question.intent.leverage <= limit:
        return None
    return refuse(
        "max_leverage",
        limit,
        question.intent.leverage,
        f"leverage {shown(question.intent.leverage)} is above the allowed {shown(limit)}",
    )


def available_balance(question: Question) -> Refusal | None:
    if not question.grows:
        return None
    margin = question.notional / max(question.intent.leverage, Decimal(1))
    if margin <= question.exposure.available_balance:
        return None
    return refuse(
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
    return refuse(
        "reduce_only",
        left,
        intent.quantity,
        f"{shown(intent.quantity)} would reduce more than is open: {shown(max(position, ZERO))} {intent.symbol} "
        f"against a {intent.side}, of which {shown(taken)} is being closed already",
    )


def risk_per_trade(question: Question) -> Refusal | None:
    limit, equity = question.limits.max_risk_per_trade_percent, question.exposure.equity
    if limit is None or not question.grows:
        return None
    loss = question.loss
    if loss * HUNDRED <= limit * equity:
        return None
    percent = percent_of(loss, equity)
    return refuse(
        "max_risk_per_trade_percent",
        limit,
        percent,
        f"its stop would lose {loss:.2f} USD, {percent} % of equity; at most {shown(limit)} % is allowed",
    )


def slippage(question: Question) -> Refusal | None:
    limit, fill = question.limits.max_slippage_percent, question.market.fill
    if limit is None or not question.grows or question.intent.order_type != "Market":
        return None
    if question.market.book_unread:
        return refuse(
            "max_slippage_percent",
            limit,
            "unknown",
            f"this engine does not follow {question.intent.symbol}, and the venue did not tell its book now, so that "
            f"slippage cannot be judged (at most {shown(limit)} % is allowed); try again, or use a limit order",
        )
    if fill is None:
        return None
    if fill.missing > 0:
        return refuse(
            "max_slippage_percent",
            limit,
            question.intent.quantity,
            f"the known book holds {shown(fill.missing)} {question.intent.symbol} less than the order wants",
        )
    if fill.slippage_percent <= limit:
        return None
    percent = fill.slippage_percent.quantize(CENT)
    return refuse(
        "max_slippage_percent",
        limit,
        percent,
        f"it would fill {percent} % from the middle of the book on average; at most {shown(limit)} % is allowed",
    )


CHECKS: tuple[Rule, ...] = (
    exposure_known,
    trading_enabled,
    instrument_grid,
    reduce_only_quantity,
    price_collar,
    slippage,
    order_notional,
    risk_per_trade,
    leverage,
    available_balance,
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


def check_levels(
    intent: OrderIntent,
    levels: Mapping[str, Limits],
    exposure: Exposure,
    rules: InstrumentRules,
    reference_price: Decimal,
    groups: SymbolGroups,
) -> Decision:
    """Ask only the rules of the given levels, by their names: for whoever has judged the rest before. What moves
    together is not judged again: correlations are known to engines only."""
    limits = Limits(other_levels=tuple(levels.items()))
    question = Question.of(intent, limits, exposure, rules, reference_price, NO_MARKET)
    shared = [scope for scope in question.scopes if scope.level != "account"]
    refusals = [found for scope in shared for rule in CHECKS_OF_A_LEVEL if (found := rule(question, scope)) is not None]
    question.market = Market(groups)
    refusals += [found for scope in shared if (found := symbol_groups(question, scope)) is not None]
    return Decision(not refusals, tuple(refusals))
