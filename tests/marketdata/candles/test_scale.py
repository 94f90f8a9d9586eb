"""A year of minutes of fifty symbols: small enough to keep, and read in seconds. Prints its figures (-s)."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
from django.db import connection

from marketdata.candles import selectors
from marketdata.candles.packing import Bars
from marketdata.candles.series_key import SeriesKey
from marketdata.models import ArchiveMonth, ArchiveSeries
from tests.marketdata.candles.test_packing import market_bars
from tests.marketdata.candles.test_reading import store

pytestmark = [pytest.mark.django_db, pytest.mark.long]

MINUTE, MINUTES, SYMBOLS = 60_000, 525_600, 50
BEGIN = 1_704_067_200_000


def test_fifty_symbols_of_a_year_of_minutes_are_kept_in_hundreds_of_megabytes_and_read_in_seconds() -> None:
    made = market_bars(MINUTES)
    bars = Bars(BEGIN + MINUTE * np.arange(MINUTES), *made.columns[1:])
    began = time.perf_counter()
    store(bars, SeriesKey("bybit", "S0USDT", "1"))
    stored = time.perf_counter() - began
    first = ArchiveSeries.objects.get()
    for number in range(1, SYMBOLS):
        other = ArchiveSeries.objects.create(venue="bybit", market="linear", symbol=f"S{number}USDT", interval="1")
        columns = [
            column.column for column in ArchiveMonth._meta.concrete_fields if column.column not in ("pk", "series_id")
        ]
        names = ", ".join(columns)
        table = ArchiveMonth._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} (series_id, {names}) SELECT %s, {names} FROM {table} WHERE series_id = %s",
                [other.pk, first.pk],
            )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size('marketdata_archivemonth')")
        (size,) = cursor.fetchone()
    began, used = time.perf_counter(), time.process_time()
    loaded = [
        selectors.candle_series("bybit", f"S{number}USDT", "1", BEGIN, BEGIN + MINUTES * MINUTE)
        for number in range(SYMBOLS)
    ]
    took, used = time.perf_counter() - began, time.process_time() - used
    count = sum(map(len, loaded))
    sys.stdout.write(
        f"\n{count} bars: {size / 2**20:.0f} MB in PostgreSQL, {size / count:.2f} bytes a bar; loaded in {took:.1f} s "
        f"({used:.1f} s of the processor), one symbol stored in {stored:.1f} s\n"
    )
    assert count == SYMBOLS * MINUTES
    np.testing.assert_array_equal(loaded[-1].close, loaded[0].close)
    assert size / count < 10 and used < 30
