"""Backtests over trades alone: bars made of them, orders at the last price, and what they cannot tell."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from marketdata.candles.series import MINUTE_MS
from tests.recordings import recording
from tests.trading.backtest.candle_tests import Scripted, bars, rules
from tests.trading.backtest.tapes import FREE, START_MS, Tape, asked, run_file, run_tape, scripted
from trading.backtest.errors import BacktestError
from trading.backtest.recorded_run import run_recorded
from trading.backtest.recordings import recorded_of
from trading.backtest.request import BacktestRequest, Source, StrategyRun
from trading.backtest.trade_bars import TradeBars

D = Decimal


def minutes(monkeypatch: pytest.MonkeyPatch, says: dict[int, tuple[str, str, str]]) -> None:
    """The strategy of closed minutes says so at the end of that minute."""
    scripted(monkeypatch, {}, {"scripted": Scripted})
    monkeypatch.setattr(Scripted, "says", {("BTCUSDT", bar): said for bar, said in says.items()})


def of_trades(**changes: object) -> BacktestRequest:
    run = StrategyRun("scripted", ("BTCUSDT",), sizing_mode="fixed_usd", sizing_value=D(50), leverage=D(1))
    return asked(strategies=(run,), source=Source.TRADES, **changes)


def listed(folder: Path, rows: list[tuple[int, str, str, str]]) -> Path:
    path = folder / "trades.csv"
    lines = [f"{START_MS + at},{price},{quantity},{side}" for at, side, price, quantity in rows]
    path.write_text("\n".join(["time,price,quantity,side", *lines]) + "\n")
    return path


def test_an_order_after_a_bar_of_trades_fills_at_the_last_price_and_its_costs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    minutes(monkeypatch, {0: ("Buy", "110", "98")})
    path = listed(tmp_path, [
        (0, "buy", "99.0", "2"), (30_000, "sell", "99.5", "1"), (59_999, "buy", "100.0", "1"),
        (60_100, "buy", "100.4", "4"), (60_140, "buy", "101.0", "1"), (60_200, "buy", "103.0", "1"),
        (90_000, "buy", "110.0", "1"), (100_000, "buy", "111.0", "1"),
    ])  # fmt: skip
    costs = replace(FREE, fee=D("0.001"), slippage=D("0.002"), spread=D("0.002"), latency_ms=50)

    result = run_file(path, of_trades(costs=costs))

    # The bar is over with the first trade of the next minute, at 60,100; 50 ms later the last price is 101.0, which
    # costs 0.3 % more: 101.303, at the next tick. The target of 110 is met at 90,000 and sold 0.3 % lower.
    assert [(each.time_ms - START_MS, each.price, each.quantity, each.why) for each in result.fills] == [
        (60_150, D("101.4"), D("0.5"), "signal"),
        (90_000, D("109.6"), D("0.5"), "take_profit"),
    ]
    (trade,) = result.trades
    assert trade.fees == (D("101.4") + D("109.6")) / 2 / 1_000
    assert trade.pnl == (D("109.6") - D("101.4")) / 2 - trade.fees


def test_a_recording_of_books_is_tested_on_its_trades_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    minutes(monkeypatch, {0: ("Buy", "110", "98")})
    tape = Tape()
    tape.snapshot(0, [("100.0", "1")], [("140.0", "1")])
    for at in range(1_000, 80_000, 1_000):
        tape.trade(at, "Buy", "100.0", "1")
    result = run_tape(tape, tmp_path, of_trades())
    assert [(each.price, each.why) for each in result.fills] == [(D("100.0"), "signal"), (D("100.0"), "end")]


def test_a_bar_that_nobody_traded_in_is_known_a_second_after_its_end() -> None:
    made = TradeBars("BTCUSDT", "1", START_MS + 10)
    assert made.due_ms == START_MS + 2 * MINUTE_MS + 1_000
    assert list(made.until(START_MS + 2 * MINUTE_MS + 999)) == []
    assert list(made.until(START_MS + 2 * MINUTE_MS + 1_000)) == []  # no price is known yet


def test_strategies_are_warmed_up_by_bars_before_the_recording(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Patient(Scripted):
        warm_up = 3

    scripted(monkeypatch, {}, {"scripted": Patient})
    monkeypatch.setattr(Scripted, "says", {("BTCUSDT", 0): ("Buy", "110", "98")})
    path = listed(tmp_path, [(0, "buy", "100.0", "1"), (61_000, "buy", "100.0", "1"), (70_000, "buy", "100.0", "1")])
    before = bars([(100, 100, 100, 100)] * 3, first=-3)

    assert run_file(path, of_trades()).signals == ()
    assert len(run_file(path, of_trades(), {("BTCUSDT", "1"): before}).signals) == 1


def test_a_strategy_of_books_hears_nothing_of_trades_and_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scripted(monkeypatch, {})
    path = listed(tmp_path, [(0, "buy", "100.0", "1")])
    with pytest.raises(BacktestError, match="book_script watches books; trades tell it nothing"):
        run_file(path, asked(source=Source.TRADES))
    with pytest.raises(BacktestError, match=r"trades\.csv lists trades of one symbol"):
        run_file(path, asked())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("soon,100.0,1,buy", "line 3"),
        ("1700006401000,100.05,1,buy", "line 3.*multiple of 0.1"),
        ("1700006401000,100.0,1,gift", "line 3"),
        ("1700006401000,-1,1,buy", "line 3"),
        ("1700006401000,100.0", "line 3"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, words: str) -> None:
    minutes(monkeypatch, {})
    path = listed(tmp_path, [(0, "buy", "100.0", "1")])
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(BacktestError, match=words):
        run_file(path, of_trades())


@pytest.mark.recording
def test_bars_of_recorded_trades_are_the_exchanges_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    minutes(monkeypatch, {})
    with gzip.open(recording("trades-binance", "XRPETH_binance_trades_2019-10-11.csv.gz"), "rt") as file:
        rows = csv.DictReader(file)
        lines = [f"{row['timestamp']},{row['price']},{row['amount']},{row['side']}" for row in rows]
    path = tmp_path / "trades.csv"
    path.write_text("\n".join(["time,price,quantity,side", *lines]) + "\n")
    run = StrategyRun("scripted", ("XRPETH",))
    request = replace(of_trades(), strategies=(run,), start_ms=1_570_000_000_000, end_ms=1_580_000_000_000)
    listing = {"XRPETH": rules("XRPETH", tick_size=D("0.00000001"), lot_size=D("0.01"))}

    (made,) = run_recorded(request, recorded_of(request, path, listing), {}, {}).candles.values()

    with gzip.open(recording("trades-binance", "XRPETH_binance_1m.csv.gz"), "rt") as file:
        theirs = np.loadtxt(file, delimiter=",", skiprows=1)
    traded = made.volume > 0
    ours = np.column_stack([
        made.start_ms, *(made.prices(each) for each in (made.open, made.high, made.low, made.close)), made.volumes()
    ])[traded]  # fmt: skip
    known = theirs[np.isin(theirs[:, 0], ours[:, 0])]
    assert len(known) == len(ours) > 2_000
    assert np.allclose(known, ours, rtol=1e-12)
