"""Trades worked out by hand, by the rules of docs/backtest.md."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np

from marketdata.candles.series import FundingSeries
from risk.exits import ExitRules
from risk.limits import Limits
from tests.trading.backtest.candle_tests import (
    MINUTE,
    NO_COSTS,
    START_MS,
    D,
    bars,
    fixed_usd,
    outcome_of,
    request,
    rules,
)
from tests.trading.backtest.candle_tests import known_strategies as known_strategies
from trading.backtest.result import BacktestFill, BacktestResult

FLAT = (100, 100, 100, 100)
BUY, SELL = ("Buy", "110", "95"), ("Sell", "90", "105")


def brief(fill: BacktestFill) -> tuple[int, str, Decimal, Decimal, str]:
    return (fill.time_ms - START_MS) // MINUTE, fill.side, fill.price, fill.quantity, fill.why


def fills(result: BacktestResult) -> list[tuple[int, str, Decimal, Decimal, str]]:
    return [brief(fill) for fill in result.fills]


def test_a_signal_at_a_close_fills_at_the_next_open_and_ends_at_its_take_profit() -> None:
    result = outcome_of(bars([FLAT, (101, 104, 101, 103), (103, 112, 102, 111)]), {0: BUY})

    assert fills(result) == [(1, "Buy", D(101), D(10), "signal"), (2, "Sell", D(110), D(10), "take_profit")]
    (trade,) = result.trades
    assert (trade.pnl, trade.entry_price, trade.exit_price, trade.why) == (D(90), D(101), D(110), "take_profit")
    # Of its last bar, which fell to 102 and rose to 112, it saw what was before 110.
    assert (trade.best, trade.worst) == ((110 - 101) / 101 * 100, 0.0)
    assert result.balance == D(10_090)


def test_fees_are_price_times_quantity_times_rate_of_both_sides() -> None:
    costs = replace(NO_COSTS, fee=D("0.00055"))

    result = outcome_of(bars([FLAT, FLAT, (100, 111, 100, 111)]), {0: BUY}, request(costs=costs))

    assert [fill.fee for fill in result.fills] == [D("0.55"), D("0.605")]
    assert result.trades[0].fees == D("1.155") and result.trades[0].pnl == D("98.845")
    assert result.balance == D("10098.845")


def test_spread_and_slippage_are_rounded_to_the_tick_against_the_order() -> None:
    # Half of 0.0004 and 0.0001 are 0.0003: 100.03 and 99.97, with ticks of 0.1.
    costs = replace(NO_COSTS, spread=D("0.0004"), slippage=D("0.0001"))

    result = outcome_of(bars([FLAT, FLAT, FLAT]), {0: BUY}, request(costs=costs))

    assert fills(result) == [(1, "Buy", D("100.1"), D(10), "signal"), (3, "Sell", D("99.9"), D(10), "end")]


def test_a_price_that_costs_keep_on_the_grid_is_not_rounded_further() -> None:
    costs = replace(NO_COSTS, slippage=D("0.001"))

    result = outcome_of(bars([FLAT, FLAT, FLAT]), {0: BUY}, request(costs=costs))

    assert [fill.price for fill in result.fills] == [D("100.1"), D("99.9")]


def test_impact_grows_with_the_root_of_the_share_of_the_bars_volume() -> None:
    # 10 of 1,000 are a share of 0.01, whose root is 0.1: with 0.02 that is 0.002 of the price.
    costs = replace(NO_COSTS, impact=D("0.02"))

    result = outcome_of(bars([FLAT, FLAT, FLAT], volume=1_000), {0: BUY}, request(costs=costs))

    assert [fill.price for fill in result.fills] == [D("100.2"), D("99.8")]


def test_latency_of_two_bars_and_a_half_skips_two() -> None:
    costs = replace(NO_COSTS, latency_ms=150_000)

    result = outcome_of(bars([FLAT] * 5), {0: BUY}, request(costs=costs))

    assert fills(result)[0][0] == 3


def test_a_gap_through_the_stop_fills_where_the_bar_opens() -> None:
    result = outcome_of(bars([FLAT, FLAT, (93, 94, 92, 93)]), {0: BUY})

    assert fills(result)[1] == (2, "Sell", D(93), D(10), "stop_loss")


def test_of_take_profit_and_stop_loss_in_one_bar_the_bars_direction_says_which_came_first() -> None:
    rose = outcome_of(bars([FLAT, FLAT, (100, 112, 94, 101)]), {0: BUY})
    fell = outcome_of(bars([FLAT, FLAT, (100, 112, 94, 99)]), {0: BUY})

    assert fills(rose)[1][2:] == (D(95), D(10), "stop_loss")
    assert fills(fell)[1][2:] == (D(110), D(10), "take_profit")


def test_the_largest_loss_closes_before_a_farther_stop() -> None:
    result = outcome_of(bars([FLAT, FLAT, (100, 100.5, 94, 95)]), {0: BUY}, request(exit_rules=ExitRules()))

    assert fills(result)[1] == (2, "Sell", D(98), D(10), "max_loss")


def test_partial_exits_close_their_shares_and_the_rest_goes_on() -> None:
    exits = ExitRules(trailing_stop=False, trailing_take_profit=False, partial_exits=((D(2), D(30)), (D(5), D(50))))

    result = outcome_of(
        bars([FLAT, FLAT, (100, 103, 100, 102), (102, 106, 101, 106)]), {0: BUY}, request(exit_rules=exits)
    )

    assert fills(result)[1:] == [
        (2, "Sell", D(102), D(3), "partial"),
        (3, "Sell", D(105), D(5), "partial"),
        (4, "Sell", D(106), D(2), "end"),
    ]
    # 3 times 2, 5 times 5, 2 times 6.
    assert result.trades[0].pnl == D(43) and result.trades[0].exit_price == D("104.3")
    assert result.trades[0].quantity == D(10)


def test_a_trailing_stop_follows_the_extreme_and_is_met_on_the_way_back() -> None:
    exits = ExitRules(trailing_take_profit=False)

    result = outcome_of(
        bars([FLAT, FLAT, (100, 104, 100, 103.5), (103.5, 104.5, 102, 103)]), {0: BUY}, request(exit_rules=exits)
    )

    # At best 4.5 % in profit, from which the distance of the first step, 1 %, is taken.
    assert fills(result)[1] == (3, "Sell", D("103.5"), D(10), "trailing_stop")


def test_a_trailing_take_profit_of_a_short_mirrors_a_long_one() -> None:
    exits = ExitRules(trailing_stop=False)

    result = outcome_of(
        bars([FLAT, FLAT, (100, 100, 98, 98), (98, 99, 97.9, 98.9)]), {0: SELL}, request(exit_rules=exits)
    )

    # At best 2.1 %: two steps of 0.5 beyond 1.0, so 0.5 / 1.5**2 = 0.2222 % behind: 98.1222, which is met at 98.2.
    assert fills(result)[1] == (3, "Buy", D("98.2"), D(10), "trailing_take_profit")


def test_an_opposite_signal_closes_and_turns_with_one_order() -> None:
    costs = replace(NO_COSTS, fee=D("0.001"))
    sell = ("Sell", "87", "107")

    result = outcome_of(
        bars([FLAT, FLAT, (102, 102, 102, 102), (102, 102, 102, 102)]), {0: BUY, 1: sell}, request(costs=costs)
    )

    assert fills(result) == [
        (1, "Buy", D(100), D(10), "signal"),
        (2, "Sell", D(102), D(20), "signal"),
        (4, "Buy", D(102), D(10), "end"),
    ]
    long, short = result.trades
    # 10 gained two each; fees of 1,000 and 1,020, and for the other half 1,020 twice.
    assert (long.pnl, long.fees, long.side) == (D("17.98"), D("2.02"), "Buy")
    assert (short.pnl, short.fees, short.side) == (D("-2.04"), D("2.04"), "Sell")
    assert result.balance == D("10015.94")


def test_without_reversal_an_opposite_signal_only_closes() -> None:
    run = fixed_usd(allow_reversal=False)

    result = outcome_of(bars([FLAT] * 4), {0: BUY, 1: SELL}, request(run))

    assert fills(result) == [(1, "Buy", D(100), D(10), "signal"), (2, "Sell", D(100), D(10), "signal")]


def test_funding_is_paid_at_the_open_by_what_was_held_before_it() -> None:
    series = bars([FLAT, FLAT, (102, 103, 102, 103), FLAT])
    times = np.array([START_MS + MINUTE, START_MS + 2 * MINUTE])
    funding = {"BTCUSDT": FundingSeries("bybit", "BTCUSDT", times, np.array([0.001, 0.0005]))}

    result = outcome_of(series, {0: BUY}, request(costs=replace(NO_COSTS, funding=True)), funding=funding)

    # Opened at the first of the two times, so only the second is paid: 10 at 102, 0.05 %.
    assert result.trades[0].funding == D("-0.51") and result.balance == D("9999.49")


def test_a_short_receives_what_longs_pay() -> None:
    times = np.array([START_MS + 2 * MINUTE])
    funding = {"BTCUSDT": FundingSeries("bybit", "BTCUSDT", times, np.array([0.0001]))}

    result = outcome_of(bars([FLAT] * 4), {0: SELL}, request(costs=replace(NO_COSTS, funding=True)), funding=funding)

    assert result.trades[0].funding == D("0.1") and result.balance == D("10000.1")


def test_a_position_is_liquidated_where_equity_meets_the_maintenance_margin() -> None:
    # 1,000 of margin at 50 times are 500 coins at 100. 1,000 - 500 * (100 - p) = 500 * p * 0.005 at p = 98.492...
    run = fixed_usd(sizing_value=D(1_000), leverage=D(50))
    asked = request(run, balance=D(1_000))

    result = outcome_of(
        bars([FLAT, FLAT, (100, 100, 97, 97)]), {0: ("Buy", "120", "90")}, asked,
        instruments={"BTCUSDT": rules(max_market_quantity=D(10_000))},
    )  # fmt: skip

    assert fills(result)[1] == (2, "Sell", D("98.4"), D(500), "liquidation")
    assert result.balance == D(200)


def test_a_gap_beyond_what_is_there_leaves_the_account_a_debt() -> None:
    run = fixed_usd(sizing_value=D(1_000), leverage=D(50))

    result = outcome_of(
        bars([FLAT, FLAT, (95, 95, 95, 95), (95, 95, 95, 95)]), {0: ("Buy", "120", "90"), 2: ("Buy", "120", "90")},
        request(run, balance=D(1_000)), instruments={"BTCUSDT": rules(max_market_quantity=D(10_000))},
    )  # fmt: skip

    assert fills(result)[1:] == [(2, "Sell", D(95), D(500), "liquidation")]
    assert result.balance == D(-1_500)
    assert result.signals[1].outcome == "denied"


def test_of_several_positions_the_one_that_loses_most_is_liquidated() -> None:
    runs = fixed_usd(("AUSDT", "BUSDT"), sizing_value=D(500), leverage=D(50))
    fall = [FLAT, FLAT, (100, 100, 99, 99), (99, 99, 97, 97)]
    told = {("AUSDT", 0): ("Buy", "120", "90"), ("BUSDT", 0): ("Buy", "120", "90")}
    slow = [FLAT, FLAT, FLAT, (100, 100, 99, 99)]

    result = outcome_of(
        [bars(fall, "AUSDT"), bars(slow, "BUSDT")], told, request(runs, balance=D(1_000)),
        instruments={name: rules(name, max_market_quantity=D(10_000)) for name in ("AUSDT", "BUSDT")},
    )  # fmt: skip

    # 250 of each. A bears 97: 1,000 - 250 * 3 = 250, and 0.005 * 250 * (97 + 100) = 246.25. B, which is walked after
    # it, falls: 250 - 250 * (100 - p) = 0.005 * 250 * (97 + p) at p = 99.985, so that A goes while B is at 99.9.
    # Then 250 - 250 * (100 - p) = 0.005 * 250 * p at p = 99.497.
    assert [fill[1:] for fill in fills(result)[2:]] == [
        ("Sell", D(97), D(250), "liquidation"),
        ("Sell", D("99.4"), D(250), "liquidation"),
    ]
    assert result.trades[0].symbol == "AUSDT"


def test_size_follows_equity_leverage_and_confidence() -> None:
    run = fixed_usd(sizing_mode="percent", sizing_value=D(5), leverage=D(4), size_by_confidence=True)

    result = outcome_of(bars([FLAT] * 3), {0: (*BUY, 0.5)}, request(run))

    # 5 % of 10,000 by 4 at 100 is 20; the smallest is 0.05; in the middle: 10.025.
    assert result.fills[0].quantity == D("10.025")


def test_limits_deny_and_say_why() -> None:
    asked = request(fixed_usd(("AUSDT", "BUSDT")), limits=Limits(max_positions=1))

    result = outcome_of(
        [bars([FLAT] * 3, "AUSDT"), bars([FLAT] * 3, "BUSDT")], {("AUSDT", 0): BUY, ("BUSDT", 0): BUY}, asked
    )

    assert [(each.symbol, each.outcome) for each in result.signals] == [("AUSDT", "approved"), ("BUSDT", "denied")]
    assert "position number 2" in result.signals[1].words


def test_the_loss_of_a_day_closes_everything_until_the_next_one() -> None:
    run = fixed_usd(sizing_value=D(1_000))
    rows = [FLAT, FLAT, (100, 100, 96, 96), (96, 96, 96, 96), *[(96, 96, 96, 96)] * 1_440]
    told = {0: ("Buy", "120", "90"), 5: ("Buy", "110", "90"), 1_439: ("Buy", "110", "90")}

    result = outcome_of(bars(rows), told, request(run, limits=Limits(max_daily_loss_percent=D(3))))

    # 100 coins lost 4 each of 10,000.
    assert fills(result)[1] == (3, "Sell", D(96), D(100), "kill_switch")
    assert [each.outcome for each in result.signals] == ["approved", "denied", "approved"]
    assert "new risk stops at 3 %" in result.signals[1].words


def test_a_drawdown_ends_trading_for_good() -> None:
    run = fixed_usd(sizing_value=D(1_000))
    rows = [FLAT, FLAT, (100, 108, 100, 108), (108, 108, 97, 97), *[(97, 97, 97, 97)] * 1_500]
    asked = request(run, limits=Limits(max_drawdown_percent=D(10)))

    result = outcome_of(bars(rows), {0: ("Buy", "130", "80"), 1_500: ("Buy", "130", "90")}, asked)

    # From 10,800 to 9,700: 10.19 %.
    assert fills(result)[1] == (4, "Sell", D(97), D(100), "kill_switch")
    assert result.signals[1].outcome == "denied" and "10.19 %" in result.signals[1].words


def test_the_curve_tells_the_worth_at_the_end_of_every_bar() -> None:
    result = outcome_of(bars([FLAT, FLAT, (100, 101, 100, 101), (101, 103, 101, 103)]), {0: BUY})

    assert result.equity_ms.tolist() == [START_MS + each * MINUTE for each in (1, 2, 3, 4)]
    assert result.equity.tolist() == [10_000, 10_000, 10_010, 10_030]
    assert result.exposed.tolist() == [0, 1_000, 1_010, 1_030]


def test_a_bar_that_is_missing_is_waited_for() -> None:
    one, two = bars([FLAT]), bars([(102, 102, 102, 102), (103, 103, 103, 103)], first=4)
    gap = replace(one, **{
        name: np.concatenate([getattr(one, name), getattr(two, name)])
        for name in ("start_ms", "open", "high", "low", "close", "volume")
    })  # fmt: skip

    result = outcome_of(gap, {0: BUY})

    assert fills(result) == [(4, "Buy", D(102), D(10), "signal"), (6, "Sell", D(103), D(10), "end")]
    assert len(result.equity) == 3
