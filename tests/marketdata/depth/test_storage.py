"""Minutes are stored once, kept by day, packed, dropped; aggregates equal what a recount of all minutes gives."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketdata.depth import packing, selectors, services
from marketdata.depth.models import VOLUMES, DepthDay, DepthHour, DepthPack, DepthRow, DepthSeries, DepthStaleHour
from marketdata.depth.partitions import NativeDays, TimescaleChunks, storage_of
from marketdata.depth.snapshots import DAY, DEPTHS, HOUR, MINUTE, DepthSnapshot, Market
from tests.marketdata.depth.volumes import NOON, snapshot, walk

pytestmark = pytest.mark.django_db

NOW = datetime.fromtimestamp(NOON, tz=UTC)


def partition_days() -> list[date]:
    with connection.cursor() as cursor:
        return storage_of(cursor).days(cursor)


def minutes(
    start: int = 0, end: int = 2**33, symbol: str = "BTCUSDT", market: Market = Market.SPOT, depth: int = 50
) -> list[tuple[int, Any]]:
    moments = datetime.fromtimestamp(start, tz=UTC), datetime.fromtimestamp(end, tz=UTC)
    return selectors.stored_minutes(symbol, market, depth, *moments)


def counted(rows: Iterable[DepthSnapshot], seconds: int) -> dict[tuple[int, str, int], tuple[Decimal, ...]]:
    """Aggregates by the plainest means."""
    by_bucket: dict[tuple[int, str, int], dict[int, DepthSnapshot]] = {}
    for row in rows:
        key = row.minute // seconds * seconds, row.symbol, row.volume.depth
        by_bucket.setdefault(key, {}).setdefault(row.minute, row)
    found = {}
    for key, bucket in by_bucket.items():
        columns = zip(*(row.volume.volumes for row in bucket.values()), strict=True)
        found[key] = (
            Decimal(len(bucket)),
            *(Decimal(sum(getattr(row.volume, name) for row in bucket.values())) for name in services.COVERED),
            *(value for column in columns for value in (sum(column), min(column), max(column))),
        )
    return found  # type: ignore[return-value]


def shown(model: Any) -> dict[tuple[int, str, int], tuple[Decimal, ...]]:
    series = {each.pk: each for each in DepthSeries.objects.all()}
    return {
        (int(row.start.timestamp()), series[row.series_id].symbol, series[row.series_id].depth): (
            Decimal(row.count),
            *(Decimal(getattr(row, f"{name}_count")) for name in services.COVERED),
            *(getattr(row, f"{name}_{how}") for name in VOLUMES for how in ("sum", "min", "max")),
        )
        for row in model.objects.all()
    }


def test_a_minute_is_stored_once_and_the_first_one_stays() -> None:
    assert services.depth_rows_store([snapshot(bid="10"), snapshot(bid="10", depth=15)], now=NOW) == 2
    assert services.depth_rows_store([snapshot(bid="11"), snapshot(NOON - 60, bid="12")], now=NOW) == 1
    assert [(minute, volume.bid_volume) for minute, volume in minutes()] == [(NOON - 60, 12), (NOON, 10)]
    assert DepthSeries.objects.count() == 2


def test_volumes_come_back_to_the_last_digit() -> None:
    exact = walk([NOON], seed=5)[0]
    assert services.depth_rows_store([exact], now=NOW) == 1
    assert minutes() == [(NOON, exact.volume)]


def test_symbols_markets_and_depths_do_not_mix() -> None:
    keys = product(("BTCUSDT", "ETHUSDT"), Market, DEPTHS)
    rows = [
        snapshot(symbol=symbol, market=market, depth=depth, bid=str(number))
        for number, (symbol, market, depth) in enumerate(keys)
    ]
    assert services.depth_rows_store(rows, now=NOW) == 36
    for row in rows:
        found = minutes(symbol=row.symbol, market=row.market, depth=row.volume.depth)
        assert found == [(NOON, row.volume)]


def test_what_is_too_old_or_ahead_of_the_clock_is_left_out() -> None:
    ahead, old = NOON + 3_600, NOON - 61 * DAY
    assert services.depth_rows_store([snapshot(ahead), snapshot(old), snapshot(NOON + 120)], now=NOW) == 1


def test_partitions_are_made_ahead_and_on_demand() -> None:
    assert services.depth_days_make(now=NOW) == 8 and services.depth_days_make(now=NOW) == 0
    assert partition_days() == [NOW.date() + timedelta(days=ahead) for ahead in range(8)]
    services.depth_rows_store([snapshot(NOON - 30 * DAY)], now=NOW)
    assert partition_days()[0] == NOW.date() - timedelta(days=30)


def test_a_packed_day_is_read_as_before_and_its_partition_is_gone() -> None:
    start = NOON - 20 * DAY - 12 * HOUR
    rows = walk(range(start, start + DAY, MINUTE)) + walk(range(start, start + 3 * HOUR, MINUTE), depth=300, seed=2)
    services.depth_rows_store(rows, now=NOW)
    before, aggregates = minutes(), (shown(DepthHour), shown(DepthDay))
    assert aggregates == ({}, {})
    day = datetime.fromtimestamp(start, tz=UTC).date()
    assert services.depth_days_pack(now=NOW) == [day] and day not in partition_days()
    assert DepthRow.objects.count() == 0 and DepthPack.objects.count() == 2
    assert minutes() == before and len(before) == 1_440
    assert minutes(start + HOUR, start + 2 * HOUR) == before[60:121]
    assert shown(DepthHour) == counted(rows, HOUR) and shown(DepthDay) == counted(rows, DAY)


def test_rows_that_come_after_their_day_was_packed_join_it() -> None:
    start = NOON - 20 * DAY
    first, late = walk(range(start, start + HOUR, 2 * MINUTE)), walk(range(start, start + 2 * HOUR, MINUTE), seed=3)
    services.depth_rows_store(first, now=NOW)
    services.depth_days_pack(now=NOW)
    services.depth_rows_store(late, now=NOW)
    services.depth_aggregates_refresh(now=NOW)
    # What was packed stays; what is new joins.
    joined = {row.minute: row.volume for row in late + first}
    assert minutes() == sorted(joined.items())
    assert shown(DepthHour) == counted(first + late, HOUR)
    before = minutes()
    assert len(services.depth_days_pack(now=NOW)) == 1 and minutes() == before
    services.depth_aggregates_refresh(now=NOW)
    assert shown(DepthHour) == counted(first + late, HOUR) and shown(DepthDay) == counted(first + late, DAY)


def test_depths_packed_beyond_each_other_stay_as_they_were_when_the_nearer_one_gets_late_rows() -> None:
    start = NOON - 20 * DAY
    span = range(start, start + HOUR, MINUTE)
    nearer, wider = walk(span, depth=30), walk(span, depth=50)  # as of a book that is known no further than the first
    services.depth_rows_store([*nearer[:30], *wider], now=NOW)
    services.depth_days_pack(now=NOW)
    (body,) = DepthPack.objects.filter(series__depth=50).values_list("body", flat=True)
    assert len(body) < len(packing.pack([(row.minute - start, row.volume) for row in wider]))
    before = minutes()
    services.depth_rows_store(walk(span, depth=30, seed=9, lot=-8), now=NOW)
    assert len(services.depth_days_pack(now=NOW)) == 1
    assert minutes() == before == [(row.minute, row.volume) for row in wider]
    joined = minutes(depth=30)
    assert joined[:30] == [(row.minute, row.volume) for row in nearer[:30]] and len(joined) == 60


def test_minutes_are_kept_for_sixty_days_and_aggregates_for_ever() -> None:
    """Half a year with a clock of its own: each day two hours of one series, the tasks once a day."""
    first = NOON - NOON % DAY
    every: list[DepthSnapshot] = []
    for number in range(0, 180, 5):
        now = datetime.fromtimestamp(first + number * DAY + 20 * HOUR, tz=UTC)
        rows = walk(range(first + number * DAY, first + number * DAY + 2 * HOUR, 20 * MINUTE), seed=number)
        every += rows
        services.depth_rows_store(rows, now=now)
        services.depth_aggregates_refresh(now=now)
        services.depth_days_pack(now=now)
        services.depth_days_prune(now=now)
    kept = [row for row in every if row.minute >= first + (175 - 60) * DAY]
    assert minutes() == [(row.minute, row.volume) for row in kept]
    assert DepthPack.objects.count() == 10 and len(partition_days()) == 3
    assert shown(DepthHour) == counted(every, HOUR) and shown(DepthDay) == counted(every, DAY)


EVENTS = st.lists(
    st.one_of(
        # A batch: minutes of three days around a packing border, with repetitions.
        st.lists(
            st.tuples(st.integers(0, 3 * 24 * 12 - 1), st.sampled_from(["BTCUSDT", "ETHUSDT"]), st.integers(0, 10**12)),
            min_size=1,
            max_size=12,
        ),
        st.sampled_from(["refresh", "pack", "recent"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_aggregates_kept_up_equal_a_recount_whatever_comes_when(events: list[Any]) -> None:
    for model in (DepthRow, DepthPack, DepthHour, DepthDay, DepthStaleHour):
        model._default_manager.all().delete()
    start = NOON - 12 * HOUR - 16 * DAY
    known: dict[Any, DepthSnapshot] = {}
    for event in events:
        if event == "pack":
            services.depth_days_pack(now=NOW)
        elif isinstance(event, str):
            services.depth_aggregates_refresh(now=NOW, recent_too=event == "recent")
        else:
            batch = [
                snapshot(start + 300 * number, f"{units}E-5", symbol, covered=units % 2 == 0)
                for number, symbol, units in event
            ]
            # Of one minute twice in a batch, the database may take either.
            unique = list({row.key: row for row in batch}.values())
            services.depth_rows_store(unique + unique, now=NOW)
            for row in unique:
                known.setdefault(row.key, row)
    services.depth_aggregates_refresh(now=NOW)
    assert shown(DepthHour) == counted(known.values(), HOUR) and shown(DepthDay) == counted(known.values(), DAY)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        expected = sorted((row.minute, row.volume.bid_volume) for row in known.values() if row.symbol == symbol)
        assert [(minute, volume.bid_volume) for minute, volume in minutes(symbol=symbol)] == expected


class FakeCursor:
    """A database that has TimescaleDB, as far as it is asked."""

    def __init__(self, *answers: bool) -> None:
        self._answers = iter(answers)

    def execute(self, statement: str, parameters: Any = None) -> None:
        self.answer = next(self._answers)

    def fetchone(self) -> tuple[bool]:
        return (self.answer,)


def test_timescaledb_is_used_where_the_table_is_one_of_its_own() -> None:
    assert isinstance(storage_of(FakeCursor(True, True)), TimescaleChunks)
    # Installed after the migration: the table is partitioned already.
    assert isinstance(storage_of(FakeCursor(True, False)), NativeDays)
    assert isinstance(storage_of(FakeCursor(False)), NativeDays)
