"""Splits of walk-forward, and their tests put together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests import builders
from trading.backtest.walk_forward import Span, SplitError, WalkForward, efficiency, folds_of, splits_of, stitch

START = 1_767_225_600_000  # 2026-01-01
DAY = 86_400_000


def days(start: int, end: int) -> Span:
    return Span(START + start * DAY, START + end * DAY)


def test_trainings_roll_along_and_tests_follow_each_other() -> None:
    plan = WalkForward(splits=3, train_ms=30 * DAY, purge_ms=2 * DAY, embargo_ms=DAY)
    found = splits_of(days(0, 93), plan, DAY)
    assert [(each.train, each.test) for each in found] == [
        (days(0, 30), days(33, 53)),
        (days(20, 50), days(53, 73)),
        (days(40, 70), days(73, 93)),
    ]


def test_anchored_trainings_all_begin_at_the_start() -> None:
    plan = WalkForward(splits=2, train_ms=30 * DAY, purge_ms=DAY, anchored=True)
    found = splits_of(days(0, 51), plan, DAY)
    assert [each.train for each in found] == [days(0, 30), days(0, 40)]


def test_a_plan_that_leaves_no_time_for_tests_says_so() -> None:
    with pytest.raises(SplitError, match="leave 1 steps for 2 tests"):
        splits_of(days(0, 32), WalkForward(splits=2, train_ms=30 * DAY, purge_ms=DAY), DAY)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    length=st.integers(1, 900),
    splits=st.integers(1, 12),
    train=st.integers(1, 400),
    purge=st.integers(0, 20),
    embargo=st.integers(0, 20),
    anchored=st.booleans(),
)
def test_no_training_sees_its_test_or_the_gap_before_it(
    length: int, splits: int, train: int, purge: int, embargo: int, anchored: bool
) -> None:
    plan = WalkForward(splits, train * DAY, purge * DAY, embargo * DAY, anchored)
    try:
        found = splits_of(days(0, length), plan, DAY)
    except SplitError:
        assert length - train - purge - embargo < splits
        return
    assert len(found) == splits
    assert found[-1].test.end_ms == days(0, length).end_ms
    for split in found:
        assert split.test.start_ms - split.train.end_ms == (purge + embargo) * DAY
        assert split.train.start_ms >= START
        assert split.train.length_ms >= train * DAY
        assert split.test.length_ms >= DAY
    for before, after in pairwise(found):
        assert before.test.end_ms == after.test.start_ms
        assert anchored or before.train.length_ms == after.train.length_ms


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(length=st.integers(1, 500), folds=st.integers(1, 20))
def test_folds_cover_everything_once(length: int, folds: int) -> None:
    assume(folds <= length)
    found = folds_of(days(0, length), folds, DAY)
    assert (found[0].start_ms, found[-1].end_ms) == (START, START + length * DAY)
    assert all(before.end_ms == after.start_ms for before, after in pairwise(found))
    assert max(each.length_ms for each in found) - min(each.length_ms for each in found) <= DAY


def test_tests_are_stitched_into_one_record_that_compounds() -> None:
    first = builders.backtest_result([11_000.0, 12_000.0], trades=[builders.backtest_trade("2000", START + DAY)])
    second = builders.backtest_result(
        [9_000.0, 5_000.0], trades=[builders.backtest_trade("-5000", START + 3 * DAY)], start_ms=START + 2 * DAY
    )
    found = stitch([(days(0, 2), first), (days(2, 4), second)])
    assert found.equity.tolist() == [10_000.0, 11_000.0, 12_000.0, 10_800.0, 6_000.0]
    assert found.times.tolist() == [START + day * DAY for day in range(5)]
    assert found.returns.tolist() == pytest.approx([0.1, 1 / 11, -0.1, -4 / 9])
    assert [trade.pnl for trade in found.trades] == [2_000, -5_000]


def test_tests_that_overlap_are_refused() -> None:
    result = builders.backtest_result([11_000.0])
    with pytest.raises(ValueError, match="follow each other"):
        stitch([(days(0, 2), result), (days(1, 3), result)])


def test_efficiency_is_what_is_left_out_of_sample() -> None:
    inside, outside = np.full(365, 0.001), np.full(365, 0.0005)
    assert efficiency(inside, outside) == pytest.approx((1.0005**365 - 1) / (1.001**365 - 1))
    assert efficiency(-inside, outside) is None
