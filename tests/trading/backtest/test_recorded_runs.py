"""Runs over recordings: accounts that add up, the same result everywhere, strategies that fail, recordings that do."""

from __future__ import annotations

import gc
import hashlib
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw

from marketdata.events import BookView, Trade
from risk.exits import ExitRules
from strategies.signals import Signal
from tests.recordings import bybit_session
from tests.trading.backtest.candle_tests import rules
from tests.trading.backtest.tapes import (
    FREE,
    START_MS,
    BookScript,
    Tape,
    asked,
    leaning_tape,
    run_file,
    run_tape,
    scripted,
)
from trading.backtest.errors import BacktestCancelled, BacktestError, StrategyStopped
from trading.backtest.recorded_run import run_recorded
from trading.backtest.recording_lines import span_of
from trading.backtest.recordings import listed_in, recorded_of
from trading.backtest.request import BacktestRequest, Costs, Source, StrategyRun
from trading.backtest.result import BacktestResult

D = Decimal
ROOT = Path(__file__).resolve().parents[3]


def digest_of(result: BacktestResult) -> str:
    """Of everything that was found."""
    parts = [repr([asdict(each) for each in many]) for many in (result.signals, result.fills, result.trades)]
    arrays = [each.tobytes() for each in (result.equity_ms, result.equity, result.exposed)]
    return hashlib.sha256("".join(parts).encode() + b"".join(arrays) + str(result.balance).encode()).hexdigest()


def wild_tape(seed: int, updates: int = 120) -> tuple[Tape, dict[tuple[str, int], tuple[str, str, str]]]:
    """A book that wanders, trades that follow it, marks beside it, funding, and signals to both sides."""
    random, tape = Random(seed), Tape(heard_after_ms=seed % 60)
    middle, says = 1_000, {}
    tape.ticker(0, markPrice="100.0", fundingRate="0.001", nextFundingTime=str(START_MS + 6_000))
    levels = [("bids", -1), ("asks", 1)]
    known: dict[str, dict[int, str]] = {"bids": {}, "asks": {}}
    for number in range(updates):
        at = 50 + number * 100
        middle += random.choice((-4, -1, 0, 0, 1, 4))
        new = {
            side: {middle + sign * (1 + step): f"{random.randrange(1, 40) / 10}" for step in range(4)}
            for side, sign in levels
        }
        changes = {
            side: [(f"{tick / 10:.1f}", "0") for tick in known[side] if tick not in new[side]]
            + [(f"{tick / 10:.1f}", quantity) for tick, quantity in new[side].items()]
            for side, _ in levels
        }
        kind = "delta" if number else "snapshot"
        update = tape.book(at, changes["bids"], changes["asks"], kind)
        known = new
        if random.random() < 0.5:
            tape.trade(
                at + 20, random.choice(("Buy", "Sell")), f"{(middle + random.choice((-3, 0, 3))) / 10:.1f}", "0.5"
            )
        if random.random() < 0.4:
            tape.mark(at + 30, f"{middle / 10:.1f}")
        if random.random() < 0.15:
            side = random.choice(("Buy", "Sell"))
            sign = 1 if side == "Buy" else -1
            far = (f"{(middle + sign * 40) / 10:.1f}", f"{(middle - sign * 15) / 10:.1f}")
            says["BTCUSDT", update] = (side, *far)
    return tape, says


@given(
    seed=draw.integers(0, 10**6), balance=draw.sampled_from([40, 400, 10_000]), latency=draw.sampled_from([0, 70, 400])
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_the_account_adds_up(tmp_path: Path, seed: int, balance: int, latency: int) -> None:
    tape, says = wild_tape(seed)
    trailing = ExitRules(
        max_loss_percent=D("1.5"), trailing_stop_activation_percent=D("0.5"),
        trailing_stop_distances=((D("0.5"), D("0.3")),), partial_exits=((D(1), D(50)),),
        reversal_min_change_percent=D(0),
    )  # fmt: skip
    costs = replace(FREE, fee=D("0.0006"), maker_fee=D("0.0001"), latency_ms=latency)
    run = StrategyRun("book_script", ("BTCUSDT",), sizing_mode="percent", sizing_value=D(60), leverage=D(8))
    with pytest.MonkeyPatch.context() as patched:
        scripted(patched, says)
        result = run_tape(
            tape, tmp_path, asked(strategies=(run,), balance=D(balance), costs=costs, exit_rules=trailing)
        )
    realised, fees = (sum((getattr(each, name) for each in result.fills), D(0)) for name in ("realised_pnl", "fee"))
    funding = sum((each.funding for each in result.trades), D(0))
    assert result.balance == D(balance) + realised - fees + funding
    assert result.balance == D(balance) + sum((each.pnl for each in result.trades), D(0))
    assert fees == sum((each.fees for each in result.trades), D(0))
    held = D(0)
    for fill in result.fills:
        assert fill.fee == fill.price * fill.quantity * D("0.0006") and not fill.is_maker
        held += fill.quantity if fill.side == "Buy" else -fill.quantity
    assert held == 0
    assert (np.diff(result.equity_ms) > 0).all() and np.isfinite(result.equity).all()
    assert result.equity[-1] == pytest.approx(float(result.balance))
    approved = [each for each in result.signals if each.outcome == "approved"]
    assert len(approved) >= len([each for each in result.trades if each.why == "signal"])


SCRIPT = """
import sys
from pathlib import Path
from tests.trading.backtest.test_recorded_runs import digest_of, imbalance
from tests.trading.backtest.tapes import run_file
print(digest_of(run_file(Path(sys.argv[1]), imbalance())))
"""


def imbalance() -> BacktestRequest:
    parameters = {"hold_ms": 0, "max_spread_percent": 0.2, "cooldown_s": 1}
    run = StrategyRun("scalping.imbalance", ("BTCUSDT",), parameters)
    return asked(strategies=(run,), costs=replace(FREE, fee=D("0.0005"), latency_ms=20))


def test_two_processes_find_the_same(tmp_path: Path) -> None:
    path = wild_tape(5)[0].written(tmp_path)
    ours = digest_of(run_file(path, imbalance()))
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert told.stdout.strip() == ours == digest_of(run_file(path, imbalance()))


def test_what_is_before_the_start_is_heard_and_not_acted_on(tmp_path: Path) -> None:
    path = leaning_tape().written(tmp_path)
    early = run_file(path, imbalance())
    late = run_file(path, replace(imbalance(), start_ms=START_MS + 3_000))
    assert early.signals[0].time_ms < START_MS + 3_000 <= late.signals[0].time_ms
    ended = run_file(path, replace(imbalance(), end_ms=START_MS + 5_000))
    assert ended.equity_ms[-1] <= START_MS + 5_000 and ended.trades[-1].why == "end"


class Raises(BookScript):
    def on_book(self, view: BookView) -> Signal | None:
        raise ZeroDivisionError("nothing to divide by")


class Loops(BookScript):
    def on_trade(self, trade: Trade) -> Signal | None:
        while True:
            pass


@pytest.mark.parametrize(("kind", "words"), [(Raises, "ZeroDivisionError"), (Loops, "did not come back in time")])
def test_a_strategy_that_fails_is_stopped_with_its_name_and_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type, words: str
) -> None:
    monkeypatch.setattr("trading.backtest.recorded_run.CALL_SECONDS", 0.3)
    scripted(monkeypatch, {}, {"bad": kind})
    with pytest.raises(StrategyStopped, match=words) as stopped:
        run_tape(leaning_tape(), tmp_path, asked(strategy="bad"))
    assert (stopped.value.strategy, stopped.value.symbol) == ("bad", "BTCUSDT")
    assert "test_recorded_runs.py:" in stopped.value.where


def test_a_view_never_knows_a_later_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tape, says = wild_tape(3)
    scripted(monkeypatch, says)
    whole = run_tape(tape, tmp_path)
    seen = [(view.update_id, view.features.tobytes()) for view in BookScript.views]
    BookScript.views.clear()
    cut = Tape()
    cut.lines = tape.lines[: len(tape.lines) // 2]
    half = run_tape(cut, tmp_path)
    assert seen[: len(BookScript.views)] == [(view.update_id, view.features.tobytes()) for view in BookScript.views]
    assert half.signals == whole.signals[: len(half.signals)]


def test_one_can_be_stopped(tmp_path: Path) -> None:
    tape = wild_tape(1, 2_500)[0]
    shares: list[float] = []
    recorded = recorded_of(imbalance(), tape.written(tmp_path), {"BTCUSDT": rules("BTCUSDT")})
    with pytest.raises(BacktestCancelled):
        run_recorded(imbalance(), recorded, {}, {}, progress=shares.append, stop=lambda: len(shares) > 0)
    assert shares and 0 < shares[0] < 1


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_runs(tmp_path: Path) -> None:
    path = wild_tape(7, 600)[0].written(tmp_path)
    for _ in range(10):
        run_file(path, imbalance())
    gc.collect()
    tracemalloc.start()
    try:
        run_file(path, imbalance())
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(30):
            run_file(path, imbalance())
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 300_000, f"{grown} bytes more after 30 runs"


# Recordings that are not as they should be.


def skipped(tape: Tape) -> None:
    tape._updates["BTCUSDT"] += 3
    tape.book(2_000, [("99.0", "1")], [])


def crossed(tape: Tape) -> None:
    tape.book(2_000, [("101.0", "1")], [])


def garbled(tape: Tape) -> None:
    tape.line(2_000, "recv", b'{"topic":"orderbook.200.BTCUSDT","type":"delta","data":{"s":"BTCU')


def lost(tape: Tape) -> None:
    tape.line(2_000, "lost", b'{"lost":17}')


def turned_back(tape: Tape) -> None:
    tape.mark(2_000, "100")
    tape.mark(-3_000, "100")


def disconnected(tape: Tape) -> None:
    tape.line(2_000, "mark", b'{"symbol":"BTCUSDT","mark":"disconnected","reason":"closed"}')


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (skipped, "line 4: BTCUSDT: gap: update 6 after 2"),
        (crossed, "line 4: BTCUSDT: crossed"),
        (garbled, "line 4: BTCUSDT: "),
        (lost, "line 4: the recorder lost 17 lines"),
        (turned_back, "line 5: its clock goes back by 5000 ms"),
        (disconnected, "line 4: the book of BTCUSDT was disconnected: closed"),
    ],
)
def test_a_bad_recording_is_refused_by_line_or_tested_when_asked(tmp_path: Path, harm: Any, words: str) -> None:
    tape = Tape()
    tape.snapshot(0, [("100.0", "9")], [("100.1", "1")])
    tape.book(1_000, [("99.0", "2")], [])
    harm(tape)
    tape.snapshot(4_000, [("100.0", "9")], [("100.1", "1")])
    tape.book(4_100, [("99.0", "2")], [])
    path = tape.written(tmp_path)
    with pytest.raises(BacktestError, match=words):
        run_file(path, imbalance())
    assert run_file(path, replace(imbalance(), accept_gaps=True)).events > 0


def test_a_recording_that_ends_in_the_middle_or_is_none_is_refused(tmp_path: Path) -> None:
    path = leaning_tape().written(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BacktestError, match=r"tape\.jsonl\.zst"):
        run_file(path, imbalance())
    path.write_bytes(b"no recording at all")
    with pytest.raises(BacktestError, match="compressed neither"):
        run_file(path, imbalance())
    path.write_bytes(zstandard.ZstdCompressor().compress(b'{"t":"recv","conn":"a","ts":"never"}\n'))
    with pytest.raises(BacktestError, match="line 1"):
        run_file(path, imbalance())


def test_a_symbol_that_is_not_in_it_or_not_listed_is_refused(tmp_path: Path) -> None:
    path = leaning_tape().written(tmp_path)
    other = replace(imbalance(), strategies=(replace(imbalance().strategies[0], symbols=("ETHUSDT",)),))
    with pytest.raises(BacktestError, match="holds no book of ETHUSDT"):
        run_file(path, other)
    with pytest.raises(BacktestError, match="BTCUSDT: no listing"):
        recorded_of(imbalance(), path, {})


SCALPERS: Mapping[str, Mapping[str, Any]] = {
    "scalping.imbalance": {"threshold": 0.6, "cooldown_s": 5, "hold_ms": 0},
    "scalping.orderbook": {"absorption_ratio": 1, "absorption_share": 0, "absorption_hold_ms": 0, "cooldown_s": 1},
    "scalping.cluster_breakout": {"cluster_s": 0, "eaten": 0.05, "cluster_share": 0.02, "cooldown_s": 1},
}


@pytest.mark.recording
def test_a_recorded_session_goes_through_the_strategies_of_books_on_one_account() -> None:
    path = bybit_session()
    first, last = span_of(path)
    request = BacktestRequest(
        strategies=tuple(
            StrategyRun(key, ("BTCUSDT", "SOLUSDT"), parameters) for key, parameters in SCALPERS.items()
        ),
        start_ms=first // 10**6, end_ms=last // 10**6 + 1, source=Source.BOOKS, recording=path.name,
        costs=Costs(fee=D("0.00055"), slippage=D(0)),
    )  # fmt: skip
    found = [run_recorded(request, recorded_of(request, path, listed_in(path)), {}, {}).result for _ in range(2)]
    assert digest_of(found[0]) == digest_of(found[1])
    result = found[0]
    assert result.signals and result.trades
    assert result.balance == request.balance + sum(each.pnl for each in result.trades)
    assert result.events == 1_331 and len(result.equity) > 30
