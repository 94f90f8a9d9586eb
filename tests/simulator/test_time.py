"""The venue's clock: however far it is moved at once, the same seed and start say the same."""

from __future__ import annotations

import hashlib
from itertools import cycle
from typing import Any

import orjson
import pytest

from trading.simulator.binance.side import BinanceSide
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.stepping import TICK_MS, SteppedClock, Stepper
from trading.simulator.venue import Venue

START_MS = 1_800_000_000_000 - 17_000
SECONDS = 40
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


class Listener:
    """A connection that keeps all it is sent."""

    channel = "public"
    is_cut = False

    def __init__(self) -> None:
        self.user, self.topics = "alice", set[str]()
        self.frames: list[bytes] = []

    def send_frame(self, message: bytes) -> None:
        self.frames.append(message)


def venue_at(start_ms: int = START_MS, *, symbols: int = 3, seed: int = 5) -> tuple[Venue, Stepper, SteppedClock]:
    clock = SteppedClock(start_ms)
    venue = Venue(DEMO_KEYS, seed=seed, symbols=symbols, clock=clock)
    return venue, Stepper(venue, clock), clock


def listen(venue: Venue, *topics: str) -> Listener:
    listener: Any = Listener()
    for topic in topics:
        venue.hub.subscribe(listener, topic)
        venue.first_message(topic)
    return listener


def state_of(venue: Venue) -> str:
    """A fingerprint of every book, price, candle and trade."""
    found = hashlib.sha256()
    for market in (*venue.exchange.markets.values(), *venue.exchange.spot.values()):
        found.update(repr((market.symbol, market.last_price, market.mark_price, market.sequence)).encode())
        for side in (market.book.bids, market.book.asks):
            found.update(repr(side.top(1_000)).encode())
    for name, series in venue.candles.items():
        found.update(name.encode() + series.history()[1][-90:].tobytes() + repr(series.day_change()).encode())
        found.update(orjson.dumps(venue.trades[name].rows(1_000)))
    return found.hexdigest()


@pytest.mark.parametrize("chunk_ms", [60, 700, 9_999, 60_000])
def test_books_trades_and_candles_are_the_same_however_far_the_clock_is_moved_at_once(chunk_ms: int) -> None:
    (one, _, clock), (other, stepper, _) = venue_at(), venue_at()
    for _ in range(SECONDS * 1_000 // TICK_MS):
        clock.now_ms += TICK_MS
        one.tick(clock.now_ms)
    for until_ms in (*range(START_MS, START_MS + SECONDS * 1_000, chunk_ms), START_MS + SECONDS * 1_000):
        stepper.advance(until_ms)
    assert state_of(one) == state_of(other)


def test_frames_are_the_same_at_fifty_times_real_time_while_one_user_trades_one_market() -> None:
    def run(*moves_ms: int) -> list[bytes]:
        venue, stepper, clock = venue_at()
        BinanceSide(venue)
        topics = ("orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "kline.1.BTCUSDT", "spot:orderbook.200.BTCUSDT")
        private = [f"alice/{name}" for name in ("order", "execution", "position", "wallet")]
        listener = listen(venue, *topics, "allLiquidation.BTCUSDT", *private)
        moves = cycle(moves_ms)
        for second in range(1, SECONDS + 1):
            while clock.now_ms < START_MS + second * 1_000:
                stepper.advance(min(START_MS + second * 1_000, clock.now_ms + next(moves)))
            request = {"symbol": "ETHUSDT", "side": "Buy" if second % 2 else "Sell", "orderType": "Market", "qty": "1"}
            venue.exchange.create("alice", request, clock.now_ms)
            venue.settle()
        return [*listener.frames, state_of(venue).encode()]

    at_real_time = run(20)
    assert len(at_real_time) > 1_000
    assert run(1_000) == at_real_time
    assert run(20, 360, 40, 1_000) == at_real_time
