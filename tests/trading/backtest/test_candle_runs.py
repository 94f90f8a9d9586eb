"""What holds for every backtest over candles, whatever it trades."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketdata.candles.series import CandleSeries, FundingSeries
from marketdata.events import Candle
from risk.exits import ExitRules
from risk.limits import Limits
from strategies.candle_strategy import CandleKernel
from strategies.signals import Signal
from tests.trading.backtest import sma_cross
from tests.trading.backtest.candle_tests import (
    MINUTE,
    START_MS,
    D,
    Scripted,
    bars,
    fixed_usd,
    outcome_of,
    request,
    rules,
)
from tests.trading.backtest.candle_tests import known_strategies as known_strategies
from tests.trading.backtest.sma_cross import SmaCross, walk
from trading.backtest.errors import BacktestCancelled, BacktestError, StrategyStopped
from trading.backtest.request import BacktestRequest, Costs, StrategyRun
from trading.backtest.result import BacktestResult
from trading.backtest.run import run_backtest

SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")
EVERY = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def random_walk(seed: int, count: int, symbol: str, *, wild: float = 0.002, gaps: bool = False) -> CandleSeries:
    columns = walk(seed, count, step=wild)
    starts = START_MS + np.arange(count) * MINUTE
    series = CandleSeries("bybit", symbol, "1", 1, 3, starts, **columns)
    if not gaps:
        return series
    kept = np.random.default_rng(seed).random(count) > 0.05
    names = ("start_ms", "open", "high", "low", "close", "volume")
    return replace(series, **{name: getattr(series, name)[kept] for name in names})


def fundings(seed: int, count: int) -> dict[str, FundingSeries]:
    times = START_MS + np.arange(0, count, 60) * MINUTE
    rates = np.random.default_rng(seed).normal(0.0001, 0.0002, (len(SYMBOLS), len(times)))
    return {name: FundingSeries("bybit", name, times, rates[at]) for at, name in enumerate(SYMBOLS)}


def crossing(symbols: tuple[str, ...] = SYMBOLS, **changes: Any) -> StrategyRun:
    values: dict[str, Any] = {"parameters": {"fast": 5, "slow": 12}, "sizing_value": D(5)}
    return StrategyRun("sma_cross", symbols, **(values | changes))


EXITS = (
    ExitRules(enabled=False),
    ExitRules(),
    ExitRules(partial_exits=((D("0.5"), D(40)), (D("1.2"), D(40))), max_loss_percent=D("0.8")),
    ExitRules(
        min_profit_percent=D(2), take_profit_activation_percent=D("0.7"), trailing_stop_activation_percent=D("0.4"),
        trailing_stop_distances=((D("0.4"), D("0.3")), (D(1), D("0.5"))),
    ),
)  # fmt: skip
COSTS = Costs(fee=D("0.00055"), slippage=D("0.0003"), spread=D("0.0002"), impact=D("0.01"), latency_ms=50, funding=True)


@EVERY
@given(
    seed=st.integers(0, 10_000),
    exits=st.sampled_from(EXITS),
    leverage=st.sampled_from([D(1), D(10), D(50)]),
    limits=st.sampled_from(
        [Limits(), Limits(max_positions=2, max_daily_loss_percent=D(2), max_drawdown_percent=D(6)),
         Limits(max_correlation=D("0.1"), max_correlated_positions=1)]
    ),
    latency=st.sampled_from([50, 130_000]),
    timeframe=st.sampled_from(["1", "5"]),
)  # fmt: skip
def test_what_is_passed_over_changes_nothing(
    seed: int, exits: ExitRules, leverage: Decimal, limits: Limits, latency: int, timeframe: str
) -> None:
    count = 300 if timeframe == "1" else 600
    series = [random_walk(seed + at, count, name, gaps=at == 1) for at, name in enumerate(SYMBOLS)]
    run = crossing(leverage=leverage, parameters={"fast": 5, "slow": 12, "timeframe": timeframe})
    asked = request(run, costs=replace(COSTS, latency_ms=latency), exit_rules=exits, limits=limits)

    quick = outcome_of(series, {}, asked, funding=fundings(seed, count))
    slow = outcome_of(series, {}, asked, funding=fundings(seed, count), every_bar=True)

    assert quick.fills == slow.fills
    assert quick.trades == slow.trades
    assert quick.signals == slow.signals
    assert np.array_equal(quick.equity, slow.equity) and np.array_equal(quick.exposed, slow.exposed)
    assert quick.signals


@EVERY
@given(seed=st.integers(0, 10_000), exits=st.sampled_from(EXITS), leverage=st.sampled_from([D(5), D(50)]))
def test_the_account_is_what_its_fills_and_funding_made_of_it_at_every_step(
    seed: int, exits: ExitRules, leverage: Decimal
) -> None:
    series = [random_walk(seed + at, 150, name) for at, name in enumerate(SYMBOLS)]
    asked = request(crossing(leverage=leverage), costs=replace(COSTS, funding=False), exit_rules=exits)

    result = outcome_of(series, {}, asked)

    realised = sum((fill.realised_pnl for fill in result.fills), D(0))
    fees = sum((fill.fee for fill in result.fills), D(0))
    assert result.balance == asked.balance + realised - fees
    assert result.balance == asked.balance + sum((trade.pnl for trade in result.trades), D(0))
    assert sum((trade.fees for trade in result.trades), D(0)) == fees
    closes = {each.symbol: [each.price(units) for units in each.close] for each in series}
    for step, moment in enumerate(result.equity_ms.tolist()[:-1]):
        balance, held, paid = asked.balance, dict.fromkeys(SYMBOLS, D(0)), dict.fromkeys(SYMBOLS, D(0))
        for fill in result.fills:
            if fill.time_ms >= moment:
                continue
            signed = fill.quantity if fill.side == "Buy" else -fill.quantity
            balance -= fill.fee
            held[fill.symbol] += signed
            paid[fill.symbol] += signed * fill.price
        worth = balance + sum((held[name] * closes[name][step] - paid[name] for name in SYMBOLS), D(0))
        assert result.equity[step] == pytest.approx(float(worth), abs=1e-6)


def test_funding_is_the_rest_of_the_balance() -> None:
    series = [random_walk(at, 600, name) for at, name in enumerate(SYMBOLS)]

    result = outcome_of(series, {}, request(crossing(), costs=COSTS), funding=fundings(1, 600))

    assert any(trade.funding for trade in result.trades)
    assert result.balance == D(10_000) + sum((trade.pnl for trade in result.trades), D(0))


def digest_of(result: BacktestResult) -> str:
    told = repr((result.signals, result.fills, result.trades, result.balance, result.data, result.code))
    return hashlib.sha256(told.encode() + result.equity.tobytes() + result.exposed.tobytes()).hexdigest()


ELSEWHERE = """
from tests.trading.backtest import test_candle_runs as runs
print(runs.digest_of(runs.supertrend_run()))
"""


def supertrend_run() -> BacktestResult:
    series = {(name, "1"): random_walk(at, 400, name) for at, name in enumerate(SYMBOLS)}
    run = StrategyRun("supertrend", SYMBOLS, {"timeframe": "1"})
    asked = BacktestRequest((run,), START_MS, START_MS + 10_000 * MINUTE, costs=COSTS)
    return run_backtest(asked, series, fundings(3, 400), {name: rules(name) for name in SYMBOLS})


def test_two_processes_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    command = [sys.executable, "-c", ELSEWHERE]
    told = [
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    ]

    assert told[0] == told[1] == digest_of(supertrend_run())


def test_bars_before_the_start_warm_up_and_do_not_trade() -> None:
    series = random_walk(5, 400, "BTCUSDT")
    asked = request(crossing(("BTCUSDT",)), start_ms=START_MS + 200 * MINUTE)

    whole, late = outcome_of(series, {}, replace(asked, start_ms=START_MS)), outcome_of(series, {}, asked)

    expected = [each.time_ms for each in whole.signals if each.time_ms > asked.start_ms]
    assert [each.time_ms for each in late.signals] == expected and expected
    assert late.equity_ms[0] == asked.start_ms + MINUTE


class Stumbling(Scripted):
    name: ClassVar[str] = "scripted"

    def on_candle(self, candle: Candle) -> Signal | None:
        if candle.start_ms == START_MS + 2 * MINUTE:
            raise LookupError("no such bar")
        return None


class Endless(Scripted):
    def on_candle(self, candle: Candle) -> Signal | None:
        while True:
            candle = candle


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Stumbling, "LookupError: no such bar"), (Endless, "it did not come back in time")],
)
def test_a_strategy_that_fails_or_loops_is_stopped_with_its_name_and_line(
    kind: type[Scripted], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("trading.pipeline", "trading.backtest.run"):
        monkeypatch.setattr(f"{module}.STRATEGIES", {"scripted": kind})
    monkeypatch.setattr("trading.backtest.run.CALL_SECONDS", 0.5)

    with pytest.raises(StrategyStopped) as stopped:
        outcome_of(bars([(100, 100, 100, 100)] * 5), {})

    assert str(stopped.value).startswith(f"scripted on BTCUSDT was stopped: {words} (test_candle_runs.py:")
    assert stopped.value.where.startswith("test_candle_runs.py:")


class Clairvoyant(SmaCross):
    """Knows a bar too early, where it is given many at once."""

    @classmethod
    def kernel(cls) -> CandleKernel:
        honest = super().kernel()

        def run(state: Any, numbers: Any, start_ms: Any, *columns: Any) -> int:
            *bars_given, at, rows = columns
            found = honest.run(state, numbers, start_ms, *bars_given, at, rows)
            at[:found] = np.maximum(at[:found] - 1, 0)
            return found

        return CandleKernel(honest.decide, run, honest.state_size)


def test_a_kernel_that_asks_for_the_future_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("trading.pipeline", "trading.backtest.run"):
        monkeypatch.setattr(f"{module}.STRATEGIES", {"sma_cross": Clairvoyant})

    with pytest.raises(StrategyStopped, match="asks for the future") as stopped:
        outcome_of(random_walk(1, 300, "BTCUSDT"), {}, request(crossing(("BTCUSDT",))))

    assert "test_candle_runs.py:" in stopped.value.where


def test_a_stop_ends_it_and_progress_is_told() -> None:
    series, shares = random_walk(1, 30_000, "BTCUSDT"), []
    asked = request(crossing(("BTCUSDT",)))
    given = ({("BTCUSDT", "1"): series}, {}, {"BTCUSDT": rules()})

    run_backtest(asked, *given, progress=shares.append)
    with pytest.raises(BacktestCancelled):
        run_backtest(asked, *given, stop=lambda: True)

    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategies": (fixed_usd(("XUSDT",)),)}, "no bars of XUSDT 1"),
        ({"strategies": (StrategyRun("nobody", ("BTCUSDT",)),)}, "no strategy 'nobody'"),
        ({"strategies": (fixed_usd(sizing_mode="all"),)}, "expected one of percent, fixed_usd, minimum"),
        ({"strategies": (crossing(("BTCUSDT",), parameters={"fast": 0}),)}, "fast is 0"),
        ({"start_ms": START_MS + 10**9}, "no bar between"),
    ],
)  # fmt: skip
def test_what_cannot_be_tested_is_refused_with_what_was_wrong(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BacktestError, match=words):
        outcome_of(bars([(100, 100, 100, 100)] * 3), {}, replace(request(), **changes))


def test_the_strategy_in_these_tests_decides_alike_in_one_call_and_in_many() -> None:
    series = random_walk(2, 500, "BTCUSDT")
    strategy = sma_cross.made("BTCUSDT", timeframe="1", fast=5, slow=12, stop=1.0, reward=2.0)

    assert outcome_of(series, {}, request(crossing(("BTCUSDT",)))).signals
    assert strategy.warm_up == 12
