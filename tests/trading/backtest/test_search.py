"""A search for parameters: what is asked, what is tried next, when a trial is given up, and how it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strategies.base import ParameterSpec
from tests import builders
from trading.backtest.request_json import RequestInvalid
from trading.backtest.search import (
    FoldResult,
    Trial,
    TrialBroke,
    TrialOutcome,
    best_of,
    next_trial,
    objective_of,
)
from trading.backtest.search_request import (
    Dimension,
    Objective,
    SearchRequest,
    search_request_from_json,
    search_request_to_json,
    usual_step,
)
from trading.backtest.search_sampler import Proposals
from trading.backtest.walk_forward import Span, folds_of

DAY = 86_400_000
SPECS = (
    ParameterSpec("timeframe", "choice", "30", "candles it watches", "minutes", choices=("1", "5", "30")),
    ParameterSpec("period", "int", 10, "bars", "bars", 2, 200),
    ParameterSpec("multiplier", "float", 3.0, "distance", "ATR", 0.5, 20),
)

KNOWN = {"supertrend": SPECS}


def asked(**changes: Any) -> dict[str, Any]:
    return builders.search_request(**changes)


def read(**changes: Any) -> SearchRequest:
    return search_request_from_json(asked(**changes), KNOWN)


def refusals(**changes: Any) -> dict[str, str]:
    with pytest.raises(RequestInvalid) as refused:
        read(**changes)
    return {each.field: each.rule for each in refused.value.violations}


class TestWhatIsAsked:
    def test_ranges_are_the_parameters_own_narrowed(self) -> None:
        space = {"period": {"low": 5, "high": 25, "step": 5}, "multiplier": {}, "timeframe": {"choices": ["5", "30"]}}
        found = {each.name: each for each in read(space=space).space}
        assert [found["period"].value(place) for place in range(found["period"].size)] == [5, 10, 15, 20, 25]
        assert (found["multiplier"].low, found["multiplier"].high, found["multiplier"].step) == (0.5, 20.0, 0.2)
        assert found["timeframe"].choices == ("5", "30")

    def test_it_reads_what_it_wrote(self) -> None:
        walk = {"splits": 2, "train_days": 4, "purge_days": 1, "anchored": True}
        written = search_request_to_json(read(walk_forward=walk, objective="calmar", sampler="random", folds=2))
        assert search_request_to_json(search_request_from_json(written, KNOWN)) == written
        assert written["walk_forward"] == walk | {"embargo_days": 0}
        assert written["space"] == {"period": {"low": 5, "high": 30, "step": 1}}

    @pytest.mark.parametrize(
        ("changes", "field", "rule"),
        [
            ({"space": {}}, "space", "must name at least one parameter"),
            ({"space": {"speed": {}}}, "space.speed", "unknown field; known are timeframe, period, multiplier"),
            ({"space": {"period": {"low": 1}}}, "space.period.low", "must be a whole number from 2 to 200"),
            ({"space": {"period": {"low": 9, "high": 5}}}, "space.period.high", "must not be below low, 9"),
            ({"space": {"multiplier": {"step": 0}}}, "space.multiplier.step", "must be a number from 0.000001"),
            ({"space": {"timeframe": {"choices": ["7"]}}}, "space.timeframe.choices", "must be a list of some of"),
            ({"trials": 0}, "trials", "must be a whole number from 1 to 2000"),
            ({"objective": "profit"}, "objective", "must be one of sharpe, sortino, calmar, total_return"),
            ({"folds": 11}, "folds", "there are 10 steps for 11 folds"),
            ({"walk_forward": {"splits": 3}}, "walk_forward.train_days", "is required"),
            ({"walk_forward": {"splits": 3, "train_days": 9}}, "walk_forward", "leave 1 steps for 3 tests"),
            ({"sampler": "grid", "trials": 10}, "sampler", "sets of parameters are more than 10 trials"),
            ({"backtest": None}, "backtest.request", "must be an object"),
            ({"backtest": {"start": "x"}}, "backtest.start", "must be a day"),
            ({"speed": 1}, "speed", "unknown field"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_rule(self, changes: dict[str, Any], field: str, rule: str) -> None:
        found = refusals(**changes)
        assert rule in found[field], found

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        field=st.sampled_from(["backtest", "space", "objective", "trials", "folds", "walk_forward", "seed", "prune"]),
        value=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        ),
    )
    def test_whatever_is_sent_is_understood_or_refused(self, field: str, value: Any) -> None:
        for data in (value, asked(**{field: value}), asked(space={"period": value}), asked(walk_forward=value)):
            try:
                search_request_from_json(data, KNOWN)
            except RequestInvalid as error:
                assert all(each.rule for each in error.violations)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(low=st.floats(0.0001, 1000), width=st.floats(0, 1000), is_int=st.booleans())
def test_a_usual_step_is_round_and_leaves_a_handy_number_of_values(low: float, width: float, is_int: bool) -> None:
    step = usual_step(low, low + width, is_int)
    size = Dimension("x", "int" if is_int else "float", low, low + width, step).size
    assert f"{step:.9e}"[0] in "125"
    assert 1 <= size <= 130


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(low=st.integers(-50, 50), steps=st.integers(0, 60), step=st.sampled_from([0.1, 0.25, 0.002, 1.0]))
def test_values_and_their_places_agree(low: int, steps: int, step: float) -> None:
    dimension = Dimension("x", "float", low, round(low + steps * step, 9), step)
    assert dimension.size == steps + 1
    assert [dimension.place(dimension.value(place)) for place in range(steps + 1)] == list(range(steps + 1))


def hill(parameters: Mapping[str, Any], span: Span) -> FoldResult:
    """Best at a period of 42 and a multiplier of 4: daily returns of one deviation around a mean that says so."""
    away = abs(parameters["period"] - 42) / 200 + abs(parameters["multiplier"] - 4) / 40
    days = span.length_ms // DAY
    wave = np.where(np.arange(days) % 2 == 0, 0.01, -0.01)
    return FoldResult(wave + 0.01 - 0.02 * away, trades=20, profit=100.0)


def carried_out(request: SearchRequest, evaluate: Any = hill, begun: list[Trial] | None = None) -> list[Trial]:
    """The whole search, or what is left of one that was begun."""
    trials = list(begun or [])
    proposals = Proposals(request, training=0)
    proposals.replay(trials)
    for number in range(len(trials), request.tries):
        trials.append(
            next_trial(
                proposals,
                number=number,
                folds=folds_of(request.span, request.folds, DAY),
                evaluate=evaluate,
                objective=request.objective,
                least_trades=request.least_trades,
            )
        )
    return trials


def told(trials: list[Trial]) -> list[tuple[Any, ...]]:
    return [(each.number, dict(each.parameters), each.outcome, each.values, each.value) for each in trials]


SPACE = {"period": {"low": 2, "high": 100}, "multiplier": {"low": 0.5, "high": 20}}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_was_interrupted_anywhere_finds_the_same_as_one_that_was_not(sampler: str) -> None:
    request = read(space=SPACE, trials=40, sampler=sampler, folds=3)
    whole = carried_out(request)
    assert {each.outcome for each in whole} == {TrialOutcome.COMPLETE, TrialOutcome.PRUNED}
    for begun in (0, 13, 30):
        assert told(carried_out(request, begun=whole[:begun])) == told(whole)


def test_another_seed_is_another_search() -> None:
    assert told(carried_out(read(space=SPACE, trials=5, seed=1))) != told(carried_out(read(space=SPACE, trials=5)))


def test_the_estimators_come_nearer_than_chance() -> None:
    def found(sampler: str, seed: int) -> float:
        best = best_of(carried_out(read(space=SPACE, trials=40, seed=seed, sampler=sampler)))
        assert best is not None and best.value is not None
        return best.value

    better = [found("tpe", seed) > found("random", seed) for seed in range(4)]
    assert sum(better) >= 3


def test_nothing_is_tried_twice_and_a_small_space_is_tried_whole() -> None:
    request = read(space={"period": {"low": 2, "high": 7}, "timeframe": {}, "multiplier": {"low": 3, "high": 3}})
    trials = carried_out(request)
    tried = {(each.parameters["period"], each.parameters["timeframe"]) for each in trials}
    assert len(trials) == request.tries == len(tried) == 18


def test_a_space_hardly_larger_than_the_trials_is_not_tried_twice_either() -> None:
    trials = carried_out(read(space={"period": {"low": 2, "high": 42}, "multiplier": {"low": 3, "high": 3}}, trials=40))
    assert len({each.parameters["period"] for each in trials}) == 40


def test_a_trial_with_too_few_trades_is_not_judged() -> None:
    def idle(parameters: Mapping[str, Any], span: Span) -> FoldResult:
        return FoldResult(np.zeros(span.length_ms // DAY), trades=0, profit=0.0)

    trials = carried_out(read(space=SPACE, trials=3), idle)
    assert {each.outcome for each in trials} == {TrialOutcome.SCARCE}
    assert trials[0].words == "0 trades are too few to be judged; at least 10"
    assert best_of(trials) is None


def test_a_trial_that_breaks_says_why_and_the_search_goes_on() -> None:
    def fragile(parameters: Mapping[str, Any], span: Span) -> FoldResult:
        if parameters["period"] > 50:
            raise TrialBroke("fast must be below slow")
        return hill(parameters, span)

    request = read(space=SPACE, trials=30)
    trials = carried_out(request, fragile)
    assert {each.words for each in trials if each.outcome is TrialOutcome.FAILED} == {"fast must be below slow"}
    assert best_of(trials) is not None
    assert told(carried_out(request, fragile, begun=trials[:17])) == told(trials)


def test_what_is_hopeless_is_not_carried_through() -> None:
    folds = 0

    def counted(parameters: Mapping[str, Any], span: Span) -> FoldResult:
        nonlocal folds
        folds += 1
        return hill(parameters, span)

    trials = carried_out(read(space=SPACE, trials=40, folds=5, sampler="random"), counted)
    pruned = [each for each in trials if each.outcome is TrialOutcome.PRUNED]
    assert folds == sum(len(each.values) for each in trials) < 40 * 5 * 0.75
    assert pruned[0].words == "below the middle of the trials before it after 1 of 5 folds"
    without = carried_out(read(space=SPACE, trials=40, folds=5, sampler="random", prune=False))
    assert {each.outcome for each in without} == {TrialOutcome.COMPLETE}


def test_objectives_are_of_the_daily_returns() -> None:
    returns = np.array([0.1, -0.05, 0.02])
    assert objective_of(Objective.TOTAL_RETURN, returns) == pytest.approx(1.1 * 0.95 * 1.02 - 1)
    yearly = (1.1 * 0.95 * 1.02) ** (365 / 3) - 1
    assert objective_of(Objective.CALMAR, returns) == pytest.approx(yearly / 0.05)
    assert objective_of(Objective.SHARPE, np.zeros(5)) is None
    assert objective_of(Objective.CALMAR, np.array([0.1, 0.1])) is None
