from __future__ import annotations

from typing import Any

from django.db.models import Q

from risk.limits import Limits, strictest
from risk.models import RiskLimit


def limits_for(account: Any, strategy: Any = None) -> Limits:
    """The strictest of the platform's, the owner's, the account's and the strategy's limits."""
    applies = Q(level="platform") | Q(user_id=account.owner_id) | Q(account_id=account.pk)
    if strategy is not None:
        applies |= Q(strategy_id=strategy.pk)
    return strictest(*(as_limits(row) for row in RiskLimit.objects.filter(applies)))


def as_limits(row: RiskLimit) -> Limits:
    return Limits(
        trading_enabled=row.trading_enabled,
        max_order_notional=row.max_order_notional,
        max_position_notional=row.max_position_notional,
        max_positions=row.max_positions,
        max_open_orders=row.max_open_orders,
        max_daily_loss_percent=row.max_daily_loss_percent,
        max_leverage=row.max_leverage,
        price_collar_percent=row.price_collar_percent,
        max_order_rate=row.max_order_rate,
    )
