"""What a search found, as JSON, and what is to be thought of it, in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trading.backtest.overfitting import Honesty, honesty_of, importances, moments_of, probabilistic_sharpe
from trading.backtest.result import BacktestResult
from trading.backtest.result_packing import as_json
from trading.backtest.search import Trial, best_of, complete_returns, objective_of
from trading.backtest.search_request import SearchRequest
from trading.backtest.statistics import (
    DAYS_A_YEAR,
    annual_return,
    drawdowns,
    monthly_table,
    sharpe,
    statistics_of,
    thinned,
    with_start,
)
from trading.backtest.walk_forward import Split, efficiency, stitch

CURVE_POINTS = 1_000
# What is usually asked for before somebody believes a result.
BELIEVED, DOUBTED = 0.95, 0.5
NEAR_CHANCE = 0.3
# Of fewer trials nobody can say which parameter matters.
LEAST_JUDGED = 10


@dataclass(frozen=True, slots=True)
class Tested:
    """One split of a walk-forward: the best trial of its training, and what that came to in the test."""

    split: Split
    best: Trial
    result: BacktestResult


def summary_of_search(
    request: SearchRequest,
    trainings: Sequence[Sequence[Trial]],
    best_run: BacktestResult | None,
    tested: Sequence[Tested],
) -> dict[str, Any]:
    """Plain JSON. ``trainings``: the trials of each, all of the time first; ``best_run``: the best of them in one piece
    over all of the time; ``tested``: the splits of walk-forward whose training found something."""
    trials = trainings[0]
    best = best_of(trials)
    found: dict[str, Any] = {
        "outcomes": dict(Counter(str(trial.outcome) for trial in trials)),
        "best": None if best is None else _best(request, best, best_run),
        "importances": _importances(request, trials),
        "honesty": None,
        "verdict": [],
        "walk_forward": _walk_forward(request, tested) if request.walk_forward else None,
    }
    if best is not None:
        honesty = honesty_of(best.returns, complete_returns(trials), len(trials))
        found |= {"honesty": honesty, "verdict": verdict(honesty)}
    plain: dict[str, Any] = as_json(found)
    return plain


def _best(request: SearchRequest, best: Trial, run: BacktestResult | None) -> dict[str, Any]:
    found = {"number": best.number, "parameters": best.parameters, "value": best.value, "trades": best.trades}
    if run is None:
        return found
    span = request.span
    times, equity = with_start(run, span.start_ms)
    return found | {
        "statistics": statistics_of(run, span.start_ms, span.end_ms),
        "months": monthly_table(times, equity),
        "curve": _curve(times, equity),
        "data": dict(run.data),
        "code": run.code,
    }


def _curve(times: Any, equity: Any) -> dict[str, Any]:
    kept = thinned(times, equity, CURVE_POINTS)
    return {"time_ms": times[kept], "equity": equity[kept], "drawdown": drawdowns(equity)[kept]}


def _importances(request: SearchRequest, trials: Sequence[Trial]) -> dict[str, float]:
    """Of the last value that each trial had: those that were given up had one too."""
    reached = [(trial, trial.values[-1]) for trial in trials if trial.values]
    judged = [(trial, value) for trial, value in reached if value is not None]
    if len(judged) < LEAST_JUDGED:
        return {}
    columns = {each.name: [trial.parameters[each.name] for trial, _ in judged] for each in request.space}
    # Ranks: a ratio that explodes where hardly anything was traded would outweigh all others.
    values = np.argsort(np.argsort([value for _, value in judged], kind="stable")).astype(np.float64)
    return importances(columns, values)


def _walk_forward(request: SearchRequest, tested: Sequence[Tested]) -> dict[str, Any]:
    splits = [_split(request, each) for each in tested]
    if not tested:
        return {"splits": splits, "expected": len(request.splits), "record": None}
    record = stitch([(each.split.test, each.result) for each in tested])
    returns, inside = record.returns, np.concatenate([each.best.returns for each in tested])
    moments = moments_of(returns)
    wins = sum(trade.pnl > 0 for trade in record.trades)
    return {
        "splits": splits,
        "expected": len(request.splits),
        "record": {
            "days": len(returns),
            "total_return": float(record.equity[-1] / record.equity[0]) - 1.0,
            "annualised_return": annual_return(returns),
            "sharpe": sharpe(returns),
            "max_drawdown": float(drawdowns(record.equity).max()),
            "trades": len(record.trades),
            "win_rate": wins / len(record.trades) if record.trades else None,
            "profit": sum(trade.pnl for trade in record.trades),
            "probabilistic_sharpe": probabilistic_sharpe(moments) if moments else None,
            "efficiency": efficiency(inside, returns),
            "curve": _curve(record.times, record.equity),
        },
    }


def _split(request: SearchRequest, each: Tested) -> dict[str, Any]:
    record = stitch([(each.split.test, each.result)])
    return {
        "train": each.split.train,
        "test": each.split.test,
        "parameters": each.best.parameters,
        "trained_value": each.best.value,
        "tested_value": objective_of(request.objective, record.returns),
        "trained_return": float(np.prod(1.0 + each.best.returns)) - 1.0,
        "tested_return": float(record.equity[-1] / record.equity[0]) - 1.0,
        "trades": len(each.result.trades),
    }


def verdict(honesty: Honesty) -> list[str]:
    """What the figures mean, for people who do not know them."""
    year = math.sqrt(DAYS_A_YEAR)
    words = []
    if honesty.sharpe is not None:
        words.append(
            f"{honesty.trials} sets of parameters were tried. The best of so many tries that know nothing is expected "
            f"to show a Sharpe ratio of {honesty.luck * year:.2f} a year by luck alone; this one shows "
            f"{honesty.sharpe * year:.2f} over {honesty.days} days."
        )
    if honesty.deflated_sharpe is not None:
        shown = f"deflated Sharpe ratio {honesty.deflated_sharpe:.1%}; {BELIEVED:.0%} is usually asked for"
        words.append(f"{_deflated_words(honesty.deflated_sharpe)} ({shown}).")
    if honesty.overfitting is None:
        words.append("The probability of overfitting takes at least two trials and twenty days: it is not known.")
    else:
        share = honesty.overfitting.probability
        words.append(
            f"Whatever was best in one half of the time was below the middle of all trials in the other half in "
            f"{share:.0%} of {honesty.overfitting.splits} ways to halve it: {_overfitting_words(share)}"
        )
    if honesty.track_record_days is None:
        words.append("Its mean return is not above 0: no record would be long enough.")
    elif honesty.track_record_days > honesty.days:
        words.append(
            f"Even without the choice among trials the record is too short: a Sharpe ratio like this takes "
            f"{math.ceil(honesty.track_record_days)} days to be above 0 with 95 % confidence."
        )
    return words


def _deflated_words(probability: float) -> str:
    if probability >= BELIEVED:
        return "It is hardly luck"
    if probability >= DOUBTED:
        return "It may be luck: more than chance explains, but not by much"
    return "Luck explains it: as good a result is to be expected where there is nothing to find"


def _overfitting_words(share: float) -> str:
    if share <= 1 - BELIEVED:
        return "what is chosen here lasts."
    if share < NEAR_CHANCE:
        return "what is chosen here lasts more often than not."
    if share < DOUBTED:
        return "choosing the best here is hardly better than choosing blindly."
    return "choosing the best here is no better than choosing blindly."
