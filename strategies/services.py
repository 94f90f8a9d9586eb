from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from audit import bus
from audit.services import alert_raise, as_json, insert_together, record
from marketdata.instruments import Violation
from marketdata.selectors import instrument_by_symbol
from strategies.base import ParameterError, parse_parameters
from strategies.models import Signal, SignalPerformance, StrategyConfig, StrategySpan
from strategies.registry import STRATEGIES
from strategies.signals import Signal as SignalValue
from strategies.weights import Combining

CHANGEABLE = (
    "symbols",
    "parameters",
    "sizing_mode",
    "sizing_value",
    "size_by_confidence",
    "leverage",
    "adaptive_leverage",
    "allow_reversal",
)


class StrategyConfigRefused(Exception):
    """A configuration that must not be: each violation names the field, its value and the rule."""

    def __init__(self, found: list[Violation]) -> None:
        self.violations = tuple(found)
        super().__init__("; ".join(f"{each.field} {each.value}: {each.rule}" for each in found))


@transaction.atomic
def strategy_config_create(
    *,
    account: Any,
    name: str,
    strategy: str,
    symbols: list[str],
    parameters: Mapping[str, Any],
    sizing_mode: str,
    sizing_value: Decimal,
    leverage: Decimal,
    actor: str,
    user: Any = None,
    allow_reversal: bool = True,
    size_by_confidence: bool = False,
    adaptive_leverage: bool = False,
) -> StrategyConfig:
    config = StrategyConfig(
        account=account,
        name=name,
        strategy=strategy,
        symbols=list(symbols),
        parameters=dict(parameters),
        sizing_mode=sizing_mode,
        sizing_value=sizing_value,
        leverage=leverage,
        allow_reversal=allow_reversal,
        size_by_confidence=size_by_confidence,
        adaptive_leverage=adaptive_leverage,
        created_by=user,
    )
    _refuse_violations(config)
    config.save()
    _recorded(config, "strategy.created", actor, before=None)
    return config


@transaction.atomic
def strategy_config_update(*, config: StrategyConfig, actor: str, **changes: Any) -> StrategyConfig:
    """Change a configuration as a whole: a bad value changes nothing. Running engines take the new version up."""
    unknown = set(changes) - set(CHANGEABLE)
    if unknown:
        rule = f"cannot be changed; {', '.join(CHANGEABLE)} can"
        raise StrategyConfigRefused([Violation(name, str(changes[name]), rule) for name in sorted(unknown)])
    config = StrategyConfig.objects.select_for_update(no_key=True).get(pk=config.pk)
    before = _snapshot(config)
    for name, value in changes.items():
        setattr(config, name, value)
    _refuse_violations(config)
    config.version += 1
    config.save()
    _recorded(config, "strategy.changed", actor, before=before)
    return config


@transaction.atomic
def strategy_enable(*, config: StrategyConfig, actor: str) -> StrategyConfig:
    return _set_enabled(config, True, actor)


@transaction.atomic
def strategy_stop(*, config_id: int, actor: str, reason: str, where: str = "", version: int | None = None) -> bool:
    """Disable a strategy that must not go on, and alert people; False where it was disabled already, or is another
    ``version`` by now than the one that the reason is about."""
    config = StrategyConfig.objects.select_for_update(no_key=True).filter(pk=config_id, enabled=True).first()
    if config is None or version not in (None, config.version):
        return False
    config.enabled = False
    config.save(update_fields=["enabled", "updated_at"])
    alert_raise(
        level="critical",
        kind="strategy_stopped",
        message=f"{config.name} ({config.strategy}) is disabled: {reason}. Its open positions stay; enable it again "
        "when the cause is gone",
        account_id=config.account_id,
        detail={"config": config.pk, "strategy": config.strategy, "where": where, "reason": reason},
        key=f"strategy_stopped:{config.pk}",
    )
    _recorded(config, "strategy.stopped", actor, before={"enabled": True}, reason=reason)
    return True


@transaction.atomic
def strategy_disable(*, config: StrategyConfig, actor: str) -> StrategyConfig:
    """Stop new signals; open orders and positions stay as they are."""
    return _set_enabled(config, False, actor)


def _set_enabled(config: StrategyConfig, enabled: bool, actor: str) -> StrategyConfig:
    config = StrategyConfig.objects.select_for_update(no_key=True).get(pk=config.pk)
    if config.enabled == enabled:
        return config
    if enabled:
        _refuse_violations(config)
        # The code that was there when somebody said so is what may run; engines stop another one.
        config.code = STRATEGIES.code(config.strategy)
    config.enabled = enabled
    config.save(update_fields=["enabled", "code", "updated_at"])
    _recorded(config, "strategy.enabled" if enabled else "strategy.disabled", actor, before={"enabled": not enabled})
    return config


def checked_config(config: StrategyConfig) -> StrategyConfig:
    """The configuration with typed parameters, changed nowhere yet.

    Raises:
        StrategyConfigRefused: with every field that breaks a rule.
    """
    _refuse_violations(config)
    return config


def _refuse_violations(config: StrategyConfig) -> None:
    found: list[Violation] = []
    factory = STRATEGIES.refresh().get(config.strategy)
    if factory is None:
        found.append(Violation("strategy", config.strategy, f"must be one of {', '.join(sorted(STRATEGIES))}"))
    else:
        try:
            config.parameters = as_json(parse_parameters(factory.parameters, config.parameters))
        except ParameterError as error:
            found.append(Violation(f"parameters.{error.name}", str(error.value), error.rule))
    if not isinstance(config.symbols, list) or not config.symbols:
        found.append(Violation("symbols", str(config.symbols), "must name at least one symbol"))
    else:
        found += [
            Violation("symbols", str(symbol), "not an instrument that this deployment trades")
            for symbol in config.symbols
            if not isinstance(symbol, str) or "\0" in symbol or instrument_by_symbol(symbol) is None
        ]
        if not found and len(set(config.symbols)) < len(config.symbols):
            found.append(Violation("symbols", ", ".join(config.symbols), "must name each symbol once"))
    if config.sizing_value <= 0:
        found.append(Violation("sizing_value", str(config.sizing_value), "must be above 0"))
    if not 1 <= config.leverage <= 50:
        found.append(Violation("leverage", str(config.leverage), "must be 1 to 50"))
    try:
        config.clean_fields(exclude=["account", "created_by", "parameters", "symbols"])
    except ValidationError as error:
        found += [
            Violation(name, str(getattr(config, name)), "; ".join(texts)) for name, texts in error.message_dict.items()
        ]
    if found:
        raise StrategyConfigRefused(found)


def _snapshot(config: StrategyConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in (*CHANGEABLE, "enabled", "version", "code")}


def _recorded(
    config: StrategyConfig, action: str, actor: str, *, before: Mapping[str, Any] | None, reason: str = ""
) -> None:
    record(
        actor=actor,
        action=action,
        subject=f"strategy:{config.pk}",
        account_id=config.account_id,
        reason=reason,
        before=before,
        after=_snapshot(config),
        parameters={"name": config.name, "strategy": config.strategy},
    )
    bus.engines_doorbell("strategies", config.pk)
    bus.account_changed(config.account_id, "strategy", config.pk)


def signal_record(
    *,
    account_id: int,
    config_id: int | None,
    signal: SignalValue,
    outcome: str,
    verdict: Mapping[str, Any],
    refusals: list[dict[str, str]],
    trace_id: str,
    lease_epoch: int | None = None,
    reference_price: Decimal | None = None,
    signal_id: int | None = None,
    mode: str = "real",
    code: str = "",
) -> Signal:
    """Keep what a strategy wanted and what became of it. Call it inside the transaction that books the order; with the
    key that its row shall have it is written together with the audit trail."""
    row = Signal(
        pk=signal_id,
        account_id=account_id,
        mode=mode,
        config_id=config_id,
        strategy=signal.strategy,
        code=code,
        symbol=signal.symbol,
        side=signal.side,
        strength=signal.strength,
        entry_price=signal.entry_price,
        take_profit=signal.take_profit,
        stop_loss=signal.stop_loss,
        reason=signal.reason,
        metadata=as_json(signal.metadata),
        signalled_at=datetime.fromtimestamp(signal.time_ns / 1e9, tz=UTC),
        outcome=outcome,
        verdict=as_json(verdict),
        refusals=refusals,
        trace_id=trace_id,
        lease_epoch=lease_epoch,
        reference_price=reference_price,
    )
    if signal_id is None:
        row.save(force_insert=True)
    else:
        insert_together(row)
    _signal_recorded(row)
    return row


def signal_settle(*, signal_id: int, outcome: str, refusals: list[dict[str, str]]) -> Signal | None:
    """The owner's answer to a pending signal; None when it was given before. Call it inside the transaction that books
    the order."""
    row = Signal.objects.select_for_update(no_key=True).get(pk=signal_id)
    if row.outcome != Signal.Outcome.PENDING:
        return None
    row.outcome, row.refusals = outcome, refusals
    row.save(update_fields=["outcome", "refusals"])
    _signal_recorded(row)
    return row


def _signal_recorded(row: Signal) -> None:
    record(
        actor=f"strategy:{row.strategy}",
        action=f"signal.{row.outcome}",
        subject=f"signal:{row.pk}",
        account_id=row.account_id,
        reason=row.reason,
        trace_id=row.trace_id,
        parameters={
            "symbol": row.symbol,
            "side": row.side,
            "verdict": row.verdict,
            "refusals": row.refusals,
            "lease_epoch": row.lease_epoch,
        },
    )
    bus.account_changed(row.account_id, "signal", row.pk)


def spans_store(spans: Iterable[StrategySpan]) -> None:
    """Keep what engines told strategies: new stretches, and how far those of before have come. Those of configurations
    that are gone are left out."""
    many = list(spans)
    there = set(StrategyConfig.objects.filter(pk__in={each.config_id for each in many}).values_list("pk", flat=True))
    known = [each for each in many if each.config_id in there]
    StrategySpan.objects.bulk_create([each for each in known if each.pk is None])
    StrategySpan.objects.bulk_update([each for each in known if each.pk is not None], ["until"])


def performances_store(*, states: Mapping[tuple[int, str], Mapping[str, Any]], rules: Combining) -> None:
    """Keep what an engine has learnt of signals' results, by account and symbol: the last that is told stands."""
    now = timezone.now()
    kept = asdict(rules)
    SignalPerformance.objects.bulk_create(
        [
            SignalPerformance(account_id=account, symbol=symbol, rules=kept, state=state, updated_at=now)
            for (account, symbol), state in sorted(states.items(), key=lambda item: item[0])
        ],
        update_conflicts=True,
        unique_fields=["account", "symbol"],
        update_fields=["rules", "state", "updated_at"],
    )
