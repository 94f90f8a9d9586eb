"""How much of a search's best result is luck.

Whoever tries many parameters and keeps the best finds a good past even where there is nothing to find. These figures
say how good a past that luck alone explains.

Sharpe ratios here are of one period (one day, where returns are daily), not annualised; kurtosis is 3 for normal
returns. Sources:

- Bailey and Lopez de Prado, "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2), 2012: the probabilistic
  Sharpe ratio and the minimum track record length.
- Bailey and Lopez de Prado, "The Deflated Sharpe Ratio", Journal of Portfolio Management 40(5), 2014.
- Bailey, Borwein, Lopez de Prado and Zhu, "The Probability of Backtest Overfitting", Journal of Computational Finance
  20(4), 2017: combinatorially symmetric cross-validation (CSCV).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

NORMAL = NormalDist()
EULER_MASCHERONI = 0.5772156649015329
# Below this the deviation of a mean of equal returns is what rounding leaves of it.
FLAT = 1e-12
MOST_PARTS = 16
# Fewer days in a part say nothing about a Sharpe ratio.
LEAST_PART = 5
CHUNK_CELLS = 2_000_000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Of ``length`` returns: the Sharpe ratio of one period, skewness, and kurtosis (3 for a normal distribution)."""

    length: int
    sharpe: float
    skewness: float
    kurtosis: float


def moments_of(returns: Floats) -> Moments | None:
    """None for less than three returns, or where all are equal."""
    if len(returns) < 3:
        return None
    mean, deviation = float(returns.mean()), float(returns.std(ddof=1))
    if not math.isfinite(deviation) or deviation <= FLAT:
        return None
    standard = (returns - mean) / returns.std()
    return Moments(len(returns), mean / deviation, float((standard**3).mean()), float((standard**4).mean()))


def sharpe_variance(moments: Moments, sharpe: float) -> float:
    """The variance of the estimate of a Sharpe ratio, times the number of returns less one (Mertens):
    ``1 - skewness * S + (kurtosis - 1) / 4 * S^2``. Above 0 for the moments of any sample."""
    return max(FLAT, 1.0 - moments.skewness * sharpe + (moments.kurtosis - 1.0) / 4.0 * sharpe * sharpe)


def probabilistic_sharpe(moments: Moments, benchmark: float = 0.0) -> float:
    """The probability that the true Sharpe ratio is above ``benchmark``, given the length and the shape of the record:
    ``PSR = Z((S - S*) * sqrt(n - 1) / sqrt(1 - skewness * S + (kurtosis - 1) / 4 * S^2))``."""
    spread = math.sqrt(sharpe_variance(moments, moments.sharpe))
    return NORMAL.cdf((moments.sharpe - benchmark) * math.sqrt(moments.length - 1) / spread)


def minimum_track_record(moments: Moments, benchmark: float = 0.0, confidence: float = 0.95) -> float | None:
    """How many returns it takes until the Sharpe ratio is above ``benchmark`` with this confidence:
    ``MinTRL = 1 + (1 - skewness * S + (kurtosis - 1) / 4 * S^2) * (Z^-1(confidence) / (S - S*))^2``.
    None: never, it is not above it."""
    if moments.sharpe <= benchmark:
        return None
    ratio = NORMAL.inv_cdf(confidence) / (moments.sharpe - benchmark)
    return 1.0 + sharpe_variance(moments, moments.sharpe) * ratio * ratio


def expected_best_sharpe(variance: float, trials: float) -> float:
    """The best Sharpe ratio that ``trials`` independent tries without any skill are expected to find, where their
    Sharpe ratios have this variance:
    ``sqrt(V) * ((1 - g) * Z^-1(1 - 1 / N) + g * Z^-1(1 - 1 / (N * e)))``, g being the Euler-Mascheroni constant."""
    if trials <= 1 or variance <= 0:
        return 0.0
    first = NORMAL.inv_cdf(1.0 - 1.0 / trials)
    second = NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * ((1.0 - EULER_MASCHERONI) * first + EULER_MASCHERONI * second)


def deflated_sharpe(moments: Moments, variance: float, trials: float) -> float:
    """The probability that the true Sharpe ratio is above what the best of so many tries without skill would show:
    the probabilistic Sharpe ratio against :func:`expected_best_sharpe`."""
    return probabilistic_sharpe(moments, expected_best_sharpe(variance, trials))


def independent_trials(returns: Floats) -> float:
    """How many independent tries so many alike are worth: ``N = r + (1 - r) * M``, r being the mean correlation of
    the columns (Deflated Sharpe Ratio, appendix 3). ``returns``: a row for each period, a column for each trial."""
    if len(returns) < 3:
        return float(returns.shape[1])
    moving = returns[:, returns.std(axis=0) > FLAT]
    count = moving.shape[1]
    if count < 2:
        return float(count)
    standard = (moving - moving.mean(axis=0)) / moving.std(axis=0)
    # The sum of all correlations is the variance of the sum of the columns: no matrix of all pairs.
    total = float((standard.sum(axis=1) ** 2).mean())
    mean = (total - count) / (count * (count - 1))
    return float(min(count, max(1.0, mean + (1.0 - mean) * count)))


@dataclass(frozen=True, slots=True)
class Overfitting:
    """``probability``: of backtest overfitting, the share of splits in which the trial that was best in one half was
    in the lower half of all trials in the other. ``loses``: the share of splits in which it lost there. ``slope``: how
    much of a trial's Sharpe ratio in sample is left out of sample, over the best of all splits (None where they are
    all alike). ``parts``, ``splits``, ``trials``: how it was reckoned."""

    probability: float
    loses: float
    slope: float | None
    parts: int
    splits: int
    trials: int


def parts_for(length: int, most: int = MOST_PARTS) -> int:
    """An even number of parts with at least :data:`LEAST_PART` periods each; below 4 there are too few."""
    return min(most, length // LEAST_PART) // 2 * 2


def overfitting_of(returns: Floats, parts: int | None = None) -> Overfitting | None:
    """The probability of backtest overfitting by CSCV: the record is cut into an even number of parts; of all ways to
    choose half of them the trial with the best Sharpe ratio there is ranked in the other half; with its rank's share
    ``w = rank / (N + 1)`` and the logit ``ln(w / (1 - w))`` the probability is the share of logits at or below 0.

    ``returns``: a row for each period, a column for each trial. None for less than two trials or too few periods.
    """
    length, trials = returns.shape
    parts = parts_for(length) if parts is None else parts
    if trials < 2 or parts < 4 or parts % 2 or length < 2 * parts:
        return None
    bounds = np.linspace(0, length, parts + 1).astype(np.int64)
    counts = np.diff(bounds).astype(np.float64)
    # Shifted by one figure for each trial's mean, so that squares of small numbers do not cancel.
    centre = returns.mean(axis=0)
    sums = np.add.reduceat(returns - centre, bounds[:-1], axis=0)
    squares = np.add.reduceat((returns - centre) ** 2, bounds[:-1], axis=0)
    chosen = np.array(list(combinations(range(parts), parts // 2)))
    masks = np.zeros((len(chosen), parts))
    masks[np.arange(len(chosen))[:, None], chosen] = 1.0
    step = max(1, CHUNK_CELLS // trials)
    logits, inside, outside = [], [], []
    for first in range(0, len(masks), step):
        mask = masks[first : first + step]
        trained = _sharpes(mask, counts, sums, squares, centre)
        tested = _sharpes(1.0 - mask, counts, sums, squares, centre)
        best, rows = trained.argmax(axis=1), np.arange(len(mask))
        share = _ranks(tested, best) / (trials + 1.0)
        logits.append(np.log(share / (1.0 - share)))
        inside.append(trained[rows, best])
        outside.append(tested[rows, best])
    found, trained, tested = (np.concatenate(each) for each in (logits, inside, outside))
    return Overfitting(
        probability=float((found <= 0).mean()),
        loses=float((tested < 0).mean()),
        slope=_slope(trained, tested),
        parts=parts,
        splits=len(masks),
        trials=trials,
    )


def _sharpes(mask: Floats, counts: Floats, sums: Floats, squares: Floats, centre: Floats) -> Floats:
    """Of each split (rows) and trial (columns); 0 for one that did nothing."""
    number = (mask @ counts)[:, None]
    shifted = (mask @ sums) / number
    variance = np.maximum(0.0, (mask @ squares) / number - shifted**2) * number / (number - 1.0)
    deviation = np.sqrt(variance)
    moves = deviation > FLAT
    return np.where(moves, (shifted + centre) / np.where(moves, deviation, 1.0), 0.0)


def _ranks(values: Floats, chosen: NDArray[np.int64]) -> Floats:
    """The chosen one's rank in its row, 1 for the lowest; equals share the mean of their ranks."""
    mine = values[np.arange(len(values)), chosen][:, None]
    below, equal = (values < mine).sum(axis=1), (values == mine).sum(axis=1)
    return np.asarray(below + (equal + 1.0) / 2.0)


def _slope(trained: Floats, tested: Floats) -> float | None:
    if float(trained.std()) <= FLAT:
        return None
    return float(np.cov(trained, tested)[0, 1] / trained.var(ddof=1))


@dataclass(frozen=True, slots=True)
class Honesty:
    """What is to be said beside a search's best result. ``trials`` were counted, worth ``independent_trials``;
    ``luck`` is the daily Sharpe ratio that so many tries without skill are expected to reach, ``sharpe`` the best
    trial's own; ``track_record_days`` how long the record has to be to be above 0 with 95 %."""

    trials: int
    independent_trials: float
    days: int
    sharpe: float | None
    luck: float
    probabilistic_sharpe: float | None
    deflated_sharpe: float | None
    track_record_days: float | None
    overfitting: Overfitting | None


def honesty_of(best: Floats, complete: Floats, trials: int) -> Honesty:
    """``best``: the best trial's daily returns; ``complete``: those of all trials that were carried through, a column
    each; ``trials``: how many different ones were tried, given up in the middle ones too."""
    moments = moments_of(best)
    sharpes = sharpes_of(complete)
    variance = float(sharpes.var(ddof=1)) if len(sharpes) > 1 else 0.0
    return Honesty(
        trials=trials,
        independent_trials=independent_trials(complete),
        days=len(best),
        sharpe=moments.sharpe if moments else None,
        luck=expected_best_sharpe(variance, trials),
        probabilistic_sharpe=probabilistic_sharpe(moments) if moments else None,
        deflated_sharpe=deflated_sharpe(moments, variance, trials) if moments else None,
        track_record_days=minimum_track_record(moments) if moments else None,
        overfitting=overfitting_of(complete),
    )


def sharpes_of(returns: Floats) -> Floats:
    """Of each column; 0 for one that did nothing."""
    if len(returns) < 2:
        return np.zeros(returns.shape[1])
    deviations = returns.std(axis=0, ddof=1)
    moving = deviations > FLAT
    return np.where(moving, returns.mean(axis=0) / np.where(moving, deviations, 1.0), 0.0)


def importances(parameters: dict[str, list[float | str]], values: Floats, groups: int = 5) -> dict[str, float]:
    """How much of the differences between trials each parameter explains by itself, 0 to 1: trials are put into up to
    ``groups`` equally large groups by the parameter (choices by their value); epsilon squared, the share of the
    variance that lies between the groups, less what chance puts there."""
    return {name: _explained(_grouped(column, groups), values) for name, column in parameters.items()}


def _grouped(column: list[float | str], groups: int) -> NDArray[np.int64]:
    different, places = np.unique(np.array(column), return_inverse=True)
    if len(different) <= groups or isinstance(column[0], str):
        return np.asarray(places)
    values = np.array(column, dtype=np.float64)
    return np.asarray(np.searchsorted(np.sort(values), values) * groups // len(values))


def _explained(group: NDArray[np.int64], values: Floats) -> float:
    names = np.unique(group)
    total, free = float(((values - values.mean()) ** 2).sum()), len(values) - len(names)
    if free < 1 or len(names) < 2 or total <= FLAT:
        return 0.0
    within = math.fsum(float(((values[group == name] - values[group == name].mean()) ** 2).sum()) for name in names)
    by_chance = (len(names) - 1) * within / free
    return max(0.0, (total - within - by_chance) / total)
