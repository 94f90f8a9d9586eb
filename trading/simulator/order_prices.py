"""Prices that come from the book: how far a market order may run, and limit orders at the best bids and offers."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from trading.simulator.errors import parameter_error
from trading.simulator.markets import Market
from trading.simulator.orders import ZERO, SimulatedOrder

TICKS, PERCENT = "TickSize", "Percent"
MOST_TICKS = 10_000
LEAST_PERCENT, MOST_PERCENT, PERCENT_STEP = Decimal("0.01"), Decimal(10), Decimal("0.01")
BBO_SIDES = ("Queue", "Counterparty")
BBO_LEVELS = ("1", "2", "3", "4", "5")


def market_limit(market: Market, order: SimulatedOrder) -> int | None:
    """The worst tick at which a market order may trade; None while nothing is there to trade with.

    Bybit makes it an immediate-or-cancel order within the price band around the mark price; spot markets have no mark
    price, there it is the best price. A slippage tolerance is counted from the best price and can only be tighter.
    """
    makers = market.book.opposite(order.side)
    best, sign = makers.best, makers.sign
    if best is None:
        return None
    tick = market.rules.tick_size
    reference = market.mark_price / tick if market.category == "linear" and market.mark_price else Decimal(best)
    limit = _whole(reference * (1 + sign * market.price_band), sign)
    if order.slippage_type == TICKS:
        tolerated = best + sign * int(order.slippage_tolerance)
    elif order.slippage_type == PERCENT:
        tolerated = _whole(best * (1 + sign * order.slippage_tolerance / 100), sign)
    else:
        return limit
    return min(limit, tolerated) if sign > 0 else max(limit, tolerated)


def _whole(ticks: Decimal, sign: int) -> int:
    """On the grid, not beyond the price."""
    return int(ticks.to_integral_value(rounding=ROUND_FLOOR if sign > 0 else ROUND_CEILING))


def slippage_tolerance(request: Mapping[str, Any], order_type: str) -> tuple[str, Decimal]:
    """``slippageToleranceType`` and ``slippageTolerance``; empty and zero without.

    Raises:
        ApiError: 10001, naming the field: not a market order, a conditional one, or outside 1 to 10000 whole ticks or
            0.01 to 10 percent with two decimals.
    """
    kind, text = request.get("slippageToleranceType"), request.get("slippageTolerance")
    if kind in (None, "", "UNKNOWN"):
        if text not in (None, ""):
            raise parameter_error("params error: slippageToleranceType is required with slippageTolerance")
        return "", ZERO
    if kind not in (TICKS, PERCENT):
        raise parameter_error("params error: slippageToleranceType invalid")
    if order_type != "Market" or request.get("triggerPrice") not in (None, "", "0"):
        raise parameter_error("params error: slippageToleranceType is only supported for market orders")
    # Digits alone, so that neither an exponent nor a sign gets through.
    whole, _, decimals = str(text).partition(".")
    if not (whole.isascii() and whole.isdigit() and (not decimals or (decimals.isascii() and decimals.isdigit()))):
        raise parameter_error("params error: slippageTolerance invalid")
    tolerance = Decimal(str(text))
    least, most, step = (1, MOST_TICKS, 1) if kind == TICKS else (LEAST_PERCENT, MOST_PERCENT, PERCENT_STEP)
    if len(whole) > len(str(MOST_TICKS)) or not least <= tolerance <= most or tolerance % step:
        raise parameter_error(f"params error: slippageTolerance must be {least} to {most} in steps of {step}")
    return str(kind), tolerance


def bbo_price(market: Market, side: str, order_type: str, request: Mapping[str, Any]) -> str:
    """The price of a level of the book as it is now, for ``bboSideType`` and ``bboLevel``; empty without them.

    ``Queue`` is the side on which the order rests, ``Counterparty`` the side that it would take from.

    Raises:
        ApiError: 10001, naming the field: spot, a market order, an unknown side or level, or a book without that level.
    """
    where, level = request.get("bboSideType"), str(request.get("bboLevel") or "")
    if where in (None, ""):
        if level:
            raise parameter_error("params error: bboSideType is required with bboLevel")
        return ""
    if where not in BBO_SIDES or order_type != "Limit" or market.category != "linear":
        raise parameter_error("params error: bboSideType invalid")
    if level not in BBO_LEVELS:
        raise parameter_error("params error: bboLevel invalid")
    levels = market.book.side(side) if where == "Queue" else market.book.opposite(side)
    ticks = list(levels.top(int(level)))
    if len(ticks) < int(level):
        raise parameter_error(f"params error: bboLevel invalid; the order book has {len(ticks)} levels there")
    return market.grids.prices.text(ticks[-1])
