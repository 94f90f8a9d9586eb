"""Market data over real sockets: books end proven and equal to the exchange's whatever goes wrong on the way, nothing
wrong is told meanwhile, and a recording decides as the live run did."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal
from itertools import count
from pathlib import Path

import numpy as np
import orjson
import pytest

from marketdata.engine.feature_table import feature_index
from marketdata.engine.sync import BookState
from marketdata.events import FeedEventKind
from marketdata.feeds import connection, pool, resync
from marketdata.feeds.binance import BinanceFeed
from marketdata.feeds.bybit import BybitPublicFeed
from marketdata.feeds.protocol import VenueBest
from marketdata.feeds.recorded import read_header, read_recording
from marketdata.feeds.recorder import Recorder
from risk.exposure import Exposure
from tests.trading.markets import SYMBOLS, Exchange, Heard, all_live, exchange, listening, plane_of, rules
from tests.trading.test_pipeline import running
from trading.pipeline import Pipeline, PipelineConfiguration
from trading.runtime import backlog
from trading.runtime.market_plane import MarketPlane
from trading.runtime.plane_replay import SilentFeed, about, grids, replay
from trading.runtime.top_check import Finding
from trading.simulator.binance.products import Pace

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same attempts, sooner."""
    monkeypatch.setattr(connection, "FIRST_BACK_OFF_SECONDS", 0.05)
    monkeypatch.setattr(connection, "LAST_BACK_OFF_SECONDS", 0.4)
    monkeypatch.setattr(resync, "ANSWER_SECONDS", 1.0)


def best_of(exchange: Exchange, symbol: str) -> tuple[Decimal, Decimal]:
    book = exchange.venue.exchange.markets[symbol].book
    tick = next(each.tick_size for each in rules() if each.symbol == symbol)
    return book.bids.best * tick, book.asks.best * tick


async def agree(plane: MarketPlane, exchange: Exchange, heard: Heard, venue: str) -> None:
    """Until every book of a venue shows exactly the levels that the exchange holds, at one moment."""

    def same() -> bool:
        for symbol in SYMBOLS:
            ours, theirs = plane.venues[venue].streams[symbol].book, exchange.venue.exchange.markets[symbol].book
            bids, asks = ours.bids(50), ours.asks(50)
            if dict(bids) != theirs.bids.top(50) or dict(asks) != theirs.asks.top(50):
                return False
        return all_live(plane)

    await heard.until(same)


async def test_books_of_both_venues_go_live_and_are_compared() -> None:
    heard = Heard()
    async with exchange() as venue, listening(venue, heard) as plane:
        await heard.until(lambda: all_live(plane))
        await heard.until(lambda: np.isfinite(heard.views[-1].features[feature_index("venue_spread")]))
        spread = heard.views[-1].features[feature_index("venue_spread")]
        assert abs(spread) < 0.01
        status = await plane.status()
        for name in ("bybit linear", "binance usdm"):
            assert status[name]["connected"] and status[name]["books"]["LIVE"] == 2
            (link,) = status[name]["connections"].values()
            assert link["messages"] > 0 and link["bytes"] > 0 and "latency_p99_ms" in link
            assert status[name]["symbols"]["BTCUSDT"]["latency_p50_ms"] >= 0
        assert {FeedEventKind.CONNECTED, FeedEventKind.SNAPSHOT_LOADED} <= set(heard.kinds())
        assert plane.markets["BTCUSDT"].elsewhere is not None


async def test_a_spot_book_is_followed_by_its_own_rule() -> None:
    heard = Heard()
    async with exchange() as venue, listening(venue, heard, binance="spot") as plane:
        await heard.until(lambda: all_live(plane))
        await agree(plane, venue, heard, "binance spot")


FAULTS = {
    "dropped": [{"kind": "drop", "probability": 0.05}],
    "repeated": [{"kind": "repeat", "probability": 0.2}],
    "reordered": [{"kind": "reorder", "probability": 0.05}],
    "truncated": [{"kind": "truncate", "probability": 0.03}],
    "started again at 1": [{"kind": "restart_u", "probability": 0.05, "topic": "orderbook.*"}],
    "cut off": [{"kind": "disconnect", "probability": 0.004, "count": 4}],
    "everything": [
        {"kind": "drop", "probability": 0.02},
        {"kind": "repeat", "probability": 0.05},
        {"kind": "reorder", "probability": 0.02},
        {"kind": "truncate", "probability": 0.01},
        {"kind": "disconnect", "probability": 0.002, "count": 3},
    ],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
async def test_books_end_live_and_right_whatever_happens_to_the_frames(faults: list[dict]) -> None:
    heard = Heard()
    async with exchange(seed=11) as venue, listening(venue, heard) as plane:
        await heard.until(lambda: all_live(plane))
        for fault in faults:
            venue.fault(channel="public", **fault)
        before = len(heard.views)
        await heard.until(lambda: len(heard.views) > before + 60, 60)
        venue.calm()
        await heard.until(lambda: all_live(plane), 60)
        for name in plane.venues:
            await agree(plane, venue, heard, name)
        assert plane.backlog.counts["handler_errors"] == 0
        for view in heard.views:
            assert view.state == "LIVE" and view.best_bid < view.best_ask


async def test_a_gap_is_told_and_the_symbol_is_out_of_trade_until_its_snapshot() -> None:
    heard = Heard()
    async with exchange() as venue, listening(venue, heard) as plane:
        await heard.until(lambda: all_live(plane))
        venue.venue.skip_update("ETHUSDT")
        await heard.until(lambda: FeedEventKind.GAP_DETECTED in heard.kinds("ETHUSDT"))
        snapshots = heard.kinds("ETHUSDT").count(FeedEventKind.SNAPSHOT_LOADED)
        await heard.until(lambda: heard.kinds("ETHUSDT").count(FeedEventKind.SNAPSHOT_LOADED) > snapshots)
        await heard.until(lambda: all_live(plane))
        assert FeedEventKind.GAP_DETECTED not in heard.kinds("BTCUSDT")


async def test_a_venue_that_refuses_snapshots_is_asked_again_and_a_person_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = Heard()
    async with exchange() as venue:
        venue.fault(endpoint="/fapi/v1/depth", kind="http_status", value=503, every=1)
        async with listening(venue, heard) as plane:
            await heard.until(lambda: any(event.metadata.get("attempts") == 5 for event in heard.events))
            (alert, *_) = [event for event in heard.events if event.metadata.get("alert")]
            assert (alert.kind, alert.venue, alert.market_type) == (FeedEventKind.ERROR, "binance", "usdm")
            assert plane.venues["bybit linear"].states()["LIVE"] == 2  # one venue's trouble is its own
            venue.calm()
            await heard.until(lambda: all_live(plane))


@pytest.mark.parametrize("name", ["bybit linear", "binance usdm"])
async def test_a_book_that_contradicts_rest_is_broken_and_fetched_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    async with exchange() as venue, listening(venue, heard) as plane:
        await heard.until(lambda: all_live(plane))
        books = plane.venues[name]
        stream = books.streams["BTCUSDT"]

        async def other_prices(symbol: str) -> VenueBest:
            return VenueBest(stream.book.update_id if stream.bridge is not None else stream.book.sequence, "1", "2")

        with monkeypatch.context() as patch:
            patch.setattr(books.feed, "best_prices", other_prices)
            assert await books.check_top(stream) is Finding.CONTRADICTS
        assert stream.state is BookState.BROKEN and "not those of REST" in stream.book.state_reason
        assert any(event.metadata.get("alert") and event.symbol == "BTCUSDT" for event in heard.events)
        await heard.until(lambda: all_live(plane))
        await agree(plane, venue, heard, name)


@pytest.mark.parametrize("name", ["bybit linear", "binance usdm"])
async def test_books_agree_with_rest_while_both_move(name: str) -> None:
    heard = Heard()
    async with exchange() as venue, listening(venue, heard) as plane:
        await heard.until(lambda: all_live(plane))
        books = plane.venues[name]
        findings = [(await books.check_top(books.streams[symbol])).value for symbol in SYMBOLS * 5]
        assert set(findings) <= {"agrees", "unclear"} and findings.count("agrees") >= 5


async def test_a_connection_is_replaced_without_a_hole_when_the_server_is_about_to_go() -> None:
    heard = Heard()
    async with exchange() as venue, listening(venue, heard, binance="spot") as plane:
        await heard.until(lambda: all_live(plane))
        snapshots = [event for event in heard.events if event.kind is FeedEventKind.SNAPSHOT_LOADED]
        venue.binance.announce_shutdown()
        await heard.until(lambda: any("was replaced" in event.message for event in heard.events))
        await agree(plane, venue, heard, "binance spot")
        kinds = [event.kind for event in heard.events if event.venue == "binance"]
        assert FeedEventKind.GAP_DETECTED not in kinds and FeedEventKind.DISCONNECTED not in kinds
        assert kinds.count(FeedEventKind.SNAPSHOT_LOADED) == sum(event.venue == "binance" for event in snapshots)


async def test_a_connection_is_replaced_without_a_hole_before_the_venue_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "LIFE_CHECK_SECONDS", 0.1)
    monkeypatch.setattr(pool, "OVERLAP_SECONDS", 0.3)
    monkeypatch.setattr(BinanceFeed, "HEARTBEAT", replace(BinanceFeed.HEARTBEAT, life=1.0))
    heard = Heard()
    async with exchange(pace=Pace(ping=20, pong=60, life=4.0)) as venue, listening(venue, heard) as plane:
        await heard.until(lambda: sum("was replaced" in event.message for event in heard.events) >= 5)
        await agree(plane, venue, heard, "binance usdm")
        kinds = [event.kind for event in heard.events if event.venue == "binance"]
        assert FeedEventKind.DISCONNECTED not in kinds and FeedEventKind.GAP_DETECTED not in kinds


async def test_the_servers_pings_are_answered() -> None:
    heard = Heard()
    async with exchange(pace=Pace(ping=0.3, pong=5.0)) as venue, listening(venue, heard) as plane:
        await heard.until(lambda: all_live(plane))
        live_since = time.monotonic()
        await heard.until(lambda: time.monotonic() - live_since > 6)
        kinds = [event.kind for event in heard.events if event.venue == "binance"]
        assert FeedEventKind.DISCONNECTED not in kinds


async def test_a_silent_connection_is_cut_and_its_books_are_out_of_trade(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat = replace(BybitPublicFeed.HEARTBEAT, ping=0.1, silence=0.4)
    monkeypatch.setattr(BybitPublicFeed, "HEARTBEAT", heartbeat)
    heard = Heard()
    async with exchange() as venue, listening(venue, heard) as plane:
        await heard.until(lambda: all_live(plane))
        # Nothing of the venue's leaves any more, pongs included, and the socket stays open.
        (client,) = [each for each in venue.venue.hub.clients if "orderbook.200.BTCUSDT" in "".join(each.topics)]
        client.stall(5_000)
        await heard.until(lambda: FeedEventKind.DISCONNECTED in heard.kinds())
        assert plane.venues["bybit linear"].states()["LIVE"] == 0
        assert plane.markets["BTCUSDT"].state is BookState.SYNCING
        await heard.until(lambda: all_live(plane))


async def test_a_venue_that_cannot_be_reached_is_tried_on_and_a_person_is_told() -> None:
    heard = Heard()
    async with exchange() as venue:
        venue.url = "http://127.0.0.1:1"
        async with listening(venue, heard):
            await heard.until(lambda: any(event.metadata.get("alert") for event in heard.events))
    (alert, *_) = [event for event in heard.events if event.metadata.get("alert")]
    assert "5 attempts to connect failed" in alert.message
    assert heard.kinds().count(FeedEventKind.RECONNECTING) >= 5


async def test_a_book_without_updates_goes_stale_and_comes_back() -> None:
    heard = Heard()
    async with exchange() as venue, listening(venue, heard) as plane:
        await heard.until(lambda: all_live(plane))
        books = plane.venues["bybit linear"]
        stream = books.streams["ETHUSDT"]
        books.look_after(stream.book.receive_ns + 6 * 10**9, 0.0)
        assert stream.state is BookState.STALE and "no update for 5 s" in stream.book.state_reason
        assert orjson.loads(plane.markets["ETHUSDT"].summary_row())["state"] == "STALE"
        await heard.until(lambda: all_live(plane))


def deciding(heard: Heard) -> Heard:
    """With a strategy that decides on every book."""
    both = running(
        symbols=SYMBOLS,
        parameters={**running().parameters, "threshold": 0.5},
    )
    numbers = count()
    heard.pipeline = Pipeline(lambda: f"{next(numbers):032x}")
    known = {each.symbol: each for each in rules()}
    heard.pipeline.configure(PipelineConfiguration((both,), known))
    heard.pipeline.update_exposure(1, Exposure(known=True, equity=Decimal(10**6), available_balance=Decimal(10**6)))
    return heard


async def test_troubled_seconds_in_which_the_loop_fell_behind_replay_to_the_same_features_and_decisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between two ticks several messages of each book come, although the venue is in this loop too.
    monkeypatch.setattr(backlog, "TICK_SECONDS", 0.4)
    live = deciding(Heard())
    recorder = Recorder(tmp_path, "test", most_bytes=200_000, most_seconds=3_600)
    recorder.start(about({each.symbol: (each.tick_size, each.lot_size) for each in rules()}))
    async with exchange(seed=3) as venue, listening(venue, live, tap=recorder.record) as plane:
        await live.until(lambda: all_live(plane))
        for kind, probability in (("drop", 0.02), ("repeat", 0.05), ("truncate", 0.01), ("reorder", 0.02)):
            venue.fault(channel="public", kind=kind, probability=probability)
        venue.fault(channel="public", kind="disconnect", probability=0.003, count=2)
        await live.until(lambda: len(live.views) > 120 and len(live.trades) > 5, 60)
        while plane.backlog.counts["behind"] < 5:
            time.sleep(0.5)  # the whole loop, as a slow machine would
            seen = len(live.views)
            await live.until(lambda: len(live.views) > seen)  # noqa: B023
        venue.calm()
        await live.until(lambda: all_live(plane))
        counts = plane.backlog.counts
    recorder.close()
    assert counts["left_out"] > 5 and counts["handler_errors"] == 0, counts
    files = sorted(tmp_path.glob("*.jsonl.zst"))
    lines = [line for file in files for line in read_recording(file)]
    assert grids(read_header(files[0]))["BTCUSDT"] == (rules()[0].tick_size, rules()[0].lot_size)

    again = deciding(Heard())
    plane = plane_of(again)
    plane.follow_bybit(SilentFeed("bybit linear"))
    plane.follow_binance(SilentFeed("binance usdm"), SYMBOLS)
    replay(plane, lines)
    assert {"book", "trade", "candle", "signal"} == {entry[0] for entry in live.order}
    assert again.order == live.order
