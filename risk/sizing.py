"""How much: from a sizing mode to a quantity on the instrument's lot grid."""

from __future__ import annotations

from decimal import Decimal

from marketdata.instruments import InstrumentRules

HUNDRED = Decimal(100)


def size_position(
    mode: str, value: Decimal, *, equity: Decimal, leverage: Decimal, price: Decimal, rules: InstrumentRules
) -> Decimal:
    """The quantity to open, in base coin, rounded down to the lot grid; zero when that is below the venue's minimum.

    ``percent``: ``value`` % of equity is the margin, times ``leverage`` the notional. ``fixed_usd``: ``value`` USD is
    the margin. ``minimum``: the smallest order the venue takes.
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
    quantity = rules.floor_quantity(min(margin * leverage / price, rules.max_market_quantity))
    return quantity if quantity >= smallest else Decimal(0)


def smallest_quantity(rules: InstrumentRules, price: Decimal) -> Decimal:
    """The least quantity on the grid that satisfies both the minimum quantity and the minimum notional."""
    by_notional = rules.floor_quantity(rules.min_notional / price)
    if by_notional * price < rules.min_notional:
        by_notional += rules.lot_size
    return max(rules.min_quantity, by_notional)
