from __future__ import annotations

from typing import Any

from django.db import transaction

from audit import bus
from audit.services import record
from risk.models import RiskLimit

LIMIT_FIELDS = (
    "trading_enabled",
    "max_order_notional",
    "max_position_notional",
    "max_positions",
    "max_open_orders",
    "max_daily_loss_percent",
    "max_leverage",
    "price_collar_percent",
    "max_order_rate",
)


@transaction.atomic
def risk_limit_set(
    *, level: str, actor: str, user: Any = None, account: Any = None, strategy: Any = None, **limits: Any
) -> RiskLimit:
    """Set limits at one level; those not named keep their value.

    Raises:
        ValidationError: a limit outside its range, or a subject that does not match the level.
    """
    unknown = set(limits) - set(LIMIT_FIELDS)
    if unknown:
        raise TypeError(f"not limits: {', '.join(sorted(unknown))}; known are {', '.join(LIMIT_FIELDS)}")
    row = (
        RiskLimit.objects.select_for_update(no_key=True)
        .filter(level=level, user=user, account=account, strategy=strategy)
        .first()
    )
    before = {name: getattr(row, name) for name in LIMIT_FIELDS} if row else None
    row = row or RiskLimit(level=level, user=user, account=account, strategy=strategy)
    for name, value in limits.items():
        setattr(row, name, value)
    row.full_clean(validate_unique=False)
    row.save()
    subject = account or (strategy.account if strategy else None)
    record(
        actor=actor,
        action="risk_limit.set",
        subject=f"risk_limit:{row.pk}",
        account_id=subject.pk if subject else None,
        before=before,
        after={name: getattr(row, name) for name in LIMIT_FIELDS},
        parameters={"level": level},
    )
    bus.engines_doorbell("limits", row.pk)
    return row
