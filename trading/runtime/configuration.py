"""What an engine runs by, read whole from the database: frozen values that the pipeline swaps at once."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import MappingProxyType

from django.db.models import Q

from audit.models import Alert
from audit.services import alert_raise
from marketdata.selectors import as_rules, instruments
from risk.selectors import limits_for, policies, symbol_groups
from strategies.base import ParameterError, parse_parameters
from strategies.models import StrategyConfig
from strategies.registry import STRATEGIES
from strategies.services import strategy_stop
from trading.lifecycle import WORKING
from trading.models import Account, Mode, Order, Position
from trading.pipeline import PipelineConfiguration, RunningStrategy
from trading.selectors import stopped_by

log = logging.getLogger(__name__)

# Which accounts a deployment trades, by the exchange that it is pointed at.
ENVIRONMENTS = {"simulator": "simulator", "bybit-testnet": "testnet", "bybit": "live"}


def load_accounts(environment: str) -> list[Account]:
    """The accounts an engine of this environment opens; a LIVE one only on paper or after a person opted in."""
    rows = Account.objects.filter(environment=environment)
    harmless = ~Q(environment=Account.Environment.LIVE) | Q(mode=Mode.PAPER)
    return list(rows.filter(harmless | Q(live_opt_in=True)).order_by("pk"))


def load_accounts_to_stop(environment: str) -> list[Account]:
    """Those that an engine opens, and LIVE ones that a person has opted out again while something was open there."""
    holding = Position.objects.exclude(state=Position.State.CLOSED).values("account")
    working = Order.objects.filter(state__in=[str(state) for state in WORKING]).values("account")
    opened = ~Q(environment=Account.Environment.LIVE) | Q(mode=Mode.PAPER) | Q(live_opt_in=True)
    rows = Account.objects.filter(opened | Q(pk__in=holding) | Q(pk__in=working), environment=environment)
    return list(rows.order_by("pk"))


def load_configuration(environment: str) -> PipelineConfiguration:
    rows = StrategyConfig.objects.filter(enabled=True, account__environment=environment).select_related("account")
    running = [running_strategy(config) for config in rows.order_by("pk") if why_not_runnable(config) is None]
    rules = {row.symbol: as_rules(row) for row in instruments()}
    return PipelineConfiguration(
        strategies=tuple(running), rules=MappingProxyType(rules), groups=symbol_groups(), policies=policies()
    )


def why_not_runnable(config: StrategyConfig) -> str | None:
    """What runs is the code that was there when somebody enabled it, and nothing else."""
    if config.strategy not in STRATEGIES:
        return f"there is no strategy {config.strategy} now: its file is gone, or cannot be used"
    if STRATEGIES.code(config.strategy) != config.code:
        return "its file has changed since it was enabled"
    try:
        parse_parameters(STRATEGIES[config.strategy].parameters, config.parameters)
    except ParameterError as error:
        return f"its parameters are not what {config.strategy} takes now: {error}"
    return None


def stop_changed_strategies(environment: str, actor: str) -> None:
    """Take up what has changed in the strategies folder: disable enabled strategies whose file is another one now, and
    tell people of files that cannot be used. A file that is merely gone only pauses: it may be back."""
    STRATEGIES.refresh()
    for problem in STRATEGIES.problems:
        told = Alert.objects.filter(key=f"strategy_file:{problem.file}", message=str(problem), acknowledged_at=None)
        if not told.exists():
            alert_raise(
                level="warning", kind="strategy_file", message=str(problem), key=f"strategy_file:{problem.file}"
            )
    rows = StrategyConfig.objects.filter(enabled=True, account__environment=environment)
    for config in rows:
        reason = why_not_runnable(config)
        if reason is None:
            continue
        if config.strategy in STRATEGIES:
            strategy_stop(config_id=config.pk, actor=actor, reason=reason, version=config.version)
        else:
            log.error("strategy %s does not run: %s", config.name, reason)


def running_strategy(config: StrategyConfig) -> RunningStrategy:
    limits = limits_for(config.account, config)
    if config.account.trading_state == Account.TradingState.HALTED or stopped_by(config.account_id) is not None:
        limits = replace(limits, trading_enabled=False)
    return RunningStrategy(
        config_id=config.pk,
        version=config.version,
        account_id=config.account_id,
        name=config.name,
        strategy=config.strategy,
        symbols=tuple(config.symbols),
        # Typed: JSON keeps floats as text, so that audit hashes never depend on how one is written.
        parameters=MappingProxyType(parse_parameters(STRATEGIES[config.strategy].parameters, config.parameters)),
        sizing_mode=config.sizing_mode,
        sizing_value=config.sizing_value,
        leverage=config.leverage,
        allow_reversal=config.allow_reversal,
        limits=limits,
        size_by_confidence=config.size_by_confidence,
        adaptive_leverage=config.adaptive_leverage,
        code=config.code,
    )
