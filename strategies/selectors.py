from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from strategies.models import Signal, StrategyConfig, StrategySpan


def config_named(config_id: int) -> StrategyConfig | None:
    return StrategyConfig.objects.filter(pk=config_id).first()


def signals_of(config: StrategyConfig, start: datetime, end: datetime) -> QuerySet[Signal]:
    """What a configuration signalled after ``start`` and until ``end``, oldest first."""
    return Signal.objects.filter(config=config, signalled_at__gt=start, signalled_at__lte=end).order_by("signalled_at")


def spans_of(config: StrategyConfig, start: datetime, end: datetime) -> QuerySet[StrategySpan]:
    """When engines ran a configuration, as far as that touches the time from ``start`` to ``end``."""
    return StrategySpan.objects.filter(config=config, begun__lt=end, until__gt=start)
