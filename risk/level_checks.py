"""Rules of a level - account, strategy, user, platform: what it spans counts together."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

from risk.exposure import ZERO
from risk.groups import NO_GROUP_LIMIT
from risk.questions import CENT, HUNDRED, Question, Refusal, Scope, ScopeRule, percent_of, refuse_of, shown

Bound = TypeVar("Bound", int, Decimal)


def others_known(question: Question, scope: Scope) -> Refusal | None:
    if scope.others is not None:
        return None
    message = "what counts together with this order is not known yet; it is read once a second"
    return refuse_of(scope, "exposure", "known", "not yet", message)


def position_notional(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_position_notional
    if limit is None:
        return None
    notional = question.worst_notional + scope.other_notional(question.intent.symbol)
    if notional <= limit:
        return None
    return refuse_of(
        scope,
        "max_position_notional",
        limit,
        notional,
        f"{question.intent.symbol} could reach {notional:.2f} USD with pending orders; "
        f"at most {shown(limit)} is allowed",
    )


def position_count(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_positions
    if limit is None or scope.holds(question.intent.symbol):
        return None
    count = scope.positions + 1
    if count <= limit:
        return None
    message = f"it would be position number {count}; at most {limit} are allowed"
    return refuse_of(scope, "max_positions", limit, count, message)


def positions_per_symbol(question: Question, scope: Scope) -> Refusal | None:
    """One-way mode: an account has one position in a symbol. A user and the platform have one for each account."""
    limit, symbol = scope.limits.max_positions_per_symbol, question.intent.symbol
    if limit is None or symbol in question.exposure.notional:
        return None
    count = scope.holders(symbol) + 1
    if count <= limit:
        return None
    message = f"it would be position number {count} in {symbol}; at most {limit} are allowed"
    return refuse_of(scope, "max_positions_per_symbol", limit, count, message)


def correlated_positions(question: Question, scope: Scope) -> Refusal | None:
    """Either direction counts: correlations turn when they are needed. Where too little has been seen of a pair, its
    group decides. Of a user and the platform the positions of other accounts count too, those in the same symbol
    first of all. A level that says no correlation has the account's."""
    most, threshold = scope.limits.max_correlated_positions, scope.limits.max_correlation
    if threshold is None:
        threshold = question.limits.max_correlation
    symbol = question.intent.symbol
    if most is None or threshold is None or scope.holds(symbol):
        return None
    moving = question.moving_with(threshold)
    count = scope.positions_in(moving)
    if count < most:
        return None
    named = ", ".join(sorted(scope.among(moving)))
    return refuse_of(
        scope,
        "max_correlated_positions",
        most,
        count + 1,
        f"{symbol} moves with {named} (correlation of {shown(threshold)} or more, or one group); "
        f"at most {most} such positions are allowed together",
    )


def symbol_groups(question: Question, scope: Scope) -> Refusal | None:
    """A group's own limits are each account's; every level may have its own for the group, which counts what the level
    spans. The strictest wins."""
    symbol, limits = question.intent.symbol, scope.limits.group_limits
    of_account = scope.level == "account"
    for group in question.market.groups.of(symbol):
        limit = limits.get(group.name, NO_GROUP_LIMIT) if limits else NO_GROUP_LIMIT
        positions, most = limit.max_positions, limit.max_notional
        if of_account:
            positions, most = _stricter(positions, group.max_positions), _stricter(most, group.max_notional)
        if positions is None and most is None:
            continue
        count, worth = scope.in_group(group.symbols, symbol)
        if not scope.holds(symbol):
            count += 1
        worth += question.worst_notional
        if positions is not None and count > positions:
            message = f"it would be position number {count} in {group.name}; at most {positions} are allowed"
            return refuse_of(scope, f"group.{group.name}.max_positions", positions, count, message)
        if most is not None and worth > most:
            message = f"{group.name} could reach {worth:.2f} USD; at most {shown(most)} is allowed"
            return refuse_of(scope, f"group.{group.name}.max_notional", most, worth, message)
    return None


def _stricter(one: Bound | None, other: Bound | None) -> Bound | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def open_orders(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_open_orders
    if limit is None or scope.open_orders < limit:
        return None
    message = f"{scope.open_orders} orders are open; at most {limit} are allowed"
    return refuse_of(scope, "max_open_orders", limit, scope.open_orders + 1, message)


def total_risk(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_total_risk_percent
    if limit is None:
        return None
    risk, equity = scope.risk + question.loss, scope.equity
    if risk * HUNDRED <= limit * equity:
        return None
    percent = percent_of(risk, equity)
    return refuse_of(
        scope,
        "max_total_risk_percent",
        limit,
        percent,
        f"the stops of all positions and orders would lose {risk:.2f} USD together, {percent} % of equity; "
        f"at most {shown(limit)} % is allowed",
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
    message = f"today's loss is {percent:.2f} % of equity; new risk stops at {shown(limit)} %"
    return refuse_of(scope, "max_daily_loss_percent", limit, percent.quantize(CENT), message)


def drawdown(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_drawdown_percent
    if limit is None:
        return None
    percent = loss_percent(scope.peak_equity, scope.equity)
    if percent < limit:
        return None
    message = f"equity is {percent:.2f} % below its peak of {scope.peak_equity:.2f}; new risk stops at {shown(limit)} %"
    return refuse_of(scope, "max_drawdown_percent", limit, percent.quantize(CENT), message)


def order_rate(question: Question, scope: Scope) -> Refusal | None:
    limit = scope.limits.max_order_rate
    if limit is None or scope.orders_last_second < limit:
        return None
    message = f"{scope.orders_last_second} orders in the last second; at most {limit} are allowed"
    return refuse_of(scope, "max_order_rate", limit, scope.orders_last_second + 1, message)


def loss_percent(start: Decimal, now: Decimal) -> Decimal:
    """How much of what there was at the start is lost now, 0 to 100; all of it where there was nothing to lose and now
    there is a debt."""
    if now >= start:
        return ZERO
    return min((start - now) / start * HUNDRED, HUNDRED) if start > 0 else HUNDRED


CHECKS_OF_A_LEVEL: tuple[ScopeRule, ...] = (
    others_known,
    position_notional,
    position_count,
    positions_per_symbol,
    correlated_positions,
    symbol_groups,
    open_orders,
    total_risk,
    daily_loss,
    drawdown,
    order_rate,
)
