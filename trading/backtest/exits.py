"""Where, on its way, the price meets something of a position: take-profit, stop-loss, exit rules, liquidation."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from risk.exits import HUNDRED, ONE, ExitRules
from trading.backtest.books import Holding
from trading.backtest.market_fills import tick_at_or_above, tick_at_or_below


def venue_exit(holding: Holding, price: Decimal) -> str | None:
    """Which of the orders at the venue a price triggers."""
    take, stop = holding.take_profit, holding.stop_loss
    if holding.is_long:
        if take is not None and price >= take:
            return "take_profit"
        return "stop_loss" if stop is not None and price <= stop else None
    if take is not None and price <= take:
        return "take_profit"
    return "stop_loss" if stop is not None and price >= stop else None


def behind(rules: ExitRules, holding: Holding) -> Iterator[Decimal]:
    """Levels that are met when the price goes against the position."""
    if holding.stop_loss is not None:
        yield holding.stop_loss
    if rules.enabled:
        yield _exact_price(holding, -rules.max_loss_percent)
        if holding.state.stop_price is not None:
            yield holding.state.stop_price
        if holding.state.take_price is not None:
            yield holding.state.take_price


def ahead(rules: ExitRules, holding: Holding) -> Iterator[Decimal]:
    """Levels that are met when it goes in the position's favour."""
    if holding.take_profit is not None:
        yield holding.take_profit
    if not rules.enabled:
        return
    for profit, _ in rules.partial_exits[holding.state.partials :]:
        yield _exact_price(holding, max(profit, rules.min_profit_percent))
    # A profit that shall be kept at least, but is not reached yet, ends the position where trailing begins.
    active = rules.take_profit_activation_percent
    if rules.trailing_take_profit and rules.min_profit_percent >= active:
        yield _exact_price(holding, active)


def next_stop(levels: Iterator[Decimal], at: Decimal, end: Decimal, tick: Decimal) -> Decimal | None:
    """The first price after ``at`` on the way to ``end`` where one of the levels is met."""
    found: Decimal | None = None
    if end < at:
        for level in levels:
            if end <= level < at:
                price = max(tick_at_or_below(level, tick), end)
                if found is None or price > found:
                    found = price
    else:
        for level in levels:
            if at < level <= end:
                price = min(tick_at_or_above(level, tick), end)
                if found is None or price < found:
                    found = price
    return found


def band(rules: ExitRules, holding: Holding, price: Decimal) -> tuple[Decimal, Decimal]:
    """The prices around the last one between which nothing is met and no level moves; both are outside."""
    nearest = max if holding.is_long else min
    backward = nearest(behind(rules, holding), default=None)
    others = [level for level in ahead(rules, holding) if (level > price) == holding.is_long and level != price]
    follow = _follows_from(rules, holding)
    if follow is not None:
        others.append(follow)
    far = price * 1_000
    if holding.is_long:
        return backward if backward is not None else Decimal(0), min(others, default=far)
    return max(others, default=Decimal(0)), backward if backward is not None else far


def _follows_from(rules: ExitRules, holding: Holding) -> Decimal | None:
    """Where trailing levels begin to follow the price; once they do, any price that is better than the best."""
    if not rules.enabled:
        return None
    starts = []
    if rules.trailing_take_profit:
        starts.append(rules.take_profit_activation_percent)
    if rules.trailing_stop:
        starts.append(rules.trailing_stop_activation_percent)
    if not starts:
        return None
    best, start = holding.state.best_price, _exact_price(holding, min(starts))
    if holding.is_long:
        return best if best >= start else start
    return best if best <= start else start


def _exact_price(holding: Holding, profit: Decimal) -> Decimal:
    share = profit / HUNDRED
    return holding.book.entry_price * (ONE + share if holding.is_long else ONE - share)
