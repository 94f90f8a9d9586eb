"""Trades over recorded books worked out by hand: what each order took, when, and what the account was left with."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from risk.exits import ExitRules
from risk.limits import Limits
from tests.trading.backtest.tapes import FREE, START_MS, Tape, asked, run_tape, scripted
from trading.backtest.request import BacktestRequest, StrategyRun

D = Decimal
BIDS = [("100.0", "4"), ("99.9", "5"), ("99.8", "50")]
ASKS = [("100.1", "4"), ("100.2", "5"), ("100.3", "50")]
FAR = ("500", "1")


def quiet(tape: Tape, first: int, last: int, step: int = 100) -> None:
    """A level far away comes and goes."""
    for place, at in enumerate(range(first, last, step)):
        tape.book(at, [("90.0", str(1 + place % 2))], [])


def test_a_market_order_takes_level_after_level_after_its_latency(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tape = Tape()
    tape.snapshot(0, BIDS, ASKS)
    said = tape.book(100, [("90.0", "1")], [])
    tape.book(120, [], [("100.1", "3")])  # known to nobody yet when it is signalled
    quiet(tape, 200, 1_000)
    scripted(monkeypatch, {("BTCUSDT", said): ("Buy", *FAR)})
    costs = replace(FREE, fee=D("0.001"), latency_ms=50)

    result = run_tape(tape, tmp_path, asked(costs=costs))

    # 1,000 USD at 100.1 with leverage 10: 99.900 coins; 3 at 100.1, 5 at 100.2, 50 at 100.3, and nobody has more.
    opened = [(each.time_ms - START_MS, each.price, each.quantity) for each in result.fills if each.why == "signal"]
    assert opened == [(150, D("100.1"), D(3)), (150, D("100.2"), D(5)), (150, D("100.3"), D(50))]
    assert [each.fee for each in result.fills[:3]] == [D("0.3003"), D("0.501"), D("5.015")]
    closed = [(each.price, each.quantity) for each in result.fills if each.why == "end"]
    assert closed[:3] == [(D("100.0"), D(4)), (D("99.9"), D(5)), (D("99.8"), D(49))]
    (trade,) = result.trades
    assert (trade.quantity, trade.why) == (D(58), "end")
    fees = D("5.8163") + D("0.4") + D("0.4995") + D("4.8902")
    paid, got = D("300.3") + D(501) + D(5015), D(400) + D("499.5") + D("4890.2")
    assert trade.fees == fees
    # The mean entry has 18 decimals.
    assert trade.pnl.quantize(D("1e-12")) == got - paid - fees
    assert result.balance == D(10_000) + trade.pnl


def small(**changes: Any) -> BacktestRequest:
    """50 USD a signal with leverage 1: half a coin at a mark price of 100."""
    run = StrategyRun(
        "book_script",
        ("BTCUSDT",),
        sizing_mode="fixed_usd",
        sizing_value=D(50),
        leverage=D(1),
        **changes.pop("run", {}),
    )
    return asked(strategies=(run,), **changes)


def street(until: int = 10_000) -> tuple[Tape, int]:
    """A book with a mark price; the update of a view at 1,000 ms; quiet until the end."""
    tape = Tape()
    tape.ticker(0, markPrice="100.0", lastPrice="100.0")
    tape.snapshot(0, BIDS, ASKS)
    said = tape.book(1_000, [("90.0", "9")], [])
    return tape, said


def test_take_profit_rests_at_the_exchange_and_takes_the_book_when_a_trade_meets_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tape, said = street()
    tape.trade(2_000, "Buy", "100.9", "1")
    tape.book(
        2_050, [("100.8", "0.2"), ("100.7", "7")], [("100.1", "0"), ("100.2", "0"), ("100.3", "0"), ("101.2", "9")]
    )
    tape.trade(3_000, "Buy", "101.0", "1")
    tape.book(3_100, [("100.8", "0"), ("100.7", "0")], [])
    scripted(monkeypatch, {("BTCUSDT", said): ("Buy", "101", "99.6")})

    result = run_tape(tape, tmp_path, small(costs=replace(FREE, fee=D("0.001"), latency_ms=300)))

    found = [(each.time_ms - START_MS, each.why, each.price, each.quantity) for each in result.fills]
    assert found == [
        (1_300, "signal", D("100.1"), D("0.5")),
        (3_000, "take_profit", D("100.8"), D("0.2")),
        (3_000, "take_profit", D("100.7"), D("0.3")),
    ]
    (trade,) = result.trades
    got = D("100.8") * D("0.2") + D("100.7") * D("0.3")
    paid = D("100.1") * D("0.5")
    assert trade.fees == (got + paid) / 1_000 and trade.pnl == got - paid - trade.fees
    assert trade.best == pytest.approx((101.0 - 100.1) / 100.1 * 100) and trade.why == "take_profit"


def test_a_stop_of_a_short_position_is_met_by_a_trade_above_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tape, said = street()
    tape.trade(2_000, "Sell", "100.0", "1")
    tape.trade(2_500, "Buy", "100.2", "1")
    quiet(tape, 3_000, 3_500)
    scripted(monkeypatch, {("BTCUSDT", said): ("Sell", "95", "100.15")})

    result = run_tape(tape, tmp_path, small())

    assert [(each.time_ms - START_MS, each.side, each.price, each.why) for each in result.fills] == [
        (1_000, "Sell", D("100.0"), "signal"),
        (2_500, "Buy", D("100.1"), "stop_loss"),
    ]


def test_what_is_told_late_is_acted_on_late(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tape = Tape(heard_after_ms=40)
    tape.snapshot(0, BIDS, ASKS)
    said = tape.book(1_000, [("90.0", "9")], [])
    tape.book(1_085, [], [("100.1", "0")])
    tape.book(1_095, [], [("100.2", "0")])
    quiet(tape, 1_200, 1_500)
    scripted(monkeypatch, {("BTCUSDT", said): ("Buy", *FAR)})

    result = run_tape(tape, tmp_path, small(costs=replace(FREE, latency_ms=50)))

    # Told at 1,040, at the exchange at 1,090: the first of the two changes has happened there, the second has not.
    assert (result.fills[0].time_ms - START_MS, result.fills[0].price) == (1_090, D("100.2"))
    assert result.signals[0].time_ms == START_MS + 1_000


def test_what_a_book_cannot_give_is_not_got(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tape = Tape()
    tape.snapshot(0, BIDS, [("100.1", "0.1"), ("100.2", "0.2")])
    said = tape.book(1_000, [("90.0", "9")], [])
    quiet(tape, 1_200, 1_500)
    scripted(monkeypatch, {("BTCUSDT", said): ("Buy", *FAR)})
    result = run_tape(tape, tmp_path, small())
    assert [(each.price, each.quantity) for each in result.fills if each.why == "signal"] == [
        (D("100.1"), D("0.1")), (D("100.2"), D("0.2")),
    ]  # fmt: skip
    assert result.trades[0].quantity == D("0.3")


def test_a_trailing_stop_follows_the_mark_price_and_its_order_takes_as_long_as_any(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tape, said = street()
    tape.mark(2_000, "103")  # 2.9 % above the entry: the stop follows 1 % of the entry behind
    tape.book(2_100, [("102.0", "5")], [("100.1", "0"), ("100.2", "0"), ("100.3", "0"), ("103.5", "5")])
    tape.mark(3_000, "104.3")
    tape.mark(4_000, "103.4")
    tape.mark(5_000, "103.25")  # the stop: 104.3 - 1.001 = 103.299
    quiet(tape, 5_010, 6_000, 10)
    scripted(monkeypatch, {("BTCUSDT", said): ("Buy", *FAR)})
    rules = ExitRules(max_loss_percent=D(5), trailing_take_profit=False, reversal=False)

    result = run_tape(tape, tmp_path, small(exit_rules=rules, costs=replace(FREE, latency_ms=50)))

    assert [(each.time_ms - START_MS, each.price, each.why) for each in result.fills] == [
        (1_050, D("100.1"), "signal"),
        (5_050, D("102.0"), "trailing_stop"),
    ]
    (trade,) = result.trades
    assert trade.best == pytest.approx((104.3 - 100.1) / 100.1 * 100)
    assert trade.pnl == (D("102.0") - D("100.1")) * D("0.5")


def test_a_part_is_taken_at_a_profit_and_the_largest_loss_ends_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tape, said = street()
    tape.mark(2_000, "101.2")
    tape.mark(3_000, "98.0")
    quiet(tape, 3_100, 4_000)
    scripted(monkeypatch, {("BTCUSDT", said): ("Buy", *FAR)})
    rules = ExitRules(
        trailing_take_profit=False, trailing_stop=False, reversal=False, partial_exits=((D(1), D(40)),)
    )  # fmt: skip

    result = run_tape(tape, tmp_path, small(exit_rules=rules))

    assert [(each.time_ms - START_MS, each.quantity, each.price, each.why) for each in result.fills] == [
        (1_000, D("0.5"), D("100.1"), "signal"),
        (2_000, D("0.2"), D("100.0"), "partial"),
        (3_000, D("0.3"), D("100.0"), "max_loss"),
    ]


def test_an_account_that_cannot_bear_its_position_is_liquidated_by_the_mark_price(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tape, said = street()
    tape.mark(2_000, "91.3")
    tape.mark(3_000, "91.0")
    quiet(tape, 3_100, 4_000)
    scripted(monkeypatch, {("BTCUSDT", said): ("Buy", *FAR)})
    run = StrategyRun("book_script", ("BTCUSDT",), sizing_mode="fixed_usd", sizing_value=D(50))

    result = run_tape(tape, tmp_path, asked(strategies=(run,), balance=D(50)))

    # 4 coins at 100.1 and 1 at 100.2, in the mean 100.12. At 91.0 the account is worth 50 - 5 * 9.12 = 4.4, and
    # 5 * 91.0 * 0.005 = 2.275 are needed; at 90.4 it is worth 1.4, and 2.26 are needed.
    assert [each.why for each in result.fills] == ["signal", "signal", "end", "end"]

    tape.mark(4_500, "90.4")
    result = run_tape(tape, tmp_path, asked(strategies=(run,), balance=D(50)))

    assert [(each.time_ms - START_MS, each.price, each.why) for each in result.fills[2:]] == [
        (4_500, D("100.0"), "liquidation"), (4_500, D("99.9"), "liquidation"),
    ]  # fmt: skip
    assert result.trades[0].why == "liquidation"


def test_funding_is_paid_at_its_time_by_the_rate_and_mark_price_heard_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tape, said = street()
    due = START_MS + 4_500
    tape.ticker(1_500, fundingRate="0.0005", nextFundingTime=str(due))
    tape.mark(4_000, "100.4")
    tape.ticker(4_600, fundingRate="0.0001", nextFundingTime=str(due + 28_800_000), markPrice="100.5")
    quiet(tape, 4_700, 6_000)
    scripted(monkeypatch, {("BTCUSDT", said): ("Buy", *FAR)})

    result = run_tape(tape, tmp_path, small())

    paid = D("0.5") * D("100.4") * D("0.0005")
    (trade,) = result.trades
    assert trade.funding == -paid and trade.pnl == (D("100.0") - D("100.1")) * D("0.5") - paid
    assert run_tape(tape, tmp_path, small(costs=replace(FREE, funding=False))).trades[0].funding == 0


def test_an_opposite_signal_turns_the_position(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tape, said = street()
    again = tape.book(2_000, [("90.0", "8")], [])
    quiet(tape, 2_100, 3_000)
    scripted(monkeypatch, {("BTCUSDT", said): ("Buy", *FAR), ("BTCUSDT", again): ("Sell", "1", "120")})
    result = run_tape(tape, tmp_path, small())
    assert [(each.side, each.why) for each in result.trades] == [("Buy", "signal"), ("Sell", "end")]
    assert result.fills[1].quantity == D("0.5") + result.trades[1].quantity == D(1)


def test_a_loss_limit_closes_all_and_lets_nothing_open_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tape, said = street()
    tape.mark(2_000, "97.0")
    again = tape.book(3_000, [("90.0", "8")], [])
    quiet(tape, 3_100, 4_000)
    scripted(monkeypatch, {("BTCUSDT", said): ("Buy", *FAR), ("BTCUSDT", again): ("Buy", *FAR)})
    limits = Limits(max_drawdown_percent=D(2))

    result = run_tape(tape, tmp_path, small(limits=limits, balance=D(60), costs=replace(FREE, latency_ms=100)))

    assert [(each.time_ms - START_MS, each.why) for each in result.fills] == [(1_100, "signal"), (2_100, "kill_switch")]
    assert [each.outcome for each in result.signals] == ["approved", "denied"]
    assert "max_drawdown_percent is 2" in result.signals[1].words


def test_two_symbols_share_one_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tape, said = street()
    tape.snapshot(500, [("10.0", "100")], [("10.1", "100")], symbol="ETHUSDT")
    other = tape.book(1_500, [("9.0", "1")], [], symbol="ETHUSDT")
    quiet(tape, 1_600, 3_000)
    scripted(monkeypatch, {("BTCUSDT", said): ("Buy", *FAR), ("ETHUSDT", other): ("Sell", "1", "12")})
    run = StrategyRun(
        "book_script", ("BTCUSDT", "ETHUSDT"), sizing_mode="fixed_usd", sizing_value=D(50), leverage=D(1)
    )  # fmt: skip

    result = run_tape(tape, tmp_path, asked(strategies=(run,)))
    assert sorted(each.symbol for each in result.trades) == ["BTCUSDT", "ETHUSDT"]
    assert result.balance == D(10_000) + sum(each.pnl for each in result.trades)

    limited = run_tape(tape, tmp_path, asked(strategies=(run,), limits=Limits(max_positions=1)))
    assert [each.outcome for each in limited.signals] == ["approved", "denied"]
