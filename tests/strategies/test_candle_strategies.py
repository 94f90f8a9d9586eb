"""Strategies of candles decide by the bars so far alone, live as in a backtest, and what they say can be ordered."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.base import parse_parameters
from strategies.candle_strategy import CandleStrategy
from strategies.library import STRATEGIES
from tests.strategies.bars import Bars, at_once, bar_by_bar, hostile, real, rows_at_once, strategy, walk

# Of each, parameters with which a few hundred bars of a walk signal often.
LIVELY: dict[str, dict[str, Any]] = {
    "supertrend": {"period": 5, "multiplier": 1.5},
    "momentum.breakout": {
        "lookback": 20,
        "resistance_strength": 1,
        "volume_multiplier": 0.8,
        "price_threshold": 0.0005,
    },
    "momentum.trend_following": {"ma_fast": 5, "adx_threshold": 12, "rsi_period": 5, "adx_period": 5, "atr_period": 5},
    "momentum.mean_reversion": {
        "bollinger_period": 12,
        "bollinger_deviations": 1.8,
        "zscore": 2,
        "min_volatility": 1e-3,
    },
    "sar_wave": {
        "min_flat_strength": 0.2,
        "min_wave_confidence": 0.3,
        "fibonacci_tolerance": 0.5,
        "flat_period": 6,
        "flat_lookback": 20,
        "swing_atr": 1,
    },
    "volume_profile": {"lookback": 30, "rows": 20, "poc_strength": 1.1},
}
KINDS = sorted(LIVELY)
SEEDS = st.integers(0, 10_000)


def test_every_strategy_of_candles_is_tested_here() -> None:
    assert sorted(key for key, kind in STRATEGIES.items() if issubclass(kind, CandleStrategy)) == KINDS


@pytest.mark.parametrize("key", KINDS)
def test_kernels_read_each_parameter_at_its_place(key: str) -> None:
    kind: Any = STRATEGIES[key]
    module = importlib.import_module(kind.kernel.__func__(kind).decide.__module__)
    assert [getattr(module, spec.name.upper()) for spec in kind.parameters] == list(range(len(kind.parameters)))


@pytest.mark.parametrize("key", KINDS)
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_bar_by_bar_and_all_at_once_decide_the_same(key: str, seed: int) -> None:
    bars = walk(600, seed)
    assert bar_by_bar(key, bars, LIVELY[key]) == at_once(key, bars, LIVELY[key])


@pytest.mark.parametrize("key", KINDS)
def test_walks_signal_both_ways_and_the_same_each_time(key: str) -> None:
    bars = walk(6_000, 7)
    signals = at_once(key, bars, LIVELY[key])
    assert {signal.side for signal in signals} == {"Buy", "Sell"} and len(signals) >= 10
    assert signals == at_once(key, bars, LIVELY[key])
    assert all(signal.reason and all(np.isfinite(list(signal.metadata.values()))) for signal in signals)


@pytest.mark.parametrize("key", KINDS)
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, cuts=st.lists(st.integers(1, 1_500), min_size=8, max_size=8))
def test_what_comes_later_changes_nothing_before_it(key: str, seed: int, cuts: list[int]) -> None:
    bars = walk(1_500, seed)
    at, rows, _ = rows_at_once(key, bars, LIVELY[key])
    for cut in cuts:
        early_at, early_rows, _ = rows_at_once(key, bars[:cut], LIVELY[key])
        assert early_at.tolist() == at[at < cut].tolist() and np.array_equal(early_rows, rows[at < cut])


def assert_start_forgotten(key: str, bars: Bars, starts: list[int], parameters: dict[str, Any]) -> int:
    """How many signals were compared: those after the warm-up of a later start, with those of the first."""
    at, rows, running = rows_at_once(key, bars, parameters)
    compared = 0
    for start in starts:
        later_at, later_rows, _ = rows_at_once(key, bars[start:], parameters)
        warm = start + running.warm_up
        assert (start + later_at)[start + later_at >= warm].tolist() == at[at >= warm].tolist(), start
        np.testing.assert_allclose(later_rows[start + later_at >= warm], rows[at >= warm], rtol=1e-6, atol=1e-9)
        compared += int((at >= warm).sum())
    return compared


@pytest.mark.parametrize("key", KINDS)
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, starts=st.lists(st.integers(1, 1_000), min_size=4, max_size=4))
def test_after_the_warm_up_it_does_not_matter_where_history_began(key: str, seed: int, starts: list[int]) -> None:
    assert_start_forgotten(key, walk(2_500, seed), starts, LIVELY[key])


@pytest.mark.recording
@pytest.mark.parametrize("key", KINDS)
def test_on_the_real_market_as_well(key: str) -> None:
    timeframe = next(spec for spec in STRATEGIES[key].parameters if spec.name == "timeframe")
    bars = real(int(timeframe.default))
    live = bars[2_000:5_000]
    assert bar_by_bar(key, live, {}) == at_once(key, live, {})
    assert assert_start_forgotten(key, bars, [997, 2_345, 4_001, 7_777], {}) > 0


@pytest.mark.parametrize("key", KINDS)
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, extreme=st.booleans())
def test_whatever_the_bars_are_like_a_signal_can_be_ordered(key: str, seed: int, extreme: bool) -> None:
    bars = hostile(800, seed)
    ends = {"reward_risk": 1.5, "min_stop_percent": 0.01, "max_stop_percent": 50} if extreme else {"reward_risk": 1.5}
    for signal in at_once(key, bars, LIVELY[key] | ends):  # a Signal refuses what cannot be
        assert signal.reason
    assert bar_by_bar(key, bars[:200], LIVELY[key] | ends) == at_once(key, bars[:200], LIVELY[key] | ends)


@pytest.mark.parametrize("key", KINDS)
def test_an_open_a_repeated_a_late_and_a_foreign_candle_are_no_news(key: str) -> None:
    bars = walk(1_200, 3)
    candles = bars.candles()
    noisy = strategy(key, bars, LIVELY[key])
    heard = []
    for number, candle in enumerate(candles):
        heard.append(noisy.on_candle(replace(candle, closed=False)))
        heard.append(noisy.on_candle(replace(candle, interval="240")))
        heard.append(noisy.on_candle(replace(candle, symbol="ETHUSDT")))
        heard += [noisy.on_candle(each) for each in (candle, candle, candles[max(0, number - 1)])]
    assert [signal for signal in heard if signal is not None] == bar_by_bar(key, bars, LIVELY[key])


@pytest.mark.parametrize("key", KINDS)
def test_a_bar_that_cannot_be_is_passed_over_and_leaves_nothing_behind(key: str) -> None:
    bars = walk(1_200, 3)
    running = strategy(key, bars, LIVELY[key])
    kernel, row = running.kernel(), np.zeros(12)
    clean, poisoned = kernel.new_state(running.numbers), kernel.new_state(running.numbers)
    columns = bars.arrays()
    wrong: list[tuple[float, ...]] = [
        (np.nan,) * 4,
        (np.nan, 2, 1, 1),
        (1, np.nan, 1, 1),
        (1, 2, np.nan, 1),
        (1, 2, 1, np.nan),
    ]
    wrong += [(1.0, 2.0, 0.5, np.inf), (0.0, 0.0, 0.0, 0.0), (100.0, 90.0, 110.0, 100.0)]
    for number in range(len(bars)):
        values = [column[number] for column in columns]
        decided = kernel.decide(clean, running.numbers, *values, row)
        for prices in wrong:
            assert not kernel.decide(poisoned, running.numbers, values[0], *prices, 1.0, np.zeros(12))
        assert not kernel.decide(poisoned, running.numbers, *values[:5], np.nan, np.zeros(12))
        again = np.zeros(12)
        assert kernel.decide(poisoned, running.numbers, *values, again) == decided
        assert not decided or np.array_equal(row, again)
    assert np.array_equal(clean, poisoned, equal_nan=True)


@pytest.mark.parametrize("key", KINDS)
def test_a_strategy_says_enough_of_its_parameters_to_draw_a_form(key: str) -> None:
    kind = STRATEGIES[key]
    assert kind.title and kind.parameters[0].name == "timeframe"
    for spec in kind.parameters:
        assert spec.help and (spec.choices or (spec.minimum is not None and spec.maximum is not None)), spec.name
    low = {spec.name: spec.minimum for spec in kind.parameters if spec.kind != "choice"}
    high = {spec.name: spec.maximum for spec in kind.parameters if spec.kind != "choice"}
    for extremes in (low, high):
        typed = parse_parameters(kind.parameters, extremes)
        bars = replace(walk(700, 11), minutes=int(typed["timeframe"]))
        at_once(key, bars, typed)
