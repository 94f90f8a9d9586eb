"""Walk-forward: parameters are chosen on what was, and judged on what came after, again and again.

Each split is ``[train_start, train_end)``, a gap, ``[test_start, test_end)``. The gap is what is purged (as long as a
trade of the training may reach out, whose outcome the test would share) and the embargo (what is alike because it is
near). Tests follow each other without holes and without overlaps, so their results are one record that no choice has
seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trading.backtest.result import BacktestResult, BacktestTrade
from trading.backtest.statistics import annual_return, daily_returns, start_balance, with_start


class SplitError(ValueError):
    """There is not enough time for what is asked."""


@dataclass(frozen=True, slots=True)
class Span:
    """Milliseconds UTC, the end not included."""

    start_ms: int
    end_ms: int

    @property
    def length_ms(self) -> int:
        return self.end_ms - self.start_ms


@dataclass(frozen=True, slots=True)
class Split:
    train: Span
    test: Span


@dataclass(frozen=True, slots=True)
class WalkForward:
    """``anchored``: trainings all begin at the start and become longer; otherwise they roll along, ``train_ms`` long
    each. The first training is ``train_ms`` long either way."""

    splits: int
    train_ms: int
    purge_ms: int = 0
    embargo_ms: int = 0
    anchored: bool = False

    @property
    def gap_ms(self) -> int:
        return self.purge_ms + self.embargo_ms


def splits_of(whole: Span, plan: WalkForward, grid_ms: int) -> tuple[Split, ...]:
    """The splits, oldest first; tests are equally long, up to ``grid_ms`` (a bar or a day), and end with the whole.

    Raises:
        SplitError: no time is left for tests of ``grid_ms`` each.
    """
    if plan.splits < 1 or plan.train_ms < grid_ms or plan.purge_ms < 0 or plan.embargo_ms < 0:
        raise SplitError("must have at least one split, a training of at least one step, and no gap below 0")
    first = whole.start_ms + plan.train_ms + plan.gap_ms
    left = (whole.end_ms - first) // grid_ms
    if left < plan.splits:
        raise SplitError(
            f"training and gap leave {max(0, left)} steps for {plan.splits} tests; fewer splits, a shorter training "
            "or more time is needed"
        )
    bounds = [first + left * place // plan.splits * grid_ms for place in range(plan.splits)] + [whole.end_ms]
    found = []
    for test_start, test_end in pairwise(bounds):
        train_end = test_start - plan.gap_ms
        train_start = whole.start_ms if plan.anchored else train_end - plan.train_ms
        found.append(Split(Span(train_start, train_end), Span(test_start, test_end)))
    return tuple(found)


def folds_of(whole: Span, folds: int, grid_ms: int) -> tuple[Span, ...]:
    """Equally long stretches, up to ``grid_ms``, one after the other.

    Raises:
        SplitError: they would be shorter than ``grid_ms``.
    """
    steps = whole.length_ms // grid_ms
    if folds < 1 or steps < folds:
        raise SplitError(f"there are {max(0, steps)} steps for {folds} folds; fewer folds or more time is needed")
    bounds = [whole.start_ms + steps * place // folds * grid_ms for place in range(folds)] + [whole.end_ms]
    return tuple(Span(start, end) for start, end in pairwise(bounds))


@dataclass(frozen=True, slots=True)
class Stitched:
    """Tests as one record. ``equity`` begins with the balance at ``times[0]`` and compounds: each test goes on with
    what the one before left. ``trades`` are as they were, each with the balance that its test began with."""

    times: NDArray[np.int64]
    equity: NDArray[np.float64]
    trades: tuple[BacktestTrade, ...]

    @property
    def returns(self) -> NDArray[np.float64]:
        """Daily, fractions."""
        return daily_returns(self.times, self.equity)


def stitch(results: Sequence[tuple[Span, BacktestResult]]) -> Stitched:
    """Results of tests that follow each other, oldest first.

    Raises:
        ValueError: there are none, or one begins before the one before has ended.
    """
    if not results:
        raise ValueError("there is no test to stitch")
    times: list[NDArray[np.int64]] = []
    equity: list[NDArray[np.float64]] = []
    trades: list[BacktestTrade] = []
    now = float(start_balance(results[0][1]))
    before = results[0][0].start_ms
    for span, result in results:
        if span.start_ms < before:
            raise ValueError("tests must follow each other without overlaps, oldest first")
        before = span.end_ms
        at, values = with_start(result, span.start_ms)
        # The first point is where the test before ended.
        skip = 1 if times else 0
        scaled = values * (now / values[0])
        times.append(at[skip:])
        equity.append(scaled[skip:])
        trades += result.trades
        now = max(0.0, float(scaled[-1]))
    return Stitched(np.concatenate(times), np.concatenate(equity), tuple(trades))


def efficiency(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float | None:
    """What is left out of sample of the yearly return in sample; None where nothing was gained in sample."""
    trained, tested = annual_return(inside), annual_return(outside)
    if trained is None or tested is None or trained <= 0:
        return None
    return tested / trained
