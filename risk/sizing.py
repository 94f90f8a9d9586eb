"""How much: from a sizing mode to a quantity on the instrument's lot grid, never above the limits."""

from __future__ import annotations

from decimal import Decimal

from marketdata.instruments import InstrumentRules
from risk.exposure import Exposure, loss_at_stop
from risk.limits import Limits

HUNDRED = Decimal(100)


def size_position(
    mode: str,
    value: Decimal,
    *,
    equity: Decimal,
    leverage: Decimal,
    price: Decimal,
    rules: InstrumentRules,
    confidence: float | None = None,
) -> Decimal:
    """The quantity to open, in base coin, rounded down to the lot grid; zero when that is below the venue's minimum.

    ``percent``: ``value`` % of equity is the margin, times ``leverage`` the notional. ``fixed_usd``: ``value`` USD is
    the margin. ``minimum``: the smallest order the venue takes. ``confidence`` (0 to 1; None: not asked for) scales
    between that smallest order and the mode's quantity.
    """
    if price <= 0:
        return Decimal(0)
    smallest = smallest_quantity(rules, price)
    if mode == "minimum":
        return smallest
    if mode == "percent":
        margin = equity * value / HUNDRED
    elif mode == "fixed_usd":
        margin = value
    else:
        raise ValueError(f"sizing mode is {mode!r}; expected percent, fixed_usd or minimum")
    full = min(margin * leverage / price, rules.max_market_quantity)
    if confidence is not None and full > smallest:
        # By its shortest text: the binary float of 0.7 is a little less than 0.7.
        full = smallest + (full - smallest) * Decimal(repr(min(max(confidence, 0.0), 1.0)))
    quantity = rules.floor_quantity(full)
    return quantity if quantity >= smallest else Decimal(0)


def smallest_quantity(rules: InstrumentRules, price: Decimal) -> Decimal:
    """The least quantity on the grid that satisfies both the minimum quantity and the minimum notional."""
    by_notional = rules.floor_quantity(rules.min_notional / price)
    if by_notional * price < rules.min_notional:
        by_notional += rules.lot_size
    return max(rules.min_quantity, by_notional)


def within_limits(
    quantity: Decimal,
    *,
    closing: Decimal,
    side: str,
    price: Decimal,
    stop_loss: Decimal | None,
    limits: Limits,
    exposure: Exposure,
    rules: InstrumentRules,
) -> Decimal:
    """As much of a quantity as the account's limits on worth and risk leave room for, on the lot grid; zero when that
    is below the venue's minimum. ``closing``: what the same order closes of an opposite position besides.

    What others of the user or the platform hold is not looked at: such a limit refuses, it does not shrink.
    """
    if price <= 0 or quantity <= 0:
        return Decimal(0)
    room = [quantity]
    if limits.max_order_notional is not None:
        room.append(limits.max_order_notional / price - closing)
    if limits.max_position_notional is not None:
        room.append(limits.max_position_notional / price)
    loss = loss_at_stop(side, Decimal(1), price, stop_loss)
    if loss > 0:
        if limits.max_risk_per_trade_percent is not None:
            room.append(exposure.equity * limits.max_risk_per_trade_percent / HUNDRED / loss)
        if limits.max_total_risk_percent is not None:
            left = exposure.equity * limits.max_total_risk_percent / HUNDRED - exposure.total_risk
            room.append(left / loss)
    allowed = rules.floor_quantity(max(min(room), Decimal(0)))
    return allowed if allowed >= smallest_quantity(rules, price) else Decimal(0)
