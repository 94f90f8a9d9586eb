"""What is read of depth analytics. Minutes come from Valkey, rows or packed days: callers see no difference."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from django.db.models import Max, Min, Sum
from django.utils import timezone

from audit.models import ComponentHeartbeat
from audit.selectors import heartbeats
from audit.valkey import connect
from marketdata.depth import heat_packing, packing
from marketdata.depth.heat import HeatRows
from marketdata.depth.hot import KEPT_SECONDS, HotDepth
from marketdata.depth.models import (
    VOLUMES,
    DepthAggregate,
    DepthCollector,
    DepthDay,
    DepthHeatHour,
    DepthHeatMinute,
    DepthHour,
    DepthPack,
    DepthRow,
    DepthSeries,
    DepthSymbol,
)
from marketdata.depth.partitions import storage_of
from marketdata.depth.services import as_volume
from marketdata.depth.snapshots import DAY, MINUTE, DepthSnapshot, DepthVolume, Market

log = logging.getLogger(__name__)

INTERVALS: dict[str, type[DepthAggregate]] = {"1h": DepthHour, "1d": DepthDay}
# Means have as many decimals as the volumes, and some.
MEAN_UNIT, MEAN_DIGITS = Decimal("1e-12"), 96
HEARTBEAT = "depth collector"
HEARTBEAT_AGE = timedelta(seconds=20)
Minutes = list[tuple[int, DepthVolume]]
# A minute, and the coins that bids and asks have in it.
Point = tuple[int, float, float]
_SERIES = f"""
SELECT id FROM {DepthSeries._meta.db_table} WHERE symbol = %(symbol)s AND market_type = %(market)s AND depth = %(depth)s
"""  # noqa: S608 - names of our own
_ROWS = f"""
FROM {DepthRow._meta.db_table} WHERE series_id = ({_SERIES}) AND minute >= %(start)s AND minute <= %(end)s
ORDER BY minute
"""
_SECONDS = "extract(epoch FROM minute)::bigint"
ROWS_OF_SERIES = f"SELECT {_SECONDS}, {', '.join(VOLUMES)}, bid_covered, ask_covered {_ROWS}"
POINTS_OF_SERIES = f"SELECT {_SECONDS}, bid_volume::float8, ask_volume::float8 {_ROWS}"
# With those of nearer depths, which it may be packed beyond; of all symbols where none is given.
PACKS_OF_SERIES = f"""
SELECT symbol, extract(epoch FROM day::timestamp)::bigint, depth, body
FROM {DepthPack._meta.db_table} JOIN {DepthSeries._meta.db_table} AS series ON series.id = series_id
WHERE (%(symbol)s::text IS NULL OR symbol = %(symbol)s) AND market_type = %(market)s AND depth <= %(depth)s
  AND day >= %(first)s AND day <= %(last)s
"""  # noqa: S608


@cache
def hot() -> HotDepth:
    client = connect(settings.REDIS_URL)
    return HotDepth(client, settings.REDIS_PREFIX)


def depth_series(symbol: str, market: Market, depth: int) -> DepthSeries | None:
    return DepthSeries.objects.filter(symbol=symbol, market_type=market.value, depth=depth).first()


def is_known(symbol: str) -> bool:
    """Whether there is anything of the symbol: it is collected, or was."""
    return DepthSymbol.objects.filter(symbol=symbol).exists() or DepthSeries.objects.filter(symbol=symbol).exists()


def depth_minutes(symbol: str, market: Market, depth: int, start: datetime, end: datetime) -> Minutes:
    """Every minute from ``start`` to ``end``, both included, the earliest first; Valkey is asked first."""
    first, last = int(start.timestamp()), int(end.timestamp())
    now = timezone.now().timestamp()
    try:
        found = hot().read(symbol, market, depth, first, last, now)
    except redis.RedisError as error:
        log.warning("minutes are read from PostgreSQL, Valkey is away: %s", error)
        return stored_minutes(symbol, market, depth, start, end)
    return minutes_again(symbol, market, depth, start, end) if found is None else found


def minutes_again(symbol: str, market: Market, depth: int, start: datetime, end: datetime) -> Minutes:
    """The same after Valkey did not have all of them: from PostgreSQL, and Valkey gets the newest again."""
    found = stored_minutes(symbol, market, depth, start, end)
    now = timezone.now().timestamp()
    if end.timestamp() >= now - KEPT_SECONDS:
        try:
            hot().put([DepthSnapshot(symbol, market, minute, volume) for minute, volume in found], now)
        except redis.RedisError as error:
            log.warning("minutes are not kept in Valkey, which is away: %s", error)
    return found


def stored_minutes(symbol: str, market: Market, depth: int, start: datetime, end: datetime) -> Minutes:
    """The same from PostgreSQL."""
    asked = {"symbol": symbol, "market": market.value, "depth": depth, "start": start, "end": end}
    with connection.cursor() as cursor:
        cursor.execute(ROWS_OF_SERIES, asked)
        found = {minute: DepthVolume(depth, *volumes) for minute, *volumes in cursor.fetchall()}
        packs = _packs(cursor, asked)
    for (_, midnight), bodies in packs.items():
        # What is packed stays, whatever came later.
        for seconds, volume in packing.unpack(bodies, depth, *_inside(midnight, start, end)):
            found[midnight + seconds] = volume
    return sorted(found.items(), key=lambda each: each[0]) if packs else list(found.items())


def stored_points(symbol: str, market: Market, depth: int, start: datetime, end: datetime) -> list[Point]:
    """The same as charts draw it."""
    asked = {"symbol": symbol, "market": market.value, "depth": depth, "start": start, "end": end}
    with connection.cursor() as cursor:
        cursor.execute(POINTS_OF_SERIES, asked)
        found: list[Point] = cursor.fetchall()
        packs = _packs(cursor, asked)
    if not packs:
        return found
    by_minute = {point[0]: point for point in found}
    for (_, midnight), bodies in packs.items():
        for seconds, bid, ask in packing.unpack_points(bodies, depth, *_inside(midnight, start, end)):
            by_minute[midnight + seconds] = (midnight + seconds, bid, ask)
    return sorted(by_minute.values())


def _packs(cursor: Any, asked: Mapping[str, Any]) -> dict[tuple[str, int], dict[int, bytes]]:
    """Packed days of a depth, by symbol and the second that they begin with: their bodies and those of nearer
    depths."""
    cursor.execute(PACKS_OF_SERIES, {**asked, "first": _day(asked["start"]), "last": _day(asked["end"])})
    found: dict[tuple[str, int], dict[int, bytes]] = {}
    for symbol, midnight, depth, body in cursor.fetchall():
        found.setdefault((symbol, midnight), {})[depth] = body
    return {key: bodies for key, bodies in found.items() if asked["depth"] in bodies}


def _inside(midnight: int, start: datetime, end: datetime) -> tuple[float, float]:
    """The first and the last second of a day that are asked for."""
    return start.timestamp() - midnight, end.timestamp() - midnight


def stored_days(symbol: str, market: Market, depth: int, start: datetime, end: datetime) -> Iterator[Minutes]:
    """The same, a day at a time: for what is longer than memory should hold."""
    day = start
    while day <= end:
        midnight = datetime.fromtimestamp((int(day.timestamp()) // DAY + 1) * DAY, tz=UTC)
        yield stored_minutes(symbol, market, depth, day, min(end, midnight - timedelta(microseconds=1)))
        day = midnight


def depth_aggregates(
    symbol: str, market: Market, depth: int, interval: str, start: datetime, end: datetime
) -> list[DepthAggregate]:
    """Hours or days (``INTERVALS``) that begin from ``start`` to ``end``, both included, the earliest first."""
    series = depth_series(symbol, market, depth)
    if series is None:
        return []
    rows = INTERVALS[interval]._default_manager.filter(series=series, start__gte=start, start__lte=end)
    return list(rows.order_by("start"))


def group_minutes(market: Market, depth: int, start: datetime, end: datetime) -> dict[int, dict[str, DepthVolume]]:
    """Each minute's volume by symbol, of all symbols of a market, the earliest first."""
    symbols = _symbols_by_series(market, depth)
    found: dict[int, dict[str, DepthVolume]] = {}
    with connection.cursor() as cursor:
        asked = {"symbol": None, "market": market.value, "depth": depth, "start": start, "end": end}
        packs = _packs(cursor, asked)
    for (symbol, midnight), bodies in packs.items():
        for seconds, volume in packing.unpack(bodies, depth, *_inside(midnight, start, end)):
            found.setdefault(midnight + seconds, {})[symbol] = volume
    rows = DepthRow.objects.filter(series_id__in=symbols, minute__gte=start, minute__lte=end)
    for row in rows.iterator():
        # What is packed stays, whatever came later.
        minutes = found.setdefault(int(row.minute.timestamp()), {})
        minutes.setdefault(symbols[row.series_id], as_volume(row, depth))
    return dict(sorted(found.items()))


def group_means(
    market: Market, depth: int, interval: str, start: datetime, end: datetime
) -> dict[int, dict[str, DepthVolume]]:
    """The same of hours or days (``INTERVALS``): the mean volumes of each symbol, covered where all minutes were."""
    symbols = _symbols_by_series(market, depth)
    rows = INTERVALS[interval]._default_manager.filter(series_id__in=symbols, start__gte=start, start__lte=end)
    found: dict[int, dict[str, DepthVolume]] = {}
    for row in rows.order_by("start").iterator():
        found.setdefault(int(row.start.timestamp()), {})[symbols[row.series_id]] = mean_volume(row, depth)
    return found


def mean_volume(row: DepthAggregate, depth: int) -> DepthVolume:
    with localcontext(prec=MEAN_DIGITS):
        bid, ask, bid_usd, ask_usd = (
            (getattr(row, f"{name}_sum") / row.count).quantize(MEAN_UNIT).normalize() for name in VOLUMES
        )
    covered = {"bid_covered": row.bid_covered, "ask_covered": row.ask_covered}
    return DepthVolume(depth, bid, ask, bid_usd, ask_usd, **covered)


def _symbols_by_series(market: Market, depth: int) -> dict[int, str]:
    return dict(DepthSeries.objects.filter(market_type=market.value, depth=depth).values_list("pk", "symbol"))


def heat_minutes(symbol: str, market: Market, start: datetime, end: datetime) -> Iterator[tuple[int, HeatRows]]:
    """What rested at which price, from ``start`` to ``end``, both included, the earliest first."""
    book = {"symbol": symbol, "market_type": market.value}
    first_hour = start.replace(minute=0, second=0, microsecond=0)
    hours: dict[datetime, list[tuple[int, bytes]]] = {}
    for row in DepthHeatMinute.objects.filter(**book, minute__gte=start, minute__lte=end):
        hour = row.minute.replace(minute=0)
        hours.setdefault(hour, []).append((row.minute.minute, bytes(row.body)))
    packs = dict(DepthHeatHour.objects.filter(**book, hour__gte=first_hour, hour__lte=end).values_list("hour", "body"))
    for hour in sorted({*hours, *packs}):
        found = {minute: rows for minute, body in hours.get(hour, []) for _, rows in heat_packing.unpack(body)}
        found |= dict(heat_packing.unpack(bytes(packs[hour]))) if hour in packs else {}
        for minute, rows in sorted(found.items()):
            moment = int(hour.timestamp()) + minute * MINUTE
            if start.timestamp() <= moment <= end.timestamp():
                yield moment, rows


@dataclass(frozen=True, slots=True)
class DepthStats:
    """How much there is of one symbol in one market; times None where there is nothing."""

    snapshots: int
    oldest: datetime | None
    newest: datetime | None
    days: int


def depth_stats(symbol: str, market: Market | None) -> DepthStats:
    series = DepthSeries.objects.filter(symbol=symbol)
    if market is not None:
        series = series.filter(market_type=market.value)
    identifiers = list(series.values_list("pk", flat=True))
    # Hours are counted once; what came since the last ones were made is not in them yet.
    hours = DepthHour.objects.filter(series_id__in=identifiers).aggregate(count=Sum("count"))
    rows = DepthRow.objects.filter(series_id__in=identifiers).aggregate(oldest=Min("minute"), newest=Max("minute"))
    packs = DepthPack.objects.filter(series_id__in=identifiers).aggregate(oldest=Min("day"))
    days = DepthDay.objects.filter(series_id__in=identifiers).values("start").distinct().count()
    oldest = rows["oldest"]
    if packs["oldest"] is not None:
        packed = datetime(packs["oldest"].year, packs["oldest"].month, packs["oldest"].day, tzinfo=UTC)
        oldest = min(oldest or packed, packed)
    return DepthStats(hours["count"] or 0, oldest, rows["newest"], days)


def last_day_made() -> date | None:
    """The last day that there is a partition for; None where days are made by themselves."""
    with connection.cursor() as cursor:
        storage = storage_of(cursor)
        days = [] if storage.packs_by_itself else storage.days(cursor)
    return max(days, default=None)


def collector() -> DepthCollector:
    return DepthCollector.objects.filter(pk=1).first() or DepthCollector(pk=1)


def collector_symbols() -> Sequence[DepthSymbol]:
    return list(DepthSymbol.objects.all())


def charted_symbols() -> list[dict[str, Any]]:
    """What pages offer to look at, by symbol: where its books come from (None: they come no more) and the markets that
    something is stored of."""
    found: dict[str, dict[str, Any]] = {
        each.symbol: {"symbol": each.symbol, "source": each.source, "markets": []} for each in collector_symbols()
    }
    for symbol, market in DepthSeries.objects.order_by().values_list("symbol", "market_type").distinct():
        row = found.setdefault(symbol, {"symbol": symbol, "source": None, "markets": []})
        row["markets"].append(market)
    for row in found.values():
        row["markets"].sort()
    return sorted(found.values(), key=lambda row: str(row["symbol"]))


def collector_heartbeat() -> tuple[ComponentHeartbeat | None, bool]:
    """What the collector process last said of itself, and whether that is new enough to be believed."""
    newest = heartbeats(HEARTBEAT).first()
    lives = newest is not None and newest.status != "stopped" and timezone.now() - newest.updated_at < HEARTBEAT_AGE
    return newest, lives


def collector_status() -> dict[str, Any]:
    """As the API shows it."""
    row = collector()
    newest, lives = collector_heartbeat()
    try:
        reads = hot().reads()
    except redis.RedisError:
        reads = None
    return {
        "running": row.is_running,
        "process": "alive" if lives else "absent",
        "symbols": [{"symbol": each.symbol, "source": each.source} for each in collector_symbols()],
        "detail": newest.detail if newest is not None else {},
        "reported": newest.updated_at if newest is not None else None,
        "hotReads": reads,
    }


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
