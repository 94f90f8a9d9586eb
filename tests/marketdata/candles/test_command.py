"""``manage.py candles_import``: what people type and what they read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.models import AuditEvent
from marketdata.candles import selectors
from marketdata.candles.findings import Repair
from marketdata.candles.series_key import SeriesKey
from marketdata.models import ArchiveMonth
from trading.management.commands.candles_import import Command

pytestmark = pytest.mark.django_db

BEGIN, QUARTER = 1_769_731_200_000, 900_000
KEY = SeriesKey("bybit", "BTCUSDT", "15")


def rows(*numbers: int) -> str:
    return "\n".join(
        ["ts_ms,open,high,low,close,volume", *(f"{BEGIN + n * QUARTER},100,{110 + n},90,105,3" for n in numbers)]
    )


def run(*arguments: Any) -> str:
    out = io.StringIO()
    call_command("candles_import", *map(str, arguments), stdout=out)
    return out.getvalue()


LINE = ("--symbol", "BTCUSDT", "--interval", "15m")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "btc.csv"
    path.write_text(rows(*range(20)))
    return path


def test_a_file_is_imported_and_told_in_a_line(file: Path) -> None:
    assert run(file, *LINE).splitlines() == [
        "bybit linear BTCUSDT 15: 20 rows of btc.csv: 20 stored, 0 replaced, 0 unchanged",
        "gaps: none",
    ]
    assert AuditEvent.objects.filter(action="candles.import", actor__startswith="command line:").exists()


def test_a_bad_file_ends_with_code_2_its_rows_and_what_to_do(file: Path) -> None:
    file.write_text(rows(0, 1, 1, 5))
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"refused: btc\.csv: duplicate, gap") as refused:
        call_command("candles_import", str(file), *LINE, stdout=out)
    assert refused.value.returncode == 2 and not ArchiveMonth.objects.exists()
    assert out.getvalue().splitlines() == [
        "bybit linear BTCUSDT 15: REFUSED, nothing of btc.csv is stored (4 rows read)",
        "duplicate: 1 (refused; --drop-duplicates keeps one of each)",
        "  row 4: 2026-01-30T00:15:00Z is also in row 3",
        "gap: 1 (refused; --accept-gaps stores what is there, --fill-gaps flat puts flat bars there)",
        "  row 5: before it 2026-01-30T00:30:00Z to 2026-01-30T01:15:00Z: 3 missing",
        "gaps: 1, 3 missing",
        "  2026-01-30T00:30:00Z to 2026-01-30T01:15:00Z: 3 missing",
    ]
    report = json.loads(run(file, *LINE, "--drop-duplicates", "--fill-gaps", "flat", "--json"))
    assert (report["stored"], report["filled"], report["gap_count"]) == (6, 3, 0)


def test_every_repair_has_its_option(file: Path) -> None:
    parser = Command().create_parser("manage.py", "candles_import")
    known = {option for action in parser._actions for option in action.option_strings}
    assert {f"--{repair.value.replace('_', '-')}" for repair in Repair} <= known
    assert run(file, *LINE, "--shift-hours", "-3.5", "--market", "spot", "--venue", "kraken")
    found = selectors.coverage(SeriesKey("kraken", "BTCUSDT", "15", "spot"))
    assert found is not None and found.first_ms == BEGIN - 3.5 * 3_600_000


def test_several_files_of_one_line_follow_each_other(file: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.csv"
    later.write_text(rows(*range(18, 40)).replace("ts_ms", "time").replace(",", ";"))
    run(file, *LINE)
    told = run(later, *LINE, "--columns", "time=time", "--delimiter", ";")
    assert "20 stored, 0 replaced, 2 unchanged" in told
    found = selectors.coverage(KEY)
    assert found is not None and (found.bars, found.gaps) == (40, [])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "name a file, or --download, or --live"),
        (("no-such-file.csv", *LINE), "no-such-file.csv cannot be read"),
        (("x.csv", "--symbol", "BTCUSDT"), "say what is in the file"),
        (("x.csv", "--symbol", "BTCUSDT", "--interval", "7"), "interval '7'; expected one of"),
        (("x.csv", "--symbol", "btc", "--interval", "1"), "symbol 'btc'; expected capital letters"),
        (("x.csv", *LINE, "--columns", "price=x"), "expected time=NAME"),
        (("x.csv", *LINE, "--shift-hours", "nan"), "no number of hours"),
        (("--download", *LINE), "say what to fetch"),
        (("--download", *LINE, "--from", "yesterday"), "is no time: ISO 8601"),
        (("--download", "--live"), "not allowed with"),
        (("--live",), "no engine stored bars"),
    ],
)
def test_what_is_typed_wrongly_is_told(arguments: tuple[str, ...], problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        run(*arguments)
