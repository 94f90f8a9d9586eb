"""The figures of a backtest, from its equity and its trades.

A figure that is not defined (no trades, nothing lost, less than two days) is None, never NaN or infinity.

Daily figures use the equity at the end of each UTC day (a point at midnight ends the day before), days without a point
carry the last one on, and the first day is compared with the starting balance. Crypto trades on 365 days a year. An
account whose equity falls to 0 is ruined: its return is -1, and what its equity did after that is not counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import DAY_MS
from trading.backtest.result import BacktestResult, BacktestTrade

DAYS_A_YEAR = 365
# What rounding leaves of the deviation of equal returns.
FLAT = 1e-12
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall: ``share`` of the peak (0 to 1), its peak, its lowest point, and when equity was at the peak
    again (None: not by the end); milliseconds UTC. ``longest_ms``: the longest time below a peak, of any fall."""

    share: float
    peak_ms: int
    trough_ms: int
    recovered_ms: int | None
    longest_ms: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Money in USDT, returns and shares as fractions, times in milliseconds.

    ``win_rate``: trades with a net profit over all trades. ``annualised_return``: the total return compounded to 365
    days. ``sharpe``: mean daily return over its sample deviation, times the root of 365, no interest deducted;
    ``sortino``: the same over the root mean square of the days below 0. ``calmar``: annualised return over the deepest
    drawdown. ``profit_factor``: all profits over all losses. ``expectancy``: the mean net profit of a trade.
    ``exposure``: the share of time with a position, ``mean_leverage``: worth of the positions over equity, in the mean
    of all time. ``turnover``: worth of all fills."""

    start_balance: Decimal
    final_equity: float
    net_profit: Decimal
    days: float
    total_return: float
    annualised_return: float | None
    volatility: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: float
    drawdown: Drawdown | None
    ruined: bool
    trades: int
    wins: int
    losses: int
    longs: int
    win_rate: float | None
    profit_factor: float | None
    average_win: Decimal | None
    average_loss: Decimal | None
    payoff: float | None
    expectancy: Decimal | None
    best_trade: Decimal | None
    worst_trade: Decimal | None
    mean_duration_ms: int | None
    longest_losing_streak: int
    exposure: float | None
    mean_leverage: float | None
    fills: int
    maker_share: float | None
    turnover: Decimal
    fees: Decimal
    funding: Decimal
    signals: int
    approved: int
    vetoed: int
    denied: int


def statistics_of(result: BacktestResult, start_ms: int, end_ms: int) -> Statistics:
    """All figures of a run over ``[start_ms, end_ms)``."""
    balance = float(start_balance(result))
    times, equity = with_start(result, start_ms)
    returns = daily_returns(times, equity)
    days = max(0, end_ms - start_ms) / DAY_MS
    total = float(equity[-1]) / balance - 1.0 if balance else 0.0
    ruined = bool((equity <= 0).any())
    total = -1.0 if ruined else total
    drawdown = deepest_drawdown(times, equity)
    deepest = drawdown.share if drawdown else 0.0
    annualised = annual_return(returns)
    outcomes = Counter(signal.outcome for signal in result.signals)
    worth = sum((fill.price * fill.quantity for fill in result.fills), Decimal(0))
    exposed = result.exposed > 0
    return Statistics(
        start_balance=start_balance(result),
        final_equity=float(equity[-1]),
        net_profit=sum((trade.pnl for trade in result.trades), Decimal(0)),
        days=days,
        total_return=total,
        annualised_return=annualised,
        volatility=volatility(returns),
        sharpe=sharpe(returns),
        sortino=sortino(returns),
        calmar=ratio(annualised, deepest),
        max_drawdown=deepest,
        drawdown=drawdown,
        ruined=ruined,
        **_of_trades(result.trades),
        exposure=float(exposed.mean()) if len(exposed) else None,
        mean_leverage=_mean_leverage(result),
        fills=len(result.fills),
        maker_share=ratio(sum(fill.is_maker for fill in result.fills), len(result.fills)),
        turnover=worth,
        fees=sum((fill.fee for fill in result.fills), Decimal(0)),
        funding=sum((trade.funding for trade in result.trades), Decimal(0)),
        signals=len(result.signals),
        approved=outcomes["approved"],
        vetoed=outcomes["vetoed"],
        denied=outcomes["denied"],
    )


def _of_trades(trades: Sequence[BacktestTrade]) -> dict[str, Any]:
    gains = [trade.pnl for trade in trades if trade.pnl > 0]
    losses = [trade.pnl for trade in trades if trade.pnl < 0]
    nothing = Decimal(0)
    won, lost = sum(gains, nothing), -sum(losses, nothing)
    average_win, average_loss = mean(gains), mean(losses)
    in_order = sorted(trades, key=lambda trade: trade.closed_ms)
    streaks = [len(list(run)) for is_loss, run in groupby(in_order, key=lambda trade: trade.pnl < 0) if is_loss]
    return {
        "trades": len(trades),
        "wins": len(gains),
        "losses": len(losses),
        "longs": sum(trade.side == "Buy" for trade in trades),
        "win_rate": ratio(len(gains), len(trades)),
        "profit_factor": ratio(float(won), float(lost)),
        "average_win": average_win,
        "average_loss": average_loss,
        "payoff": None if average_win is None or average_loss is None else float(average_win / -average_loss),
        "expectancy": mean([trade.pnl for trade in trades]),
        "best_trade": max((trade.pnl for trade in trades), default=None),
        "worst_trade": min((trade.pnl for trade in trades), default=None),
        "mean_duration_ms": sum(t.closed_ms - t.opened_ms for t in trades) // len(trades) if trades else None,
        "longest_losing_streak": max(streaks, default=0),
    }


def _mean_leverage(result: BacktestResult) -> float | None:
    alive = result.equity > 0
    return float((result.exposed[alive] / result.equity[alive]).mean()) if alive.any() else None


def mean(values: Sequence[Decimal]) -> Decimal | None:
    return sum(values, Decimal(0)) / len(values) if values else None


def ratio(above: float | None, below: float) -> float | None:
    return None if above is None or not below else above / below


def start_balance(result: BacktestResult) -> Decimal:
    """What it began with: the balance at the end without what all trades brought."""
    return result.balance - sum((trade.pnl for trade in result.trades), Decimal(0))


def with_start(result: BacktestResult, start_ms: int) -> tuple[NDArray[np.int64], Floats]:
    """Times and equity, the starting balance first."""
    times = np.concatenate([np.array([start_ms], dtype=np.int64), result.equity_ms])
    return times, np.concatenate([np.array([float(start_balance(result))]), result.equity])


def daily_equity(times: NDArray[np.int64], equity: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Equity at the start and at the end of each UTC day since, and the days' numbers since 1970 (the start's is that
    of the day before the first)."""
    if len(times) < 2:
        return np.array([], dtype=np.int64), equity[:1]
    day = (times[1:] - 1) // DAY_MS
    last = np.flatnonzero(np.append(day[1:] != day[:-1], True))
    days = np.arange(day[0], day[-1] + 1)
    newest = last[np.searchsorted(day[last], days, side="right") - 1]
    return np.append(days[0] - 1, days), np.concatenate([equity[:1], equity[1:][newest]])


def daily_returns(times: NDArray[np.int64], equity: Floats) -> Floats:
    """Fractions, one for each day; they end with -1 where equity ends at or below 0."""
    _, closes = daily_equity(times, equity)
    dead = np.flatnonzero(closes <= 0)
    if len(dead):
        closes = np.append(closes[: dead[0]], 0.0)
    return closes[1:] / closes[:-1] - 1.0 if len(closes) > 1 else np.array([])


def annual_return(returns: Floats) -> float | None:
    """Compounded to a year; None for less than a day, or where a few days become more than a float holds."""
    if not len(returns):
        return None
    growth = math.fsum(math.log1p(each) for each in returns if each > -1.0)
    if (returns <= -1.0).any():
        return -1.0
    exponent = growth * DAYS_A_YEAR / len(returns)
    return math.expm1(exponent) if exponent < 700 else None


def volatility(returns: Floats) -> float | None:
    """The sample deviation of daily returns, for a year."""
    return None if (deviation := deviation_of(returns)) is None else deviation * math.sqrt(DAYS_A_YEAR)


def deviation_of(returns: Floats) -> float | None:
    """None for less than two days, or where it is more than a float holds."""
    if len(returns) < 2:
        return None
    with np.errstate(over="ignore"):
        deviation = float(returns.std(ddof=1))
    return deviation if math.isfinite(deviation) else None


def sharpe(returns: Floats) -> float | None:
    deviation = deviation_of(returns)
    if deviation is None or deviation <= FLAT:
        return None
    return float(returns.mean()) / deviation * math.sqrt(DAYS_A_YEAR)


def sortino(returns: Floats) -> float | None:
    if len(returns) < 2 or (downside := math.sqrt(float((np.minimum(returns, 0.0) ** 2).mean()))) <= FLAT:
        return None
    return float(returns.mean()) / downside * math.sqrt(DAYS_A_YEAR)


def drawdowns(equity: Floats) -> Floats:
    """At each point, how far below the highest so far: 0 to 1 (1 at or below 0)."""
    peaks = np.maximum.accumulate(equity)
    return np.minimum(1.0, 1.0 - equity / np.where(peaks > 0, peaks, 1.0))


def deepest_drawdown(times: NDArray[np.int64], equity: Floats) -> Drawdown | None:
    """None where equity never fell."""
    below = drawdowns(equity)
    trough = int(np.argmax(below))
    if below[trough] <= 0:
        return None
    peak = int(np.argmax(equity[: trough + 1]))
    # Of several points at the peak's height the fall begins at the last.
    peak = int(np.flatnonzero(equity[: trough + 1] == equity[peak])[-1])
    back = np.flatnonzero(equity[trough:] >= equity[peak])
    at_peak = np.append(np.flatnonzero(below <= 0), len(equity) - 1)
    return Drawdown(
        share=float(below[trough]),
        peak_ms=int(times[peak]),
        trough_ms=int(times[trough]),
        recovered_ms=int(times[trough + back[0]]) if len(back) else None,
        longest_ms=_longest_below(times, at_peak),
    )


def _longest_below(times: NDArray[np.int64], at_peak: NDArray[np.int64]) -> int:
    starts, ends = at_peak[:-1], at_peak[1:]
    # Two peaks side by side have nothing below them in between, except at the end, where the last may be below.
    below = np.append(ends[:-1] - starts[:-1] > 1, ends[-1] > starts[-1]) if len(ends) else np.array([], dtype=bool)
    spans = (times[ends] - times[starts])[below]
    return int(spans.max()) if len(spans) else 0


@dataclass(frozen=True, slots=True)
class Year:
    """Returns of a calendar year (UTC): twelve months, None where there was nothing, and all of it."""

    year: int
    months: tuple[float | None, ...]
    total: float | None


def monthly_table(times: NDArray[np.int64], equity: Floats) -> tuple[Year, ...]:
    """Returns by month from the daily equity; a month that begins within counts from there."""
    days, closes = daily_equity(times, equity)
    if not len(days):
        return ()
    stamps = [datetime.fromtimestamp(int(day) * DAY_MS / 1000, tz=UTC) for day in days[1:]]
    ends: dict[tuple[int, int], float] = {}
    for stamp, close in zip(stamps, closes[1:].tolist(), strict=True):
        ends[stamp.year, stamp.month] = close
    found: dict[int, list[float | None]] = {}
    totals: dict[int, float | None] = {}
    before = year_start = float(closes[0])
    for (year, month), end in ends.items():
        if year not in found:
            found[year], year_start = [None] * 12, before
        found[year][month - 1] = end / before - 1.0 if before > 0 else None
        totals[year] = end / year_start - 1.0 if year_start > 0 else None
        before = end
    return tuple(Year(year, tuple(months), totals[year]) for year, months in found.items())


def thinned(times: NDArray[np.int64], values: Floats, most: int = 1_500) -> NDArray[np.int64]:
    """Which points to draw: all up to ``most``; else of equal stretches the first, the lowest and the highest, and the
    very last, so that no peak and no fall is lost."""
    if len(times) <= most:
        return np.arange(len(times))
    bounds = np.linspace(0, len(times), max(1, most // 3) + 1).astype(np.int64)
    kept = {len(times) - 1}
    for first, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        stretch = values[first:end]
        kept |= {first, first + int(np.argmin(stretch)), first + int(np.argmax(stretch))}
    return np.array(sorted(kept), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Group:
    """The trades that have something in common."""

    name: str
    trades: int
    wins: int
    pnl: Decimal
    fees: Decimal
    funding: Decimal


def grouped(trades: Iterable[BacktestTrade], name: Callable[[BacktestTrade], str]) -> tuple[Group, ...]:
    """By what ``name`` says of a trade, in the order of the names."""
    found: dict[str, list[BacktestTrade]] = {}
    for trade in trades:
        found.setdefault(name(trade), []).append(trade)
    nothing = Decimal(0)
    return tuple(
        Group(
            name=key,
            trades=len(rows),
            wins=sum(trade.pnl > 0 for trade in rows),
            pnl=sum((trade.pnl for trade in rows), nothing),
            fees=sum((trade.fees for trade in rows), nothing),
            funding=sum((trade.funding for trade in rows), nothing),
        )
        for key, rows in sorted(found.items())
    )


def refusals(result: BacktestResult, most: int = 20) -> tuple[tuple[str, str, int], ...]:
    """Outcome, words and number of the signals that were not approved, the most frequent first."""
    found: Mapping[tuple[str, str], int] = Counter(
        (signal.outcome, signal.words) for signal in result.signals if signal.outcome != "approved"
    )
    ranked = sorted(found.items(), key=lambda each: (-each[1], each[0]))
    return tuple((outcome, words, count) for (outcome, words), count in ranked[:most])
