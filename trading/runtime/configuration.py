"""What an engine runs by, read whole from the database: frozen values that the pipeline swaps at once."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from django.db.models import Q

from marketdata.selectors import as_rules, instruments
from risk.selectors import limits_for, policies, symbol_groups
from strategies.library import STRATEGIES
from strategies.models import StrategyConfig
from trading.lifecycle import WORKING
from trading.models import Account, Mode, Order, Position
from trading.pipeline import PipelineConfiguration, RunningStrategy
from trading.selectors import stopped_by

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
    running = [running_strategy(config) for config in rows.order_by("pk") if config.strategy in STRATEGIES]
    rules = {row.symbol: as_rules(row) for row in instruments()}
    return PipelineConfiguration(
        strategies=tuple(running), rules=MappingProxyType(rules), groups=symbol_groups(), policies=policies()
    )


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
        parameters=MappingProxyType(dict(config.parameters)),
        sizing_mode=config.sizing_mode,
        sizing_value=config.sizing_value,
        leverage=config.leverage,
        allow_reversal=config.allow_reversal,
        limits=limits,
        size_by_confidence=config.size_by_confidence,
        adaptive_leverage=config.adaptive_leverage,
    )
