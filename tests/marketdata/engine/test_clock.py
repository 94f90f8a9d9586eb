"""The clock of a book's windows: the venue's, unless what it says cannot be right."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from marketdata.engine import layout
from marketdata.engine.book import SymbolBook
from marketdata.engine.feature_table import feature_index
from marketdata.engine.sync import BookOutcome, BookState
from tests.marketdata.engine.streams import SENT_MS, SYMBOL, BybitStream

FORM = BybitStream()
DAY_MS = 86_400_000
CENTURY_MS = 36_525 * DAY_MS
OFFLINE = 0


class Feed:
    """A book that gets a message a second, ``late_ms`` after the venue sent it."""

    def __init__(self, late_ms: int | None = 20) -> None:
        self.book = SymbolBook(SYMBOL, Decimal("0.1"), Decimal("0.001"), source=FORM.source())
        self.update_id, self.sent_ms, self.late_ms = 1, SENT_MS, late_ms
        bids, asks = [["100.0", "1"], ["99.9", "1"]], [["100.2", "1"], ["100.3", "1"]]
        self.book.on_frame(FORM.snapshot(1, bids, asks, SENT_MS), self._receive_ns())

    def _receive_ns(self) -> int:
        return OFFLINE if self.late_ms is None else (self.sent_ms + self.late_ms) * 1_000_000

    def say(self, venue_ms: int) -> BookOutcome:
        """One message that names a time of its own."""
        self.update_id += 1
        quantity = str(self.update_id % 7 + 1)
        frame = FORM.update(self.update_id - 1, self.update_id, [["99.9", quantity]], [], venue_ms)
        return self.book.on_frame(frame, self._receive_ns())

    def go_on(self, seconds: int) -> None:
        for _ in range(seconds):
            self.sent_ms += 1_000
            self.say(self.sent_ms)

    @property
    def clock_ms(self) -> int:
        return int(self.book._words[layout.NOW_MS])

    def feature(self, name: str) -> float:
        return float(self.book.features()[feature_index(name)])


def test_the_clock_is_the_venues_and_an_older_message_does_not_set_it_back() -> None:
    feed = Feed()
    feed.go_on(20)
    now = feed.clock_ms
    feed.say(feed.sent_ms - 1_300)
    assert feed.clock_ms == now == feed.sent_ms - 3


def test_an_absurd_time_leaves_the_clock_and_the_windows() -> None:
    feed = Feed()
    feed.go_on(40)
    now = feed.clock_ms
    assert feed.say(feed.sent_ms + CENTURY_MS) is BookOutcome.DELTA
    assert feed.book.state is BookState.LIVE
    assert feed.clock_ms == now
    feed.go_on(30)
    assert feed.clock_ms == feed.sent_ms - 3
    assert feed.feature("updates_10s") == 10
    assert feed.feature("volatility_60s") == 0.0


def test_a_venue_up_to_a_minute_ahead_of_our_clock_is_believed() -> None:
    feed = Feed(late_ms=-59_000)
    feed.go_on(20)
    assert feed.clock_ms == feed.sent_ms - 3


def test_a_time_far_ahead_of_ours_is_believed_from_the_second_frame_on() -> None:
    feed = Feed()
    feed.go_on(30)
    feed.sent_ms, feed.late_ms = feed.sent_ms + DAY_MS, -DAY_MS
    feed.say(feed.sent_ms)
    assert feed.clock_ms == feed.sent_ms - DAY_MS - 3
    feed.go_on(1)
    assert feed.clock_ms == feed.sent_ms - 3
    feed.go_on(20)
    assert feed.clock_ms == feed.sent_ms - 3
    assert feed.feature("updates_10s") == 10


def test_a_book_whose_first_frame_is_absurd_finds_its_clock() -> None:
    feed = Feed()
    feed.book.on_frame(FORM.snapshot(9, [["100.0", "1"]], [["100.2", "1"]], SENT_MS + CENTURY_MS), 0)
    feed.update_id = 9
    feed.go_on(20)
    assert feed.clock_ms == feed.sent_ms - 3
    assert feed.feature("updates_10s") == 10


def test_time_that_runs_faster_than_ours_is_followed() -> None:
    feed = Feed()
    for _ in range(60):
        feed.sent_ms += 10_000
        feed.late_ms = SENT_MS - feed.sent_ms + 20
        feed.say(feed.sent_ms)
    assert feed.clock_ms == feed.sent_ms - 3


def test_without_times_of_receipt_an_absurd_time_costs_the_windows_but_not_the_clock() -> None:
    feed = Feed(late_ms=None)
    feed.go_on(30)
    feed.say(feed.sent_ms + CENTURY_MS)
    assert feed.clock_ms > feed.sent_ms + DAY_MS
    feed.go_on(1)
    assert feed.clock_ms == feed.sent_ms - 3
    assert np.isnan(feed.feature("return_10s"))
    feed.go_on(20)
    assert feed.feature("return_10s") == 0.0
    assert feed.feature("updates_10s") == 10
    assert np.isfinite(feed.feature("imbalance_fast"))


def test_without_times_of_receipt_levels_have_no_lifetimes_from_before_the_clock_was_set_right() -> None:
    feed = Feed(late_ms=None)
    feed.say(feed.sent_ms + CENTURY_MS)
    feed.update_id += 1
    frame = FORM.update(feed.update_id - 1, feed.update_id, [["99.5", "1"]], [], feed.sent_ms + CENTURY_MS)
    feed.book.on_frame(frame, OFFLINE)
    feed.go_on(5)
    feed.update_id += 1
    frame = FORM.update(feed.update_id - 1, feed.update_id, [["99.5", "0"]], [], feed.sent_ms)
    feed.book.on_frame(frame, OFFLINE)
    assert np.isnan(feed.feature("lifetime_bid_60s"))


def test_a_trade_with_an_absurd_time_is_counted_and_leaves_the_clock() -> None:
    feed = Feed()
    feed.go_on(20)
    now = feed.clock_ms
    feed.book.on_trade((feed.sent_ms + CENTURY_MS) * 1_000_000, Decimal("100.2"), Decimal(2), "Buy")
    assert feed.clock_ms <= now + 1_000
    feed.go_on(2)
    assert feed.clock_ms == feed.sent_ms - 3
    assert feed.feature("bought_10s") == 2.0


def test_a_snapshot_that_names_no_time_leaves_the_clock() -> None:
    feed = Feed(late_ms=None)
    feed.go_on(20)
    now = feed.clock_ms
    frame = FORM.snapshot(100, [["100.0", "1"]], [["100.2", "1"]], 3)  # cts 0 and ts 3
    feed.book.on_frame(frame.replace(b'"ts":3', b'"ts":0'), OFFLINE)
    assert feed.clock_ms == now
