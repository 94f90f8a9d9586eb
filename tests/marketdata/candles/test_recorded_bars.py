"""Everything that was recorded goes into the archive without an error, and comes out as it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from marketdata.candles import services
from marketdata.candles.findings import ImportOptions, Repair
from marketdata.candles.series_key import FUNDING, SeriesKey, interval_named
from marketdata.candles.tables import TableForm
from tests import recordings

pytestmark = [pytest.mark.django_db, pytest.mark.recording]

NAME = re.compile(r"([A-Z]+)_(?:(linear|spot)_)?(?:(mark)_)?(funding|[0-9]+[mhd])(?:_[0-9-]+)?\.csv\.gz")
FOLDERS = {"candles-bybit": "bybit", "candles-bybit-5m": "bybit", "candles-binance-usdm": "binance"}


def key_of(path: Path, venue: str) -> SeriesKey:
    found = NAME.fullmatch(path.name)
    assert found is not None, path
    symbol, market, mark, what = found.groups()
    interval = FUNDING if what == FUNDING else interval_named(what)
    return SeriesKey(venue, symbol, interval, mark or market or "linear")


def bring(path: Path, key: SeriesKey, *repairs: Repair, form: TableForm | None = None):  # type: ignore[no-untyped-def]
    with path.open("rb") as file:
        options = ImportOptions(frozenset(repairs))
        return services.file_import(
            file, key=key, form=form or TableForm(), options=options, actor="test", source=path.name
        )


def recorded(folder: str) -> list[Path]:
    found = sorted((recordings.FOLDER / folder).glob("*.csv.gz"))
    if not found:
        pytest.skip(f"needs {folder} under {recordings.FOLDER} (set MARKET_DATA_DIR)")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_all_recorded_bars_are_stored_without_a_hole(folder: str) -> None:
    for path in recorded(folder):
        key = key_of(path, FOLDERS[folder])
        report = bring(path, key)
        assert (report.findings, report.gaps) == ([], []), path
        assert report.stored == report.rows > 0, path
        again = bring(path, key)
        assert (again.stored, again.replaced, again.unchanged) == (0, 0, report.rows), path
