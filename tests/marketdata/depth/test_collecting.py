"""The collector process against the simulator's Binance side, and rows that outlive the database and their process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp import web
from django.utils import timezone

from audit.models import ComponentHeartbeat
from audit.services import VENUE_ACCESS
from marketdata.depth import selectors, services
from marketdata.depth.book_reading import DepthBook
from marketdata.depth.collector import Collector, DeskAway
from marketdata.depth.current import current_book
from marketdata.depth.journal import HeatLines, Journal, SnapshotLines
from marketdata.depth.models import DepthHeatMinute, DepthRow, DepthSeries
from marketdata.depth.rest_rounds import RestRounds
from marketdata.depth.snapshots import DEPTHS, Market, minute_of
from marketdata.depth.stream_books import StreamBooks, followed
from marketdata.depth.wanted import Wanted, WantedFile
from marketdata.depth.writer import JournaledWriter
from marketdata.feeds.binance import BinanceFeed
from marketdata.feeds.binance_rest import SPOT, BinanceRest
from platform_site.supervisor.child import spawn
from platform_site.supervisor.ports import free_port
from platform_site.supervisor.postgres import EmbeddedPostgres, choose_home, find_programs
from platform_site.supervisor.privileges import postgres_identity
from tests.marketdata.depth.volumes import heat_minute, volume
from tests.processes import REPOSITORY, RunningProcess, ServerProcess, until
from tests.services import wait_until_ready

BOOK = b'{"lastUpdateId":1,"bids":[["100","1"]],"asks":[["101","2"]]}'


def tell_as_engines_do() -> None:
    volumes = [volume(depth) for depth in DEPTHS]
    ladder = ([["100", "1"]], [["101", "1"]])
    now_ms = time.time_ns() // 1_000_000
    book = current_book(Market.BYBIT, "SOLUSDT", ladder, volumes, time_ms=now_ms, status="CONNECTED")
    selectors.hot().latest_put({(Market.BYBIT, "SOLUSDT"): book})
    selectors.hot().heat_put([heat_minute(minute_of(time.time()), symbol="SOLUSDT", market=Market.BYBIT)])


def test_a_process_collects_by_rest_by_stream_and_from_engines_as_it_is_told(
    start_process: Callable[..., RunningProcess], simulator: ServerProcess
) -> None:
    selectors.hot()._redis.flushdb()
    services.collector_symbols_add(symbols=["ETHUSDT", "NOSUCHUSDT"], source="rest", actor="test")
    services.collector_symbols_add(symbols=["BTCUSDT"], source="stream", actor="test")
    process = start_process("collect_depth", SIMULATOR_URL=simulator.url, DEPTH_REQUEST_SPACING_MS="10")

    def detail() -> dict[str, Any]:
        tell_as_engines_do()
        return selectors.collector_status()["detail"]

    def collected() -> bool:
        told = detail()
        books = [told["streams"][market]["books"] for market in ("SPOT", "FUTURES")] if told else []
        # One by REST of two markets, one by stream of two, one of engines.
        return books == [{"BTCUSDT": "LIVE"}] * 2 and told["snapshots"] >= 5 * len(DEPTHS)

    until(collected, 120)
    told = detail()
    assert told["requests"]["ok"] >= 2 and told["rest"]["SPOT"]["used_weight"] >= 25
    assert list(told["rest"]["SPOT"]["failing"]) == ["NOSUCHUSDT"]  # asked once, and it stopped nobody
    # Its questions pass the budget that all processes at this address share, and its breakers are told of.
    access = ComponentHeartbeat.objects.get(component=VENUE_ACCESS, instance=selectors.HEARTBEAT).detail
    assert access["budget"]["taken"] >= 2 and any(venue.startswith("binance ") for venue in access["breakers"])
    book = until(lambda: selectors.hot().latest(Market.FUTURES, "BTCUSDT"))
    assert book["wsStatus"] == "CONNECTED" and len(book["bids"]) == 20
    assert float(book["bestBid"]) < float(book["bestAsk"]) and book["knownReachPercent"]["bid"]
    assert (selectors.last_day_made() or date.min) >= timezone.now().date() + timedelta(days=6)
    # While it runs it is told otherwise.
    services.collector_symbols_remove(symbols=["BTCUSDT"], actor="test")
    until(lambda: detail()["streams"]["SPOT"]["books"] == {})
    services.collector_switch(running=False, actor="test")
    until(lambda: detail()["running"] is False)
    # What waits for its minute is stored at the end.
    assert process.stop() == 0
    series = set(DepthSeries.objects.values_list("symbol", "market_type", "depth"))
    expected = {("ETHUSDT", "SPOT"), ("ETHUSDT", "FUTURES"), ("BTCUSDT", "SPOT"), ("BTCUSDT", "FUTURES")}
    assert series == {(*key, depth) for key in {*expected, ("SOLUSDT", "BYBIT")} for depth in DEPTHS}
    assert DepthRow.objects.count() >= len(series)
    assert not DepthRow.objects.filter(series__depth=300, bid_volume=0).exists()
    heat = set(DepthHeatMinute.objects.values_list("symbol", "market_type"))
    assert heat == {*expected, ("SOLUSDT", "BYBIT")}
    assert selectors.collector_status()["process"] == "absent"
    assert services.collector_lease_take(holder="the next one", seconds=5)  # it was given back


class Venue:
    """Answers depth as it is told: a list of status codes for each symbol, then books."""

    def __init__(self) -> None:
        self.plans: dict[str, list[int]] = {}
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        symbol = request.query["symbol"]
        self.asked.append(symbol)
        plan = self.plans.get(symbol, [])
        status = plan.pop(0) if plan else 200
        headers = {"X-MBX-USED-WEIGHT-1M": str(25 * len(self.asked))}
        if status in (418, 429):
            headers["Retry-After"] = "1"
        body = {200: BOOK, 400: b'{"code":-1121,"msg":"Invalid symbol."}', 299: b"no book"}.get(status, b"oops")
        return web.Response(body=body, status=200 if status == 299 else status, headers=headers)

    async def listing(self, request: web.Request) -> web.Response:
        """ETHUSDT has a step that no price can be a multiple of."""
        rows = [
            {
                "symbol": symbol,
                "filters": [
                    {"filterType": "PRICE_FILTER", "tickSize": tick},
                    {"filterType": "LOT_SIZE", "stepSize": "0.001"},
                ],
            }
            for symbol, tick in (("BTCUSDT", "0.01"), ("ETHUSDT", "0.00"))
        ]
        return web.json_response({"symbols": rows})


@asynccontextmanager
async def serving(venue: Venue) -> AsyncIterator[BinanceRest]:
    application = web.Application()
    application.router.add_get("/api/v3/depth", venue.answer)
    application.router.add_get("/api/v3/exchangeInfo", venue.listing)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rest = BinanceRest(f"http://127.0.0.1:{runner.addresses[0][1]}", SPOT)
    yield rest
    await rest.close()
    await runner.cleanup()


async def test_a_round_survives_whatever_single_symbols_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketdata.depth.rest_rounds.FIRST_BACK_OFF", 0.001)
    venue = Venue()
    venue.plans = {
        "AAAUSDT": [500] * 9,
        "BBBUSDT": [400],
        "CCCUSDT": [299, 502, 200],
        "DDDUSDT": [429],
        "EEEUSDT": [418],
    }
    heard: list[str] = []

    async def on_book(market: Market, symbol: str, book: DepthBook, moment: float) -> None:
        heard.append(symbol)
        if symbol == "CCCUSDT":
            raise RuntimeError("whatever a book leads to")

    async with serving(venue) as rest:
        rounds = RestRounds(Market.SPOT, rest, on_book, spacing=0.0)
        rounds.follow(frozenset([*venue.plans, "FFFUSDT"]))
        began = time.monotonic()
        await rounds.round()
        assert heard == ["CCCUSDT", "DDDUSDT", "EEEUSDT", "FFFUSDT"]
        assert time.monotonic() - began >= 2  # both Retry-After were honoured
        assert venue.asked.count("AAAUSDT") == 4 and venue.asked.count("BBBUSDT") == 1
        status = rounds.status()
        assert (status["ok"], status["failed"]) == (4, 4 + 1 + 2 + 2)
        assert set(status["failing"]) == {"AAAUSDT", "BBBUSDT"} and status["used_weight"] >= 25 * 10
        assert status["unlisted"] == ["BBBUSDT"] and status["latency_ms"] > 0
        asked = len(venue.asked)
        await rounds.round()
        # Collected once a minute (a minute may have begun meanwhile); what is not listed is not asked again.
        assert "BBBUSDT" not in venue.asked[asked:] and heard.count("FFFUSDT") <= 2


async def test_a_symbol_of_impossible_steps_is_left_out_and_named_and_the_others_are_followed() -> None:
    async with serving(Venue()) as rest:
        feed = BinanceFeed("ws://127.0.0.1:1", (), rest)
        books = StreamBooks(Market.SPOT, feed, rest, lambda event: None)
        async with asyncio.timeout(30):
            await followed(books, ["BTCUSDT", "ETHUSDT", "NOSUCHUSDT"])
        status = books.status()
    assert list(status["books"]) == ["BTCUSDT"] and status["unlisted"] == ["ETHUSDT", "NOSUCHUSDT"]


class DeskThatIsAway:
    """A database that does not answer."""

    def _ask(self, *_: Any) -> Any:
        raise DeskAway("no answer")

    renew = wanted = beat = store_events = _ask


async def test_what_was_wanted_last_is_collected_while_the_database_is_away(tmp_path: Path) -> None:
    def away(batch: Any) -> int:
        raise OSError("no answer")

    selectors.hot()._redis.flushdb()
    journals = Journal(tmp_path / "rows", SnapshotLines()), Journal(tmp_path / "heat", HeatLines())
    writers = [JournaledWriter(away, journal, away=(OSError,), pause=lambda _: None) for journal in journals]  # type: ignore[var-annotated]
    wanted = Wanted(True, frozenset(["FFFUSDT"]), frozenset())
    venue = Venue()
    async with serving(venue) as rest:
        collector = Collector(DeskThatIsAway(), *writers, selectors.hot(), begin_with=wanted)
        collector.add(RestRounds(Market.SPOT, rest, collector.on_rest_book, spacing=0.0))
        running = asyncio.create_task(collector.run())
        async with asyncio.timeout(30):
            while collector.counts["heat_minutes"] == 0:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert set(venue.asked) == {"FFFUSDT"} and collector.counts["snapshots"] == len(DEPTHS)
    again = Journal(tmp_path / "rows", SnapshotLines()), Journal(tmp_path / "heat", HeatLines())
    assert [each.volume.depth for each in again[0].read(100)] == list(DEPTHS)
    assert [(each.symbol, each.market) for each in again[1].read(100)] == [("FFFUSDT", Market.SPOT)]
    for journal in again:
        journal.close()


async def test_an_engines_book_that_is_not_understood_costs_no_other_its_minute(tmp_path: Path) -> None:
    hot = selectors.hot()
    hot._redis.flushdb()
    tell_as_engines_do()
    hot._redis.hset(hot._latest(Market.BYBIT), "BTCUSDT", b'{"of": "another version"}')
    journals = Journal(tmp_path / "rows", SnapshotLines()), Journal(tmp_path / "heat", HeatLines())
    writers = [JournaledWriter(len, journal, away=(OSError,)) for journal in journals]  # type: ignore[var-annotated]
    collector = Collector(DeskThatIsAway(), *writers, hot)
    await collector.collect_kept(time.time())
    assert {each.symbol for each in journals[0].read(100)} == {"SOLUSDT"}
    for journal in journals:
        journal.close()


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"running": true, "rest": "BTCUSDT", "stream": []}', '{"running": true, "rest": [1]}']
)
def test_a_file_that_says_nothing_usable_is_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "wanted.json"
    assert WantedFile(file).read() is None
    file.write_text(text)
    assert WantedFile(file).read() is None


def test_a_file_keeps_the_newest_word_until_it_is_forgotten(tmp_path: Path) -> None:
    file = WantedFile(tmp_path / "wanted.json")
    for running in (True, False):
        wanted = Wanted(running, frozenset(["BTCUSDT", "ETHUSDT"]), frozenset(["SOLUSDT"]))
        file.keep(wanted)
        file.keep(wanted)
        assert WantedFile(tmp_path / "wanted.json").read() == wanted
    file.forget()
    file.forget()
    assert file.read() is None and list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_process_that_starts_without_the_database_goes_on_and_stores_it_all_later(
    start_process: Callable[..., RunningProcess], simulator: ServerProcess, tmp_path: Path
) -> None:
    selectors.hot()._redis.flushdb()
    services.collector_symbols_add(symbols=["BTCUSDT"], source="stream", actor="test")
    services.collector_symbols_add(symbols=["ETHUSDT"], source="rest", actor="test")
    about = {"SIMULATOR_URL": simulator.url, "DEPTH_REQUEST_SPACING_MS": "10", "BALLAST_DATA_DIR": str(tmp_path)}
    first = start_process("collect_depth", **about)
    until(lambda: (tmp_path / "depth-wanted.json").exists(), 120)
    assert first.stop() == 0
    selectors.hot()._redis.flushdb()
    before = DepthRow.objects.count()
    nowhere = f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/nothing"
    second = start_process("collect_depth", **about, DATABASE_URL=nowhere)
    for market, symbol in ((Market.FUTURES, "BTCUSDT"), (Market.SPOT, "ETHUSDT")):
        until(lambda market=market, symbol=symbol: selectors.hot().latest(market, symbol), 120)  # type: ignore[misc]
    journal = tmp_path / "depth-journal"
    until(lambda: sum(len(path.read_bytes().splitlines()) for path in journal.glob("*.journal")) >= 12, 60)
    second.stop()
    assert DepthRow.objects.count() == before and list(journal.glob("*.journal"))
    third = start_process("collect_depth", **about)
    until(lambda: not list(journal.glob("*.journal")) and DepthRow.objects.count() > 0, 120)
    assert third.stop() == 0
    # One that another one has replaced does not go on by itself.
    services.collector_lease_take(holder="another machine", seconds=600)
    fourth = start_process("collect_depth", **about)
    until(lambda: not (tmp_path / "depth-wanted.json").exists(), 120)
    assert fourth.stop() == 0


class OwnPostgres:
    """A PostgreSQL of one test's own that keeps what it commits, whoever kills it."""

    def __init__(self, folder: Path) -> None:
        identity = postgres_identity()
        folder.chmod(0o711)
        home = choose_home(folder, identity)
        self.server = EmbeddedPostgres(find_programs(identity), home, free_port(), "password", identity)
        self.log = folder / "postgres.log"
        self.server.prepare()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = spawn(self.server.child(self.log))
        wait_until_ready(self.process, self.server.is_ready, self.log, 60)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def rows(self) -> set[tuple[int, str]]:
        with psycopg.connect(self.server.url("ballast")) as connection:
            found = connection.execute(
                "SELECT extract(epoch FROM minute)::bigint, bid_volume::text FROM marketdata_depthrow"
            )
            return {(minute, f"{volume}") for minute, volume in found}


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[OwnPostgres]:
    server = OwnPostgres(tmp_path)
    server.start()
    server.server.create_database("ballast")
    yield server
    server.kill()


def numbers(rows: set[tuple[int, str]]) -> set[tuple[int, float]]:
    return {(minute, float(volume)) for minute, volume in rows}


@pytest.mark.long
def test_no_row_is_lost_when_postgresql_and_then_the_process_are_killed(
    own_postgres: OwnPostgres, tmp_path: Path, worker_environment: dict[str, str]
) -> None:
    environment = {
        **worker_environment,
        "DATABASE_URL": own_postgres.server.url("ballast"),
        "DJANGO_SETTINGS_MODULE": "platform_site.settings",
    }
    manage = [sys.executable, "manage.py", "migrate", "-v", "0"]
    subprocess.run(manage, cwd=REPOSITORY, env=environment, check=True, timeout=240)
    promised = tmp_path / "promised"

    def make(batches: int, name: str) -> RunningProcess:
        command = ["-m", "tests.marketdata.depth.row_source", str(tmp_path), str(batches)]
        return RunningProcess.start(command, environment, tmp_path / f"{name}.log")

    def lines() -> int:
        return len(promised.read_text().splitlines()) if promised.exists() else 0

    source = make(100_000, "source")
    try:
        until(lambda: lines() > 500 and len(own_postgres.rows()) > 200, 120)
        own_postgres.kill()
        then = lines()
        until(lambda: lines() > then + 1_000, 120)  # it goes on without the database
    finally:
        source.kill()
    own_postgres.start()
    stored_before = own_postgres.rows()
    drained = make(0, "drain")
    try:
        assert drained.process.wait(120) == 0, drained.log.read_text()
    finally:
        drained.kill()
    whole = [line.split() for line in promised.read_text().splitlines(keepends=True) if line.endswith("\n")]
    expected = {(int(minute), float(volume)) for minute, volume in whole}
    stored = numbers(own_postgres.rows())
    assert expected <= stored and len(expected) > 1_500
    # And nothing that was never promised but what was taken while the kill came.
    assert len(stored) - len(expected) <= 20 and len(stored_before) < len(stored)
    assert not list((tmp_path / "journal").glob("*.journal"))
