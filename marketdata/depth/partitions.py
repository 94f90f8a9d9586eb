"""Days of the table of depth rows: PostgreSQL's own partitions, or TimescaleDB's chunks where that is installed.

Rows are never changed and never deleted but with their whole day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

TABLE = "marketdata_depthrow"
_NAME = re.compile(rf"{TABLE}_([0-9]{{8}})")
# One at a time makes or drops days.
LOCK_KEY = 0x6465707468
HYPERTABLE = """
SELECT EXISTS (
    SELECT FROM pg_extension WHERE extname = 'timescaledb'
) AND to_regclass('timescaledb_information.hypertables') IS NOT NULL
"""


class DayStorage(Protocol):
    """``cursor`` is that of an open transaction."""

    # Whether it makes old days smaller by itself.
    packs_by_itself: bool

    def make(self, cursor: Any, days: Iterable[date]) -> int:
        """Make room for rows of these days; how many were new."""

    def days(self, cursor: Any) -> list[date]:
        """The days that there is room for, the oldest first."""

    def drop(self, cursor: Any, day: date) -> None:
        """Forget a day's rows."""


class NativeDays:
    """A partition a day."""

    packs_by_itself = False

    def make(self, cursor: Any, days: Iterable[date]) -> int:
        missing = [day for day in sorted(set(days)) if not _exists(cursor, day)]
        if not missing:
            return 0
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
        made = 0
        for day in missing:
            if _exists(cursor, day):
                continue
            # Attached, not created in place: that would keep all readers and writers out meanwhile.
            cursor.execute(f"CREATE TABLE {name_of(day)} (LIKE {TABLE} INCLUDING ALL)")
            bounds = f"FROM ('{day} 00:00:00+00') TO ('{day + timedelta(days=1)} 00:00:00+00')"
            cursor.execute(f"ALTER TABLE {TABLE} ATTACH PARTITION {name_of(day)} FOR VALUES {bounds}")
            made += 1
        return made

    def days(self, cursor: Any) -> list[date]:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [TABLE])
        names = [_NAME.fullmatch(name.rpartition(".")[2]) for (name,) in cursor.fetchall()]
        return sorted(datetime.strptime(name[1], "%Y%m%d").replace(tzinfo=UTC).date() for name in names if name)

    def drop(self, cursor: Any, day: date) -> None:
        cursor.execute(f"DROP TABLE IF EXISTS {name_of(day)}")


class TimescaleChunks:
    """A chunk a day, made, compressed and dropped by TimescaleDB's own policies."""

    packs_by_itself = True

    def make(self, cursor: Any, days: Iterable[date]) -> int:
        return 0

    def days(self, cursor: Any) -> list[date]:
        cursor.execute(
            "SELECT range_start::date FROM timescaledb_information.chunks WHERE hypertable_name = %s ORDER BY 1",
            [TABLE],
        )
        return [day for (day,) in cursor.fetchall()]

    def drop(self, cursor: Any, day: date) -> None:
        cursor.execute(
            "SELECT drop_chunks(%s, older_than => %s::timestamptz, newer_than => %s::timestamptz)",
            [TABLE, day + timedelta(days=1), day],
        )


def name_of(day: date) -> str:
    return f"{TABLE}_{day:%Y%m%d}"


def storage_of(cursor: Any) -> DayStorage:
    """What keeps the days in this database."""
    cursor.execute(HYPERTABLE)
    (is_there,) = cursor.fetchone()
    if is_there:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_name = %s)", [TABLE]
        )
        (is_there,) = cursor.fetchone()
    return TimescaleChunks() if is_there else NativeDays()


def _exists(cursor: Any, day: date) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [name_of(day)])
    (exists,) = cursor.fetchone()
    return bool(exists)
