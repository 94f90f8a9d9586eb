"""The whole venue on a stepped clock: the same seed makes the same bytes, and time brings funding."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

from trading.simulator.funding import funding_rate
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.stepping import SteppedClock
from trading.simulator.venue import TICK_SECONDS, Venue

START_MS = 1_800_000_000_000
TICK_MS = int(TICK_SECONDS * 1_000)
TOPICS = ("orderbook.50.BTCUSDT", "orderbook.200.ETHUSDT", "publicTrade.BTCUSDT", "tickers.BTCUSDT", "kline.1.BTCUSDT")


class Listener:
    """A connection that keeps a fingerprint of everything it is sent."""

    channel = "public"
    is_cut = False

    def __init__(self, user: str | None = None) -> None:
        self.user = user
        self.topics: set[str] = set()
        self.count = 0
        self._hash = hashlib.sha256()

    def send_frame(self, message: bytes) -> None:
        self.count += 1
        self._hash.update(message)

    @property
    def fingerprint(self) -> str:
        return self._hash.hexdigest()


def run(seed: int, ticks: int) -> tuple[str, int]:
    """A venue that lives for so many ticks while a user trades; the fingerprint of all it said, and how much."""
    clock = SteppedClock(START_MS)
    venue = Venue(DEMO_KEYS, seed=seed, symbols=2, clock=clock)
    listener: Any = Listener("alice")
    for topic in (*TOPICS, *(f"alice/{name}" for name in ("order", "execution", "position", "wallet"))):
        venue.hub.subscribe(listener, topic)
        venue.first_message(topic)
    for number in range(ticks):
        clock.now_ms += TICK_MS
        if number % 50 == 0:
            side = "Buy" if number % 100 else "Sell"
            request = {"symbol": "BTCUSDT", "side": side, "orderType": "Market", "qty": "0.01"}
            venue.exchange.create("alice", request, clock.now_ms)
        venue.tick(clock.now_ms)
    return listener.fingerprint, listener.count


def test_the_same_seed_and_times_make_the_same_messages_byte_for_byte() -> None:
    first, again, other = run(5, 600), run(5, 600), run(6, 600)
    assert first == again and first[0] != other[0]
    assert first[1] > 500


def test_funding_is_paid_once_at_its_time_with_the_rate_that_was_announced() -> None:
    eight_hours = 8 * 3_600_000
    due_ms = (START_MS // eight_hours + 1) * eight_hours
    clock = SteppedClock(due_ms - 5 * TICK_MS)
    venue = Venue(DEMO_KEYS, symbols=1, clock=clock)
    market, account = venue.exchange.markets["BTCUSDT"], venue.exchange.accounts["alice"]
    request = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.5"}
    venue.exchange.create("alice", request, clock.now_ms)
    announced = market.funding_rate
    assert announced == funding_rate(venue.seed, market, due_ms)
    for _ in range(20):
        clock.now_ms += TICK_MS
        venue.tick(clock.now_ms)
    (payment,) = [row for row in account.executions if row["execType"] == "Funding"]
    assert Decimal(payment["execFee"]) == Decimal(payment["execValue"]) * announced
    assert market.funding_rate == funding_rate(venue.seed, market, due_ms + eight_hours)
