"""The compiled path says to the last digit what the full path says."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketdata.candles.series import CandleSeries, FundingSeries
from marketdata.events import Candle
from marketdata.instruments import InstrumentRules
from risk.exits import ExitRules
from risk.groups import SymbolGroup, SymbolGroups
from risk.limits import Limits
from strategies.base import ParameterSpec
from strategies.candle_strategy import CandleKernel, CandleStrategy
from strategies.registry import Registry
from tests.trading.backtest.candle_tests import MINUTE, NO_COSTS, NO_EXITS, START_MS, D, Scripted, bars, rules
from tests.trading.backtest.candle_tests import known_strategies as known_strategies
from tests.trading.backtest.sma_cross import SmaCross, walk
from trading.backtest.compiled import run_compiled
from trading.backtest.compiled_terms import CompiledUnfit, compiled_reason
from trading.backtest.request import BacktestRequest, Costs, Source, StrategyRun
from trading.backtest.result import BacktestResult
from trading.backtest.run import run_backtest
from trading.backtest.sweep import grid_sets, sweep

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
Case = tuple[BacktestRequest, dict[tuple[str, str], CandleSeries], dict[str, FundingSeries], dict[str, InstrumentRules]]
PRICED = ("open", "high", "low", "close", "volume")


class ToldToSignal(CandleStrategy):
    """Signals at the bar of a number: direction, take-profit, stop-loss. Its kernel is Python."""

    name: ClassVar[str] = "told"
    title: ClassVar[str] = "Told"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        ParameterSpec("timeframe", "choice", "1", "candles it watches", "minutes", choices=("1",)),
    )
    says: ClassVar[dict[int, tuple[float, float, float]]] = {}

    @classmethod
    def kernel(cls) -> CandleKernel:
        def decide(state: Any, numbers: Any, start_ms: int, *others: Any) -> bool:
            said = cls.says.get((int(start_ms) - START_MS) // MINUTE)
            if said is not None:
                others[-1][:4] = said[0], 1.0, said[1], said[2]
            return said is not None

        def run(state: Any, numbers: Any, start_ms: Any, *others: Any) -> int:
            *_, at, rows = others
            found = 0
            for bar in range(len(start_ms)):
                if decide(state, numbers, start_ms[bar], rows[found]):
                    at[found] = bar
                    found += 1
            return found

        return CandleKernel(decide, run, lambda numbers: 1)

    def reason(self, candle: Candle, side: str, notes: Mapping[str, float]) -> str:
        return "as told"


@pytest.fixture(autouse=True)
def strategies_of_tests(known_strategies: None, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Registry({"scripted": Scripted, "sma_cross": SmaCross, "told": ToldToSignal})
    for module in ("pipeline", "backtest.run", "backtest.compiled", "backtest.compiled_terms", "backtest.sweep"):
        monkeypatch.setattr(f"trading.{module}.STRATEGIES", known)


def jumping_walk(seed: int, count: int, start: float, step: float, *, gaps: bool, missing: bool) -> CandleSeries:
    """``gaps``: between a close and the next open; ``missing``: bars that are not there."""
    columns, chance = walk(seed, count, start, step), np.random.default_rng(seed + 1)
    if gaps:
        jumps = np.rint(chance.normal(0, 0.004, count) * columns["open"]).astype(np.int64)
        columns["open"] = np.maximum(columns["open"] + jumps * (chance.random(count) < 0.2), 1)
        columns["high"] = np.maximum(columns["high"], columns["open"])
        columns["low"] = np.minimum(columns["low"], columns["open"])
    columns["low"] = np.maximum(columns["low"], 1)
    kept = chance.random(count) < (0.9 if missing else 2.0)
    starts = START_MS + np.arange(count, dtype=np.int64) * MINUTE
    return CandleSeries("bybit", "BTCUSDT", "1", 1, 3, starts[kept], *(columns[name][kept] for name in PRICED))


def random_case(seed: int, counts: tuple[int, ...] = (300, 1_200)) -> Case:
    """Bars, costs, exit rules, sizes and grids of every kind."""
    pick = random.Random(seed)
    one, chance = pick.choice, pick.random
    start = one([60_000.0, 100.0, 7.3])
    series = jumping_walk(
        seed, one(counts), start, one([0.0005, 0.003, 0.01]), gaps=chance() < 0.5, missing=chance() < 0.3
    )
    exits = ExitRules(
        enabled=chance() < 0.8,
        min_profit_percent=D(one(["0.3", "0", "1.2"])),
        max_loss_percent=D(one(["2", "0.5", "0.75"])),
        trailing_take_profit=chance() < 0.7,
        take_profit_activation_percent=D(one(["1.0", "0.4"])),
        take_profit_step_percent=D(one(["0.5", "0.1"])),
        take_profit_acceleration=D(one(["1.5", "1", "2.25"])),
        trailing_stop=chance() < 0.7,
        trailing_stop_activation_percent=D(one(["2.0", "0.5"])),
        trailing_stop_distances=one([ExitRules().trailing_stop_distances, ((D("0.5"), D("0.3")), (D(1), D("0.2")))]),
        partial_exits=one(
            [(), ((D("0.5"), D(30)), (D(1), D(30)), (D(2), D(40))), ((D("0.2"), D(50)),), ((D("0.3"), D("33.3")),)]
        ),
    )
    costs = Costs(
        fee=D(one(["0.001", "0.00055", "0"])),
        slippage=D(one(["0", "0.0005"])),
        spread=D(one(["0", "0.0001", "0.00003"])),
        impact=D(one(["0", "0", "0.1"])),
        maintenance_margin=D(one(["0.005", "0.02"])),
    )
    run = StrategyRun(
        "sma_cross",
        ("BTCUSDT",),
        {
            "timeframe": one(["1", "1", "5"]),
            "fast": one([3, 5, 10]),
            "slow": one([12, 20, 30]),
            "stop": one([0.3, 1.0, 5.0]),
            "reward": one([1.5, 2.0]),
        },
        sizing_mode=one(["percent", "percent", "fixed_usd", "minimum"]),
        sizing_value=D(one(["1", "10", "33.3", "100"])),
        leverage=D(one(["1", "10", "50", "3"])),
        allow_reversal=chance() < 0.7,
        size_by_confidence=chance() < 0.3,
    )
    instrument = rules(
        tick_size=D(one(["0.1", "0.5", "0.05"])),
        lot_size=D(one(["0.001", "0.01"])),
        min_quantity=D("0.01"),
        max_market_quantity=D(one(["100", "3"])),
        min_notional=D(one(["5", "0"])),
    )
    hours = START_MS + np.arange(int(series.start_ms[-1] - START_MS) // (60 * MINUTE) + 2) * 60 * MINUTE
    funding = FundingSeries("bybit", "BTCUSDT", hours, np.random.default_rng(seed).normal(1e-4, 1e-4, len(hours)))
    asked = BacktestRequest(
        (run,),
        START_MS + one([0, 100 * MINUTE]),
        int(series.start_ms[-1]) + MINUTE - one([0, 37 * MINUTE]),
        costs=costs,
        exit_rules=exits,
        balance=D(one(["10000", "500", "1000000"])),
    )
    return asked, {("BTCUSDT", "1"): series}, {"BTCUSDT": funding}, {"BTCUSDT": instrument}


def expect_same(case: Case) -> BacktestResult:
    full, compiled = run_backtest(*case), run_compiled(*case).result()
    assert compiled.fills == full.fills
    assert compiled.trades == full.trades
    assert compiled.balance == full.balance
    assert np.array_equal(compiled.equity_ms, full.equity_ms)
    assert np.allclose(compiled.equity, full.equity, rtol=1e-12, atol=1e-9)
    assert np.allclose(compiled.exposed, full.exposed, rtol=1e-12, atol=1e-9)
    return compiled


def case_of(series: CandleSeries, says: dict[int, tuple[float, float, float]], **changes: Any) -> Case:
    ToldToSignal.says = says
    sizes = {"sizing_mode": "fixed_usd", "sizing_value": D(100)}
    run = StrategyRun("told", ("BTCUSDT",), **(sizes | changes.pop("run", {})))
    end_ms = START_MS + 1_000 * MINUTE
    values = {"costs": NO_COSTS, "exit_rules": NO_EXITS, "start_ms": START_MS, "end_ms": end_ms} | changes
    funding = values.pop("rates", {})
    return BacktestRequest((run,), **values), {("BTCUSDT", "1"): series}, funding, {"BTCUSDT": rules()}


@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
@given(seed=st.integers(0, 2**32))
def test_both_paths_give_the_same_fills_trades_and_equity(seed: int) -> None:
    expect_same(random_case(seed))


@pytest.mark.long
@settings(max_examples=600, deadline=None, suppress_health_check=QUIET)
@given(seed=st.integers(0, 2**32))
def test_both_paths_give_the_same_over_many_and_long_cases(seed: int) -> None:
    expect_same(random_case(seed, (300, 1_500, 6_000)))


@settings(max_examples=10, deadline=None, suppress_health_check=QUIET)
@given(seed=st.integers(0, 2**32))
def test_exits_found_by_the_kernel_are_those_that_decimals_find_bar_by_bar(seed: int) -> None:
    expect_same_walked(random_case(seed))


@pytest.mark.long
@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(seed=st.integers(0, 2**32))
def test_exits_found_by_the_kernel_are_those_of_decimals_over_many_cases(seed: int) -> None:
    expect_same_walked(random_case(seed, (300, 1_500)))


def expect_same_walked(case: Case) -> None:
    quick, slow = run_backtest(*case), run_backtest(*case, every_bar=True)
    assert quick.fills == slow.fills
    assert quick.trades == slow.trades
    assert quick.signals == slow.signals
    assert np.array_equal(quick.equity, slow.equity) and np.array_equal(quick.exposed, slow.exposed)


def test_random_cases_meet_every_kind_of_exit() -> None:
    met = {fill.why for seed in range(60) for fill in run_compiled(*random_case(seed)).result().fills}

    assert met >= {
        "signal", "take_profit", "stop_loss", "max_loss", "trailing_stop", "trailing_take_profit", "partial", "end",
        "liquidation",
    }  # fmt: skip


def test_a_trade_worked_out_by_hand() -> None:
    """1000 USDT at 100 are 10; bought at 100 + 0.1 %, half of 0.2 % spread aside = 100.2, sold at 110 - 0.2 % = 109.7
    (to the tick, against the order); fees 0.1 % of both."""
    series = bars([(100, 100, 100, 100), (100, 101, 99, 100), (105, 120, 104, 118), (118, 118, 118, 118)])
    costs = replace(NO_COSTS, fee=D("0.001"), slippage=D("0.001"), spread=D("0.002"))

    found = expect_same(case_of(series, {0: (1, 110, 95)}, costs=costs))

    (trade,) = found.trades
    assert (trade.entry_price, trade.exit_price, trade.quantity, trade.why) == (
        D("100.2"),
        D("109.7"),
        10,
        "take_profit",
    )
    assert trade.fees == D("1.002") + D("1.097")
    assert found.balance == 10_000 + D("95") - D("2.099")


def test_a_gap_through_the_stop_fills_where_the_bar_opens() -> None:
    series = bars([(100, 100, 100, 100), (100, 101, 99, 100), (90, 91, 89, 90)])

    (trade,) = expect_same(case_of(series, {0: (1, 110, 95)})).trades

    assert (trade.exit_price, trade.why, trade.pnl) == (D(90), "stop_loss", D(-100))


def test_funding_is_paid_at_the_open_by_what_is_held_then() -> None:
    series = bars([(100, 100, 100, 100), (100, 101, 99, 100), (102, 103, 101, 102)])
    rates = FundingSeries("bybit", "BTCUSDT", START_MS + np.array([1, 2]) * MINUTE, np.array([0.01, 0.001]))
    costs = replace(NO_COSTS, funding=True)

    (trade,) = expect_same(case_of(series, {0: (-1, 80, 110)}, costs=costs, rates={"BTCUSDT": rates})).trades

    assert trade.funding == D(10) * D(102) * D("0.001")


def test_a_position_that_the_account_cannot_bear_is_liquidated() -> None:
    """99 of the 100 USDT are margin for 99.0 at 100: equity is the maintenance margin near 99.5."""
    series = bars([(100, 100, 100, 100), (100, 100, 100, 100), (100, 100, 95, 96)])
    run = {"sizing_mode": "percent", "sizing_value": D(99), "leverage": D(100)}

    found = expect_same(case_of(series, {0: (1, 150, 70)}, run=run, balance=D(100)))

    (trade,) = found.trades
    assert trade.why == "liquidation"
    assert trade.exit_price == D("99.4")


def test_an_opposite_signal_turns_the_position_and_shares_its_fee() -> None:
    series = bars([(100, 100, 100, 100), (100, 102, 100, 102), (103, 103, 103, 103), (103, 103, 103, 103)])
    costs = replace(NO_COSTS, fee=D("0.001"))

    found = expect_same(case_of(series, {0: (1, 150, 95), 1: (-1, 50, 120)}, costs=costs))

    assert [trade.side for trade in found.trades] == ["Buy", "Sell"]
    assert found.trades[0].fees == D(10) * D(100) * D("0.001") + D(10) * D(103) * D("0.001")


def test_a_signal_that_contradicts_itself_is_left_to_the_full_path() -> None:
    series = bars([(100, 100, 100, 100)] * 3)

    with pytest.raises(CompiledUnfit, match="bar 0 contradicts itself"):
        run_compiled(*case_of(series, {0: (1, 90, 95)}))


def test_figures_with_too_many_digits_are_left_to_the_full_path() -> None:
    case = case_of(bars([(100, 100, 100, 100)] * 3), {}, run={"sizing_value": D("1.23456789012345678")})

    with pytest.raises(CompiledUnfit, match="size has too many digits"):
        run_compiled(*case)


def simple(**changes: Any) -> BacktestRequest:
    run = StrategyRun("sma_cross", ("BTCUSDT",), **changes.pop("run", {}))
    return BacktestRequest(**({"strategies": (run,), "start_ms": 0, "end_ms": 1} | changes))


TWO = (StrategyRun("sma_cross", ("BTCUSDT",)), StrategyRun("sma_cross", ("BTCUSDT",)))
GROUPED = SymbolGroups([SymbolGroup("majors", frozenset({"BTCUSDT"}), max_positions=1)])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (simple(source=Source.BOOKS), "books are tested by the full path"),
        (simple(strategies=(StrategyRun("sma_cross", ("AUSDT", "BUSDT")),)), "several strategies or symbols"),
        (simple(strategies=TWO), "several strategies or symbols"),
        (simple(strategies=(StrategyRun("scripted", ("BTCUSDT",)),)), "scripted does not decide in a compiled kernel"),
        (simple(run={"adaptive_leverage": True}), "adaptive leverage"),
        (simple(costs=Costs(latency_ms=60_000)), "longer than a bar"),
        (simple(costs=Costs(fee=D("-0.0001"))), "a fee below 0"),
        (simple(limits=Limits(max_daily_loss_percent=D(5))), "the limit max_daily_loss_percent"),
        (simple(limits=Limits(max_positions=0)), "the limit max_positions"),
        (simple(limits=Limits(trading_enabled=False)), "limits of groups or of several levels"),
        (simple(groups=GROUPED), "limits of groups or of several levels"),
    ],
)
def test_what_the_compiled_path_cannot_do_it_says_in_words(asked: BacktestRequest, words: str) -> None:
    assert words in compiled_reason(asked) or ("max_" in words and "the limit max_" in compiled_reason(asked))


def test_it_has_nothing_to_say_about_one_candle_strategy_on_one_symbol() -> None:
    assert compiled_reason(simple()) == ""
    assert compiled_reason(simple(limits=Limits(max_leverage=D(5), max_positions=3))) == ""


@pytest.mark.parametrize("seed", [3, 11])
def test_a_sweep_finds_what_each_of_its_sets_finds_alone(seed: int) -> None:
    asked, *data = random_case(seed, (6_000,))
    sets = grid_sets({"fast": [3, 8], "slow": [12, 20, 31]})

    found = sweep(asked, sets, *data)

    assert len(found) == 6
    assert sweep(asked, sets, *data, threads=1) == found
    for each, chosen in zip(found, sets, strict=True):
        run = replace(asked.strategies[0], parameters={**asked.strategies[0].parameters, **chosen})
        alone = run_compiled(replace(asked, strategies=(run,)), *data).result()
        assert (each.trades, each.pnl) == (len(alone.trades), alone.balance - asked.balance)
        assert {name: each.parameters[name] for name in chosen} == chosen
        worth = np.concatenate([[float(asked.balance)], alone.equity])
        assert each.max_drawdown == pytest.approx(float((1 - worth / np.maximum.accumulate(worth)).max()))
        days = (alone.equity_ms - 1) // (1_440 * MINUTE)
        ends = np.concatenate([worth[:1], alone.equity[np.flatnonzero(np.diff(days, append=days[-1] + 1))]])
        returns = np.diff(ends) / ends[:-1]
        expected = returns.mean() / returns.std(ddof=1) * np.sqrt(365) if returns.std(ddof=1) > 0 else None
        assert each.sharpe == (None if expected is None else pytest.approx(expected))
