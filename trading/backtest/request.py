"""What a backtest is asked: a value that names everything its result depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from risk.exits import ExitRules
from risk.groups import SymbolGroups
from risk.limits import Limits


class Source(StrEnum):
    """What it is tested on."""

    CANDLES = "candles"
    TRADES = "trades"
    BOOKS = "books"


@dataclass(frozen=True, slots=True)
class Costs:
    """What trading costs, fractions of a trade's worth: ``fee`` of takers, ``maker_fee`` of resting orders, ``spread``
    between best bid and ask, ``slippage`` beyond them. ``impact``: how far an order as large as the bar's volume
    moves the price (it grows with the square root of the share); ``latency_ms`` from signal to market.
    ``maintenance_margin``: the share of a position's worth below which it is liquidated. Of a book recording spread,
    slippage and impact are in the book itself and not asked for."""

    fee: Decimal = Decimal("0.001")
    maker_fee: Decimal = Decimal("0.001")
    slippage: Decimal = Decimal("0.0005")
    spread: Decimal = Decimal(0)
    impact: Decimal = Decimal(0)
    latency_ms: int = 50
    funding: bool = True
    maintenance_margin: Decimal = Decimal("0.005")


@dataclass(frozen=True, slots=True)
class StrategyRun:
    """One strategy on some symbols; fields as those of a strategy's configuration. ``limits``: those of its own level,
    which count what it has at stake of the account; None: it has none."""

    strategy: str
    symbols: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    name: str = ""
    sizing_mode: str = "percent"
    sizing_value: Decimal = Decimal(1)
    leverage: Decimal = Decimal(10)
    allow_reversal: bool = True
    size_by_confidence: bool = False
    adaptive_leverage: bool = False
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class BacktestRequest:
    """``start_ms`` to ``end_ms`` (exclusive), milliseconds UTC. ``interval`` is that of the bars that prices move by
    (``Source.CANDLES``); strategies of longer timeframes get bars made of those. ``balance`` in USDT.
    ``recording``: the name of what books and trades are read from; ``accept_gaps``: also where it has holes or errors.
    ``combine``: signals of several strategies on one symbol at one moment become one (``strategies.weights``).
    """

    strategies: tuple[StrategyRun, ...]
    start_ms: int
    end_ms: int
    source: Source = Source.CANDLES
    venue: str = "bybit"
    interval: str = "1"
    balance: Decimal = Decimal(10_000)
    costs: Costs = field(default_factory=Costs)
    limits: Limits = field(default_factory=Limits)
    exit_rules: ExitRules = field(default_factory=ExitRules)
    groups: SymbolGroups = field(default_factory=SymbolGroups)
    recording: str = ""
    accept_gaps: bool = False
    seed: int = 7
    combine: bool = False

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(sorted({symbol for run in self.strategies for symbol in run.symbols}))
