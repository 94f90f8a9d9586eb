"""Everything that was recorded goes into the archive without an error, and comes out as it was."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marketdata.candles import selectors, services
from marketdata.candles.findings import ImportOptions, ImportRefused, Kind, Repair, Report
from marketdata.candles.series_key import FUNDING, SeriesKey, interval_named
from marketdata.candles.tables import TableForm
from tests import recordings

pytestmark = [pytest.mark.django_db, pytest.mark.recording]

FOREVER = 2**62
NAME = re.compile(r"([A-Z]+)_(?:(linear|spot)_)?(?:(mark)_)?(funding|[0-9]+[mhd])(?:_[0-9-]+)?\.csv\.gz")
FOLDERS = {
    "candles-bybit": "bybit",
    "candles-bybit-5m": "bybit",
    "candles-binance-usdm": "binance",
    "trades-binance": "binance",
}


def key_of(path: Path, venue: str) -> SeriesKey:
    found = NAME.fullmatch(path.name)
    assert found is not None, path
    symbol, market, mark, what = found.groups()
    interval = FUNDING if what == FUNDING else interval_named(what)
    return SeriesKey(venue, symbol, interval, mark or market or "linear")


def bring(path: Path, key: SeriesKey, *repairs: Repair, form: TableForm | None = None, **options: Any) -> Report:
    with path.open("rb") as file:
        chosen = ImportOptions(frozenset(repairs), **options)
        return services.file_import(
            file, key=key, form=form or TableForm(), options=chosen, actor="test", source=path.name
        )


def recorded(folder: str) -> list[Path]:
    found = sorted(path for path in (recordings.FOLDER / folder).glob("*.csv.gz") if NAME.fullmatch(path.name))
    if not found:
        pytest.skip(f"needs {folder} under {recordings.FOLDER} (set MARKET_DATA_DIR)")
    return found


def assert_stored_whole(path: Path, key: SeriesKey) -> None:
    report = bring(path, key)
    assert (report.findings, report.gaps) == ([], []), path
    assert report.stored == report.rows > 0, path


@pytest.mark.long
@pytest.mark.parametrize("folder", FOLDERS)
def test_all_recorded_bars_are_stored_without_a_hole(folder: str) -> None:
    for path in recorded(folder):
        assert_stored_whole(path, key_of(path, FOLDERS[folder]))


@pytest.mark.long
@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "WIFUSDT"])
def test_every_longer_bar_that_is_made_is_the_venues_own(symbol: str) -> None:
    assert_made_as_recorded(symbol, "1h", "4h", "1d")


def test_recorded_bars_of_two_months_and_more_are_stored_and_read_as_they_are() -> None:
    path = recordings.recording("candles-bybit", "BTCUSDT_5m.csv.gz")
    key = key_of(path, "bybit")
    assert_stored_whole(path, key)
    again = bring(path, key)
    assert (again.stored, again.replaced, again.unchanged) == (0, 0, again.rows)
    series = selectors.candle_series("bybit", "BTCUSDT", "5", 0, FOREVER)
    recorded_rows = np.loadtxt(path, delimiter=",", skiprows=1)
    np.testing.assert_array_equal(series.start_ms, recorded_rows[:, 0])
    for column, place in ((series.open, 1), (series.high, 2), (series.low, 3), (series.close, 4)):
        np.testing.assert_array_equal(series.prices(column), recorded_rows[:, place])
    np.testing.assert_array_equal(series.volumes(), recorded_rows[:, 5])


def test_hours_and_days_that_are_made_of_quarters_are_the_venues_own() -> None:
    assert_made_as_recorded("WIFUSDT", "1h", "1d")


def assert_made_as_recorded(symbol: str, *intervals: str) -> None:
    """The venue's own are stored under another name: what is stored is never made."""
    bring(recordings.recording("candles-bybit", f"{symbol}_15m.csv.gz"), SeriesKey("bybit", symbol, "15"))
    for name in intervals:
        interval = interval_named(name)
        bring(recordings.recording("candles-bybit", f"{symbol}_{name}.csv.gz"), SeriesKey("own", symbol, interval))
        made = selectors.candle_series("bybit", symbol, interval, 0, FOREVER)
        own = selectors.candle_series("own", symbol, interval, int(made.start_ms[0]), FOREVER)
        assert len(made) == len(own) > 500
        assert own.digest() == replace(made, venue="own").digest(), f"{symbol} {name}"


def test_an_exchange_that_leaves_out_minutes_without_trades_is_told_by_its_gaps() -> None:
    path = recordings.recording("trades-binance", "XRPETH_binance_1m.csv.gz")
    key = SeriesKey("binance", "XRPETH", "1", "spot")
    with pytest.raises(ImportRefused) as refused:
        bring(path, key)
    assert [finding.kind for finding in refused.value.report.findings] == [Kind.GAP]
    missing = sum(gap.missing for gap in refused.value.report.gaps)
    assert missing == (1_570_965_540_000 - 1_570_752_000_000) // 60_000 + 1 - 2_469
    assert bring(path, key, Repair.ACCEPT_GAPS).stored == 2_469
    filled = bring(path, key, Repair.FILL_GAPS)
    assert (filled.filled, filled.gaps) == (missing, [])


@pytest.mark.long
def test_a_table_of_another_tool_is_read_by_its_columns() -> None:
    path = recordings.recording("candles-nautilus", "btc-perp-20211231-20220201_1m.csv.gz")
    key, form = SeriesKey("ftx", "BTC-PERP", "1"), TableForm(columns={"time": "timestamp"})
    with pytest.raises(ImportRefused) as refused:
        bring(path, key, form=form)
    (finding,) = refused.value.report.findings
    assert finding.kind is Kind.PRECISION and finding.rows[0][0] == 249, (
        "380591.00179999997 is a float that was added up"
    )
    report = bring(path, key, form=form, round_decimals=6)
    assert (report.stored, report.gaps, report.findings) == (45_031, [], [])


def test_funding_that_goes_over_from_eight_hours_to_four_has_no_gap() -> None:
    path = recordings.recording("candles-bybit", "WIFUSDT_funding.csv.gz")
    assert_stored_whole(path, SeriesKey("bybit", "WIFUSDT", FUNDING))
    series = selectors.funding_series("bybit", "WIFUSDT", 0, FOREVER)
    assert set(np.diff(series.time_ms) // 3_600_000) == {4, 8} and series.rate[1] == 0.00678927
