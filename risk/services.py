from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.db.models import Q

from audit import bus
from audit.services import record
from risk.limits import NAMES, Limits
from risk.models import PositionPolicy, RiskLimit, SymbolGroup
from risk.selectors import as_limits

LIMIT_FIELDS = ("trading_enabled", *NAMES, "group_limits")
GROUP_FIELDS = ("symbols", "max_positions", "max_notional")
POLICY_FIELDS = tuple(
    field.name for field in PositionPolicy._meta.concrete_fields if field.name not in ("id", "account", "updated_at")
)


@transaction.atomic
def risk_limit_set(
    *, level: str, actor: str, user: Any = None, account: Any = None, strategy: Any = None, **limits: Any
) -> RiskLimit:
    """Set limits at one level; those not named keep their value.

    Raises:
        ValidationError: a limit outside its range, or a subject that does not match the level.
    """
    _refuse_unknown("limits", limits, LIMIT_FIELDS)
    row = (
        RiskLimit.objects.select_for_update(no_key=True)
        .filter(level=level, user=user, account=account, strategy=strategy)
        .first()
    )
    before = _values(row, LIMIT_FIELDS) if row else None
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
        after=_values(row, LIMIT_FIELDS),
        parameters={"level": level},
    )
    bus.engines_doorbell("limits", row.pk)
    return row


def shared_limits_locked(owner_id: int) -> dict[str, Limits]:
    """The limits of a user and of the platform that count the orders of several accounts together, by level, locked
    until the caller's transaction ends: two who commit orders under one of them do so one after the other. Lock the
    account's lease first, the audit chain last."""
    rows = RiskLimit.objects.select_for_update(no_key=True).filter(Q(level="platform") | Q(user_id=owner_id))
    levels = {row.level: as_limits(row) for row in rows.order_by("pk")}
    return {level: limits for level, limits in levels.items() if limits.counts_together}


@transaction.atomic
def symbol_group_set(*, name: str, actor: str, **values: Any) -> SymbolGroup:
    """Make or change a group of symbols; what is not named keeps its value.

    Raises:
        ValidationError: a symbol that is none, or a limit outside its range.
    """
    _refuse_unknown("of a group", values, GROUP_FIELDS)
    row = SymbolGroup.objects.select_for_update(no_key=True).filter(name=name).first()
    before = _values(row, GROUP_FIELDS) if row else None
    row = row or SymbolGroup(name=name)
    for field, value in values.items():
        setattr(row, field, value)
    row.full_clean(validate_unique=False)
    row.save()
    record(
        actor=actor,
        action="symbol_group.set",
        subject=f"symbol_group:{name}",
        before=before,
        after=_values(row, GROUP_FIELDS),
    )
    bus.engines_doorbell("limits", row.pk)
    return row


@transaction.atomic
def position_policy_set(*, actor: str, account: Any = None, **values: Any) -> PositionPolicy:
    """Say how the positions of an account (None: of all accounts without a policy) end; what is not named keeps its
    value.

    Raises:
        ValidationError: a value outside its range.
    """
    _refuse_unknown("of a position policy", values, POLICY_FIELDS)
    row = PositionPolicy.objects.select_for_update(no_key=True).filter(account=account).first()
    before = _values(row, POLICY_FIELDS) if row else None
    row = row or PositionPolicy(account=account)
    for field, value in values.items():
        setattr(row, field, value)
    row.full_clean(validate_unique=False, validate_constraints=False)
    row.save()
    record(
        actor=actor,
        action="position_policy.set",
        subject=f"position_policy:{row.pk}",
        account_id=account.pk if account else None,
        before=before,
        after=_values(row, POLICY_FIELDS),
    )
    bus.engines_doorbell("limits", row.pk)
    return row


def _values(row: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _refuse_unknown(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = set(given) - set(known)
    if unknown:
        raise TypeError(f"not {what}: {', '.join(sorted(unknown))}; known are {', '.join(known)}")
