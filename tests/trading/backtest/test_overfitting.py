"""How much of a search's best is luck: the examples of the papers, and what simulated luck and skill come to."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.backtest.overfitting import (
    Moments,
    deflated_sharpe,
    expected_best_sharpe,
    honesty_of,
    importances,
    independent_trials,
    minimum_track_record,
    moments_of,
    overfitting_of,
    parts_for,
    probabilistic_sharpe,
)


def yearly(sharpe: float, periods: int, length: int = 100, skewness: float = 0.0, kurtosis: float = 3.0) -> Moments:
    return Moments(length, sharpe / math.sqrt(periods), skewness, kurtosis)


def noise(days: int, trials: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.01, (days, trials))


def deflated(best: np.ndarray, sharpes: np.ndarray) -> float:
    moments = moments_of(best)
    assert moments is not None
    return deflated_sharpe(moments, float(sharpes.var(ddof=1)), len(sharpes))


class TestThePapers:
    """Bailey and Lopez de Prado 2012 (probabilistic Sharpe ratio, track record) and 2014 (deflated Sharpe ratio)."""

    def test_a_sharpe_of_2_5_among_100_trials_deflates_to_90_percent(self) -> None:
        found = yearly(2.5, 250, length=1_250, skewness=-3, kurtosis=10)
        assert expected_best_sharpe(0.5 / 250, 100) == pytest.approx(0.1132, abs=5e-5)
        assert deflated_sharpe(found, 0.5 / 250, 100) == pytest.approx(0.9004, abs=5e-5)

    def test_with_46_trials_it_would_have_been_95_percent(self) -> None:
        found = yearly(2.5, 250, length=1_250, skewness=-3, kurtosis=10)
        assert deflated_sharpe(found, 0.5 / 250, 46) == pytest.approx(0.9505, abs=5e-5)

    def test_had_its_returns_been_normal_88_trials_would_have_given_the_same(self) -> None:
        found = yearly(2.5, 250, length=1_250)
        assert deflated_sharpe(found, 0.5 / 250, 88) == pytest.approx(0.9505, abs=5e-5)

    @pytest.mark.parametrize(("skewness", "kurtosis", "expected"), [(0, 3, 0.982), (-2.448, 10.164, 0.913)])
    def test_two_years_of_a_hedge_fund(self, skewness: float, kurtosis: float, expected: float) -> None:
        assert probabilistic_sharpe(Moments(24, 0.458, skewness, kurtosis)) == pytest.approx(expected, abs=5e-4)

    @pytest.mark.parametrize(
        ("periods", "skewness", "kurtosis", "years"),
        [(252, 0, 3, 2.73), (52, 0, 3, 2.83), (12, 0, 3, 3.24), (12, -0.72, 5.78, 4.99)],
    )
    def test_how_long_a_sharpe_of_2_has_to_last_to_be_above_1(
        self, periods: int, skewness: float, kurtosis: float, years: float
    ) -> None:
        record = minimum_track_record(
            yearly(2, periods, skewness=skewness, kurtosis=kurtosis), benchmark=1 / math.sqrt(periods)
        )
        assert record is not None
        assert record / periods == pytest.approx(years, abs=5e-3)


def test_no_record_is_long_enough_for_a_sharpe_below_the_benchmark() -> None:
    assert minimum_track_record(yearly(-1, 365)) is None


def test_the_best_of_many_without_skill_is_as_good_as_expected() -> None:
    """By simulation: 400 searches of 50 trials each."""
    best = [noise(1, 50, seed).max() for seed in range(400)]
    assert np.mean(best) == pytest.approx(expected_best_sharpe(0.01**2, 50), rel=0.03)


def test_noise_is_not_believed_and_skill_is() -> None:
    """Of the best of 40 in noise hardly one has a deflated Sharpe above 0.95; with an edge added nearly all have."""
    believed = skilled = 0
    for seed in range(200):
        returns = noise(500, 40, seed)
        sharpes = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
        best = returns[:, sharpes.argmax()]
        believed += deflated(best, sharpes) > 0.95
        skilled += deflated(best + 0.002, sharpes) > 0.95
    assert believed < 200 * 0.05
    assert skilled > 200 * 0.9


def test_overfitting_of_noise_is_about_even() -> None:
    found = [overfitting_of(noise(320, 40, seed), parts=8) for seed in range(60)]
    mean = np.mean([each.probability for each in found if each is not None])
    assert 0.43 < mean < 0.62


def test_a_planted_edge_is_found_in_both_halves() -> None:
    returns = noise(500, 40, seed=5)
    returns[:, 17] += 0.004
    found = overfitting_of(returns)
    assert found is not None
    assert found.probability < 0.01
    assert found.loses < 0.01
    assert found.splits == math.comb(16, 8)


def test_what_won_by_turns_is_overfitted() -> None:
    """Trials that are good in one half only: whichever was best is bad in the other."""
    returns = noise(400, 2, seed=3) * 0.01
    returns[:200] += [0.01, -0.01]
    returns[200:] += [-0.01, 0.01]
    found = overfitting_of(returns, parts=4)
    assert found is not None
    assert found.probability >= 2 / 3
    assert found.slope is not None
    assert found.slope < -0.9


def test_overfitting_is_reckoned_as_the_paper_says() -> None:
    """Against the definition, split by split."""
    returns = noise(60, 7, seed=11)
    returns[:, 2] += 0.002
    parts = np.array_split(returns, 6)
    logits = []
    for chosen in combinations(range(6), 3):
        inside = np.concatenate([parts[each] for each in chosen])
        outside = np.concatenate([parts[each] for each in range(6) if each not in chosen])
        best = (inside.mean(axis=0) / inside.std(axis=0, ddof=1)).argmax()
        tested = outside.mean(axis=0) / outside.std(axis=0, ddof=1)
        share = (tested.argsort().argsort()[best] + 1) / 8
        logits.append(math.log(share / (1 - share)))
    found = overfitting_of(returns, parts=6)
    assert found is not None
    assert found.probability == np.mean(np.array(logits) <= 0)


def test_trials_that_are_all_the_same_are_worth_one() -> None:
    returns = noise(200, 1, seed=1)
    assert independent_trials(np.repeat(returns, 30, axis=1)) == pytest.approx(1)
    assert independent_trials(noise(2_000, 30, seed=2)) == pytest.approx(30, rel=0.02)


def test_what_cannot_be_said_is_none() -> None:
    assert moments_of(np.array([0.01, 0.02])) is None
    assert moments_of(np.full(50, 0.01)) is None
    assert overfitting_of(noise(100, 1, seed=1)) is None
    assert overfitting_of(noise(12, 5, seed=1)) is None
    nothing = honesty_of(np.zeros(0), np.zeros((0, 0)), 0)
    assert nothing.deflated_sharpe is None
    assert nothing.overfitting is None


@given(length=st.integers(0, 400))
def test_parts_are_even_and_long_enough(length: int) -> None:
    parts = parts_for(length)
    assert parts % 2 == 0
    assert parts == 0 or length // parts >= 5


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    days=st.integers(0, 60),
    trials=st.integers(0, 6),
    idle=st.integers(0, 6),
    scale=st.sampled_from([0.0, 1e-9, 0.01, 10.0]),
)
def test_every_figure_is_a_number_in_its_range_or_none(
    seed: int, days: int, trials: int, idle: int, scale: float
) -> None:
    returns = noise(days, trials, seed) * scale
    returns[:, :idle] = 0.0
    found = honesty_of(returns[:, -1] if trials else np.zeros(0), returns, trials)
    for probability in (found.deflated_sharpe, found.probabilistic_sharpe):
        assert probability is None or 0 <= probability <= 1
    assert math.isfinite(found.luck) and 0 <= found.independent_trials <= max(trials, 1)
    if found.overfitting is not None:
        assert 0 <= found.overfitting.probability <= 1
        assert 0 <= found.overfitting.loses <= 1


def test_the_parameter_that_matters_is_the_important_one() -> None:
    random = np.random.default_rng(4)
    period, idle = random.integers(2, 60, 200).astype(float), random.uniform(0, 1, 200)
    side = random.choice(["up", "down"], 200)
    values = np.abs(period - 20) + np.where(side == "up", 5.0, 0.0) + random.normal(0, 1, 200)
    found = importances({"period": period.tolist(), "idle": idle.tolist(), "side": side.tolist()}, values)
    assert found["period"] > 0.7 > found["side"]
    assert found["idle"] < 0.05
