from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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
    return _combined(RiskLimit.objects.filter(applies))


def watched_limits(accounts: Collection[Any]) -> dict[int, tuple[Limits, Mapping[str, Limits]]]:
    """By account: :func:`limits_for` it, and the limits of its strategies by their names. In one query: asked every
    second."""
    owners, identifiers = {account.owner_id for account in accounts}, [account.pk for account in accounts]
    applies = Q(level="platform") | Q(user_id__in=owners) | Q(account_id__in=identifiers)
    found = list(RiskLimit.objects.filter(applies | Q(strategy__account_id__in=identifiers)).select_related("strategy"))
    strategies: dict[int, dict[str, Limits]] = {pk: {} for pk in identifiers}
    for row in found:
        if row.strategy is not None:
            strategies[row.strategy.account_id][row.strategy.name] = as_limits(row)
    return {
        account.pk: (
            _combined(
                row
                for row in found
                if row.level == "platform"
                or (row.level == "user" and row.user_id == account.owner_id)
                or (row.level == "account" and row.account_id == account.pk)
            ),
            MappingProxyType(strategies[account.pk]),
        )
        for account in accounts
    }


def _combined(rows: Iterable[RiskLimit]) -> Limits:
    levels = {row.level: as_limits(row) for row in rows}
    return combined(with_defaults(levels.pop("account", Limits())), **levels)


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


def totals_asked(accounts: Collection[Any]) -> dict[int, TotalsAsked]:
    """By account, in one query: this is asked whenever an account's books change."""
    asked = Q.create([(f"{name}__isnull", False) for name in TOGETHER], connector=Q.OR) | ~Q(group_limits={})
    owners, identifiers = {account.owner_id for account in accounts}, [account.pk for account in accounts]
    concerns = Q(level="platform") | Q(user_id__in=owners) | Q(strategy__account_id__in=identifiers)
    values = ("level", "user_id", "strategy__account_id", "strategy__name")
    rows = list(RiskLimit.objects.filter(asked, concerns).values_list(*values))
    platform = any(level == "platform" for level, *_ in rows)
    users = {user for level, user, *_ in rows if level == "user"}
    return {
        account.pk: TotalsAsked(
            tuple(name for level, _, of, name in rows if level == "strategy" and of == account.pk),
            account.owner_id in users,
            platform,
        )
        for account in accounts
    }


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
    combining: dict[Any, bool] = {}
    for row in rows:
        exits[row.account_id], leverage[row.account_id] = row.exit_rules(), row.leverage_rules()
        combining[row.account_id] = row.combine_signals
    return Policies(
        exits.pop(None, ExitRules()),
        leverage.pop(None, LeverageRules()),
        MappingProxyType(exits),
        MappingProxyType(leverage),
        combining.pop(None, False),
        MappingProxyType(combining),
    )
