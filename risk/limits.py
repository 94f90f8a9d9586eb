"""Limits as values: one set per level, and what of them combines.

Two kinds: limits on one order (its worth, its leverage, its distance from the market) are the strictest of all levels.
Limits on what is at stake together (positions, losses, rates) belong to their level, and count what that level spans:
one strategy, one account, all accounts of a user, all accounts of the platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from risk.groups import GroupLimit


@dataclass(frozen=True, slots=True)
class Limits:
    """None is no limit. Notionals in USD, percents of equity or of price (0 to 100), the rate in orders per second,
    ``max_correlation`` 0 to 1.

    The fields are the account's; ``other_levels`` are the limits of the strategy, the user and the platform, by name.
    ``group_limits``: what this level allows in a group of symbols, by the group's name.
    """

    trading_enabled: bool = True
    max_order_notional: Decimal | None = None
    max_position_notional: Decimal | None = None
    max_positions: int | None = None
    max_open_orders: int | None = None
    max_daily_loss_percent: Decimal | None = None
    max_leverage: Decimal | None = None
    price_collar_percent: Decimal | None = None
    max_order_rate: int | None = None
    max_positions_per_symbol: int | None = None
    max_risk_per_trade_percent: Decimal | None = None
    max_total_risk_percent: Decimal | None = None
    max_drawdown_percent: Decimal | None = None
    max_correlation: Decimal | None = None
    max_correlated_positions: int | None = None
    max_slippage_percent: Decimal | None = None
    group_limits: Mapping[str, GroupLimit] = field(default_factory=lambda: MappingProxyType({}))
    other_levels: tuple[tuple[str, Limits], ...] = ()

    @property
    def counts_together(self) -> bool:
        """Whether any of them is on what is at stake together."""
        return bool(self.group_limits) or any(getattr(self, name) is not None for name in TOGETHER)

    @property
    def shared(self) -> bool:
        """Whether they count orders of several accounts together."""
        return any(level != "strategy" for level, _ in self.other_levels)


NAMES = tuple(
    each.name for each in fields(Limits) if each.name not in ("trading_enabled", "group_limits", "other_levels")
)
# Of one order: whoever's limit it breaks, it breaks it alone.
OF_AN_ORDER = (
    "max_order_notional",
    "max_leverage",
    "price_collar_percent",
    "max_risk_per_trade_percent",
    "max_slippage_percent",
)
TOGETHER = tuple(name for name in NAMES if name not in OF_AN_ORDER)

# What an account is held to where nobody says otherwise.
ACCOUNT_DEFAULTS = Limits(
    max_positions=10,
    max_positions_per_symbol=1,
    max_risk_per_trade_percent=Decimal(2),
    max_total_risk_percent=Decimal(10),
    max_daily_loss_percent=Decimal(5),
    max_drawdown_percent=Decimal(20),
    max_correlation=Decimal("0.7"),
    max_correlated_positions=3,
    max_leverage=Decimal(50),
    price_collar_percent=Decimal(5),
    max_slippage_percent=Decimal(1),
)


def strictest(*levels: Limits) -> Limits:
    """Trading only where every level allows it, and the smallest of each limit."""
    smallest: dict[str, Any] = {}
    for name in NAMES:
        values = [value for level in levels if (value := getattr(level, name)) is not None]
        smallest[name] = min(values) if values else None
    return Limits(trading_enabled=all(level.trading_enabled for level in levels), **smallest)


def combined(account: Limits, **levels: Limits) -> Limits:
    """The limits of one account's orders. ``levels``: those of the strategy, the user and the platform, where set."""
    strict = strictest(account, *levels.values())
    others = tuple((name, limits) for name, limits in levels.items() if limits.counts_together)
    own: dict[str, Any] = {name: getattr(strict, name) for name in OF_AN_ORDER}
    return replace(account, trading_enabled=strict.trading_enabled, other_levels=others, **own)


def with_defaults(limits: Limits) -> Limits:
    """An account's limits, the defaults in place of what it does not say."""
    missing: dict[str, Any] = {name: getattr(ACCOUNT_DEFAULTS, name) for name in NAMES if getattr(limits, name) is None}
    return replace(limits, **missing)
