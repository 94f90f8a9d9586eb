"""What tests of recorded backtests are made of: recordings by hand, strategies that say what they are told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
import zstandard

from marketdata.events import BookView
from marketdata.feeds.recorder import as_json
from marketdata.recording_names import INDEX_SUFFIX, SUFFIX
from risk.limits import Limits
from strategies.base import ParameterSpec, QuietStrategy
from strategies.signals import Signal
from tests.trading.backtest.candle_tests import NO_EXITS, rules
from trading.backtest.preparation import Candles
from trading.backtest.recorded_run import run_recorded
from trading.backtest.recordings import recorded_of
from trading.backtest.request import BacktestRequest, Costs, Source, StrategyRun
from trading.backtest.result import BacktestResult

START_MS = 1_700_006_400_000  # 2023-11-15 00:00 UTC
D = Decimal
FREE = Costs(fee=D(0), maker_fee=D(0), slippage=D(0), latency_ms=0)
Levels = Sequence[tuple[str, str]]


class BookScript(QuietStrategy):
    """Signals what it is told to at the book with that update: side, take-profit, stop-loss."""

    name: ClassVar[str] = "book_script"
    title: ClassVar[str] = "Book script"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = ()
    says: ClassVar[dict[tuple[str, int], tuple[str, str, str]]] = {}
    views: ClassVar[list[BookView]] = []

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol

    @classmethod
    def create(cls, symbol: str, parameters: Mapping[str, Any]) -> BookScript:
        return cls(symbol)

    def on_book(self, view: BookView) -> Signal | None:
        self.views.append(view)
        said = self.says.get((self.symbol, view.update_id))
        if said is None:
            return None
        side, take_profit, stop_loss = said
        entry = view.best_ask if side == "Buy" else view.best_bid
        return Signal(
            "book_script", self.symbol, side, 1.0, entry, D(take_profit), D(stop_loss), "as told", view.venue_ns
        )


class Tape:
    """A recording by hand: every message at ``at`` milliseconds after START_MS, heard ``heard_after_ms`` later."""

    def __init__(self, heard_after_ms: int = 0) -> None:
        self.heard_after_ms = heard_after_ms
        self.lines: list[bytes] = [
            as_json("bybit-linear.1", "connect", b"", START_MS * 1_000_000, "wss://stream.bybit.com/v5/public/linear")
        ]
        self._updates: dict[str, int] = {}

    def frame(self, at: int, topic: str, data: Any, kind: str = "delta") -> None:
        ms = START_MS + at
        body = {"topic": topic, "type": kind, "ts": ms, "data": data, "cts": ms}
        self.line(at, "recv", orjson.dumps(body))

    def line(self, at: int, kind: str, data: bytes) -> None:
        heard_ns = (START_MS + at + self.heard_after_ms) * 1_000_000
        self.lines.append(as_json("bybit-linear.1", kind, data, heard_ns, None))

    def book(self, at: int, bids: Levels, asks: Levels, kind: str = "delta", symbol: str = "BTCUSDT") -> int:
        """The number of the update."""
        update = self._updates[symbol] = self._updates.get(symbol, 0) + 1
        data = {"s": symbol, "b": bids, "a": asks, "u": update, "seq": update}
        self.frame(at, f"orderbook.200.{symbol}", data, kind)
        return update

    def snapshot(self, at: int, bids: Levels, asks: Levels, symbol: str = "BTCUSDT") -> int:
        return self.book(at, bids, asks, "snapshot", symbol)

    def trade(self, at: int, side: str, price: str, quantity: str, symbol: str = "BTCUSDT") -> None:
        row = {"T": START_MS + at, "s": symbol, "S": side, "v": quantity, "p": price, "L": "ZeroPlusTick", "i": str(at)}
        self.frame(at, f"publicTrade.{symbol}", [row | {"BT": False}], "snapshot")

    def ticker(self, at: int, symbol: str = "BTCUSDT", **changes: str) -> None:
        self.frame(at, f"tickers.{symbol}", {"symbol": symbol, **changes})

    def mark(self, at: int, price: str, symbol: str = "BTCUSDT") -> None:
        self.ticker(at, symbol, markPrice=price)

    def written(self, folder: Path, name: str = "tape.jsonl.zst") -> Path:
        path = folder / name
        packed = zstandard.ZstdCompressor().compress(b"".join(self.lines))
        path.write_bytes(packed)
        times = [orjson.loads(line)["ns"] for line in self.lines]
        row = {"offset": 0, "bytes": len(packed), "lines": len(times), "first_ns": times[0], "last_ns": times[-1]}
        (folder / name.replace(SUFFIX, INDEX_SUFFIX)).write_bytes(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        return path


def leaning_tape() -> Tape:
    """Six seconds of a book that leans to the bids: the imbalance strategy buys, and a trade meets its take-profit."""
    tape = Tape()
    tape.ticker(0, markPrice="100.0", lastPrice="100.0")
    tape.snapshot(0, [("100.0", "9"), ("99.9", "9")], [("100.1", "1"), ("100.2", "1"), ("100.3", "1")])
    for at in range(100, 6_000, 100):
        tape.book(at, [("90.0", str(1 + at // 100 % 2))], [])
    tape.book(6_000, [("100.6", "50")], [("100.1", "0"), ("100.2", "0"), ("100.3", "0"), ("100.8", "50")])
    tape.trade(6_100, "Buy", "100.8", "1")
    tape.book(6_200, [("90.0", "7")], [])
    return tape


def scripted(
    monkeypatch: pytest.MonkeyPatch,
    says: Mapping[tuple[str, int], tuple[str, str, str]],
    known: dict[str, Any] | None = None,
) -> None:
    monkeypatch.setattr(BookScript, "says", dict(says))
    monkeypatch.setattr(BookScript, "views", [])
    named = {"book_script": BookScript, **(known or {})}
    for module in ("trading.pipeline", "trading.backtest.recorded_run"):
        monkeypatch.setattr(f"{module}.STRATEGIES", named)


def asked(*symbols: str, strategy: str = "book_script", **changes: Any) -> BacktestRequest:
    """1,000 USD a signal; everything of the first hour, no exit rules, costs or limits unless said."""
    run = StrategyRun(strategy, symbols or ("BTCUSDT",), sizing_mode="fixed_usd", sizing_value=D(1_000))
    plain = BacktestRequest(
        strategies=(run,), start_ms=START_MS, end_ms=START_MS + 3_600_000, source=Source.BOOKS, recording="tape",
        balance=D(10_000), costs=FREE, limits=Limits(), exit_rules=NO_EXITS,
    )  # fmt: skip
    return replace(plain, **changes)


def run_tape(tape: Tape, folder: Path, request: BacktestRequest | None = None) -> BacktestResult:
    request = request or asked()
    return run_file(tape.written(folder), request)


def run_file(
    path: Path, request: BacktestRequest, candles: Candles | None = None, **rules_changed: Any
) -> BacktestResult:
    listed = {symbol: rules(symbol, **rules_changed) for symbol in request.symbols}
    return run_recorded(request, recorded_of(request, path, listed), candles or {}, {}).result
