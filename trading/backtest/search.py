"""A search for parameters, trial by trial: each is carried through the folds of the training one after the other, and
given up where it is hopeless."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import DAY_MS
from trading.backtest.result import BacktestResult
from trading.backtest.search_request import Objective
from trading.backtest.statistics import annual_return, daily_returns, drawdowns, sharpe, sortino, with_start
from trading.backtest.walk_forward import Span

Floats = NDArray[np.float64]


class TrialOutcome(StrEnum):
    """``SCARCE``: too few trades to be judged. ``PRUNED``: given up in the middle. ``FAILED``: it broke."""

    COMPLETE = "complete"
    SCARCE = "scarce"
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of parameters. ``values``: the objective after each fold, of all folds until then; ``value``: at the end,
    None where it is not judged. ``returns``: daily, fold after fold. ``profit`` in USDT, of all folds, each with the
    whole balance."""

    number: int
    parameters: Mapping[str, Any]
    outcome: TrialOutcome
    values: tuple[float | None, ...]
    value: float | None
    trades: int
    profit: float
    returns: Floats
    words: str = ""


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What a backtest of one fold leaves for a trial."""

    returns: Floats
    trades: int
    profit: float


class Proposer(Protocol):
    def ask(self) -> dict[str, Any]: ...

    def is_hopeless(self, values: Sequence[float | None]) -> bool: ...

    def tell(self, trial: Trial) -> None: ...


class TrialBroke(Exception):
    """The backtest of these parameters cannot be carried out; why, in words."""


class Stopped(Exception):
    """Nobody wants the rest."""


Evaluate = Callable[[Mapping[str, Any], Span], FoldResult]


def fold_result(result: BacktestResult, span: Span) -> FoldResult:
    returns = daily_returns(*with_start(result, span.start_ms))
    # The record of a ruined account ends early: from then on it stays at nothing, so that days are the same for all.
    days = (span.end_ms - 1) // DAY_MS - span.start_ms // DAY_MS + 1
    returns = np.pad(returns, (0, max(0, days - len(returns))))
    return FoldResult(returns, len(result.trades), float(sum(trade.pnl for trade in result.trades)))


def next_trial(
    proposals: Proposer,
    *,
    number: int,
    folds: Sequence[Span],
    evaluate: Evaluate,
    objective: Objective,
    least_trades: int,
) -> Trial:
    """Ask for parameters, try them, tell what came of it.

    Raises:
        Stopped: as ``evaluate`` does.
    """
    parameters = proposals.ask()
    outcome, words = TrialOutcome.COMPLETE, ""
    values: list[float | None] = []
    parts: list[FoldResult] = []
    try:
        for place, fold in enumerate(folds):
            parts.append(evaluate(parameters, fold))
            values.append(objective_of(objective, np.concatenate([part.returns for part in parts])))
            if place < len(folds) - 1 and proposals.is_hopeless(values):
                outcome = TrialOutcome.PRUNED
                words = f"below the middle of the trials before it after {place + 1} of {len(folds)} folds"
                break
    except TrialBroke as error:
        outcome, words = TrialOutcome.FAILED, str(error)
    trades = sum(part.trades for part in parts)
    if outcome is TrialOutcome.COMPLETE and (trades < least_trades or values[-1] is None):
        outcome, words = TrialOutcome.SCARCE, f"{trades} trades are too few to be judged; at least {least_trades}"
    trial = Trial(
        number=number,
        parameters=parameters,
        outcome=outcome,
        values=tuple(values),
        value=values[-1] if outcome is TrialOutcome.COMPLETE else None,
        trades=trades,
        profit=sum(part.profit for part in parts),
        returns=np.concatenate([part.returns for part in parts]) if parts else np.zeros(0),
        words=words,
    )
    proposals.tell(trial)
    return trial


def objective_of(objective: Objective, returns: Floats) -> float | None:
    """None where it is not defined: nothing was traded, or never lost."""
    if objective is Objective.SHARPE:
        return sharpe(returns)
    if objective is Objective.SORTINO:
        return sortino(returns)
    if objective is Objective.TOTAL_RETURN:
        return float(np.prod(1.0 + returns)) - 1.0 if len(returns) else None
    yearly = annual_return(returns)
    deepest = float(drawdowns(np.concatenate([[1.0], np.cumprod(1.0 + returns)])).max())
    return None if yearly is None or deepest <= 0 else yearly / deepest


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The first of those with the highest value; None where none was carried through."""
    judged = [trial for trial in trials if trial.value is not None]
    return max(judged, key=lambda trial: (trial.value, -trial.number), default=None)


def complete_returns(trials: Sequence[Trial]) -> Floats:
    """Daily returns of the trials that were carried through: a row for each day, a column for each."""
    columns = [trial.returns for trial in trials if trial.outcome in (TrialOutcome.COMPLETE, TrialOutcome.SCARCE)]
    return np.column_stack(columns) if columns else np.zeros((0, 0))
