"""What months of many symbols weigh, and how long questions to them take: rows generated once, stored as the platform
stores them, the newest days plain and the days before packed.

A few generated books stand for all: each series is a copy of one of theirs, row by row and pack by pack. Sizes and
times are those of as many different series; only correlations would be told apart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection
from psycopg import sql

from benchmarks.depth.report import Report
from benchmarks.depth.rows import Book, Walk, generated
from benchmarks.depth.web import Site
from marketdata.depth import packing, selectors, services
from marketdata.depth.models import VOLUMES, DepthDay, DepthHour, DepthPack, DepthRow, DepthSeries
from marketdata.depth.partitions import name_of, storage_of
from marketdata.depth.services import PLAIN_DAYS, RAW_DAYS
from marketdata.depth.snapshots import DAY, DEPTHS, Market

BOOKS, PACKED_DAYS = 4, 3
YEAR, HOURS_BACK = 365, 100
MARKETS = (Market.SPOT, Market.FUTURES)
DEPTH_COLUMNS = ", ".join([*VOLUMES, "bid_covered", "ask_covered"])
STAGING = f"""
CREATE TABLE staging (number int, depth smallint, second int, {" numeric, ".join(VOLUMES)} numeric, bid_covered boolean,
    ask_covered boolean)
"""
# As the collector does: all series of a minute, then the next minute.
FILL_DAY = f"""
INSERT INTO {{day}} (series_id, minute, {DEPTH_COLUMNS})
SELECT series.id, %(start)s + second * interval '1 second', {DEPTH_COLUMNS}
FROM staging JOIN {DepthSeries._meta.db_table} AS series
    ON series.depth = staging.depth AND (series.id - %(first)s) / 6 %% %(books)s = number
WHERE series.id >= %(first)s
ORDER BY second, series.id
"""
SHIFT = """
INSERT INTO {columns} SELECT series_id, start - back * interval '1 day', {rest}
FROM {table} CROSS JOIN generate_series(1, %(furthest)s) AS back
WHERE start >= %(first)s AND start < %(last)s ORDER BY 2, 1
"""


class Months:
    """Sixty days of ``symbols`` on two markets, ending now; ``plain_days``: how many of them are not packed yet."""

    def __init__(self, symbols: int, report: Report, plain_days: int = PLAIN_DAYS) -> None:
        self._report, self._plain_days = report, plain_days
        self.symbols = [f"MONTH{number:03}USDT" for number in range(symbols)]
        self._today = datetime.now(UTC).date()
        self.rows = 0

    def load(self) -> None:
        began = time.perf_counter()
        books = [generated(seed, Walk()) for seed in range(BOOKS)]
        self._make_series()
        plain = self._load_plain(books)
        loaded = time.perf_counter()
        packed = self._load_packed(books)
        self._load_aggregates()
        self.rows = plain + packed
        self._report.say(
            f"{self.rows:,} minutes of {len(self.symbols)} symbols on two markets (six depths each, 60 days): "
            f"{plain:,} plain rows of {self._plain_days} days, loaded in {loaded - began:.0f} s, {packed:,} packed by "
            f"the platform's own packing ({BOOKS} generated books stand for all); "
            f"{time.perf_counter() - began:.0f} s in all"
        )
        self._tell_sizes(plain, packed)

    def _make_series(self) -> None:
        rows = [
            DepthSeries(symbol=symbol, market_type=market.value, depth=depth)
            for symbol in self.symbols
            for market in MARKETS
            for depth in DEPTHS
        ]
        self._first = DepthSeries.objects.bulk_create(rows)[0].pk

    def _load_plain(self, books: Sequence[Book]) -> int:
        with connection.cursor() as cursor:
            cursor.execute(STAGING)
            with cursor.copy("COPY staging FROM STDIN") as copy:
                for number, book in enumerate(books):
                    for depth, minutes in book.items():
                        for second, volume in minutes:
                            covered = volume.bid_covered, volume.ask_covered
                            copy.write_row((number, depth, second, *volume.volumes, *covered))
            days = [self._today - timedelta(days=back) for back in range(self._plain_days)]
            storage_of(cursor).make(cursor, days)
            stored = 0
            for day in days:
                statement = sql.SQL(FILL_DAY).format(day=sql.Identifier(name_of(day)))
                cursor.execute(statement, {"start": _start(day), "books": BOOKS, "first": self._first})  # type: ignore[arg-type]
                stored += cursor.rowcount
            # Today is not over.
            cursor.execute(f"DELETE FROM {name_of(self._today)} WHERE minute > now()")
            stored -= cursor.rowcount
            cursor.execute("DROP TABLE staging")
            for day in days:
                cursor.execute(f"VACUUM ANALYZE {name_of(day)}")
        return stored

    def _load_packed(self, books: Sequence[Book]) -> int:
        began = time.thread_time()
        bodies: list[dict[int, bytes]] = []
        for book in [*books, *(generated(100 + seed, Walk()) for seed in range(BOOKS * (PACKED_DAYS - 1)))]:
            packed: dict[int, bytes] = {}
            for depth, nearer in zip(DEPTHS, (0, *DEPTHS), strict=False):
                packed[depth] = packing.pack(book[depth], book[nearer] if nearer else (), nearer)
            bodies.append(packed)
        each = (time.thread_time() - began) / (len(bodies) * len(DEPTHS))
        self._report.say(f"a series and day packed in {each * 1e3:.1f} ms of processor")
        minutes = DAY // 60
        days = [self._today - timedelta(days=back) for back in range(self._plain_days, RAW_DAYS)]
        series = list(DepthSeries.objects.filter(symbol__in=self.symbols).values_list("id", "depth"))
        with connection.cursor() as cursor:
            table = DepthPack._meta.db_table
            with cursor.copy(f"COPY {table} (series_id, day, rows, body) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int4", "date", "int2", "bytea"])
                for number, day in enumerate(days):
                    for identifier, depth in series:
                        body = bodies[((identifier - self._first) // 6 + number) % len(bodies)][depth]
                        copy.write_row((identifier, day, minutes, body))
            cursor.execute(f"VACUUM ANALYZE {table}")
        return len(days) * len(series) * minutes

    def _load_aggregates(self) -> None:
        """Hours and yesterday by the platform's own statements, older ones as copies of those."""
        start = _start(self._today - timedelta(days=1))
        for hour in range(24):
            at = start + timedelta(hours=hour)
            services._execute(services.AGGREGATE_HOUR, start=at, end=at + timedelta(hours=1), packed=[])
        services._execute(services.AGGREGATE_DAY, start=start, end=start + timedelta(days=1))
        with connection.cursor() as cursor:
            for model, furthest in ((DepthHour, HOURS_BACK), (DepthDay, YEAR)):
                table, rest = model._meta.db_table, ", ".join(["count", *services.AGGREGATED])
                columns = f"{table} (series_id, start, {rest})"
                statement = SHIFT.format(table=table, columns=columns, rest=rest)
                cursor.execute(statement, {"furthest": furthest, "first": start, "last": start + timedelta(days=1)})
                cursor.execute(f"VACUUM ANALYZE {table}")

    def _tell_sizes(self, plain: int, packed: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = %s::regclass",
                [DepthRow._meta.db_table],
            )
            rows = int(cursor.fetchone()[0])
            sizes = {}
            for model in (DepthPack, DepthHour, DepthDay):
                cursor.execute("SELECT pg_total_relation_size(%s)", [model._meta.db_table])
                sizes[model] = int(cursor.fetchone()[0])
        self._report.say(
            f"plain {rows / plain:.1f} bytes a row with its index ({rows / 2**20:,.0f} MiB), packed "
            f"{sizes[DepthPack] / packed:.2f} ({sizes[DepthPack] / 2**20:,.0f} MiB): "
            f"{100 - 100 * sizes[DepthPack] / packed / (rows / plain):.1f} % smaller; hours of 100 days "
            f"{sizes[DepthHour] / 2**20:,.0f} MiB, days of a year {sizes[DepthDay] / 2**20:,.0f} MiB"
        )

    def ask(self) -> None:
        """Questions as selectors put them, of another series each time."""
        now = datetime.now(UTC)
        day = timedelta(days=1)
        spot = Market.SPOT

        def minutes(back: timedelta, span: timedelta) -> Callable[[str], Any]:
            return lambda symbol: selectors.stored_points(symbol, spot, 300, now - back, now - back + span)

        def every_minute(back: timedelta, span: timedelta) -> Callable[[str], Any]:
            return lambda symbol: selectors.stored_minutes(symbol, spot, 300, now - back, now - back + span)

        def buckets(interval: str, span: timedelta) -> Callable[[str], Any]:
            return lambda symbol: selectors.depth_aggregates(symbol, spot, 50, interval, now - span, now)

        hour = timedelta(hours=1)
        self._time("one hour of yesterday, plain, as a chart draws it", minutes(day, hour))
        self._time("one day, plain, as a chart draws it", minutes(day, day))
        self._time("one hour of thirty days ago, packed beyond five nearer depths", minutes(30 * day, hour))
        self._time("one day, packed, every volume exact", every_minute(31 * day, day), 12)
        self._time("seven days, packed, as a chart draws it", minutes(37 * day, 7 * day), 4)
        self._time("one year by day", buckets("1d", timedelta(days=YEAR)))
        self._time("ninety days by hour", buckets("1h", timedelta(days=90)))
        self._time("how much there is of a symbol", lambda symbol: selectors.depth_stats(symbol, None))
        self._time("TOTAL and its kin, an hour of minutes", lambda _: _groups(now - 3 * hour, now - 2 * hour), 6)
        self._time("the same of thirty days ago, packed", lambda _: _groups(now - 30 * day, now - 30 * day + hour), 2)

    def ask_site(self, site: Site) -> None:
        now = int(time.time())
        few = self.symbols[:20]
        year = now - YEAR * DAY
        site.load(
            self._report,
            "one year by day, by the API, over 20 symbols",
            [f"/api/v1/analytics/history?symbol={each}&interval=1d&from={year}" for each in few],
            "200 ms",
        )
        hour = [f"&from={now - back * 3_600}&to={now - back * 3_600 + 3_600}" for back in range(4, 28)]
        site.load(
            self._report,
            "one hour of the last day, by the API, over all symbols, not asked before",
            [f"/api/v1/chart-data?symbol={each}{span}" for span in hour for each in self.symbols],
            "100 ms",
        )

    def _time(self, name: str, ask: Callable[[str], Any], times: int = 30) -> None:
        took, counts = [], 0
        for number in range(times):
            symbol = self.symbols[number * 7 % len(self.symbols)]
            began = time.perf_counter()
            found = ask(symbol)
            took.append((time.perf_counter() - began) * 1e3)
            counts = len(found) if isinstance(found, Sequence | dict) else 1
        took.sort()
        self._report.say(
            f"{name}: median {statistics.median(took):.1f} ms, p95 {took[int(len(took) * 0.95)]:.1f} ms "
            f"({counts} rows, first asked {times} times of different series)"
        )


def _groups(start: datetime, end: datetime) -> dict[int, Any]:
    return selectors.group_minutes(Market.SPOT, 50, start, end)


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
