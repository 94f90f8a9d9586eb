"""Files on their way into the archive: what is wrong is told by row and refused; what an option repairs is told too."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.models import AuditEvent
from marketdata.candles import selectors, services
from marketdata.candles.findings import Finding, ImportOptions, ImportRefused, Kind, Repair, Report
from marketdata.candles.series_key import FUNDING, SeriesKey
from marketdata.candles.tables import TableForm
from marketdata.models import ArchiveImport, ArchiveMonth, ArchiveSeries

pytestmark = pytest.mark.django_db

HOUR = 3_600_000
# Midnight of 2026-01-30: a few bars of an hour lie in two months.
BEGIN = 1_769_731_200_000
KEY = SeriesKey("bybit", "BTCUSDT", "60")
HEADER = "ts_ms,open,high,low,close,volume"


def row(number: int, **changes: Any) -> str:
    values = {"at": BEGIN + number * HOUR, "o": 100 + number, "h": 103 + number, "l": 99, "c": 101 + number, "v": "2.5"}
    return ",".join(str(value) for value in (values | changes).values())


def text(*rows: str, header: str = HEADER) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def bring(body: bytes, *repairs: Repair, key: SeriesKey = KEY, form: TableForm | None = None, **options: Any) -> Report:
    chosen = ImportOptions(frozenset(repairs), **options)
    return services.file_import(
        io.BytesIO(body), key=key, form=form or TableForm(), options=chosen, actor="rita", source="a file"
    )


def refusal(body: bytes, *repairs: Repair, **options: Any) -> Report:
    with pytest.raises(ImportRefused) as refused:
        bring(body, *repairs, **options)
    assert not ArchiveMonth.objects.exists(), "something of a refused file was stored"
    return refused.value.report


def found(report: Report, kind: Kind) -> Finding:
    return next(finding for finding in report.findings if finding.kind is kind)


def starts(key: SeriesKey = KEY) -> list[int]:
    series = selectors.candle_series(key.venue, key.symbol, key.interval, 0, 2**62, market=key.market)
    return ((series.start_ms - BEGIN) // HOUR).tolist()


GOOD = [row(number) for number in range(60)]


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_a_good_file_is_stored_exactly_and_again_changes_nothing(wrap: Any) -> None:
    body = wrap(text(*GOOD))
    report = bring(body)
    assert (report.rows, report.stored, report.findings, report.gaps) == (60, 60, [], [])
    series = selectors.candle_series("bybit", "BTCUSDT", "60", BEGIN, BEGIN + 60 * HOUR)
    assert (len(series), series.price_decimals, series.volume_decimals) == (60, 0, 1)
    assert (series.open[7], series.high[7], series.low[7], series.close[7], series.volume[7]) == (107, 110, 99, 108, 25)
    digests = [bytes(each) for each in ArchiveMonth.objects.order_by("month").values_list("digest", flat=True)]
    assert len(digests) == 2, "a calendar month is a row"
    again = bring(body)
    assert (again.stored, again.replaced, again.unchanged) == (0, 0, 60)
    assert digests == [bytes(each) for each in ArchiveMonth.objects.order_by("month").values_list("digest", flat=True)]


def test_who_imported_what_is_kept_and_on_the_trail() -> None:
    bring(text(*GOOD))
    refused = text(row(0), row(0))
    with pytest.raises(ImportRefused):
        bring(refused)
    newest, first = ArchiveImport.objects.all()
    assert (first.actor, first.outcome, first.rows, first.bars, first.symbol) == ("rita", "stored", 60, 60, "BTCUSDT")
    assert (newest.outcome, newest.bars, newest.report["findings"][0]["kind"]) == ("refused", 0, "duplicate")
    trail = AuditEvent.objects.filter(action__startswith="candles.").order_by("pk").values_list("action", "actor")
    assert list(trail) == [("candles.import", "rita"), ("candles.import_refused", "rita")]


BAD_ROWS = [
    (Kind.NUMBER, row(5, o=""), "open is empty"),
    (Kind.NUMBER, row(5, c="nan"), "close is 'nan'"),
    (Kind.NUMBER, row(5, h="inf"), "high is 'inf'"),
    (Kind.NUMBER, row(5, v="1_000"), "volume is '1_000'"),
    (Kind.NUMBER, row(5, at="soon"), "time is 'soon'"),
    (Kind.NEGATIVE, row(5, l=-1), "low -1"),
    (Kind.NEGATIVE, row(5, l=0), "low 0"),
    (Kind.NEGATIVE, row(5, v="-2"), "volume -2"),
    (Kind.RANGE, row(5, h=98), "high is below low"),
    (Kind.OUTSIDE, row(5, o=900), "open or close lies outside"),
    (Kind.COLUMNS, row(5) + ",7", "has 7 columns; expected 6"),
    (Kind.COLUMNS, "", "is empty"),
]


@pytest.mark.parametrize(("kind", "bad", "problem"), BAD_ROWS)
def test_a_row_that_is_no_bar_is_told_and_left_out_only_where_that_is_asked(kind: Kind, bad: str, problem: str) -> None:
    body = text(*GOOD[:5], bad, *GOOD[6:])
    report = refusal(body)
    told = found(report, kind)
    assert len(report.findings) == 1, "one bad row is one problem"
    assert (told.count, told.rows[0][0]) == (1, 7) and problem in told.rows[0][1], "the header is row 1"
    report = bring(body, Repair.DROP_BAD_ROWS, Repair.ACCEPT_GAPS)
    assert (report.stored, found(report, kind).handled) == (59, "left out")
    assert [gap.missing for gap in report.gaps] == [1] and 5 not in starts()


def test_several_problems_of_several_rows_are_told_at_once() -> None:
    body = text(*GOOD[:5], row(5, o=""), row(6, h=98), *GOOD[8:], row(59))
    kinds = {finding.kind: finding.rows[0][0] for finding in refusal(body).findings}
    assert kinds == {Kind.NUMBER: 7, Kind.RANGE: 8, Kind.GAP: 9, Kind.DUPLICATE: 61}


def test_open_and_close_outside_of_high_and_low_can_be_reached_by_them() -> None:
    report = bring(text(*GOOD[:5], row(5, o=900, c=50), *GOOD[6:]), Repair.WIDEN)
    assert report.stored == 60 and found(report, Kind.OUTSIDE).handled
    series = selectors.candle_series("bybit", "BTCUSDT", "60", BEGIN, BEGIN + 60 * HOUR)
    assert (series.open[5], series.high[5], series.low[5], series.close[5]) == (900, 900, 50, 50)


def test_disorder_is_refused_or_sorted() -> None:
    body = text(*GOOD[:10], GOOD[11], GOOD[10], *GOOD[12:])
    assert found(refusal(body), Kind.DISORDER).rows[0][0] == 13
    assert bring(body, Repair.SORT).stored == 60
    assert starts() == list(range(60))


def test_a_file_with_the_newest_bar_first_is_called_that() -> None:
    told = found(refusal(text(*GOOD[::-1])), Kind.DISORDER)
    assert "newest first" in told.note
    bring(text(*GOOD[::-1]), Repair.SORT)
    assert starts() == list(range(60))


def test_the_same_bar_twice_is_a_duplicate_and_another_one_a_contradiction() -> None:
    body = text(*GOOD[:10], GOOD[9], row(9, v=9), *GOOD[10:])
    report = refusal(body)
    assert found(report, Kind.DUPLICATE).rows == [(12, "2026-01-30T09:00:00Z is also in row 11")]
    assert found(report, Kind.CONTRADICTION).rows == [(13, "2026-01-30T09:00:00Z has other values in row 11")]
    assert found(refusal(body, Repair.DROP_DUPLICATES), Kind.CONTRADICTION)
    bring(body, Repair.DROP_DUPLICATES, Repair.KEEP_LAST)
    assert selectors.candle_series("bybit", "BTCUSDT", "60", BEGIN, BEGIN + 60 * HOUR).volume[9] == 90
    with pytest.raises(ImportRefused) as refused:
        bring(body, Repair.DROP_DUPLICATES, Repair.KEEP_FIRST)
    assert found(refused.value.report, Kind.STORED).rows[0][0] == 11, "the archive has the last one now"


def test_gaps_are_refused_accepted_or_filled_with_flat_bars_over_the_end_of_a_month() -> None:
    body = text(*GOOD[:40], *GOOD[55:])
    told = found(refusal(body), Kind.GAP)
    assert told.rows == [(42, "before it 2026-01-31T16:00:00Z to 2026-02-01T07:00:00Z: 15 missing")]
    report = bring(body, Repair.ACCEPT_GAPS)
    assert (report.stored, [gap.missing for gap in report.gaps]) == (45, [15])
    filled = bring(body, Repair.FILL_GAPS)
    assert (filled.filled, filled.stored, filled.unchanged, filled.gaps) == (15, 15, 45, [])
    series = selectors.candle_series("bybit", "BTCUSDT", "60", BEGIN, BEGIN + 60 * HOUR)
    assert starts() == list(range(60))
    for number in range(40, 55):
        assert {int(series.open[number]), int(series.high[number]), int(series.low[number])} == {140}
        assert (series.close[number], series.volume[number]) == (140, 0)


@pytest.mark.parametrize(("hours", "named"), [(8, "8 h before"), (-5, "5 h after"), (5.5, "5.5 h before")])
def test_a_wrong_timezone_is_told_by_how_many_hours_it_is_off(hours: float, named: str) -> None:
    key = SeriesKey("bybit", "BTCUSDT", "D")
    body = text(*(row(24 * day, at=int(BEGIN + 24 * day * HOUR - hours * HOUR)) for day in range(9)))
    told = found(refusal(body, key=key), Kind.GRID)
    assert named in told.note and f"--shift-hours {hours:g}" in told.note and told.count == 9
    assert bring(body, key=key, shift_hours=Decimal(str(hours))).stored == 9
    assert starts(key) == [24 * day for day in range(9)]


def test_a_wrong_timezone_of_short_bars_is_told_from_what_is_stored() -> None:
    bring(text(*GOOD))
    shifted = text(*(row(number, at=BEGIN + (number + 3) * HOUR) for number in range(60)))
    with pytest.raises(ImportRefused) as refused:
        bring(shifted)
    told = found(refused.value.report, Kind.STORED)
    assert told.count == 57 and "--shift-hours -3" in told.note
    assert bring(shifted, shift_hours=Decimal(-3)).unchanged == 60


def test_bars_off_the_grid_are_told_by_row() -> None:
    told = found(refusal(text(*GOOD[:5], row(5, at=BEGIN + 5 * HOUR + 1_000), *GOOD[6:])), Kind.GRID)
    assert told.rows == [(7, "2026-01-30T05:00:01Z is no multiple of 60 minutes")]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1 / 1000), ("us", 1000), ("ns", 1_000_000)])
def test_times_in_another_unit_are_named_and_read_where_that_is_said(unit: str, factor: float) -> None:
    body = text(*(row(number, at=int((BEGIN + number * HOUR) * factor)) for number in range(60)))
    assert f"--time-unit {unit}" in found(refusal(body), Kind.TIME_UNIT).note
    bring(body, time_unit=unit)
    assert starts() == list(range(60))


def test_bars_that_are_not_over_are_refused_or_left_out() -> None:
    late = 2_524_608_000_000  # 2050
    body = text(*GOOD, row(60, at=late))
    assert found(refusal(body, Repair.ACCEPT_GAPS), Kind.UNFINISHED).rows[0][0] == 62
    assert bring(body, Repair.DROP_UNFINISHED).stored == 60


def test_a_long_run_without_volume_is_refused_or_accepted() -> None:
    body = text(*GOOD[:10], *(row(number, v=0) for number in range(10, 40)), *GOOD[40:])
    assert found(refusal(body, most_zero_bars=20), Kind.ZERO_VOLUME).rows == [(12, "30 bars without volume begin")]
    assert bring(body, Repair.ACCEPT_ZERO_VOLUME, most_zero_bars=20).stored == 60


def test_what_contradicts_the_archive_is_refused_replaced_or_left() -> None:
    bring(text(*GOOD))
    body = text(*GOOD[:10], row(10, c=102), *GOOD[11:])
    with pytest.raises(ImportRefused) as refused:
        bring(body)
    assert found(refused.value.report, Kind.STORED).rows == [(12, "2026-01-30T10:00:00Z is stored with other values")]
    close = lambda: int(selectors.candle_series("bybit", "BTCUSDT", "60", BEGIN, BEGIN + 60 * HOUR).close[10])  # noqa: E731
    assert bring(body, Repair.KEEP_STORED).unchanged == 60 and close() == 111
    assert bring(body, Repair.REPLACE).replaced == 1 and close() == 102


def test_later_files_go_on_where_earlier_ones_ended_whatever_their_decimals() -> None:
    bring(text(*GOOD[:20]))
    report = bring(text(*GOOD[15:20], *(row(number, c=f"{101 + number}.125") for number in range(20, 60))))
    assert (report.stored, report.unchanged, report.gaps) == (40, 5, [])
    series = selectors.candle_series("bybit", "BTCUSDT", "60", BEGIN, BEGIN + 60 * HOUR)
    assert (series.price_decimals, int(series.close[3]), int(series.close[30])) == (3, 104_000, 131_125)
    assert selectors.candle_series("bybit", "BTCUSDT", "60", BEGIN, BEGIN + 9 * HOUR).price_decimals == 0


BROKEN = [
    (gzip.compress(text(*GOOD))[:-9], "the gzip file is broken"),
    (gzip.compress(text(*GOOD))[:200], "the gzip file is broken"),
    (b"PAR1" + b"nothing" * 9, "the Parquet file is broken"),
    (b"PK\x03\x04zip", "ZIP archive"),
    (b"", "it is empty"),
    (text(), "it has no rows"),
    (b"a,b,c\n1,2,3\n", "it has no column ts_ms, open"),
    (b"x" * 50_000, "a line is longer"),
    (b"\xff\xfe\x00" * 40, "it has no column"),
    (text(*GOOD, '"1,2'), ""),
]


@pytest.mark.parametrize(("body", "problem"), BROKEN)
def test_broken_files_are_refused_with_what_is_wrong(body: bytes, problem: str) -> None:
    report = refusal(body)
    assert problem in found(report, Kind.FILE).rows[0][1]


def test_numbers_that_cannot_be_kept_are_refused_or_rounded() -> None:
    body = text(*GOOD[:5], row(5, c="104.0000000000000000001"), *GOOD[6:])
    assert found(refusal(body), Kind.PRECISION).rows[0][0] == 7
    assert bring(body, round_decimals=4).stored == 60
    wide = text(row(0, h="1000000000000000"), row(1, c="101.00000001"))
    assert found(refusal_of_other(wide), Kind.PRECISION)


def refusal_of_other(body: bytes) -> Report:
    with pytest.raises(ImportRefused) as refused:
        bring(body, key=SeriesKey("bybit", "ETHUSDT", "60"))
    return refused.value.report


def binance_rows(numbers: Sequence[int], factor: int = 1) -> list[str]:
    made = []
    for number in numbers:
        at, o, h, low, c, v = row(number).split(",")
        start = int(at)
        made.append(f"{start * factor},{o},{h},{low},{c},{v},{(start + HOUR) * factor - 1},250.0,12,1.0,100.0,0")
    return made


@pytest.mark.parametrize(
    "header", ["", "open_time,open,high,low,close,volume,close_time,quote_volume,count,a,b,ignore"]
)
@pytest.mark.parametrize("factor", [1, 1000])
def test_binances_files_are_read_with_and_without_a_header_and_in_microseconds(header: str, factor: int) -> None:
    body = "\n".join([*([header] if header else []), *binance_rows(range(60), factor)]).encode()
    assert bring(body, key=SeriesKey("binance", "BTCUSDT", "60", "spot"), time_unit="auto").stored == 60


def test_columns_of_any_name_and_calendar_times_are_read() -> None:
    rows = [
        f"2026-01-{30 + day} {hour:02}:00:00;{row(24 * day + hour).partition(',')[2].replace(',', ';')}"
        for day in range(2)
        for hour in range(24)
    ]
    form = TableForm(
        "columns", {"time": "When", "open": "O", "high": "H", "low": "L", "close": "C", "volume": "V"}, ";"
    )
    assert bring(text(*rows, header="When;O;H;L;C;V"), form=form).stored == 48
    assert starts() == list(range(48))


@pytest.mark.parametrize("time_type", [pa.int64(), pa.timestamp("ns", tz="UTC"), pa.timestamp("ms")])
@pytest.mark.parametrize("price_type", [pa.float64(), pa.decimal128(18, 4), pa.string()])
def test_parquet_files_are_read_exactly(time_type: Any, price_type: Any) -> None:
    times = pa.array([BEGIN + number * HOUR for number in range(60)])
    times = (
        times
        if pa.types.is_integer(time_type)
        else times.cast(pa.timestamp("ms")).cast(pa.timestamp("ms", tz=time_type.tz)).cast(time_type)
    )
    columns: dict[str, Any] = {"timestamp": times}
    for name, base in (("open", 100), ("high", 103), ("low", 99), ("close", 101), ("volume", 2)):
        exact = [Decimal(base) + Decimal(number) / 10 for number in range(60)]
        columns[name] = (
            pa.array(map(str, exact))
            if price_type == pa.string()
            else pa.array(list(map(float, exact)) if price_type == pa.float64() else exact, price_type)
        )
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    report = bring(file.getvalue())
    assert (report.stored, report.findings) == (60, [])
    series = selectors.candle_series("bybit", "BTCUSDT", "60", BEGIN, BEGIN + 60 * HOUR)
    assert series.price_decimals == 1 and np.array_equal(series.close, 1010 + np.arange(60))


def test_a_parquet_file_that_was_cut_off_is_refused() -> None:
    file = io.BytesIO()
    pq.write_table(
        pa.table({"ts_ms": [BEGIN], **{name: [1.0] for name in ("open", "high", "low", "close", "volume")}}), file
    )
    assert "Parquet file is broken" in found(refusal(file.getvalue()[:-20]), Kind.FILE).rows[0][1]


def test_funding_rates_are_kept_as_the_venue_wrote_them() -> None:
    key = SeriesKey("bybit", "WIFUSDT", FUNDING)
    times = [BEGIN + 7, BEGIN + 8 * HOUR + 3, BEGIN + 12 * HOUR, BEGIN + 16 * HOUR]
    rates = ["0.0001", "-4.989e-05", "0.00678927", "0"]
    body = text(*(f"{at},{rate}" for at, rate in zip(times, rates, strict=True)), header="ts_ms,rate")
    assert bring(body, key=key).stored == 4
    series = selectors.funding_series("bybit", "WIFUSDT", 0, 2**62)
    assert series.time_ms.tolist() == times and series.rate.tolist() == [float(rate) for rate in rates]
    hole = body + f"{BEGIN + 40 * HOUR},0.0001\n".encode()
    with pytest.raises(ImportRefused) as refused:
        bring(hole, key=key)
    assert found(refused.value.report, Kind.GAP).rows[0][0] == 6


def test_bars_of_mark_prices_need_no_volume() -> None:
    key = SeriesKey("bybit", "BTCUSDT", "60", "mark")
    body = text(*(each.rpartition(",")[0] for each in GOOD), header=HEADER.rpartition(",")[0])
    assert bring(body, key=key).stored == 60
    assert starts(key) == list(range(60)) and starts() == []
    assert ArchiveSeries.objects.count() == 1
