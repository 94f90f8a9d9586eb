"""Scalpers read levels of the book through the engine's own market plane: frames in, signals out."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from marketdata.feeds.recorded import read_recording
from marketdata.feeds.recorder import Recorder
from mlops.validation import Verdict
from risk.exposure import Exposure
from strategies.library import STRATEGIES
from strategies.signals import Signal
from tests.builders import RULES
from tests.recordings import bybit_session
from tests.trading.markets import SYMBOLS, Heard, exchange, listening, plane_of, rules
from tests.trading.test_pipeline import running
from trading.pipeline import Pipeline, PipelineConfiguration, PipelineResult, RunningStrategy
from trading.runtime.market_plane import MarketPlane
from trading.runtime.plane_replay import SilentFeed, about, replay

D = Decimal
BEGIN_MS = 1_800_000_000_000


class Judge:
    """A model that is always as sure."""

    def __init__(self, confidence: float) -> None:
        self._confidence = confidence

    def judge(self, signal: Signal, features: NDArray[np.float64] | None) -> Verdict:
        return Verdict(True, self._confidence, "judge 1", "as always")


def scalper(
    strategy: str, symbols: tuple[str, ...] = ("BTCUSDT",), config_id: int = 1, **changes: Any
) -> RunningStrategy:
    parameters = {spec.name: spec.default for spec in STRATEGIES[strategy].parameters} | changes
    return running(config_id=config_id, name=strategy[:12], strategy=strategy, symbols=symbols, parameters=parameters)


def deciding(heard: Heard, *strategies: RunningStrategy, rules: dict[str, Any], **configuration: Any) -> Heard:
    numbers = count()
    heard.pipeline = Pipeline(lambda: f"{next(numbers):032x}")
    heard.pipeline.configure(PipelineConfiguration(strategies, rules, **configuration))
    heard.pipeline.update_exposure(1, Exposure(known=True, equity=D(10**6), available_balance=D(10**6)))
    return heard


class Street:
    """One market of fifty levels of 10 coins a side, bids from 100.0 down and asks from 100.1 up, told each 100 ms."""

    def __init__(self, strategy: str, **changes: Any) -> None:
        validator = {"validator": changes.pop("validator")} if "validator" in changes else {}
        running = scalper(strategy, **({"max_spread_percent": 0.2} | changes))
        self.heard = deciding(Heard(), running, rules={"BTCUSDT": RULES}, **validator)
        self.results: list[PipelineResult] = []
        self.heard.decided = self.results.extend  # type: ignore[method-assign, assignment]
        self.plane = MarketPlane(
            [RULES], on_book=self.heard.book, on_trade=self.heard.trade, on_candle=self.heard.candle
        )
        self.plane.follow_bybit(SilentFeed("bybit linear"))
        self.now_ms, self._update = BEGIN_MS, 0
        self.book([[f"{100 - step / 10:.1f}", "10"] for step in range(50)], self.asks(), "snapshot")

    @staticmethod
    def asks() -> list[list[str]]:
        return [[f"{100.1 + step / 10:.1f}", "10"] for step in range(50)]

    def frame(self, topic: str, kind: str, data: Any) -> None:
        body = {"topic": topic, "type": kind, "ts": self.now_ms, "cts": self.now_ms, "data": data}
        self.plane.venues["bybit linear"].on_frame(topic.encode(), orjson.dumps(body), self.now_ms * 1_000_000)

    def book(self, bids: list[list[str]], asks: list[list[str]], kind: str = "delta") -> None:
        self.now_ms, self._update = self.now_ms + 100, self._update + 1
        data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": self._update, "seq": self._update}
        self.frame("orderbook.200.BTCUSDT", kind, data)

    def wait(self, seconds: float) -> None:
        for step in range(round(10 * seconds)):
            self.book([["95.1", str(10 + step % 2)]], [])

    def trade(self, side: str, price: str, quantity: float) -> None:
        row = {"T": self.now_ms, "s": "BTCUSDT", "S": side, "v": str(quantity), "p": price, "L": "PlusTick"}
        self.frame("publicTrade.BTCUSDT", "snapshot", [row | {"i": str(self.now_ms), "BT": False}])

    def signal(self) -> Signal:
        (result,) = self.results
        assert result.approved, result.decision
        return result.signal


def absorb(street: Street, hits: int = 8) -> None:
    """Sellers hit the best bid, 100.0, with 10 each; what rests there is filled up each time."""
    street.wait(1)
    for _ in range(hits):
        street.trade("Sell", "100.0", 10)
        street.book([["100.0", "10"]], [])


def test_a_bid_that_takes_eight_times_what_it_shows_and_holds_is_bought_with_the_stop_behind_it() -> None:
    street = Street("scalping.orderbook")
    absorb(street)
    street.wait(0.5)
    assert street.results == []
    street.wait(1)
    signal = street.signal()
    assert (signal.side, signal.entry_price) == ("Buy", D("100.1"))
    assert D("99.7") < signal.stop_loss < D("100.0")
    assert "the bid at 100 took 80" in signal.reason and "min_probability" not in signal.metadata


@pytest.mark.parametrize("why", ["too little", "broken", "no large player", "showed as much"])
def test_a_level_that_did_not_absorb_is_no_reason(why: str) -> None:
    changes = {"no large player": {"absorption_share": 0.5}}.get(why, {})
    street = Street("scalping.orderbook", **changes)
    if why == "showed as much":
        street.book([["100.0", "40"]], [])
    absorb(street, 2 if why == "too little" else 8)
    if why == "broken":
        street.book([["100.0", "0"]], [])
    street.wait(3)
    assert street.results == []


def wall(street: Street, seconds: float = 4.0) -> None:
    """150 asks at 100.4, where else 10 rest."""
    street.book([], [["100.4", "150"]])
    street.wait(seconds)


def eat(street: Street, at_the_wall: float) -> None:
    """Buyers take everything up to the wall, so much of it, and bidders follow; what was left there is withdrawn."""
    for price in ("100.1", "100.2", "100.3"):
        street.trade("Buy", price, 10)
        street.book([], [[price, "0"]])
    if at_the_wall:
        street.trade("Buy", "100.4", at_the_wall)
    street.book([["100.1", "10"], ["100.2", "10"], ["100.3", "10"], ["100.4", "10"]], [["100.4", "0"]])


@pytest.mark.parametrize("strategy", ["scalping.cluster_breakout", "scalping.orderbook"])
def test_a_wall_that_was_eaten_is_bought_and_becomes_the_stop(strategy: str) -> None:
    street = Street(strategy)
    wall(street)
    eat(street, 120)
    signal = street.signal()
    assert (signal.side, signal.entry_price) == ("Buy", D("100.5"))
    assert signal.stop_loss < D("100.4") < signal.entry_price
    assert signal.metadata["eaten"] == 120 and signal.metadata["cluster_volume"] == pytest.approx(150)
    street.wait(3)
    assert len(street.results) == 1


def test_trades_that_come_after_the_book_that_shows_them_count() -> None:
    street = Street("scalping.cluster_breakout")
    wall(street)
    eat(street, 0)
    assert street.results == []
    street.trade("Buy", "100.4", 120)
    street.book([["95.1", "12"]], [])
    assert street.signal().side == "Buy"


@pytest.mark.parametrize(("why", "seconds", "eaten"), [("withdrawn", 4, 20), ("just came", 1, 120)])
def test_a_wall_that_was_withdrawn_or_is_young_is_no_reason(why: str, seconds: float, eaten: float) -> None:
    street = Street("scalping.cluster_breakout")
    wall(street, seconds)
    eat(street, eaten)
    street.wait(4)
    assert street.results == [], why


def lean(street: Street) -> None:
    street.book([[f"{100 - step / 10:.1f}", "100"] for step in range(10)], [])
    street.wait(0.5)


@pytest.mark.parametrize(
    ("validator", "executed", "words"),
    [
        ({}, False, "asks for a model's confidence of at least 0.80; no model judged it"),
        ({"validator": Judge(0.79)}, False, "its confidence is 0.79"),
        ({"validator": Judge(0.8)}, True, "as always"),
    ],
)
def test_a_leaning_book_trades_only_with_a_model_that_is_sure_enough(
    validator: dict[str, Any], executed: bool, words: str
) -> None:
    street = Street("scalping.orderbook", **validator)
    lean(street)
    (result,) = street.results
    assert result.signal.metadata["min_probability"] == 0.8 and "imbalance +0.82" in result.signal.reason
    assert (result.verdict.executed, result.approved) == (executed, executed)
    assert words in result.verdict.reason


def test_what_a_strategy_asks_for_in_words_executes_nothing() -> None:
    street = Street("scalping.orderbook", validator=Judge(1.0))
    lean(street)
    signal = street.signal()
    pipeline: Any = street.heard.pipeline
    verdict = pipeline._verdict(replace(signal, metadata={"min_probability": "sure"}))
    assert not verdict.executed and "validation failed" in verdict.reason


def test_thresholds_rise_with_volatility() -> None:
    street = Street("scalping.orderbook", validator=Judge(1.0))
    view = street.heard.views[-1]
    kind = STRATEGIES["scalping.orderbook"]
    strategy: Any = kind.create("BTCUSDT", scalper("scalping.orderbook").parameters)
    found = []
    for minute in (1e-4, 1.5e-4, 9e-4, float("nan")):
        view.features[strategy._minute], view.features[strategy._minutes] = minute, 1e-4
        found.append(strategy.unrest(view))
    assert found == [1.0, pytest.approx(1.5), 2.0, 1.0]


LOOSE = {"cooldown_s": 0, "max_spread_percent": 1, "min_probability": 0.5, "imbalance": 0.3, "hold_ms": 0}
LOOSE |= {"absorption_ratio": 1, "absorption_share": 0, "absorption_hold_ms": 0, "cluster_share": 0.02, "eaten": 0.05}
LOOSE |= {"cluster_s": 0}
BREAKOUT = {name: LOOSE[name] for name in ("cooldown_s", "max_spread_percent", "cluster_share", "cluster_s", "eaten")}


def loose(symbols: tuple[str, ...]) -> tuple[RunningStrategy, ...]:
    """With thresholds that any market reaches."""
    return (
        scalper("scalping.orderbook", symbols, 1, **LOOSE),
        scalper("scalping.cluster_breakout", symbols, 2, **BREAKOUT),
    )


def decided_on_the_session() -> list[tuple[Any, ...]]:
    heard = Heard()
    plane = plane_of(heard)
    deciding(heard, *loose(("BTCUSDT",)), rules={"BTCUSDT": rules()[0]}, validator=Judge(0.9))
    plane.follow_bybit(SilentFeed("bybit linear"))
    lines = []
    for line in read_recording(bybit_session()):
        if line.kind == "recv" and line.category == "linear" and b"BTCUSDT" in line.data:
            lines.append(line)
    venue = plane.venues["bybit linear"]
    for line in lines:
        topic = orjson.loads(line.data).get("topic", "")
        if topic.startswith(("orderbook", "publicTrade")):
            topic = "orderbook.200.BTCUSDT" if topic.startswith("orderbook") else topic
            venue.on_frame(topic.encode(), line.data, line.receive_ns)
    return [entry for entry in heard.order if entry[0] == "signal"]


@pytest.mark.recording
def test_on_a_recorded_market_two_replays_decide_the_same() -> None:
    first = decided_on_the_session()
    assert {"scalping.orderbook"} <= {entry[1].strategy for entry in first}
    assert decided_on_the_session() == first


async def test_on_the_simulators_market_a_replay_decides_as_the_live_run_did(tmp_path: Path) -> None:
    strategies, known = loose(("BTCUSDT", "ETHUSDT")), {each.symbol: each for each in rules()}
    live = deciding(Heard(), *strategies, rules=known, validator=Judge(0.9))
    recorder = Recorder(tmp_path, "test", most_bytes=10**9, most_seconds=3_600)
    recorder.start(about({each.symbol: (each.tick_size, each.lot_size) for each in rules()}))
    async with exchange(seed=5) as venue, listening(venue, live, tap=recorder.record):
        await live.until(lambda: sum(entry[0] == "signal" for entry in live.order) > 20, 60)
    recorder.close()
    again = deciding(Heard(), *strategies, rules=known, validator=Judge(0.9))
    plane = plane_of(again)
    plane.follow_bybit(SilentFeed("bybit linear"))
    plane.follow_binance(SilentFeed("binance usdm"), SYMBOLS)
    replay(plane, [line for file in sorted(tmp_path.glob("*.zst")) for line in read_recording(file)])
    assert again.order == live.order
