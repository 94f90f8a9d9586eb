"""How fast depth analytics are: six depths of a book, snapshots a minute, packed days, rows stored, the API's answers.

    python benchmarks/bench_depth.py [--quick] [--api] [--pages]

The rest starts PostgreSQL and Valkey of its own in a folder that is thrown away, and one web process for ``--api``, one
with a browser for ``--pages``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import orjson

FROM_SCRATCH_US, INCREMENTAL_US, CORE_PERCENT = 20.0, 0.5, 2.0
LEVELS = 5_000
SNAPSHOTS_A_MINUTE = 200


def best_of(work: Callable[[], object], rounds: int, calls: int) -> tuple[float, float]:
    """Seconds of processor a call: the least of some rounds, and their median."""
    found = []
    for _ in range(rounds):
        began = time.thread_time()
        for _ in range(calls):
            work()
        found.append((time.thread_time() - began) / calls)
    return min(found), statistics.median(found)


def from_scratch(rounds: int) -> None:
    from marketdata.depth.bands import BID, limits_of, sum_side

    chance = np.random.default_rng(1)
    best = 6_000_000
    levels = np.stack([best - np.cumsum(chance.integers(1, 700, LEVELS)), chance.integers(1, 10**6, LEVELS)], axis=1)
    levels = np.ascontiguousarray(levels.astype(np.int64))
    limits, sums = limits_of(best, BID), np.zeros((6, 2), dtype=np.int64)
    least, median = best_of(lambda: sum_side(levels, BID, limits, sums), rounds, 2_000)
    both = 2 * least * 1e6, 2 * median * 1e6
    print(f"six depths of {LEVELS} levels a side: {both[0]:.1f} us (median {both[1]:.1f}); goal {FROM_SCRATCH_US} us")


def incremental(rounds: int) -> None:
    """What the bands add to a message: the same stream with and without them."""
    from benchmarks.engine import ours, streams
    from marketdata.engine.book import SymbolBook
    from marketdata.engine.process import Work

    stream = streams.stream("binance", streams.BTCUSDT, 2_000, 3)
    frames = list(stream.frames())
    took = {}
    for work in (Work.BOOK, Work.BANDS):
        found = []
        for _ in range(rounds):
            sizes = Decimal(stream.listing.tick_size), Decimal(stream.listing.lot_size)
            book = SymbolBook(
                stream.listing.symbol, *sizes, source=ours.source_of(stream.listing, "binance"), work=work
            )
            began = time.thread_time()
            for frame in frames:
                book.on_frame(frame, 1)
            found.append((time.thread_time() - began) / len(frames))
        took[work] = min(found)
    added = (took[Work.BANDS] - took[Work.BOOK]) * 1e6
    alone = took[Work.BOOK] * 1e6
    print(f"six depths kept up: {added:.2f} us a message beside {alone:.2f} us of the book; goal {INCREMENTAL_US} us")


def snapshots(rounds: int) -> None:
    from marketdata.depth.bands import depth_volumes
    from marketdata.depth.book_reading import read_depth

    bids = [[f"{60_000 - 0.01 * at:.8f}", f"{1 + at % 7:.8f}"] for at in range(500)]
    asks = [[f"{60_001 + 0.01 * at:.8f}", f"{1 + at % 5:.8f}"] for at in range(500)]
    body = orjson.dumps({"lastUpdateId": 1, "bids": bids, "asks": asks})
    least, median = best_of(lambda: depth_volumes(read_depth(body, 500)), rounds, 100)
    share = median * SNAPSHOTS_A_MINUTE / 60 * 100
    print(
        f"a book of 500 levels by REST, read and summed: {least * 1e3:.2f} ms (median {median * 1e3:.2f}); "
        f"{SNAPSHOTS_A_MINUTE} a minute: {share:.2f} % of a core, goal {CORE_PERCENT} %"
    )


def packing() -> None:
    from marketdata.depth.packing import pack, unpack
    from tests.marketdata.depth.volumes import walk

    rows = [(row.minute - 86_400, row.volume) for row in walk(range(86_400, 2 * 86_400, 60))]
    began = time.perf_counter()
    body = pack(rows)
    packed = time.perf_counter()
    unpack(body, 50)
    unpacked = time.perf_counter()
    print(
        f"a packed day: {len(body) / len(rows):.1f} bytes a row, packed in {(packed - began) * 1e3:.1f} ms, "
        f"read in {(unpacked - packed) * 1e3:.1f} ms"
    )


def storage(symbols: int) -> None:
    """Rows of a whole day of some series: stored, measured, packed, measured again."""
    from datetime import UTC, datetime, timedelta

    from django.core.management import call_command
    from django.db import connection

    from marketdata.depth import services
    from marketdata.depth.partitions import name_of
    from marketdata.depth.snapshots import DEPTHS, DepthSnapshot
    from tests.marketdata.depth.volumes import walk

    call_command("migrate", verbosity=0)
    now = datetime.now(UTC)
    day = (now - timedelta(days=20)).date()
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    rows = [
        DepthSnapshot(f"COIN{symbol}USDT", row.market, row.minute, row.volume)
        for symbol in range(symbols)
        for number, depth in enumerate(DEPTHS)
        for row in walk(range(start, start + 86_400, 60), depth=depth, seed=7 * symbol + number)
    ]
    rows.sort(key=lambda row: row.minute)
    began = time.perf_counter()
    for at in range(0, len(rows), 5_000):
        services.depth_rows_store(rows[at : at + 5_000])
    seconds = time.perf_counter() - began
    print(f"{len(rows)} rows stored in {seconds:.1f} s: {len(rows) / seconds:.0f} a second")
    batch = rows[:50]
    began = time.perf_counter()
    services.depth_rows_store(batch)
    print(f"a batch of 50: {(time.perf_counter() - began) * 1e3:.1f} ms")

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
    print(
        f"a day: {plain / len(rows):.0f} bytes a row with its index, packed {packed / len(rows):.1f}: "
        f"{saved:.1f} % saved; packed in {took:.1f} s, aggregates included"
    )


def api(requests: int) -> None:
    """One client after the other: the time of one answer, not what a loaded server gives."""
    import http.client

    from django.contrib.auth import get_user_model
    from rest_framework.authtoken.models import Token

    from marketdata.depth import selectors, services
    from marketdata.depth.current import current_book
    from marketdata.depth.snapshots import DEPTHS, Market, minute_of
    from tests.marketdata.depth.volumes import volume, walk
    from tests.processes import start_site

    user = get_user_model().objects.create_user("bench", password="bench-password")
    token = Token.objects.create(user=user).key
    services.collector_symbols_add(symbols=["BTCUSDT"], source="rest", actor="bench")
    now = minute_of(time.time())
    services.depth_rows_store(walk(range(now - 4 * 3_600, now + 1, 60)))
    ladder = ([[f"{100 - at}", "1"] for at in range(20)], [[f"{101 + at}", "1"] for at in range(20)])
    volumes = [volume(depth) for depth in DEPTHS]
    book = current_book(Market.SPOT, "BTCUSDT", ladder, volumes, time_ms=int(time.time() * 1e3), status="CONNECTED")
    selectors.hot().latest_put({(Market.SPOT, "BTCUSDT"): book})
    server = start_site(Path(os.environ["BALLAST_DATA_DIR"]) / "web.log", {**os.environ, "DEPTH_API_RATE": "1000000"})
    paths = {
        "the book now": "/api/v1/binance/spot?symbol=BTCUSDT",
        "an hour, from Valkey": "/api/v1/chart-data?symbol=BTCUSDT",
        "an hour, from PostgreSQL": f"/api/v1/chart-data?symbol=BTCUSDT&from={now - 14_000}&to={now - 10_400}",
    }
    try:
        link = http.client.HTTPConnection("127.0.0.1", server.port)
        for name, path in paths.items():
            took = []
            for _ in range(requests):
                began = time.perf_counter()
                link.request("GET", path, headers={"Authorization": f"Token {token}"})
                answer = link.getresponse()
                answer.read()
                took.append(time.perf_counter() - began)
                assert answer.status == 200, answer.status
            took = sorted(took[requests // 10 :])
            print(f"{name}: median {took[len(took) // 2] * 1e3:.1f} ms, p95 {took[int(len(took) * 0.95)] * 1e3:.1f} ms")
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and rows")
    parser.add_argument("--api", action="store_true", help="measure the web process too")
    parser.add_argument("--pages", action="store_true", help="measure the charts page in a browser too")
    options = parser.parse_args()
    rounds = 3 if options.quick else 7
    from_scratch(rounds)
    incremental(rounds)
    snapshots(rounds)
    packing()
    from tests.services import TestServices

    services = TestServices()
    try:
        services.start()
        os.environ.update(services.environment)
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")
        os.environ.setdefault("BALLAST_SECRET_KEY", "a-key-for-a-benchmark-" + "x" * 40)
        import django
        import psycopg

        url = os.environ["DATABASE_URL"]
        if "DATABASE_URL" in services.environment:
            with psycopg.connect(url.rpartition("/")[0] + "/postgres", autocommit=True) as link:
                link.execute("CREATE DATABASE ballast")
        django.setup()
        storage(1 if options.quick else 5)
        if options.api:
            api(100 if options.quick else 1_000)
        if options.pages:
            from benchmarks.bench_depth_pages import pages

            pages(6 if options.quick else 20)
    finally:
        services.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("BALLAST_DATA_DIR", folder)
        main()
