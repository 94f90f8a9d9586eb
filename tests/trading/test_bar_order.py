"""Closed bars reach strategies in their order, none left out and none twice, whatever the feed did."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from marketdata.events import Candle
from marketdata.feeds.protocol import VenueError
from risk.checks import Refusal
from strategies.base import ParameterSpec, QuietStrategy
from strategies.signals import Signal
from tests.builders import RULES
from tests.trading.test_pipeline import RICH, running
from trading.pipeline import Pipeline, PipelineConfiguration, PipelineResult
from trading.runtime import bar_order
from trading.runtime.bar_order import LATE, BarOrder

MINUTE = 60_000


class Counting(QuietStrategy):
    """Signals at every bar, and keeps which it was told."""

    name: ClassVar[str] = "counting"
    title: ClassVar[str] = "Counting"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = ()
    timeframe = "1"
    warm_up = 3

    def __init__(self) -> None:
        self.told: list[int] = []

    @classmethod
    def create(cls, symbol: str, parameters: Any) -> Counting:
        return cls()

    def on_candle(self, candle: Candle) -> Signal | None:
        if not candle.closed:
            return None
        self.told.append(candle.start_ms // MINUTE)
        price, end_ns = candle.close, (candle.start_ms + MINUTE) * 1_000_000
        return Signal("counting", candle.symbol, "Buy", 1.0, price, price * 2, price / 2, "as ever", end_ns)


def bar(number: int, *, closed: bool = True) -> Candle:
    price = Decimal(60_000)
    return Candle("BTCUSDT", "1", number * MINUTE, price, price, price, price, Decimal(1), Decimal(0), closed)


class Desk:
    """A pipeline behind its bar order, at a venue that has closed the bars up to ``newest``."""

    def __init__(self) -> None:
        self.newest, self.answers, self.asked = 10, asyncio.Event(), 0
        self.answers.set()
        self.fails: list[Exception] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.signalled: list[tuple[int, bool]] = []
        self.pipeline = Pipeline(lambda: "trace")
        self.pipeline.configure(
            PipelineConfiguration((running(strategy="counting", parameters={}),), {"BTCUSDT": RULES})
        )
        self.pipeline.update_exposure(1, RICH)
        ((_, _, strategy),) = self.pipeline.instances()
        assert isinstance(strategy, Counting)
        self.told = strategy.told
        self.order = BarOrder(
            lacking=self.pipeline.lacking,
            history=self.history,
            warm=self.pipeline.warm,
            tell=self.tell,
            spawn=lambda work: self.tasks.append(asyncio.ensure_future(work)),
        )

    async def history(self, symbol: str, interval: str, bars: int) -> list[Candle]:
        self.asked += 1
        if self.fails:
            raise self.fails.pop()
        await self.answers.wait()
        return [bar(number) for number in range(max(0, self.newest + 1 - bars), self.newest + 1)]

    def tell(self, candle: Candle, receive_ns: int, late: Refusal | None) -> None:
        for outcome in self.pipeline.on_candle(candle, late=late):
            assert isinstance(outcome, PipelineResult)
            is_late = outcome.decision is not None and LATE in outcome.decision.refusals
            self.signalled.append((candle.start_ms // MINUTE, is_late))

    def feed(self, *candles: Candle) -> None:
        for each in candles:
            self.order.take(each, 0)

    async def settled(self) -> None:
        await asyncio.gather(*self.tasks)


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading.pipeline.STRATEGIES", {"counting": Counting})


async def warm_desk() -> Desk:
    desk = Desk()
    desk.feed(bar(11, closed=False))
    await desk.settled()
    return desk


async def test_a_bar_that_closes_during_the_warm_up_waits_for_the_bars_before_it() -> None:
    desk = Desk()
    desk.answers.clear()
    for (symbol, interval), bars in desk.pipeline.cold().items():
        desk.order.fill(symbol, interval, bars)
    await asyncio.sleep(0)
    desk.feed(bar(11))

    assert desk.told == []
    desk.answers.set()
    await desk.settled()
    assert desk.told == list(range(desk.told[0], 12)) and desk.signalled == [(11, False)]


async def test_what_the_feed_missed_is_told_first_and_only_the_newest_is_acted_upon() -> None:
    desk = await warm_desk()
    desk.newest = 13
    desk.feed(bar(14, closed=False))
    desk.feed(bar(14))
    await desk.settled()

    assert desk.told[-4:] == [11, 12, 13, 14] and len(set(desk.told)) == len(desk.told)
    assert desk.signalled == [(11, True), (12, True), (13, True), (14, False)]
    desk.feed(bar(15))
    assert desk.signalled[-1] == (15, False) and desk.asked == desk.order.counts["asked"] == 2


async def test_one_bar_that_closed_while_the_feed_was_away_is_still_acted_upon() -> None:
    desk = await warm_desk()
    desk.newest = 11
    desk.feed(bar(12, closed=False))
    await desk.settled()

    assert desk.signalled == [(11, False)]


async def test_a_bar_that_is_told_twice_is_heard_once() -> None:
    desk = await warm_desk()
    desk.feed(bar(11), bar(11), bar(12), bar(11))

    assert desk.told[-2:] == [11, 12] and desk.signalled == [(11, False), (12, False)]


async def test_a_venue_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_order, "RETRY_SECONDS", 0.0)
    desk = Desk()
    desk.fails = [VenueError("away"), VenueError("away")]
    desk.feed(bar(11))
    await desk.settled()

    assert desk.asked == 3 and desk.signalled == [(11, False)]


async def test_a_bar_that_the_venue_does_not_have_either_holds_nothing_up() -> None:
    desk = await warm_desk()
    asked = desk.asked
    desk.newest = 10
    desk.feed(bar(13))
    await desk.settled()
    desk.feed(*(bar(14, closed=False) for _ in range(5)), bar(14))

    assert desk.told[-2:] == [13, 14] and desk.asked == asked + 1
