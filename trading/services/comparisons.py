"""Backtests that are asked for to be held against what was live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction

from marketdata.instruments import Violation
from risk.selectors import limits_for, policies
from strategies.models import Signal, StrategyConfig, StrategySpan
from trading.backtest.request_json import LIMITS, RequestInvalid, as_ms, iso, plain
from trading.models import BacktestRun, EquitySnapshot
from trading.services.backtests import backtest_create

MINUTE = timedelta(minutes=1)
MOST_DAYS = 31
PLAIN = ("strategy", "parameters", "name", "allow_reversal", "size_by_confidence", "adaptive_leverage")


def configured(config: StrategyConfig) -> dict[str, Any]:
    """A strategy as it is configured, as the API takes it."""
    return {
        **{name: getattr(config, name) for name in PLAIN},
        "symbols": list(config.symbols),
        "sizing_mode": str(config.sizing_mode),
        "sizing_value": f"{config.sizing_value:f}",
        "leverage": f"{config.leverage:f}",
    }


def account_terms(config: StrategyConfig, moment: datetime) -> dict[str, Any]:
    """The account's limits and exit rules as they are now, and what it was worth at a moment, as the API takes them."""
    account = config.account
    limits, exits = limits_for(account, config), policies().exit_rules(account.pk)
    balance = worth_at(config, moment)
    return {
        "limits": {name: plain(getattr(limits, name)) for name in LIMITS},
        "exit_rules": {each.name: plain(getattr(exits, each.name)) for each in fields(exits)},
        **({} if balance is None else {"balance": f"{balance:f}"}),
    }


def worth_at(config: StrategyConfig, moment: datetime) -> Decimal | None:
    """The account's equity then, or when it was first known; None where it never was."""
    account = config.account
    points = EquitySnapshot.objects.filter(account=account, mode=account.mode, equity__gt=0)
    point = points.filter(taken_at__lte=moment).order_by("-taken_at").first() or points.order_by("taken_at").first()
    return None if point is None else Decimal(point.equity)


def live_time(config: StrategyConfig) -> tuple[datetime, datetime] | None:
    """From when to when engines ran a configuration: of the last 31 days before the end of that."""
    spans = StrategySpan.objects.filter(config=config)
    signals = Signal.objects.filter(config=config)
    last = max(
        [*spans.order_by("-until").values_list("until", flat=True)[:1],
         *signals.order_by("-signalled_at").values_list("signalled_at", flat=True)[:1]],
        default=None,
    )  # fmt: skip
    if last is None:
        return None
    earliest = last - timedelta(days=MOST_DAYS)
    said = signals.filter(signalled_at__gt=earliest).order_by("signalled_at").values_list("signalled_at", flat=True)[:1]
    # A signal is of the bar before it.
    first = min(
        [*spans.filter(until__gt=earliest).order_by("begun").values_list("begun", flat=True)[:1],
         *(each - MINUTE for each in said)]
    )  # fmt: skip
    first_ms, last_ms = max(as_ms(first), as_ms(earliest)), as_ms(last)
    minute_ms = MINUTE // timedelta(milliseconds=1)
    start_ms, end_ms = first_ms // minute_ms * minute_ms, -(-last_ms // minute_ms) * minute_ms
    return (
        datetime.fromtimestamp(start_ms / 1_000, UTC),
        datetime.fromtimestamp(max(end_ms, start_ms + minute_ms) / 1_000, UTC),
    )


@transaction.atomic
def comparison_create(*, owner: Any, config: StrategyConfig, data: Mapping[str, Any] | None = None) -> BacktestRun:
    """A backtest of a configuration on its account's terms, whose signals are held against those of engines; whoever
    calls has asked whether the owner may see the configuration, and sends it to a worker after the commit. ``data``:
    ``start`` and ``end`` (all that engines ran of the last month), ``costs``.

    Raises:
        RequestInvalid: with every field that breaks a rule; no engine ever ran it.
        BacktestRefused: the owner has too many waiting already.
    """
    given = dict(data or {})
    unknown = sorted(set(given) - {"start", "end", "costs"})
    if unknown:
        raise RequestInvalid([Violation(unknown[0], "", "unknown field; known are start, end, costs")])
    span = live_time(config)
    if span is None:
        rule = "has no signals on record: no engine has run it yet, live or on paper; enable it first"
        raise RequestInvalid([Violation("strategy", config.name, rule)])
    asked = {
        "strategies": [configured(config)],
        "start": iso(as_ms(span[0])),
        "end": iso(as_ms(span[1])),
        **account_terms(config, span[0]),
        **given,
    }
    run = backtest_create(owner=owner, data=asked, name=f"{config.name}: live and tested"[:80])
    run.compares = config
    run.save(update_fields=["compares"])
    return run
