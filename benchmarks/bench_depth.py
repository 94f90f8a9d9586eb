"""How fast depth analytics are: six depths of a book, snapshots a minute, packed days, rows stored, the API's answers.

    python benchmarks/bench_depth.py [--quick] [--api [--webs N]] [--collect] [--load ROWS] [--pages]

The rest starts PostgreSQL and Valkey of its own in a folder that is thrown away. What was measured is written to
benchmarks/results/depth.md, where the sections of other runs stay.

    --api      50 users ask one web process 200 times a second
    --collect  100 symbols from the exchange simulator for some minutes
    --load     so many minutes are stored, in the proportions of 60 days, and asked for (50000000: about ten minutes and
               3 GB of disk)
    --pages    the charts page in a browser
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import orjson

from benchmarks.depth.report import Report
from benchmarks.own_servers import own_servers

FROM_SCRATCH_US, INCREMENTAL_US, CORE_PERCENT = 20.0, 0.5, 2.0
LEVELS = 5_000
SNAPSHOTS_A_MINUTE = 200
DAY = 86_400


def best_of(work: Callable[[], object], rounds: int, calls: int) -> tuple[float, float]:
    """Seconds of processor a call: the least of some rounds, and their median."""
    found = []
    for _ in range(rounds):
        began = time.thread_time()
        for _ in range(calls):
            work()
        found.append((time.thread_time() - began) / calls)
    return min(found), statistics.median(found)


def from_scratch(rounds: int, report: Report) -> None:
    from marketdata.depth.bands import BID, limits_of, sum_side

    chance = np.random.default_rng(1)
    best = 6_000_000
    levels = np.stack([best - np.cumsum(chance.integers(1, 700, LEVELS)), chance.integers(1, 10**6, LEVELS)], axis=1)
    levels = np.ascontiguousarray(levels.astype(np.int64))
    limits, sums = limits_of(best, BID), np.zeros((6, 2), dtype=np.int64)
    least, median = best_of(lambda: sum_side(levels, BID, limits, sums), rounds, 2_000)
    both = 2 * least * 1e6, 2 * median * 1e6
    report.say(
        f"six depths of {LEVELS} levels a side: {both[0]:.1f} us (median {both[1]:.1f}); goal {FROM_SCRATCH_US} us"
    )


def incremental(rounds: int, report: Report) -> None:
    """What the bands add to a message in the kernel: the same stream with and without them, in turns."""
    from benchmarks.engine import ours, streams
    from benchmarks.engine.timing import Task, measure
    from marketdata.engine.process import Work

    for name, stream, venue in (
        ("Binance BTCUSDT, wide book", streams.stream("binance", streams.BTCUSDT, 5_000, 3), "binance"),
        ("Bybit BTCUSDT, 200 levels", streams.stream("bybit", streams.BTCUSDT, 5_000, 3), "bybit"),
    ):
        tasks = [
            Task(work.name, len(stream.frames()), ours.batched(stream, work, venue=venue), clock=time.thread_time)
            for work in (Work.BOOK, Work.BANDS)
        ]
        found = measure(tasks, 3 * rounds)
        turns = zip(found["BANDS"].microseconds, found["BOOK"].microseconds, strict=True)
        added = statistics.median([with_bands - without for with_bands, without in turns])
        report.say(
            f"six depths of both sides kept up, {name}: {added:.3f} us a message (median of {3 * rounds} turns; "
            f"{found['BOOK'].median:.3f} us without, {found['BANDS'].median:.3f} with; the fastest "
            f"{min(found['BOOK'].microseconds):.3f} and {min(found['BANDS'].microseconds):.3f}); "
            f"goal {INCREMENTAL_US} us"
        )


def snapshots(rounds: int, report: Report) -> None:
    from marketdata.depth.bands import depth_volumes
    from marketdata.depth.book_reading import read_depth

    bids = [[f"{60_000 - 0.01 * at:.8f}", f"{1 + at % 7:.8f}"] for at in range(500)]
    asks = [[f"{60_001 + 0.01 * at:.8f}", f"{1 + at % 5:.8f}"] for at in range(500)]
    body = orjson.dumps({"lastUpdateId": 1, "bids": bids, "asks": asks})
    least, median = best_of(lambda: depth_volumes(read_depth(body, 500)), rounds, 100)
    share = median * SNAPSHOTS_A_MINUTE / 60 * 100
    report.say(
        f"a book of 500 levels by REST, read and summed: {least * 1e3:.2f} ms (median {median * 1e3:.2f}); "
        f"{SNAPSHOTS_A_MINUTE} a minute: {share:.2f} % of a core, goal {CORE_PERCENT} %"
    )


def packing(report: Report) -> None:
    """Bytes a row of a day of all six depths of a book, without what the table adds."""
    from benchmarks.depth.rows import RECORDINGS, Book, Walk, every, generated, recorded
    from benchmarks.likeness import DATA
    from marketdata.depth.packing import pack, unpack
    from marketdata.depth.snapshots import DEPTHS
    from tests.marketdata.depth.volumes import walk

    def packed(book: Book) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for depth, nearer in zip(DEPTHS, (0, *DEPTHS), strict=False):
            found[depth] = pack(book[depth], book[nearer] if nearer else (), nearer)
            assert unpack(found, depth) == book[depth]
        return found

    def size(books: list[Book]) -> float:
        rows = sum(len(rows) for book in books for rows in book.values())
        return sum(len(body) for book in books for body in packed(book).values()) / rows

    apart = {
        depth: [(row.minute - DAY, row.volume) for row in walk(range(DAY, 2 * DAY, 60), depth, seed)]
        for seed, depth in enumerate(DEPTHS)
    }
    report.say(f"depths that wander apart, as no book has them (0.4 % a minute): {size([apart]):.2f} bytes a row")
    for name, kind in (
        ("all six depths known, rings of 1 % a minute", Walk()),
        ("all six depths known, rings of 0.2 % a minute", Walk(coins=0.002, price=1e-4)),
        ("a liquid symbol by REST: known no further than 1.5 %", Walk(rings=1)),
    ):
        book = generated(1, kind)
        began = time.thread_time()
        bodies = {depth: pack(rows) for depth, rows in book.items()}
        alone = sum(map(len, bodies.values())) / (6 * 1_440)
        each = (time.thread_time() - began) / 6
        beside = packed(book)
        began = time.thread_time()
        unpack(beside, DEPTHS[-1])
        reading = time.thread_time() - began
        bytes_a_row = sum(map(len, beside.values())) / (6 * 1_440)
        report.say(
            f"generated, {name}: {bytes_a_row:.2f} bytes a row ({alone:.2f} each depth by itself); {each * 1e3:.1f} ms "
            f"to pack a series, {reading * 1e3:.1f} ms to read the widest"
        )
    for name in RECORDINGS:
        if not (DATA / "binance-raw" / f"{name}.gz").exists():
            report.say(f"recording {name}: absent")
            continue
        book, seconds = recorded(name)
        apart_by_minute = list(every(book, 60)) if seconds >= 240 else []
        report.say(
            f"recorded, {name}, {seconds} s: {size([book]):.2f} bytes a row of each second; of each minute (a few rows "
            f"a pack, so fixed parts weigh): {size(apart_by_minute):.1f}"
        )


def storage(symbols: int, report: Report) -> None:
    """Rows of a whole day of some books: stored, measured, packed, measured again."""
    from datetime import UTC, datetime, timedelta

    from django.db import connection

    from benchmarks.depth.rows import Walk, generated
    from marketdata.depth import services
    from marketdata.depth.partitions import name_of
    from marketdata.depth.snapshots import DepthSnapshot, Market

    now = datetime.now(UTC)
    day = (now - timedelta(days=20)).date()
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    rows = [
        DepthSnapshot(f"COIN{symbol}USDT", Market.SPOT, start + second, volume)
        for symbol in range(symbols)
        for minutes in generated(symbol, Walk()).values()
        for second, volume in minutes
    ]
    rows.sort(key=lambda row: row.minute)
    began = time.perf_counter()
    for at in range(0, len(rows), 5_000):
        services.depth_rows_store(rows[at : at + 5_000])
    seconds = time.perf_counter() - began
    report.say(f"{len(rows)} rows stored in {seconds:.1f} s: {len(rows) / seconds:.0f} a second")
    began = time.perf_counter()
    services.depth_rows_store(rows[:50])
    report.say(f"a batch of 50: {(time.perf_counter() - began) * 1e3:.1f} ms")

    def size(table: str) -> int:
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM {table}")
            cursor.execute("SELECT pg_total_relation_size(%s)", [table])
            return int(cursor.fetchone()[0])

    plain = size(name_of(day))
    began = time.perf_counter()
    services.depth_days_pack(now=now)
    took = time.perf_counter() - began
    packed = size("marketdata_depthpack")
    saved = 100 * (1 - packed / plain)
    report.say(
        f"a day of {6 * symbols} series: {plain / len(rows):.0f} bytes a row with its index, packed "
        f"{packed / len(rows):.1f}: {saved:.1f} % saved; packed in {took:.1f} s, aggregates included"
    )


def api(seconds: float, report: Report, *, loaded: bool, webs: int = 1) -> None:
    from benchmarks.depth.web import cost, floor, site, users
    from marketdata.depth import selectors, services
    from marketdata.depth.current import current_book
    from marketdata.depth.snapshots import DEPTHS, Market, minute_of
    from tests.marketdata.depth.volumes import volume, walk

    services.collector_symbols_add(symbols=["BTCUSDT"], source="rest", actor="bench")
    now = minute_of(time.time())
    services.depth_rows_store(walk(range(now - 26 * 3_600, now + 1, 60)))
    services.depth_aggregates_refresh()
    ladder = ([[f"{100 - at}", "1"] for at in range(20)], [[f"{101 + at}", "1"] for at in range(20)])
    volumes = [volume(depth) for depth in DEPTHS]
    chart = "/api/v1/chart-data?symbol=BTCUSDT"
    far = [f"{chart}&from={now - 4_000 - at * 60}&to={now - 400 - at * 60}" for at in range(60, 1_440)]
    loads = {
        "the book now": (["/api/v1/binance/spot?symbol=BTCUSDT"], "p95 20 ms"),
        "an hour of the last two, from Valkey": ([f"{chart}&from={now - 3_600}&to={now}"], "p95 30 ms"),
        "an hour asked for before, kept answer": (far[:10], "p95 30 ms"),
        "an hour, each time another one, from PostgreSQL": (far[10:], "p95 100 ms"),
        "days of a year": (["/api/v1/analytics/history?symbol=BTCUSDT&interval=1d"], "200 ms"),
        "TOTAL and its kin now": (["/api/v1/analytics/groups"], "p95 20 ms"),
    }

    def tell_book() -> None:
        told = int(time.time() * 1e3)
        book = current_book(Market.SPOT, "BTCUSDT", ladder, volumes, time_ms=told, status="CONNECTED")
        selectors.hot().latest_put({(Market.SPOT, "BTCUSDT"): book})

    tell_book()
    # Not one of those who ask the server: it would have used up that one's requests of the minute.
    (header,) = users(1, "alone")
    for name, (paths, _) in loads.items():
        least, median = cost(paths, header)
        report.say(f"{name}, our code alone, in turn: {least:.2f} ms of processor (median {median:.2f})")
    if not loaded:
        return
    with floor() as running:
        running.load(report, "an application that does nothing, on the same server", ["/"], "", seconds)
    with site(webs) as running:
        for name, (paths, goal) in loads.items():
            tell_book()
            running.load(report, name, paths, goal, seconds)


def months(rows: int, plain_days: int, report: Report) -> None:
    from benchmarks.depth.months import Months
    from benchmarks.depth.web import site
    from marketdata.depth.services import RAW_DAYS

    found = Months(-(-rows // (RAW_DAYS * 1_440 * 12)), report, plain_days)
    found.load()
    found.ask()
    with site() as running:
        found.ask_site(running)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and rows")
    parser.add_argument("--api", action="store_true", help="measure the web process too")
    parser.add_argument("--webs", type=int, default=1, metavar="N", help="so many web processes share the users")
    parser.add_argument("--cost", action="store_true", help="the same endpoints' processor time, without a server")
    parser.add_argument("--collect", action="store_true", help="collect a hundred symbols too")
    parser.add_argument("--load", type=int, default=0, metavar="ROWS", help="store so many minutes and ask for them")
    parser.add_argument("--plain-days", type=int, default=14, metavar="DAYS", help="so many of them are not packed")
    parser.add_argument("--only", action="store_true", help="nothing but what the other options ask for")
    parser.add_argument("--pages", action="store_true", help="measure the charts page in a browser too")
    options = parser.parse_args()
    rounds = 3 if options.quick else 7
    report = Report()
    if not options.only:
        report.section("Arithmetic")
        from_scratch(rounds, report)
        incremental(rounds, report)
        snapshots(rounds, report)
        report.section("Packed days")
        packing(report)
    with_servers(options, report)


def with_servers(options: argparse.Namespace, report: Report) -> None:
    with own_servers():
        if not options.only:
            report.section("Storage")
            storage(1 if options.quick else 5, report)
        if options.api or options.cost:
            shared = "one web process" if options.webs == 1 else f"{options.webs} web processes"
            report.section(f"The API, 50 users, 200 requests a second, {shared}")
            api(3 if options.quick else 10, report, loaded=options.api, webs=options.webs)
        if options.collect:
            from benchmarks.depth.collecting import hundred_symbols

            report.section("Collecting")
            hundred_symbols(report)
        if options.load:
            report.section("Months of many symbols")
            months(options.load, options.plain_days, report)
        if options.pages:
            from benchmarks.bench_depth_pages import pages

            pages(6 if options.quick else 20)


if __name__ == "__main__":
    main()
