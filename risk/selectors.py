from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from django.db.models import Q

from risk.exits import ExitRules
from risk.groups import SymbolGroup as SymbolGroupValue
from risk.groups import SymbolGroups
from risk.leverage import LeverageRules
from risk.limits import NAMES, TOGETHER, Limits, combined, with_defaults
from risk.models import PositionPolicy, RiskLimit, SymbolGroup
from risk.policies import Policies


def limits_for(account: Any, strategy: Any = None) -> Limits:
    """What holds for an account's orders: its own limits (the defaults where it has none), and those of the platform,
    its owner and the strategy."""
    applies = Q(level="platform") | Q(user_id=account.owner_id) | Q(account_id=account.pk)
    if strategy is not None:
        applies |= Q(strategy_id=strategy.pk)
    levels = {row.level: as_limits(row) for row in RiskLimit.objects.filter(applies)}
    return combined(with_defaults(levels.pop("account", Limits())), **levels)


def as_limits(row: RiskLimit) -> Limits:
    return Limits(trading_enabled=row.trading_enabled, **{name: getattr(row, name) for name in NAMES})


def counts_together(level: str, **subject: Any) -> bool:
    """Whether limits of a level count what several accounts have at stake together."""
    return RiskLimit.objects.filter(_asks_for_totals(), level=level, **subject).exists()


def limited_strategies(account_id: int) -> list[str]:
    """Names of the account's strategies whose limits count what the strategy has at stake."""
    rows = RiskLimit.objects.filter(_asks_for_totals(), level="strategy", strategy__account_id=account_id)
    return list(rows.values_list("strategy__name", flat=True))


def _asks_for_totals() -> Q:
    return Q.create([(f"{name}__isnull", False) for name in TOGETHER], connector=Q.OR)


def symbol_groups() -> SymbolGroups:
    return SymbolGroups(
        SymbolGroupValue(row.name, frozenset(row.symbols), row.max_positions, row.max_notional)
        for row in SymbolGroup.objects.all()
    )


def policies() -> Policies:
    return as_policies(PositionPolicy.objects.all())


def as_policies(rows: Iterable[PositionPolicy]) -> Policies:
    exits: dict[Any, ExitRules] = {}
    leverage: dict[Any, LeverageRules] = {}
    for row in rows:
        exits[row.account_id], leverage[row.account_id] = row.exit_rules(), row.leverage_rules()
    return Policies(
        exits.pop(None, ExitRules()),
        leverage.pop(None, LeverageRules()),
        MappingProxyType(exits),
        MappingProxyType(leverage),
    )
