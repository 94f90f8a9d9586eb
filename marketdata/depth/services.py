"""What is written of depth analytics: minutes, their aggregates, packed days, and what the collector shall do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now, TruncHour
from django.utils import timezone

from audit import bus
from audit.services import record
from marketdata.depth import heat_packing, packing
from marketdata.depth.heat import HeatMinute
from marketdata.depth.models import (
    VOLUMES,
    DepthCollector,
    DepthDay,
    DepthHeatHour,
    DepthHeatMinute,
    DepthHour,
    DepthPack,
    DepthRow,
    DepthSeries,
    DepthStaleHour,
    DepthSymbol,
)
from marketdata.depth.partitions import LOCK_KEY, TABLE, name_of, storage_of
from marketdata.depth.snapshots import DepthSnapshot, DepthVolume

RAW_DAYS = 60
PLAIN_DAYS = 14
DAYS_AHEAD = 7
# A venue's clock may run ahead of ours; a row from further ahead is a mistake.
MOST_AHEAD = timedelta(minutes=5)
REFRESHED_DAYS = 3
HOURS_AT_ONCE = 24

COLUMNS = ("symbol", "market_type", "depth", "minute", *VOLUMES, "bid_covered", "ask_covered")
INCOMING = """
CREATE TEMPORARY TABLE IF NOT EXISTS depth_incoming (
    symbol text, market_type text, depth smallint, minute timestamptz, bid_volume numeric, ask_volume numeric,
    bid_volume_usd numeric, ask_volume_usd numeric, bid_covered boolean, ask_covered boolean
) ON COMMIT DELETE ROWS
"""
ADD_SERIES = f"""
INSERT INTO {DepthSeries._meta.db_table} (symbol, market_type, depth)
SELECT DISTINCT symbol, market_type, depth FROM depth_incoming AS new WHERE NOT EXISTS (
    SELECT FROM {DepthSeries._meta.db_table} AS known
    WHERE (known.symbol, known.market_type, known.depth) = (new.symbol, new.market_type, new.depth)
)
ORDER BY symbol, market_type, depth
ON CONFLICT DO NOTHING
"""  # noqa: S608 - names of our own
# A minute that is packed already came twice: what is packed stays.
ADD_ROWS = f"""
WITH added AS (
    INSERT INTO {TABLE} (series_id, minute, {", ".join(VOLUMES)}, bid_covered, ask_covered)
    SELECT series.id, minute, {", ".join(VOLUMES)}, bid_covered, ask_covered
    FROM depth_incoming JOIN {DepthSeries._meta.db_table} AS series USING (symbol, market_type, depth)
    ORDER BY series.id, minute
    ON CONFLICT DO NOTHING RETURNING minute
)
SELECT date_trunc('hour', minute, 'UTC'), count(*) FROM added GROUP BY 1 ORDER BY 1
"""  # noqa: S608
# Not DO NOTHING: who refreshes an hour meanwhile has it deleted but not committed, and must be waited for.
MARK_STALE = f"""
INSERT INTO {DepthStaleHour._meta.db_table} AS stale (hour, marks) VALUES (%s, 1)
ON CONFLICT (hour) DO UPDATE SET marks = stale.marks + 1
"""  # noqa: S608
RECENT_HOURS = f"""
SELECT DISTINCT date_trunc('hour', minute, 'UTC') FROM {TABLE} WHERE minute >= %s AND minute <= %s ORDER BY 1
"""  # noqa: S608
COVERED = ("bid_covered", "ask_covered")
_EXTREMES = [(name, how) for name in VOLUMES for how in ("sum", "min", "max")]
AGGREGATED = [*(f"{name}_count" for name in COVERED), *(f"{name}_{how}" for name, how in _EXTREMES)]
_KEEP_NEWEST = f"""
ON CONFLICT (series_id, start) DO UPDATE SET {", ".join(f"{name} = EXCLUDED.{name}" for name in ("count", *AGGREGATED))}
"""
_OF_ROWS = ", ".join(
    [*(f"count(*) FILTER (WHERE {name})" for name in COVERED), *(f"{how}({name})" for name, how in _EXTREMES)]
)
_OF_HOURS = ", ".join(
    [*(f"sum({name}_count)" for name in COVERED), *(f"{how}({name}_{how})" for name, how in _EXTREMES)]
)
AGGREGATE_HOUR = f"""
INSERT INTO {DepthHour._meta.db_table} (series_id, start, count, {", ".join(AGGREGATED)})
SELECT series_id, %(start)s, count(*), {_OF_ROWS} FROM {TABLE}
WHERE minute >= %(start)s AND minute < %(end)s AND NOT series_id = ANY(%(packed)s) GROUP BY series_id ORDER BY series_id
{_KEEP_NEWEST}
"""  # noqa: S608
AGGREGATE_DAY = f"""
INSERT INTO {DepthDay._meta.db_table} (series_id, start, count, {", ".join(AGGREGATED)})
SELECT series_id, %(start)s, sum(count), {_OF_HOURS} FROM {DepthHour._meta.db_table}
WHERE start >= %(start)s AND start < %(end)s GROUP BY series_id ORDER BY series_id
{_KEEP_NEWEST}
"""  # noqa: S608

ADD_HEAT = f"""
INSERT INTO {DepthHeatMinute._meta.db_table} (symbol, market_type, minute, body)
SELECT * FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::bytea[]) ON CONFLICT DO NOTHING
"""  # noqa: S608
HEAT_KEPT = timedelta(days=14)
HEAT_LATENESS = timedelta(minutes=5)
HEAT_LOCK_KEY = LOCK_KEY + 1


def depth_rows_store(snapshots: Iterable[DepthSnapshot], *, now: datetime | None = None) -> int:
    """Store minutes, each once: one that is there already stays as it is. Returns how many were new.

    What is older than rows are kept, or too far ahead of our clock, is left out.
    """
    now = now or timezone.now()
    oldest = _start_of(_first_kept(now)).timestamp()
    newest = (now + MOST_AHEAD).timestamp()
    # In one order, or two that store the same rows at once may wait for each other.
    rows = sorted((each for each in snapshots if oldest <= each.minute <= newest), key=lambda each: each.key)
    if not rows:
        return 0
    days = {_day_of(each.minute) for each in rows}
    with transaction.atomic(), connection.cursor() as cursor:
        storage_of(cursor).make(cursor, days)
        cursor.execute(INCOMING)
        with cursor.copy(f"COPY depth_incoming ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            for each in rows:
                volume = each.volume
                moment = datetime.fromtimestamp(each.minute, tz=UTC)
                key = (each.symbol, each.market.value, volume.depth, moment)
                copy.write_row((*key, *volume.volumes, volume.bid_covered, volume.ask_covered))
        cursor.execute(ADD_SERIES)
        cursor.execute(ADD_ROWS)
        hours = cursor.fetchall()
        # Once in a transaction that goes on (tests), the rows would be stored again.
        cursor.execute("TRUNCATE depth_incoming")
        for hour, _ in hours:
            cursor.execute(MARK_STALE, [hour])
    return sum(count for _, count in hours)


def depth_days_make(*, now: datetime | None = None) -> int:
    """Make the partitions of the days to come; how many were new."""
    today = (now or timezone.now()).astimezone(UTC).date()
    with transaction.atomic(), connection.cursor() as cursor:
        return storage_of(cursor).make(cursor, [today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)])


def depth_aggregates_refresh(*, now: datetime | None = None, recent_too: bool = False) -> int:
    """Make the aggregates of all hours that got rows anew, and of their days; how many hours.

    Args:
        recent_too: the hours of the last three days as well, whether they are known to have changed or not.
    """
    if recent_too:
        _mark_recent(now or timezone.now())
    refreshed = 0
    while hours := _refresh_some():
        refreshed += hours
    return refreshed


@transaction.atomic
def _mark_recent(now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            RECENT_HOURS,
            [now - timedelta(days=REFRESHED_DAYS), now + MOST_AHEAD],
        )
        for (hour,) in cursor.fetchall():
            cursor.execute(MARK_STALE, [hour])


@transaction.atomic
def _refresh_some(day: date | None = None) -> int:
    """Of one day where it is given."""
    stale = DepthStaleHour.objects.select_for_update(skip_locked=day is None).order_by("hour")
    if day is not None:
        stale = stale.filter(hour__gte=_start_of(day), hour__lt=_start_of(day + timedelta(days=1)))
    hours = [each.hour for each in stale[:HOURS_AT_ONCE]]
    DepthStaleHour.objects.filter(hour__in=hours).delete()
    for hour in hours:
        _refresh_hour(hour)
    for changed in sorted({hour.astimezone(UTC).date() for hour in hours}):
        _execute(AGGREGATE_DAY, start=_start_of(changed), end=_start_of(changed + timedelta(days=1)))
    return len(hours)


def _refresh_hour(hour: datetime) -> None:
    """The whole hour of every series that has rows in it. Of a packed day, series whose rows came late have some of
    theirs in each place."""
    end = hour + timedelta(hours=1)
    packs = list(DepthPack.objects.filter(day=hour.astimezone(UTC).date()).values_list("series_id", flat=True))
    if packs:
        late = DepthRow.objects.filter(minute__gte=hour, minute__lt=end, series_id__in=packs).order_by()
        day = hour.astimezone(UTC).date()
        first = int(hour.timestamp()) - int(_start_of(day).timestamp())
        late_series = DepthSeries.objects.filter(pk__in=late.values_list("series_id", flat=True).distinct())
        for series in late_series:
            rows = _merged(_bodies(series, day), series, day)
            inside = [volume for seconds, volume in rows.items() if first <= seconds < first + 3_600]
            _store_hour(series.pk, hour, inside)
    _execute(AGGREGATE_HOUR, start=hour, end=end, packed=packs)


def _store_hour(series_id: int, hour: datetime, rows: Sequence[DepthVolume]) -> None:
    values: dict[str, Any] = {"count": len(rows)}
    values |= {f"{name}_count": sum(getattr(row, name) for row in rows) for name in COVERED}
    for at, name in enumerate(VOLUMES):
        column = [row.volumes[at] for row in rows]
        values |= {f"{name}_sum": sum(column), f"{name}_min": min(column), f"{name}_max": max(column)}
    DepthHour.objects.bulk_create(
        [DepthHour(series_id=series_id, start=hour, **values)],
        update_conflicts=True,
        unique_fields=["series_id", "start"],
        update_fields=list(values),
    )


def _bodies(series: DepthSeries, day: date) -> dict[int, bytes]:
    """A day of one book as it is packed, by depth."""
    packs = DepthPack.objects.filter(day=day, series__symbol=series.symbol, series__market_type=series.market_type)
    return {depth: bytes(body) for depth, body in packs.values_list("series__depth", "body")}


def _merged(bodies: Mapping[int, bytes], series: DepthSeries, day: date) -> dict[int, DepthVolume]:
    """A day of one series by the second of the day: what is packed, and rows that came later."""
    start = _start_of(day)
    rows = DepthRow.objects.filter(series=series, minute__gte=start, minute__lt=start + timedelta(days=1))
    found = {int((row.minute - start).total_seconds()): as_volume(row, series.depth) for row in rows}
    return found | dict(packing.unpack(bodies, series.depth)) if series.depth in bodies else found


def as_volume(row: DepthRow, depth: int) -> DepthVolume:
    return DepthVolume(
        depth,
        row.bid_volume,
        row.ask_volume,
        row.bid_volume_usd,
        row.ask_volume_usd,
        bid_covered=row.bid_covered,
        ask_covered=row.ask_covered,
    )


def depth_days_pack(*, now: datetime | None = None) -> list[date]:
    """Pack the days that are older than two weeks, each in its own transaction; which were."""
    today = (now or timezone.now()).astimezone(UTC).date()
    with transaction.atomic(), connection.cursor() as cursor:
        storage = storage_of(cursor)
        old = [] if storage.packs_by_itself else storage.days(cursor)
    return [day for day in old if day < today - timedelta(days=PLAIN_DAYS) and depth_day_pack(day)]


@transaction.atomic
def depth_day_pack(day: date) -> bool:
    """Pack one day and drop its partition; False when rows came in meanwhile: the next time, then.

    Its aggregates are made before: afterwards they could only be made from packs.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
        while _refresh_some(day):
            pass
        counted = _count(cursor, day)
        cursor.execute(f"SELECT DISTINCT series_id FROM {name_of(day)}")  # noqa: S608
        changed = DepthSeries.objects.filter(pk__in=[series_id for (series_id,) in cursor.fetchall()])
        in_order = changed.order_by("symbol", "market_type", "depth")
        for _, book in groupby(in_order, key=lambda series: (series.symbol, series.market_type)):
            _pack_book(list(book), day)
        # Nobody writes or reads from here on, for as long as a count takes. Rows are only ever added: as many as before
        # are the same as before.
        cursor.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
        if _count(cursor, day) != counted:
            transaction.set_rollback(True)
            return False
        storage_of(cursor).drop(cursor, day)
    return True


def _pack_book(changed: Sequence[DepthSeries], day: date) -> None:
    """Depths of one book that got rows, the nearest first: each may be packed beyond the next nearer one."""
    bodies = _bodies(changed[0], day)
    packs = []
    for series in changed:
        rows = list(_merged(bodies, series, day).items())
        nearer = max((depth for depth in bodies if depth < series.depth), default=0)
        inner = packing.unpack(bodies, nearer) if nearer else []
        bodies[series.depth] = packing.pack(rows, inner, nearer)
        packs.append(DepthPack(series=series, day=day, rows=len(rows), body=bodies[series.depth]))
    DepthPack.objects.bulk_create(
        packs, update_conflicts=True, unique_fields=["series_id", "day"], update_fields=["rows", "body"]
    )


def depth_days_prune(*, now: datetime | None = None) -> int:
    """Forget minutes that are older than they are kept, packed or not; how many days. Aggregates stay."""
    first = _first_kept(now or timezone.now())
    with transaction.atomic(), connection.cursor() as cursor:
        storage = storage_of(cursor)
        old = {day for day in storage.days(cursor) if day < first}
        # Aggregates that nobody has made yet can only be made now.
        for day in sorted(old):
            while _refresh_some(day):
                pass
            storage.drop(cursor, day)
        packed = DepthPack.objects.filter(day__lt=first)
        old |= set(packed.values_list("day", flat=True).distinct())
        packed.delete()
        DepthStaleHour.objects.filter(hour__lt=_start_of(first)).delete()
    return len(old)


def _first_kept(now: datetime) -> date:
    return now.astimezone(UTC).date() - timedelta(days=RAW_DAYS)


def _count(cursor: Any, day: date) -> int:
    cursor.execute(f"SELECT count(*) FROM {name_of(day)}")  # noqa: S608
    (count,) = cursor.fetchone()
    return int(count)


def _execute(statement: str, **parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def _day_of(seconds: int) -> date:
    return datetime.fromtimestamp(seconds, tz=UTC).date()


def _start_of(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


# What rests at which price.


def heat_minutes_store(minutes: Iterable[HeatMinute], *, now: datetime | None = None) -> int:
    """Store minutes of rows, each once: one that is there already stays as it is. Returns how many were new.

    What is older than they are kept, or too far ahead of our clock, is left out.
    """
    now = now or timezone.now()
    oldest, newest = (now - HEAT_KEPT).timestamp(), (now + MOST_AHEAD).timestamp()
    rows = sorted(
        (each for each in minutes if oldest <= each.minute <= newest),
        key=lambda each: (each.symbol, each.market, each.minute),
    )
    moments = [datetime.fromtimestamp(each.minute, tz=UTC) for each in rows]
    with connection.cursor() as cursor:
        columns = ([each.symbol for each in rows], [each.market.value for each in rows], moments)
        cursor.execute(ADD_HEAT, [*columns, [each.body for each in rows]])
        return int(cursor.rowcount)


def heat_hours_pack(*, now: datetime | None = None) -> int:
    """Pack the minutes of hours that are over, each book's hour in its own transaction; how many minutes. Those that
    come later join their hour the next time."""
    over = ((now or timezone.now()) - HEAT_LATENESS).replace(minute=0, second=0, microsecond=0)
    waiting = DepthHeatMinute.objects.filter(minute__lt=over).annotate(hour=TruncHour("minute", tzinfo=UTC))
    hours = waiting.order_by("hour", "symbol", "market_type").values_list("symbol", "market_type", "hour").distinct()
    return sum(_pack_heat_hour(*each) for each in hours)


@transaction.atomic
def _pack_heat_hour(symbol: str, market_type: str, hour: datetime) -> int:
    book = {"symbol": symbol, "market_type": market_type}
    with connection.cursor() as cursor:
        # Two that pack the same hour would each leave out what the other one has.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [HEAT_LOCK_KEY])
    rows = list(DepthHeatMinute.objects.filter(**book, minute__gte=hour, minute__lt=hour + timedelta(hours=1)))
    known = DepthHeatHour.objects.filter(**book, hour=hour).first()
    packed = {row.minute.minute: rows_of for row in rows for _, rows_of in heat_packing.unpack(bytes(row.body))}
    # What is packed stays.
    packed |= dict(heat_packing.unpack(bytes(known.body))) if known is not None else {}
    DepthHeatHour.objects.bulk_create(
        [DepthHeatHour(**book, hour=hour, minutes=len(packed), body=heat_packing.pack(list(packed.items())))],
        update_conflicts=True,
        unique_fields=["symbol", "market_type", "hour"],
        update_fields=["minutes", "body"],
    )
    DepthHeatMinute.objects.filter(**book, minute__in=[row.minute for row in rows]).delete()
    return len(rows)


def heat_prune(*, now: datetime | None = None) -> int:
    """Forget rows that are older than they are kept; how many hours of books."""
    oldest = (now or timezone.now()) - HEAT_KEPT
    DepthHeatMinute.objects.filter(minute__lt=oldest).delete()
    gone, _ = DepthHeatHour.objects.filter(hour__lt=oldest - timedelta(hours=1)).delete()
    return gone


# What the collector shall do. It re-reads on a timer.


def collector_lease_take(*, holder: str, seconds: float) -> bool:
    """Become, or stay, the one process that collects; False while another one is. The database's clock counts."""
    DepthCollector.objects.bulk_create([DepthCollector(pk=1)], ignore_conflicts=True)
    free = Q(holder=holder) | Q(holder="") | Q(holder_until__lt=Now())
    taken = DepthCollector.objects.filter(free, pk=1).update(
        holder=holder, holder_until=Now() + timedelta(seconds=seconds)
    )
    return bool(taken)


def collector_lease_release(*, holder: str) -> None:
    """Let the next process go on at once."""
    DepthCollector.objects.filter(pk=1, holder=holder).update(holder="", holder_until=None)


@transaction.atomic
def collector_switch(*, running: bool, actor: str) -> bool:
    """Start or stop collecting; False when it is so already."""
    DepthCollector.objects.bulk_create([DepthCollector(pk=1)], ignore_conflicts=True)
    row = DepthCollector.objects.select_for_update(no_key=True).get(pk=1)
    if row.is_running == running:
        return False
    row.is_running, row.changed_at = running, timezone.now()
    row.save(update_fields=["is_running", "changed_at"])
    action = "depth_collector.started" if running else "depth_collector.stopped"
    record(actor=actor, action=action, subject="depth_collector")
    bus.platform_changed("depth_collector")
    return True


@transaction.atomic
def collector_symbols_add(*, symbols: Iterable[str], source: str, actor: str) -> list[str]:
    """Collect these from now on, or from another source than before; those that this changed."""
    if source not in DepthSymbol.Source.values:
        raise ValueError(f"source is {source!r}; expected one of {', '.join(DepthSymbol.Source.values)}")
    wanted = sorted(set(symbols))
    known = dict(
        DepthSymbol.objects.select_for_update(no_key=True).filter(symbol__in=wanted).values_list("symbol", "source")
    )
    changed = [symbol for symbol in wanted if known.get(symbol) != source]
    if not changed:
        return []
    DepthSymbol.objects.bulk_create(
        [DepthSymbol(symbol=symbol, source=source) for symbol in changed],
        update_conflicts=True,
        unique_fields=["symbol"],
        update_fields=["source"],
    )
    record(
        actor=actor,
        action="depth_collector.symbols_added",
        subject="depth_collector",
        parameters={"symbols": changed, "source": source},
    )
    bus.platform_changed("depth_collector")
    return changed


@transaction.atomic
def collector_symbols_remove(*, symbols: Iterable[str], actor: str) -> list[str]:
    """Collect these no more; those that were collected. Their history stays."""
    rows = DepthSymbol.objects.select_for_update().filter(symbol__in=list(symbols)).order_by("symbol")
    gone = [row.symbol for row in rows]
    if not gone:
        return []
    DepthSymbol.objects.filter(symbol__in=gone).delete()
    record(
        actor=actor,
        action="depth_collector.symbols_removed",
        subject="depth_collector",
        parameters={"symbols": gone},
    )
    bus.platform_changed("depth_collector")
    return gone
