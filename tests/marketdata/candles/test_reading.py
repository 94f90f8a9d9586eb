"""What backtests read: bars as they were stored, longer ones made where none are, gaps, and bars of live trading."""

from __future__ import annotations

import io
import threading
from decimal import Decimal

import numpy as np
import pytest
from django.db import connection

from marketdata.candles import selectors, services
from marketdata.candles.findings import ImportOptions, ImportRefused, Repair
from marketdata.candles.packing import Bars, PackError
from marketdata.candles.series import CandleSeries
from marketdata.candles.series_key import SeriesKey
from marketdata.candles.tables import PRICES, TIME, VOLUME, Block, TableForm
from marketdata.events import Candle
from marketdata.models import ArchiveImport, ArchiveMonth, Instrument
from marketdata.services import candles_store
from tests import builders
from tests.marketdata.candles.test_packing import market_bars

pytestmark = pytest.mark.django_db

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
# A day's begin, near the end of a month.
BEGIN = 1_706_659_200_000
FOREVER = 2**62


def store(bars: Bars, key: SeriesKey, *repairs: Repair) -> None:
    columns = dict(zip((TIME, *PRICES, VOLUME), bars.columns, strict=True))
    block = Block(np.arange(1, len(bars) + 1), columns, is_time_ms=True)
    services.blocks_import([block], key=key, options=ImportOptions(frozenset(repairs)), actor="test", source="made up")


def minutes(count: int, begin: int = BEGIN) -> Bars:
    made = market_bars(count)
    return Bars(begin + MINUTE * np.arange(count), *made.columns[1:])


def of(interval: str, start: int = 0, end: int = FOREVER, symbol: str = "BTCUSDT") -> CandleSeries:
    return selectors.candle_series("bybit", symbol, interval, start, end)


def test_a_span_over_the_end_of_a_month_is_one_piece() -> None:
    bars = minutes(3 * 1_440)
    store(bars, SeriesKey("bybit", "BTCUSDT", "1"))
    found = of("1", BEGIN + DAY - 5 * MINUTE, BEGIN + DAY + 5 * MINUTE)
    assert ((found.start_ms - BEGIN) // MINUTE).tolist() == list(range(1_435, 1_445))
    np.testing.assert_array_equal(found.close, bars.close[1_435:1_445])
    assert len(of("1")) == 3 * 1_440 and len(of("1", BEGIN + 9 * DAY)) == 0


def test_the_same_bars_have_the_same_digest_whatever_else_is_stored() -> None:
    store(minutes(600), SeriesKey("bybit", "BTCUSDT", "1"))
    span = BEGIN, BEGIN + 300 * MINUTE
    before = of("1", *span).digest()
    later = market_bars(60)
    with_decimals = Block(
        np.arange(1, 61),
        {
            TIME: BEGIN + (600 + np.arange(60)) * MINUTE,
            **{
                name: [f"{each}.125" for each in column]
                for name, column in zip(PRICES, later.columns[1:5], strict=True)
            },
            VOLUME: later.volume,
        },
        is_time_ms=True,
    )
    services.blocks_import(
        [with_decimals], key=SeriesKey("bybit", "BTCUSDT", "1"), options=ImportOptions(), actor="test", source=""
    )
    assert of("1").price_decimals == 3
    assert of("1", *span).digest() == before


def test_longer_bars_are_made_of_the_longest_that_fit_and_stored_ones_stay_as_they_are() -> None:
    bars = minutes(1_440)
    store(bars, SeriesKey("bybit", "BTCUSDT", "1"))
    own = Bars(*(np.array([value]) for value in (BEGIN + HOUR, 5, 9, 1, 7, 3)))
    store(own, SeriesKey("bybit", "BTCUSDT", "60"))
    hours = of("60")
    assert ((hours.start_ms - BEGIN) // HOUR).tolist() == list(range(24))
    assert (hours.open[1], hours.high[1], hours.volume[1]) == (5, 9, 3), "the venue's own word"
    assert hours.high[5] == bars.high[300:360].max() and hours.volume[5] == bars.volume[300:360].sum()
    assert len(of("D")) == 1 and len(of("240")) == 6 and len(of("1")) == 1_440


def test_incomplete_longer_bars_are_not_made() -> None:
    bars = minutes(300)
    kept = np.ones(300, dtype=np.bool_)
    kept[130] = False
    store(bars.rows(kept), SeriesKey("bybit", "BTCUSDT", "1"), Repair.ACCEPT_GAPS)
    assert ((of("60").start_ms - BEGIN) // HOUR).tolist() == [0, 1, 3, 4]
    assert ((of("60", BEGIN + HOUR, BEGIN + 3 * HOUR + 1).start_ms - BEGIN) // HOUR).tolist() == [1, 3]
    assert len(of("D")) == 0


def test_a_bar_is_asked_for_by_its_start_though_its_parts_lie_behind_the_end() -> None:
    store(minutes(180), SeriesKey("bybit", "BTCUSDT", "1"))
    assert (of("60", BEGIN + 1, BEGIN + HOUR + 1).start_ms - BEGIN).tolist() == [HOUR]


def test_gaps_are_found_within_months_and_between_them() -> None:
    key = SeriesKey("bybit", "BTCUSDT", "1")
    kept = np.ones(3 * 1_440, dtype=np.bool_)
    kept[100:103] = kept[1_430:1_450] = kept[4_000] = False
    store(minutes(3 * 1_440).rows(kept), key, Repair.ACCEPT_GAPS)
    found = selectors.coverage(key)
    assert found is not None
    assert [((gap.start_ms - BEGIN) // MINUTE, gap.missing) for gap in found.gaps] == [
        (100, 3),
        (1_430, 20),
        (4_000, 1),
    ]
    assert (found.bars, found.missing) == (3 * 1_440 - 24, 24)
    spans = selectors.missing_spans(key, BEGIN - HOUR, BEGIN + 3 * DAY + HOUR)
    lengths = [(last - first) // MINUTE for first, last in spans]
    assert lengths == [60, 3, 20, 1, 60]
    assert selectors.missing_spans(key, BEGIN, BEGIN + 50 * MINUTE) == []


def test_what_is_not_there_is_empty_and_what_cannot_be_is_refused() -> None:
    assert len(of("1", symbol="NOBODYUSDT")) == 0
    assert len(selectors.funding_series("bybit", "NOBODYUSDT", 0, FOREVER).rate) == 0
    assert selectors.coverage(SeriesKey("bybit", "NOBODYUSDT", "1")) is None
    with pytest.raises(ValueError, match="interval '7'"):
        of("7")


def live(symbol: str, number: int, interval: str = "1") -> Candle:
    price = Decimal("60000.5") + number
    values = (price, price + 2, price - 2, price + 1, Decimal("1.234"), Decimal(74_040))
    return Candle(symbol, interval, BEGIN + number * MINUTE, *values, True)


def test_bars_of_live_trading_are_taken_over_and_what_the_archive_has_stays() -> None:
    builders.list_instruments()
    ids = dict(Instrument.objects.values_list("symbol", "pk"))
    candles_store([live(symbol, n) for symbol in ("BTCUSDT", "ETHUSDT") for n in (*range(50), *range(60, 100))], ids)
    store(minutes(10), SeriesKey("bybit", "BTCUSDT", "1"))
    before = of("1").open[:10].tolist()
    reports = services.live_bars_archive(actor="test")
    assert [(report.series, report.stored) for report in reports] == [
        ("bybit linear BTCUSDT 1", 80),
        ("bybit linear ETHUSDT 1", 90),
    ]
    assert [gap.missing for gap in reports[0].gaps] == [10]
    eth = of("1", symbol="ETHUSDT")
    assert (eth.price(eth.open[3]), eth.price(eth.low[3]), int(eth.volume[3])) == (
        Decimal("60003.5"),
        Decimal("60001.5"),
        1_234,
    )
    btc = of("1")
    assert [int(btc.price(units)) for units in btc.open[:10]] == before
    again = services.live_bars_archive(symbols=["ETHUSDT"], intervals=["1"], actor="test")
    assert [(report.stored, report.unchanged) for report in again] == [(0, 90)]


def test_a_long_file_is_read_in_blocks_and_its_import_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketdata.candles.tables.BLOCK_ROWS", 100)
    bars = minutes(1_050)
    rows = (",".join(map(str, row)) for row in zip(*(column.tolist() for column in bars.columns), strict=True))
    content = "\n".join(["ts_ms,open,high,low,close,volume", *rows]).encode()
    report = services.file_import(
        io.BytesIO(content), key=SeriesKey("bybit", "BTCUSDT", "1"), form=TableForm(), options=ImportOptions(),
        actor="test", source="long",
    )  # fmt: skip
    assert (report.stored, ArchiveImport.objects.count()) == (1_050, 1)
    assert len(of("1")) == 1_050


def test_damage_is_told_with_its_line_and_month() -> None:
    key = SeriesKey("bybit", "BTCUSDT", "1")
    store(minutes(100), key)
    month = ArchiveMonth.objects.get()
    body = bytearray(month.body)
    body[-9] ^= 1
    ArchiveMonth.objects.update(body=bytes(body))
    with pytest.raises(PackError, match=r"bybit linear BTCUSDT 1, 2024-01: its checksum is wrong.*--replace"):
        of("1")
    with pytest.raises(ImportRefused, match="stored"):
        store(minutes(200), key)
    store(minutes(200), key, Repair.REPLACE)
    assert len(of("1")) == 200


@pytest.mark.django_db(transaction=True)
def test_two_who_import_into_one_line_at_once_both_do() -> None:
    key, bars = SeriesKey("bybit", "BTCUSDT", "1"), minutes(4_000)

    def bring(part: slice) -> None:
        try:
            store(bars.rows(part), key)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=bring, args=(slice(first, first + 1_500),)) for first in (0, 1_000, 2_000, 2_500)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = of("1")
    assert found.start_ms.tolist() == bars.start.tolist()
    np.testing.assert_array_equal(found.close, bars.close)
    assert ArchiveImport.objects.count() == 4
