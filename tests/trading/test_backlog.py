"""A loop that keeps up tells everything at once; one that is behind leaves out what is stale and nothing else."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import orjson

from marketdata.engine.book import SymbolBook
from marketdata.engine.sync import BookState
from marketdata.events import Trade
from tests.builders import book_frame
from tests.trading.markets import Heard, plane_of
from trading.runtime.backlog import BEHIND_SECONDS, Backlog
from trading.runtime.market_plane import MarketPlane
from trading.runtime.plane_replay import SilentFeed
from trading.runtime.venue_books import VenueBooks

D = Decimal
NOW = 1_800_000_000_000_000_000


def told_by(backlog: Backlog) -> Any:
    """A list, and what adds to it through the backlog."""
    told: list[str] = []
    return told, lambda key, what: backlog.tell(key, partial(told.append, what))


def followed(heard: Heard) -> tuple[MarketPlane, VenueBooks]:
    plane = plane_of(heard)
    plane.follow_bybit(SilentFeed("bybit linear"))
    return plane, plane.venues["bybit linear"]


def deliver(venue: VenueBooks, frame: bytes, receive_ns: int = NOW) -> None:
    venue.on_frame(orjson.loads(frame)["topic"].encode(), frame, receive_ns)


def snapshot(update: int = 1) -> bytes:
    return book_frame("snapshot", update, [["60000.0", "1"]], [["60000.1", "1"]])


def delta(update: int) -> bytes:
    return book_frame("delta", update, [["59999.9", str(update)]], [])


def trade(identifier: str) -> bytes:
    row = {"T": 1_000, "s": "BTCUSDT", "S": "Buy", "v": "2", "p": "60000.0", "i": identifier}
    return orjson.dumps({"topic": "publicTrade.BTCUSDT", "data": [row]})


def candle(close: str, *, closed: bool = False, start: int = 60_000) -> bytes:
    prices = {"open": "60000", "high": "70000", "low": "50000", "close": close, "volume": "1", "turnover": "1"}
    row = {"start": start, "interval": "1", **prices, "confirm": closed}
    return orjson.dumps({"topic": "kline.1.BTCUSDT", "data": [row]})


def ticker(**fields: str) -> bytes:
    return orjson.dumps({"topic": "tickers.BTCUSDT", "type": "delta", "data": fields})


def test_what_arrives_in_time_is_told_when_it_arrives() -> None:
    backlog = Backlog()
    told, tell = told_by(backlog)
    for number in range(3):
        tell("a", f"a{number}")
        assert told[-1] == f"a{number}"
    backlog.tick(behind=False)
    assert len(told) == 3 and backlog.counts["left_out"] == 0


def test_behind_only_the_newest_of_each_is_told_at_the_next_tick() -> None:
    backlog = Backlog()
    told, tell = told_by(backlog)
    backlog.tick(behind=True)
    for number in range(3):
        tell("a", f"a{number}")
        tell("b", f"b{number}")
    assert told == []
    backlog.tick(behind=True)
    assert told == ["a2", "b2"]
    tell("a", "a3")
    backlog.tick(behind=False)
    tell("a", "a4")
    assert told == ["a2", "b2", "a3", "a4"]
    assert backlog.counts == {"behind": 2, "left_out": 4, "handler_errors": 0}


def test_what_must_be_told_replaces_what_was_owed() -> None:
    backlog = Backlog()
    told, tell = told_by(backlog)
    backlog.tick(behind=True)
    tell("candle", "open")
    backlog.tell_now("candle", partial(told.append, "closed"))
    backlog.tick(behind=False)
    assert told == ["closed"] and backlog.counts["left_out"] == 1


def test_what_fails_costs_itself_alone() -> None:
    backlog = Backlog()
    told, tell = told_by(backlog)
    backlog.tell("bad", lambda: 1 / 0)
    backlog.tick(behind=True)
    backlog.tell("bad", lambda: 1 / 0)
    tell("good", "good")
    backlog.tick(behind=False)
    assert told == ["good"] and backlog.counts["handler_errors"] == 2


async def test_a_blocked_loop_is_behind_until_a_timer_is_in_time_again_and_the_tap_is_told() -> None:
    marks = []
    backlog = Backlog(lambda connection, kind, data, receive_ns, url: marks.append((connection, kind, data)))
    watching = asyncio.create_task(backlog.watch())
    await asyncio.sleep(0.05)
    before = len(marks)
    time.sleep(3 * BEHIND_SECONDS)  # the whole loop
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        while len(marks) < before + 2 or b"caught up" not in marks[-1][2]:
            await asyncio.sleep(0.001)
    assert marks[before] == ("engine", "mark", b'{"mark":"behind"}')
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


def test_a_plane_that_is_behind_takes_every_update_and_trade_and_tells_the_newest_view_and_candle() -> None:
    heard = Heard()
    plane, venue = followed(heard)
    deliver(venue, snapshot())
    deliver(venue, candle("60001"))
    heard.order.clear()
    plane.backlog.tick(behind=True)
    for frame in (delta(2), candle("60002"), trade("1"), ticker(markPrice="60000"), delta(3), candle("60003")):
        deliver(venue, frame)
    market = plane.markets["BTCUSDT"]
    assert market.book.update_id == 3 and market.reference_price == D(60_000)
    assert [entry[0] for entry in heard.order] == ["trade"]
    plane.backlog.tick(behind=False)
    assert [(entry[0], entry[2] if entry[0] == "book" else entry[1]) for entry in heard.order[1:]] == [
        ("book", 3),
        ("candle", replace(heard.candles[0], close=D(60_003))),
    ]


def test_a_closed_candle_is_told_at_once_and_its_open_state_never_after_it() -> None:
    heard = Heard()
    plane, venue = followed(heard)
    plane.backlog.tick(behind=True)
    deliver(venue, candle("60001"))
    deliver(venue, candle("60002", closed=True))
    deliver(venue, candle("60003", start=120_000))
    plane.backlog.tick(behind=False)
    assert [(each.closed, each.close) for each in heard.candles] == [(True, D(60_002)), (False, D(60_003))]


def test_a_view_that_was_owed_is_not_told_of_a_book_that_is_not_proven_any_more() -> None:
    heard = Heard()
    plane, venue = followed(heard)
    deliver(venue, snapshot())
    plane.backlog.tick(behind=True)
    deliver(venue, delta(2))
    deliver(venue, delta(5))  # a gap
    plane.backlog.tick(behind=False)
    assert [view.update_id for view in heard.views] == [1]
    assert plane.markets["BTCUSDT"].state is BookState.SYNCING


def test_a_trade_counts_between_the_frames_it_came_between() -> None:
    heard = Heard()
    _, venue = followed(heard)
    alone, features = SymbolBook("BTCUSDT", D("0.1"), D("0.001")), []
    for frame in (snapshot(), delta(2), trade("1"), delta(3), trade("2"), delta(4)):
        deliver(venue, frame)
        if b"publicTrade" in frame:
            made = Trade("BTCUSDT", "1", D(60_000), D(2), "Buy", 1_000_000_000, NOW)
            alone.on_trade(made.venue_ns, made.price, made.quantity, made.side)
        else:
            alone.on_frame(frame, NOW)
            features.append(alone.features().tobytes())
    assert [view.features.tobytes() for view in heard.views] == features
