"""Signals that become one: in a backtest as live, before a restart as after it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from decimal import Decimal
from itertools import count
from typing import Any, ClassVar

import numpy as np
import pytest

from marketdata.candles.series import CandleSeries
from marketdata.events import BookView, Candle
from risk.exposure import Exposure
from risk.limits import Limits
from risk.policies import Policies
from strategies.base import ParameterSpec
from strategies.models import SignalPerformance
from tests import builders
from tests.trading.backtest.candle_tests import (
    MINUTE,
    START_MS,
    Scripted,
    known_strategies,
    outcome_of,
    request,
    rules,
)
from tests.trading.backtest.test_candle_runs import random_walk
from trading.backtest.bars import candle_of
from trading.backtest.request import StrategyRun
from trading.backtest.result import BacktestSignal
from trading.backtest.run import run_backtest
from trading.pipeline import Pipeline, PipelineConfiguration, PipelineResult, RunningStrategy
from trading.runtime.performance_store import PerformanceStore

__all__ = ["known_strategies"]
SYMBOLS = ("BTCUSDT", "ETHUSDT")
D = Decimal


class Buys(Scripted):
    """Buys at every third bar, for 0.8 % of profit or 0.5 % of loss."""

    name: ClassVar[str] = "buys"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = ()
    side: ClassVar[int] = 1

    @classmethod
    def create(cls, symbol: str, parameters: Mapping[str, Any]) -> Buys:
        return cls(symbol)

    def on_candle(self, candle: Candle) -> Any:
        minute = (candle.start_ms - START_MS) // MINUTE
        if minute % 3:
            return None
        far = candle.close / 1_000 * self.side
        self.says = {
            (self.symbol, minute): ("Buy" if self.side > 0 else "Sell", candle.close + 8 * far, candle.close - 5 * far)
        }
        return super().on_candle(candle)


class Sells(Buys):
    name: ClassVar[str] = "sells"
    side: ClassVar[int] = -1


@pytest.fixture(autouse=True)
def voters(known_strategies: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("trading.pipeline", "trading.backtest.run"):
        monkeypatch.setattr(f"{module}.STRATEGIES", {"buys": Buys, "sells": Sells})


def run_of(strategy: str, symbols: tuple[str, ...] = SYMBOLS) -> StrategyRun:
    return StrategyRun(strategy, symbols, sizing_mode="fixed_usd", sizing_value=D(100))


def backtest_of(series: list[CandleSeries], **changes: Any) -> tuple[BacktestSignal, ...]:
    asked = request(run_of("buys"), run_of("sells"), **changes)
    candles = {(each.symbol, each.interval): each for each in series}
    return run_backtest(asked, candles, {}, {symbol: rules(symbol) for symbol in SYMBOLS}).signals


def essence(signal: BacktestSignal) -> tuple[Any, ...]:
    words = signal.words if signal.outcome == "vetoed" else ""
    return (
        signal.time_ms,
        signal.symbol,
        signal.strategy,
        signal.side,
        signal.strength,
        signal.outcome == "vetoed",
        words,
    )


class Live:
    """An engine's pipeline: bars of symbols arrive in any order, among books and what others' strategies watch."""

    def __init__(self, alice: int, bob: int) -> None:
        numbers = count()
        self.alice, self.bob = alice, bob
        self.pipeline = Pipeline(lambda: f"{next(numbers):032x}")
        strategies = (
            *(self._running(number, alice, name, SYMBOLS) for number, name in ((1, "buys"), (2, "sells"))),
            *(self._running(number, bob, name, SYMBOLS[:1]) for number, name in ((3, "sells"), (4, "sells"))),
        )
        policies = Policies(combining=True)
        known = {symbol: rules(symbol) for symbol in SYMBOLS}
        self.pipeline.configure(PipelineConfiguration(strategies, known, policies=policies))
        for account in (alice, bob):
            self.pipeline.update_exposure(account, Exposure(known=True, equity=D(10_000), available_balance=D(10_000)))
        self.store = PerformanceStore(self.pipeline, lambda symbol: True)
        self.heard: list[PipelineResult] = []

    @staticmethod
    def _running(number: int, account: int, strategy: str, symbols: tuple[str, ...]) -> RunningStrategy:
        return RunningStrategy(
            number, 1, account, strategy, strategy, symbols, {}, "fixed_usd", D(100), D(10), True, Limits(),
        )  # fmt: skip

    def hear(self, bars: list[Candle], rng: random.Random) -> None:
        rng.shuffle(bars)
        for bar in bars:
            odd = bar.close * rng.choice([D("0.9"), D("1.1")])
            self.pipeline.on_book(
                BookView(bar.symbol, "LIVE", bar.start_ms * 10**6, 0, 1, odd, odd + D("0.1"), np.zeros(1))
            )
            found = self.pipeline.on_candle(bar)
            self.heard += [each for each in found if isinstance(each, PipelineResult)]

    def said(self) -> list[tuple[Any, ...]]:
        """Of Alice, as a backtest says it."""
        return sorted(
            (
                each.signal.time_ns // 10**6, each.signal.symbol, each.running.name, each.signal.side,
                each.signal.strength, not each.verdict.executed,
                each.verdict.reason if not each.verdict.executed else "",
            )
            for each in self.heard
            if each.running.account_id == self.alice
        )  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_a_live_run_that_was_killed_in_the_middle_weighs_as_its_backtest_does() -> None:
    """What closed while no engine ran is replayed from candles; Bob, on the same symbols, changes nothing for Alice."""
    accounts = [builders.account(builders.user(name)).pk for name in ("alice", "bob")]
    series = [random_walk(seed, 1_200, symbol) for seed, symbol in enumerate(SYMBOLS, start=3)]
    rng = random.Random(5)

    async def live() -> list[tuple[Any, ...]]:
        told: list[tuple[Any, ...]] = []
        for begun, ended in ((0, 500), (501, 1_200)):
            engine = Live(*accounts)
            await engine.store.restore()
            asked = engine.pipeline.cold()
            assert set(asked) == {(symbol, "1") for symbol in SYMBOLS}
            for symbol, _ in asked:
                mine = next(each for each in series if each.symbol == symbol)
                engine.pipeline.warm(candle_of(mine, index) for index in range(max(0, begun - 999), begun))
            assert begun == 0 or engine.pipeline.cold() == {}
            for index in range(begun, ended):
                engine.hear([candle_of(each, index) for each in series], rng)
                if index % 100 == 0 or index > 480:
                    await engine.store.flush()
            told += engine.said()
        return told

    heard = asyncio.run(live())
    found = backtest_of(series, combine=True)

    # The bar that closed while nobody listened makes no signal (500 is no third one), and is seen all the same.
    assert heard == sorted(map(essence, found)) and len(heard) > 500
    assert any("x 1.00" not in words for *_, words in heard), "weights must have moved"
    assert {each.account_id for each in SignalPerformance.objects.all()} == set(accounts)


def test_a_backtest_combines_only_where_it_is_asked_to_and_always_the_same() -> None:
    series = [random_walk(seed, 600, symbol) for seed, symbol in enumerate(SYMBOLS)]
    apart, together, again = backtest_of(series), backtest_of(series, combine=True), backtest_of(series, combine=True)
    assert "vetoed" not in {each.outcome for each in apart}
    assert together == again
    assert all(
        {one.outcome, other.outcome} & {"vetoed"} for one, other in zip(together[::2], together[1::2], strict=True)
    )


def test_one_strategy_alone_is_judged_as_ever() -> None:
    series = random_walk(2, 300, "BTCUSDT")
    alone, combined = (
        outcome_of(series, {}, request(run_of("buys", ("BTCUSDT",)), combine=combine)) for combine in (False, True)
    )
    assert (alone.signals, alone.fills) == (combined.signals, combined.fills)
