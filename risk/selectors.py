from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from django.db.models import Q

from risk.exits import ExitRules
from risk.groups import GroupLimit, SymbolGroups
from risk.groups import SymbolGroup as SymbolGroupValue
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


def watched_limits(account: Any) -> tuple[Limits, Mapping[str, Limits]]:
    """:func:`limits_for` an account, and the limits of its strategies by their names. In one query: asked every
    second."""
    applies = Q(level="platform") | Q(user_id=account.owner_id) | Q(account_id=account.pk)
    rows = RiskLimit.objects.filter(applies | Q(strategy__account_id=account.pk)).select_related("strategy")
    levels, strategies = {}, {}
    for row in rows:
        if row.strategy is not None:
            strategies[row.strategy.name] = as_limits(row)
        else:
            levels[row.level] = as_limits(row)
    return combined(with_defaults(levels.pop("account", Limits())), **levels), MappingProxyType(strategies)


def as_limits(row: RiskLimit) -> Limits:
    groups = {
        name: GroupLimit(
            each.get("max_positions"),
            None if each.get("max_notional") is None else Decimal(str(each["max_notional"])),
        )
        for name, each in row.group_limits.items()
    }
    return Limits(
        trading_enabled=row.trading_enabled,
        group_limits=MappingProxyType(groups),
        **{name: getattr(row, name) for name in NAMES},
    )


@dataclass(frozen=True, slots=True)
class TotalsAsked:
    """Which levels have limits on what counts together with an account's orders: names of its strategies, its user's,
    the platform's."""

    strategies: tuple[str, ...]
    user: bool
    platform: bool


def totals_asked(account: Any) -> TotalsAsked:
    """In one query: this is asked whenever the account's books change."""
    asked = Q.create([(f"{name}__isnull", False) for name in TOGETHER], connector=Q.OR) | ~Q(group_limits={})
    concerns = Q(level="platform") | Q(user_id=account.owner_id) | Q(strategy__account_id=account.pk)
    rows = list(RiskLimit.objects.filter(asked, concerns).values_list("level", "strategy__name"))
    levels = {level for level, _ in rows}
    strategies = tuple(name for level, name in rows if level == "strategy")
    return TotalsAsked(strategies, "user" in levels, "platform" in levels)


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
