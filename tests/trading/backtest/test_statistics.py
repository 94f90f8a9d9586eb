"""The figures of a backtest: by hand, and against empyrical on the same daily returns."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import builders
from trading.backtest import statistics
from trading.backtest.result import BacktestResult
from trading.backtest.result_packing import as_json
from trading.backtest.statistics import Statistics, statistics_of
from trading.backtest.trade_order import PERCENTILES, shares, trade_order

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import empyrical

START = 1_767_225_600_000  # 2026-01-01
DAY, HOUR = 86_400_000, 3_600_000


def figures(result: BacktestResult) -> Statistics:
    return statistics_of(result, START, int(result.equity_ms[-1]) if len(result.equity_ms) else START + DAY)


def curve(result: BacktestResult) -> Any:
    return statistics.with_start(result, START)


def with_trades(*pnls: str) -> BacktestResult:
    trades = [builders.backtest_trade(pnl, START + DAY * (day + 1)) for day, pnl in enumerate(pnls)]
    equity = np.cumsum([float(pnl) for pnl in pnls]) + 10_000
    return builders.backtest_result(equity.tolist(), trades=trades, exposed=[6_000.0] * len(pnls))


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [each for inner in value.values() for each in numbers(inner)]
    if isinstance(value, list | tuple):
        return [each for inner in value for each in numbers(inner)]
    return [float(value)] if isinstance(value, float | Decimal) else []


daily = st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=80)


@given(daily)
@settings(max_examples=60, deadline=None)
def test_returns_and_ratios_are_those_of_empyrical(returns: list[float]) -> None:
    equity = 10_000 * np.cumprod(1 + np.array(returns))
    found = figures(builders.backtest_result(equity.tolist()))
    ours = statistics.daily_returns(*curve(builders.backtest_result(equity.tolist())))
    assert ours == pytest.approx(returns, abs=1e-12)
    pairs = [
        (found.total_return, empyrical.cum_returns_final(ours)),
        (found.annualised_return, empyrical.annual_return(ours, annualization=365)),
        (found.volatility, empyrical.annual_volatility(ours, annualization=365)),
        (found.max_drawdown, -empyrical.max_drawdown(ours)),
    ]
    if found.sharpe is not None:
        pairs.append((found.sharpe, empyrical.sharpe_ratio(ours, annualization=365)))
    if found.sortino is not None:
        pairs.append((found.sortino, empyrical.sortino_ratio(ours, annualization=365)))
    if found.calmar is not None and found.max_drawdown > 1e-9:
        pairs.append((found.calmar, empyrical.calmar_ratio(ours, annualization=365)))
    for mine, theirs in pairs:
        assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-9)


def test_three_days_by_hand() -> None:
    # 10,000 -> 11,000 (+10 %) -> 9,900 (-10 %) -> 10,890 (+10 %)
    found = figures(builders.backtest_result([11_000, 9_900, 10_890]))
    assert found.total_return == pytest.approx(0.089)
    assert found.annualised_return == pytest.approx(1.089 ** (365 / 3) - 1)
    # Returns .1 -.1 .1: mean 1/30, sample deviation sqrt(.04 / 3), below 0 sqrt(.01 / 3).
    assert found.sharpe == pytest.approx((1 / 30) / math.sqrt(0.04 / 3) * math.sqrt(365))
    assert found.sortino == pytest.approx((1 / 30) / math.sqrt(0.01 / 3) * math.sqrt(365))
    assert found.max_drawdown == pytest.approx(0.1)
    assert found.calmar == pytest.approx((1.089 ** (365 / 3) - 1) / 0.1)
    assert found.drawdown is not None
    assert (found.drawdown.peak_ms, found.drawdown.trough_ms) == (START + DAY, START + 2 * DAY)
    assert found.drawdown.recovered_ms is None and found.drawdown.longest_ms == 2 * DAY


def test_a_drawdown_ends_when_the_peak_is_reached_again() -> None:
    found = figures(builders.backtest_result([10_500, 9_450, 10_000, 10_500, 10_400, 10_600]))
    assert found.drawdown is not None
    assert found.drawdown.share == pytest.approx(0.1)
    assert found.drawdown.recovered_ms == START + 4 * DAY
    assert found.drawdown.longest_ms == 3 * DAY


def test_trades_by_hand() -> None:
    found = figures(with_trades("100", "-50", "-25", "0", "200"))
    assert (found.trades, found.wins, found.losses, found.longs) == (5, 2, 2, 5)
    assert found.win_rate == 0.4 and found.profit_factor == 4.0 and found.payoff == 4.0
    assert (found.average_win, found.average_loss, found.expectancy) == (Decimal(150), Decimal("-37.5"), Decimal(45))
    assert (found.best_trade, found.worst_trade, found.net_profit) == (Decimal(200), Decimal(-50), Decimal(225))
    assert found.longest_losing_streak == 2 and found.mean_duration_ms == HOUR
    assert found.fees == Decimal("7.5") and found.funding == Decimal("-1.25") and found.maker_share == 0
    assert found.exposure == 1.0
    assert found.mean_leverage == pytest.approx(np.mean([6_000 / e for e in (10_100, 10_050, 10_025, 10_025, 10_225)]))


def test_midnight_ends_the_day_and_a_day_without_a_point_carries_on() -> None:
    result = builders.backtest_result([10_100, 10_200, 10_300, 10_400], step_ms=DAY // 2)
    times, equity = curve(result)
    times[-1] += 2 * DAY  # the last point is two days late
    days, closes = statistics.daily_equity(times, equity)
    assert closes.tolist() == [10_000, 10_200, 10_300, 10_300, 10_400]
    assert datetime.fromtimestamp(int(days[1]) * 86_400, tz=UTC).day == 1


def test_months_and_years_compound_to_the_whole() -> None:
    equity = [10_000 * 1.001**day for day in range(1, 400)]
    times, values = curve(builders.backtest_result(equity))
    table = statistics.monthly_table(times, values)
    assert [row.year for row in table] == [2026, 2027]
    assert table[0].months[0] == pytest.approx(1.001**31 - 1) and table[0].months[1] == pytest.approx(1.001**28 - 1)
    assert table[0].total == pytest.approx(1.001**365 - 1) and table[1].months[2] is None
    assert math.prod(1 + (row.total or 0) for row in table) == pytest.approx(values[-1] / 10_000)


@pytest.mark.parametrize(
    "result",
    [
        builders.backtest_result(),
        builders.backtest_result([10_000]),
        builders.backtest_result([10_000] * 5),
        with_trades("10"),
        with_trades("-10"),
        with_trades("10", "20", "30"),
        with_trades("-10000"),
        with_trades("10", "-20000", "5"),
        builders.backtest_result([1e300, 1.0, 1e300]),
        builders.backtest_result([10_000, -5.0]),
    ],
    ids=["empty", "a day", "flat", "a win", "a loss", "all wins", "ruin", "more than ruin", "absurd", "below 0"],
)
def test_nothing_is_ever_nan_or_infinite(result: BacktestResult) -> None:
    found = figures(result)
    assert all(math.isfinite(each) for each in numbers(asdict(found)))
    text = orjson.dumps(as_json(found))
    assert b"NaN" not in text and b"Infinity" not in text
    assert 0 <= found.max_drawdown <= 1


def test_what_is_not_defined_is_none() -> None:
    nothing = figures(builders.backtest_result())
    assert nothing.total_return == 0 and nothing.trades == 0
    for name in (
        "annualised_return",
        "sharpe",
        "sortino",
        "calmar",
        "win_rate",
        "profit_factor",
        "expectancy",
        "payoff",
    ):
        assert getattr(nothing, name) is None, name
    wins = figures(with_trades("10", "20", "30"))
    assert (wins.win_rate, wins.profit_factor, wins.average_loss, wins.calmar, wins.sortino) == (
        1.0,
        None,
        None,
        None,
        None,
    )
    assert wins.drawdown is None and wins.sharpe is not None


def test_ruin_is_a_return_of_minus_one_whatever_came_after() -> None:
    found = figures(builders.backtest_result([5_000, -200, 3_000]))
    assert found.ruined and found.total_return == -1 and found.annualised_return == -1 and found.max_drawdown == 1
    assert not figures(builders.backtest_result([5_000, 1, 3_000])).ruined


@given(st.lists(st.floats(100, 1e6), min_size=1, max_size=4_000), st.integers(30, 300))
@settings(max_examples=30, deadline=None)
def test_a_thinned_curve_keeps_its_ends_its_highest_and_its_lowest(values: list[float], most: int) -> None:
    equity = np.array(values)
    kept = statistics.thinned(np.arange(len(equity)), equity, most)
    assert len(kept) <= max(most, 1) + 1
    assert kept[0] == 0 and kept[-1] == len(equity) - 1 and (np.diff(kept) > 0).all()
    assert equity[kept].max() == equity.max() and equity[kept].min() == equity.min()


def test_groups_add_up_to_the_whole() -> None:
    result = with_trades("10", "-5", "7")
    trades = [replace(trade, why=why) for trade, why in zip(result.trades, ["a", "b", "a"], strict=True)]
    found = statistics.grouped(trades, lambda trade: trade.why)
    assert [(group.name, group.trades, group.wins, group.pnl) for group in found] == [
        ("a", 2, 2, Decimal(17)),
        ("b", 1, 0, Decimal(-5)),
    ]


def test_refusals_are_counted_by_their_words() -> None:
    signals = [
        builders.backtest_signal(START),
        *(builders.backtest_signal(START, "denied", "max_positions") for _ in "ab"),
    ]
    result = builders.backtest_result([1.0], signals=[*signals, builders.backtest_signal(START, "vetoed", "unsure")])
    assert statistics.refusals(result) == (("denied", "max_positions", 2), ("vetoed", "unsure", 1))


def test_the_order_of_trades_is_drawn_the_same_for_the_same_seed() -> None:
    trades = with_trades(*["100", "-80", "60", "-40", "20"] * 8).trades
    one, two, other = (trade_order(trades, 10_000.0, seed) for seed in (7, 7, 8))
    assert one == two and one != other and one is not None
    assert list(one.drawn_drawdown) == sorted(one.drawn_drawdown) and len(one.fan) == len(PERCENTILES)
    assert one.fan[0][0] == 1.0 and one.fan_at[-1] == len(trades)
    assert one.drawn_return[0] < one.drawn_return[-1] and 0 < one.loses < 1


def test_two_trades_have_two_orders_and_one_end() -> None:
    # +10 % and -10 %: either way the end is 0.99; fallen first or last, the drawdown is 10 %.
    trades = [builders.backtest_trade("1000", START + 1), builders.backtest_trade("-1100", START + 2)]
    assert shares(trades, 10_000.0) == pytest.approx([0.1, -0.1])
    found = trade_order(trades, 10_000.0, 7)
    assert found is not None and found.shuffled_drawdown == pytest.approx([0.1] * 5)
    # Drawn: 1.21, 0.99 or 0.81, the middle one half of the time.
    lowest, _, middle, _, highest = found.drawn_return
    assert (lowest, middle, highest) == pytest.approx((-0.19, -0.01, 0.21))
    assert trade_order(trades[:1], 10_000.0, 7) is None


def test_trades_after_ruin_are_not_drawn() -> None:
    trades = [builders.backtest_trade("-20000", START + 1), builders.backtest_trade("50", START + 2)]
    assert shares(trades, 10_000.0).tolist() == [-1.0]
