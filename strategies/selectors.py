from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from strategies.models import Signal, SignalPerformance, StrategyConfig, StrategySpan
from strategies.weights import Combining


def config_named(config_id: int) -> StrategyConfig | None:
    return StrategyConfig.objects.filter(pk=config_id).first()


def configs_beside(config: StrategyConfig) -> list[StrategyConfig]:
    """It, and what else runs on its account: in the order in which an engine asks them."""
    enabled = StrategyConfig.objects.filter(account_id=config.account_id).filter(Q(enabled=True) | Q(pk=config.pk))
    return list(enabled.order_by("pk"))


def signals_of(config: StrategyConfig, start: datetime, end: datetime) -> QuerySet[Signal]:
    """What a configuration signalled after ``start`` and until ``end``, oldest first."""
    return Signal.objects.filter(config=config, signalled_at__gt=start, signalled_at__lte=end).order_by("signalled_at")


def spans_of(config: StrategyConfig, start: datetime, end: datetime) -> QuerySet[StrategySpan]:
    """When engines ran a configuration, as far as that touches the time from ``start`` to ``end``."""
    return StrategySpan.objects.filter(config=config, begun__lt=end, until__gt=start)


def performance_states(keys: Collection[tuple[int, str]], rules: Combining) -> dict[tuple[int, str], dict[str, Any]]:
    """What was kept of accounts and symbols, as far as it was learnt by these rules."""
    accounts, symbols = {account for account, _ in keys}, {symbol for _, symbol in keys}
    rows = SignalPerformance.objects.filter(account_id__in=accounts, symbol__in=symbols, rules=asdict(rules))
    found = {(row.account_id, row.symbol): row.state for row in rows}
    return {key: found[key] for key in keys if key in found}
