"""What tests of candle backtests are made of: bars by hand, strategies that say what they are told to, requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pytest

from marketdata.candles.series import CandleSeries, FundingSeries
from marketdata.events import Candle
from marketdata.instruments import InstrumentRules
from risk.exits import ExitRules
from strategies.base import ParameterSpec, QuietStrategy
from strategies.signals import Signal
from tests.trading.backtest.sma_cross import SmaCross
from trading.backtest.request import BacktestRequest, Costs, StrategyRun
from trading.backtest.result import BacktestResult
from trading.backtest.run import run_backtest

START_MS = 1_700_006_400_000  # 2023-11-15 00:00 UTC
MINUTE = 60_000
D = Decimal
RULES = InstrumentRules(
    symbol="BTCUSDT", tick_size=D("0.1"), lot_size=D("0.001"), min_quantity=D("0.001"), max_quantity=D(1000),
    max_market_quantity=D(200), min_notional=D(5), min_price=D("0.1"), max_price=D(2_000_000), max_leverage=D(100),
)  # fmt: skip
NO_COSTS = Costs(fee=D(0), slippage=D(0), spread=D(0), latency_ms=0, funding=False)
NO_EXITS = ExitRules(enabled=False)
Say = tuple[str, str, str]


class Scripted(QuietStrategy):
    """Signals what it is told to, at the end of the bar of that number: side, take-profit, stop-loss, strength."""

    name: ClassVar[str] = "scripted"
    title: ClassVar[str] = "Scripted"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = ()
    says: ClassVar[dict[tuple[str, int], tuple[Any, ...]]] = {}

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol

    @classmethod
    def create(cls, symbol: str, parameters: Mapping[str, Any]) -> Scripted:
        return cls(symbol)

    @property
    def timeframe(self) -> str:
        return "1"

    def on_candle(self, candle: Candle) -> Signal | None:
        said = self.says.get((self.symbol, (candle.start_ms - START_MS) // MINUTE))
        if said is None:
            return None
        side, take_profit, stop_loss, *strength = said
        return Signal(
            "scripted", self.symbol, side, strength[0] if strength else 1.0, candle.close, D(take_profit), D(stop_loss),
            "as told", (candle.start_ms + MINUTE) * 1_000_000,
        )  # fmt: skip


def bars(rows: Sequence[Sequence[float]], symbol: str = "BTCUSDT", volume: int = 1_000, first: int = 0) -> CandleSeries:
    """Bars of one minute, each open, high, low, close with one decimal, from START_MS on."""
    prices = np.rint(np.array(rows, dtype=np.float64) * 10).astype(np.int64)
    starts = START_MS + (first + np.arange(len(rows))) * MINUTE
    columns = [np.ascontiguousarray(prices[:, column]) for column in range(4)]
    return CandleSeries("bybit", symbol, "1", 1, 0, starts, *columns, np.full(len(rows), volume))


def rules(symbol: str = "BTCUSDT", **changes: Any) -> InstrumentRules:
    return replace(RULES, symbol=symbol, **changes)


def request(*runs: StrategyRun, **changes: Any) -> BacktestRequest:
    values: dict[str, Any] = {
        "strategies": runs or (fixed_usd(),),
        "start_ms": START_MS,
        "end_ms": START_MS + 2_000_000 * MINUTE,
        "costs": NO_COSTS,
        "exit_rules": NO_EXITS,
    }
    return BacktestRequest(**(values | changes))


def fixed_usd(symbols: tuple[str, ...] = ("BTCUSDT",), **changes: Any) -> StrategyRun:
    """100 USDT of margin, ten times as much of the coin."""
    values = {"strategy": "scripted", "symbols": symbols, "sizing_mode": "fixed_usd", "sizing_value": D(100)}
    return StrategyRun(**(values | changes))


def outcome_of(
    series: CandleSeries | Sequence[CandleSeries],
    says: Mapping[int | tuple[str, int], tuple[Any, ...]],
    asked: BacktestRequest | None = None,
    *,
    funding: Mapping[str, FundingSeries] | None = None,
    instruments: Mapping[str, InstrumentRules] | None = None,
    every_bar: bool = False,
) -> BacktestResult:
    each = [series] if isinstance(series, CandleSeries) else list(series)
    Scripted.says = {key if isinstance(key, tuple) else (each[0].symbol, key): said for key, said in says.items()}
    return run_backtest(
        asked or request(),
        {(one.symbol, one.interval): one for one in each},
        funding or {},
        instruments or {one.symbol: rules(one.symbol) for one in each},
        every_bar=every_bar,
    )


@pytest.fixture(autouse=True)
def known_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"scripted": Scripted, "sma_cross": SmaCross}
    for module in ("trading.pipeline", "trading.backtest.run"):
        monkeypatch.setattr(f"{module}.STRATEGIES", known)
