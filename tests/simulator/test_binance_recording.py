"""A recorded Binance session as a market: books by the documented rules, never crossed, with a queue for our orders."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from marketdata.feeds.recorded import RecordingError
from tests.recordings import FOLDER
from tests.simulator.test_venue import START_MS, TICK_MS
from trading.simulator.binance_recording import BinanceRecording, is_binance
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.stepping import SteppedClock
from trading.simulator.venue import Venue

FIRST_NS = 1_723_161_255_000_000_000


def depth(first: int, last: int, bids: list[list[str]], asks: list[list[str]]) -> dict[str, Any]:
    return {"e": "depthUpdate", "s": "BTCUSDT", "U": first, "u": last, "pu": first - 1, "b": bids, "a": asks}


def session(path: Path) -> Path:
    """A snapshot, what it contains already, two updates and a trade, 100 ms apart."""
    bodies = [
        depth(1, 5, [["99.0", "9"]], []),
        {"lastUpdateId": 10, "bids": [["100.0", "2"], ["99.9", "1"]], "asks": [["100.1", "3"], ["100.3", "1"]]},
        depth(6, 9, [["50.0", "9"]], []),
        depth(11, 12, [], [["100.1", "2.5"]]),
        {"e": "trade", "s": "BTCUSDT", "p": "100.1", "q": "2.500", "m": False},
        depth(13, 14, [["100.1", "4"]], [["100.1", "0"]]),
    ]
    with gzip.open(path, "wt") as stream:
        for number, body in enumerate(bodies):
            stream.write(f"{FIRST_NS + number * 100_000_000} {json.dumps({'stream': 'x', 'data': body})}\n")
    return path


def play(venue: Venue, clock: SteppedClock, ticks: int) -> None:
    for _ in range(ticks):
        clock.now_ms += TICK_MS
        venue.tick(clock.now_ms)


def test_a_book_begins_with_its_snapshot_and_follows_the_updates_after_it(tmp_path: Path) -> None:
    clock = SteppedClock(START_MS)
    venue = Venue(DEMO_KEYS, recording=session(tmp_path / "session.gz"), clock=clock)
    market = venue.exchange.markets["BTCUSDT"]
    assert (str(market.rules.tick_size), str(market.rules.lot_size)) == ("0.1", "0.5")
    assert (market.book.bids.top(9), market.book.asks.top(9)) == ({1000: 4, 999: 2}, {1001: 6, 1003: 2})
    play(venue, clock, 21)
    assert (market.book.bids.top(1), market.book.asks.top(9)) == ({1001: 8}, {1003: 2})


def test_our_order_fills_behind_what_was_recorded_ahead_of_it(tmp_path: Path) -> None:
    clock = SteppedClock(START_MS)
    venue = Venue(DEMO_KEYS, recording=session(tmp_path / "session.gz"), clock=clock)
    request = {"symbol": "BTCUSDT", "side": "Sell", "orderType": "Limit", "qty": "1", "price": "100.1"}
    order = venue.exchange.create("alice", request, clock.now_ms)
    play(venue, clock, 16)
    assert order.status == "New"
    play(venue, clock, 5)
    assert order.status == "Filled"  # the bid that arrives at its price takes it, after the trade took the queue


def test_what_is_no_session_is_refused_with_a_sentence(tmp_path: Path) -> None:
    empty = tmp_path / "empty.gz"
    with gzip.open(empty, "wt") as stream:
        stream.write(f"{FIRST_NS} {json.dumps(depth(1, 2, [], []))}\n")
    with pytest.raises(RecordingError, match="holds no order book with its REST snapshot"):
        BinanceRecording.read(empty)
    damaged = tmp_path / "damaged.gz"
    damaged.write_bytes(session(tmp_path / "whole.gz").read_bytes()[:80])
    with pytest.raises(RecordingError, match="cannot be read"):
        BinanceRecording.read(damaged)


@pytest.mark.recording
@pytest.mark.parametrize("name", ["binance-raw/usdm_btcusdt_20240808.gz", "binance-sessions/spot_2021-04-05.mixed.zst"])
def test_a_real_session_plays_without_a_crossed_book(name: str) -> None:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"needs {name} under {FOLDER} (set MARKET_DATA_DIR)")
    assert is_binance(path)
    clock = SteppedClock(START_MS)
    venue = Venue(DEMO_KEYS, recording=path, clock=clock)
    for _ in range(1_500):
        play(venue, clock, 1)
        for market in venue.exchange.markets.values():
            assert (market.book.bids.best or 0) < (market.book.asks.best or 10**12)
    assert sum(len(venue.trades[symbol].rows(1_000)) for symbol in venue.exchange.markets) > 20
