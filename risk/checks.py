"""Whether an order may be: small rules, each of which names the limit, its value and what was asked, or says nothing.

All rules are asked, so that a refusal is complete. Orders that only reduce a position are never held back by limits on
growth: getting out must always be possible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from marketdata.instruments import InstrumentRules, violations
from risk.exposure import Exposure, PendingExposure
from risk.intents import OrderIntent
from risk.limits import Limits

HUNDRED = Decimal(100)


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


@dataclass(frozen=True, slots=True)
class Question:
    """Everything a rule may look at. ``reference_price`` is the mark (or last) price in quote coin."""

    intent: OrderIntent
    limits: Limits
    exposure: Exposure
    rules: InstrumentRules
    reference_price: Decimal

    @property
    def price(self) -> Decimal:
        """What the order may trade at. A sell below the market fills at the market: its limit says nothing of it."""
        if self.intent.price is None:
            return self.reference_price
        return self.intent.price if self.intent.side == "Buy" else max(self.intent.price, self.reference_price)

    @property
    def notional(self) -> Decimal:
        return self.intent.quantity * self.price

    @property
    def grows(self) -> bool:
        """Whether the order could make the position in its symbol larger, or turn it around: pending orders of its
        side may have closed the position before it fills."""
        if self.intent.reduce_only:
            return False
        held = self.exposure.signed_quantity(self.intent.symbol)
        pending = self.exposure.pending.get(self.intent.symbol, PendingExposure()).plus(
            self.intent.side, self.intent.quantity
        )
        return pending.buy_quantity > -held if self.intent.side == "Buy" else pending.sell_quantity > held

    @property
    def opens(self) -> bool:
        held = self.exposure.signed_quantity(self.intent.symbol)
        pending = self.exposure.pending.get(self.intent.symbol)
        return held == 0 and (pending is None or pending.buy_quantity + pending.sell_quantity == 0)


Rule = Callable[[Question], Refusal | None]


def _refuse(limit: str, value: object, requested: object, message: str) -> Refusal:
    return Refusal(limit, _shown(value), _shown(requested), message)


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


def position_notional(question: Question) -> Refusal | None:
    limit = question.limits.max_position_notional
    if limit is None or not question.grows:
        return None
    worst = question.exposure.worst_quantity(question.intent.symbol, question.intent.side, question.intent.quantity)
    # What is held is worth the market, however far below it this order may buy.
    notional = worst * max(question.price, question.reference_price)
    if notional <= limit:
        return None
    return _refuse(
        "max_position_notional",
        limit,
        notional,
        f"{question.intent.symbol} could reach {notional:.2f} USD with pending orders; "
        f"at most {_shown(limit)} is allowed",
    )


def position_count(question: Question) -> Refusal | None:
    limit = question.limits.max_positions
    if limit is None or not question.grows or not question.opens:
        return None
    count = len(set(question.exposure.positions) | set(question.exposure.pending)) + 1
    if count <= limit:
        return None
    return _refuse("max_positions", limit, count, f"it would be position number {count}; at most {limit} are allowed")


def open_orders(question: Question) -> Refusal | None:
    limit = question.limits.max_open_orders
    if limit is None or not question.grows or question.exposure.open_orders < limit:
        return None
    return _refuse(
        "max_open_orders",
        limit,
        question.exposure.open_orders + 1,
        f"{question.exposure.open_orders} orders are open; at most {limit} are allowed",
    )


def daily_loss(question: Question) -> Refusal | None:
    limit, exposure = question.limits.max_daily_loss_percent, question.exposure
    if limit is None or not question.grows or exposure.day_pnl >= 0:
        return None
    started_with = exposure.equity - exposure.day_pnl
    percent = -exposure.day_pnl / started_with * HUNDRED if started_with > 0 else HUNDRED
    if percent < limit:
        return None
    return _refuse(
        "max_daily_loss_percent",
        limit,
        percent.quantize(Decimal("0.01")),
        f"today's loss is {percent:.2f} % of equity; new risk stops at {_shown(limit)} %",
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


def order_rate(question: Question) -> Refusal | None:
    limit = question.limits.max_order_rate
    if limit is None or not question.grows or question.exposure.orders_last_second < limit:
        return None
    return _refuse(
        "max_order_rate",
        limit,
        question.exposure.orders_last_second + 1,
        f"{question.exposure.orders_last_second} orders in the last second; at most {limit} are allowed",
    )


CHECKS: tuple[Rule, ...] = (
    exposure_known,
    trading_enabled,
    instrument_grid,
    price_collar,
    order_notional,
    position_notional,
    position_count,
    open_orders,
    daily_loss,
    leverage,
    available_balance,
    order_rate,
)


def check_intent(
    intent: OrderIntent, limits: Limits, exposure: Exposure, rules: InstrumentRules, reference_price: Decimal
) -> Decision:
    """Ask every rule. ``limits`` are the strictest of all levels that apply."""
    question = Question(intent, limits, exposure, rules, reference_price)
    refusals = tuple(refusal for rule in CHECKS if (refusal := rule(question)) is not None)
    return Decision(not refusals, refusals)
