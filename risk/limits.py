"""Limits as values: one set per level, and the strictest of several."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Limits:
    """None is no limit. Notionals in USD, percents of equity (0 to 100), the rate in orders per second."""

    trading_enabled: bool = True
    max_order_notional: Decimal | None = None
    max_position_notional: Decimal | None = None
    max_positions: int | None = None
    max_open_orders: int | None = None
    max_daily_loss_percent: Decimal | None = None
    max_leverage: Decimal | None = None
    price_collar_percent: Decimal | None = None
    max_order_rate: int | None = None


def strictest(*levels: Limits) -> Limits:
    """Trading only where every level allows it, and the smallest of each limit."""
    smallest = {}
    for field in fields(Limits):
        if field.name == "trading_enabled":
            continue
        values = [value for level in levels if (value := getattr(level, field.name)) is not None]
        smallest[field.name] = min(values) if values else None
    return Limits(trading_enabled=all(level.trading_enabled for level in levels), **smallest)
