"""Feeds out of files: the book that they tell is the recorded one, and what is wrong with them is told by row."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from marketdata.feeds.bybit import topic_of
from marketdata.feeds.recorded import read_recording
from tests.recordings import bybit_session, recording
from tests.trading.backtest.feed_tests import GRIDS, Row, message, trade
from trading.backtest.errors import BacktestError
from trading.backtest.feed import Event, EventKind, Feed
from trading.backtest.feed_checks import FeedRepair, checked_events, inspect_events
from trading.backtest.feed_files import grids_of, recorded_feed, trades_feed
from trading.backtest.replay import Replay, crossings
from trading.simulator.instruments import Grids

START = message(1_000, {100: 5, 99: 5}, {102: 5}, snapshot=True, update=1)


def table(*parts: list[Row]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([row for part in parts for row in part], dtype=np.int64)


def found(*parts: list[Row], consecutive: bool = False) -> dict[str, tuple[int, ...]]:
    return {str(each.fault): each.rows for each in inspect_events(table(*parts), consecutive=consecutive)}


# Recordings.


def books_of(path: Path, symbol: str, grids: Grids) -> Iterator[tuple[dict[int, int], dict[int, int]]]:
    """The book after each message, kept in dicts straight from the frames."""
    sides: tuple[dict[int, int], dict[int, int]] = {}, {}
    for frame in read_recording(path):
        if frame.category != "linear" or topic_of(frame.data) != f"orderbook.200.{symbol}":
            continue
        read = orjson.loads(frame.data)
        for levels, rows in zip(sides, (read["data"]["b"], read["data"]["a"]), strict=True):
            if read["type"] == "snapshot":
                levels.clear()
            for price, quantity in rows:
                levels[grids.prices.units(price)] = grids.quantities.units(quantity)
        yield tuple({tick: lots for tick, lots in levels.items() if lots} for levels in sides)  # type: ignore[misc]


@pytest.mark.recording
@pytest.mark.parametrize(("symbol", "tick", "lot"), [("BTCUSDT", "0.1", "0.001"), ("SOLUSDT", "0.01", "0.1")])
def test_a_recorded_book_is_replayed_level_for_level_and_never_crossed(symbol: str, tick: str, lot: str) -> None:
    path, grids = bybit_session(), grids_of(tick, lot)
    feed = recorded_feed(path, symbol, grids, category="linear")
    assert len(crossings(feed)) == 0
    ends = np.flatnonzero(feed.events[:, Event.KIND] == EventKind.END)
    # One message at a time, also where two have one time.
    events = feed.events.copy()
    events[:, Event.TIME] = np.searchsorted(ends, np.arange(len(events)))
    replay, compared = Replay(Feed(symbol, grids, events)), 0
    for number, (bids, asks) in enumerate(books_of(path, symbol, grids)):
        replay.advance(number)
        assert (replay.bids.top(500), replay.asks.top(500)) == (bids, asks)
        assert (replay.bids.best, replay.asks.best) == (max(bids), min(asks))
        compared += 1
    assert compared == len(ends) > 300


@pytest.mark.recording
def test_what_is_heard_comes_later_and_ends_in_the_same_book() -> None:
    feed = recorded_feed(bybit_session(), "BTCUSDT", GRIDS, category="linear")
    heard, there = Replay(feed.as_received()), Replay(feed)
    middle = (feed.start_ns + feed.end_ns) // 2
    there.advance(middle)
    heard.advance(middle)
    assert there.bids.top(300) != heard.bids.top(300)
    for replay in (there, heard):
        replay.advance(2**62)
    assert there.bids.top(300) == heard.bids.top(300)


@pytest.mark.recording
@pytest.mark.long
def test_a_recording_of_binance_ends_at_its_best_prices_and_its_slow_clock_is_put_forward() -> None:
    feed = recorded_feed(recording("binance-raw", "usdm_ethusdt_20240808.gz"), "ETHUSDT", grids_of("0.01", "0.001"))
    assert 1_200_000_000 < feed.clock_ns < 1_400_000_000
    assert (feed.events[:, Event.RECEIVED] >= feed.events[:, Event.TIME]).all()
    replay = Replay(feed)
    replay.advance(feed.end_ns)
    assert (replay.bids.best, replay.asks.best) == (268_138, 268_139)


def test_a_recording_without_the_book_of_a_symbol_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"t":"header","format":2}\n'))
    with pytest.raises(BacktestError, match=r"empty\.jsonl\.gz holds no book of BTCUSDT"):
        recorded_feed(path, "BTCUSDT", GRIDS)


# Trades.


@pytest.mark.recording
def test_recorded_trades_make_a_feed_without_a_book() -> None:
    path = recording("trades-binance", "XRPETH_binance_trades_2019-10-11.csv.gz")
    feed = trades_feed(path, "XRPETH", grids_of("0.00000001", "1"))
    assert (len(feed), feed.has_book) == (12_477, False)


def test_bad_rows_of_trades_are_told_by_line_and_left_out_only_if_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(
        "id,time,price,quantity,side\n"
        "1,1767225600000,100.0,1,buy\n"
        "2,1767225601000,nan,1,sell\n"
        "3,1767225602000,100.0,-1,sell\n"
        "4,1767225603,100.0,1,sell\n"
        "5,2026-01-01T00:00:04+02:00,100.0,1,sell\n"
        "1,1767225605000,100.0,1,buy\n"
        "6,1767225606000,100.0,1,both\n"
        "7,1767225607000,100.05,1,buy\n"
        "8,1767225599000,100.1,1,buy\n"
    )
    with pytest.raises(BacktestError) as raised:
        trades_feed(path, "BTCUSDT", GRIDS)
    for told in (
        "line 3: 'nan' is not a plain number",
        "line 4: '-1' is not a plain number",
        "line 5: time is '1767225603'; expected milliseconds since 1970, UTC",
        "line 6: time is '2026-01-01T00:00:04+02:00'",
        "line 7: trade 1 was there before",
        "line 8: side is 'both'; expected buy or sell",
        "line 9: 100.05 is not a multiple of 0.1",
        "drop_bad_rows: leave those rows out",
    ):
        assert told in str(raised.value)
    with pytest.raises(BacktestError, match=r"disorder: earlier than the row before \(1 rows: 1\); sort"):
        trades_feed(path, "BTCUSDT", GRIDS, repairs={FeedRepair.DROP_BAD_ROWS})
    feed = trades_feed(path, "BTCUSDT", GRIDS, repairs=set(FeedRepair))
    assert feed.events[:, Event.TICK].tolist() == [1_001, 1_000]


# What may be wrong.


def test_a_feed_as_it_should_be_has_no_findings() -> None:
    assert found(START, trade(1_001, "Buy", 102, 1), message(1_002, {101: 1}, {}, update=2), consecutive=True) == {}


@pytest.mark.parametrize(
    ("fault", "rows", "parts"),
    [
        ("unknown", (5,), ([(1_001, 1_001, 7, 0, 0, 0, 0)],)),
        ("unknown", (5,), ([(1_001, 1_001, 1, 0, 100, 1, 0)],)),
        ("negative", (5,), (trade(1_001, "Buy", 100, 0),)),
        ("negative", (5,), (message(1_001, {-3: 1}, {}),)),
        ("negative", (5,), (message(1_001, {3: -1}, {}),)),
        ("disorder", (5,), (trade(999, "Buy", 100, 1),)),
        ("torn", (6,), (message(1_001, {99: 1}, {})[:1], message(1_002, {}, {}))),
        ("torn", (7,), (message(1_001, {99: 1}, {})[:1], trade(1_001, "Buy", 102, 1), message(1_001, {}, {}))),
        ("torn", (5,), (message(1_001, {99: 1}, {})[:1],)),
        ("repeated", (5,), (message(1_001, {99: 1}, {}, update=2), message(1_002, {99: 2}, {}, update=2))),
        ("gap", (5,), (message(1_001, {99: 1}, {}, update=3),)),
        ("crossed", (6,), (message(1_001, {102: 1}, {}, update=2),)),
    ],
)
def test_what_is_wrong_is_told_by_row(fault: str, rows: tuple[int, ...], parts: tuple[list[Row], ...]) -> None:
    expected = (7,) if fault == "repeated" else rows
    assert found(START, *parts, consecutive=True) == {fault: expected}


def test_a_book_that_begins_in_the_middle_is_told() -> None:
    assert found(message(1_001, {99: 1}, {}, update=2)) == {"unstarted": (0,)}


def test_nothing_is_repaired_unless_that_is_said() -> None:
    events = table(START, message(1_001, {99: 1}, {}, update=3))
    with pytest.raises(BacktestError, match=r"night cannot be replayed: gap: .*\(1 rows: 5\); wait_for_snapshot"):
        checked_events("night", events, {FeedRepair.SORT}, consecutive=True)


def test_after_a_gap_or_a_crossed_book_nothing_counts_until_the_next_snapshot() -> None:
    again = message(1_005, {100: 7}, {103: 7}, snapshot=True, update=9)
    for bad in (message(1_001, {99: 1}, {}, update=5), message(1_001, {102: 1}, {}, update=2)):
        lost = message(1_003, {98: 1}, {}, update=6)
        events, repaired = checked_events(
            "night",
            table(START, bad, trade(1_002, "Buy", 102, 1), lost, again),
            {FeedRepair.WAIT_FOR_SNAPSHOT},
            consecutive=True,
        )
        assert events.tolist() == table(START, trade(1_002, "Buy", 102, 1), again).tolist()
        assert repaired


def test_disorder_is_sorted_message_by_message_trades_first() -> None:
    late, early = message(1_002, {99: 1}, {}, update=3), message(1_001, {98: 1, 97: 1}, {}, update=2)
    traded = trade(1_001, "Buy", 102, 1)
    events, _ = checked_events("night", table(START, late, early, traded), {FeedRepair.SORT})
    assert events.tolist() == table(START, traded, early, late).tolist()


def test_a_table_that_is_none_is_refused() -> None:
    with pytest.raises(BacktestError, match="expected int64, C order, rows"):
        Feed("BTCUSDT", GRIDS, np.zeros((3, 4), dtype=np.int64))
    with pytest.raises(BacktestError, match="a price of -3 ticks; expected prices above 0"):
        Feed("BTCUSDT", GRIDS, table(message(1_001, {-3: 1}, {})))
