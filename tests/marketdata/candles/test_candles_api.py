"""The archive's API: what is there and what is missing, bars and files for users, imports for those who may."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from rest_framework.test import APIClient

from marketdata.candles import services
from marketdata.candles.findings import ImportOptions, Repair
from marketdata.candles.series_key import FUNDING, SeriesKey
from marketdata.candles.tables import TableForm
from marketdata.models import ArchiveImport, ArchiveMonth
from tests import builders

pytestmark = pytest.mark.django_db

MINUTE = 60_000
BEGIN = 1_769_731_200_000
HEADER = "ts_ms,open,high,low,close,volume"
LINE = "symbol=BTCUSDT&interval=1"


def body(numbers: range, step: int = MINUTE) -> bytes:
    rows = (f"{BEGIN + n * step},{100 + n}.5,{103 + n},99.25,{101 + n},2.{n}" for n in numbers)
    return "\n".join([HEADER, *rows]).encode()


def bring(content: bytes, key: SeriesKey, *repairs: Repair) -> None:
    services.file_import(
        io.BytesIO(content),
        key=key,
        form=TableForm(),
        options=ImportOptions(frozenset(repairs)),
        actor="test",
        source="",
    )


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def alice() -> APIClient:
    return signed_in(builders.user("alice"))


@pytest.fixture
def bob() -> APIClient:
    """May import, and nothing else."""
    return signed_in(builders.permit(builders.user("bob"), "import_candles"))


def signed_in(user: Any) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


@pytest.fixture
def stored() -> None:
    """Two hours of minutes without their minutes 60 to 69, and some funding."""
    key = SeriesKey("bybit", "BTCUSDT", "1")
    bring(body(range(60)), key)
    bring(body(range(70, 120)), key)
    funding = "\n".join(["ts_ms,rate", f"{BEGIN},0.0001", f"{BEGIN + 480 * MINUTE},-0.00005"])
    bring(funding.encode(), SeriesKey("bybit", "BTCUSDT", FUNDING))


def upload(client: APIClient, content: bytes, **fields: Any) -> Any:
    file = SimpleUploadedFile("btc.csv", content)
    return client.post("/api/v1/candles/import", {"file": file, "symbol": "BTCUSDT", "interval": "1", **fields})


def assert_refused(answer: Any, code: int = 400, field: str = "") -> str:
    assert answer.status_code == code, answer.content
    error = answer.json()["error"]
    assert error["message"] and error["request_id"] and len(answer.content) < 10_000
    rules = {each["field"]: each["rule"] for each in error["fields"]}
    assert not field or field in rules, rules
    return rules.get(field, "")


PATHS = ("series", "bars?symbol=BTCUSDT", "export?symbol=BTCUSDT", "funding?symbol=BTCUSDT", "imports")


def test_nothing_is_told_to_strangers_and_nothing_taken_from_them() -> None:
    for path in PATHS:
        assert Client().get(f"/api/v1/candles/{path}").status_code in (401, 403), path
    assert upload(APIClient(), body(range(60))).status_code in (401, 403)
    assert not ArchiveMonth.objects.exists()


def test_what_is_there_is_told_with_its_gaps(alice: APIClient, stored: None) -> None:
    first, second = alice.get("/api/v1/candles/series").json()["results"]
    assert (first["symbol"], first["interval"], first["bars"], first["missing"]) == ("BTCUSDT", "1", 110, 10)
    assert (first["first"], first["last"]) == ("2026-01-30T00:00:00Z", "2026-01-30T01:59:00Z")
    assert first["gaps"] == [{"from": "2026-01-30T01:00:00Z", "to": "2026-01-30T01:10:00Z", "missing": 10}]
    assert (second["interval"], second["bars"], second["gaps"]) == ("funding", 2, [])
    page = alice.get("/api/v1/candles/series?limit=1").json()
    assert page["results"] == [first] and alice.get(page["next"]).json() == {"results": [second], "next": None}
    assert alice.get("/api/v1/candles/series?interval=5").json()["results"] == []


def test_bars_come_in_pages_over_a_gap_exactly_as_they_were(alice: APIClient, stored: None) -> None:
    rows, address = [], f"/api/v1/candles/bars?{LINE}&limit=40"
    while address:
        answer = alice.get(address)
        assert answer.status_code == 200 and answer["X-Request-ID"]
        page = answer.json()
        assert len(page["results"]) <= 40
        rows, address = rows + page["results"], page["next"]
    assert [(row["start"] - BEGIN) // MINUTE for row in rows] == [*range(60), *range(70, 120)]
    assert rows[8] == {
        "start": BEGIN + 8 * MINUTE, "open": "108.5", "high": "111", "low": "99.25", "close": "109", "volume": "2.8"
    }  # fmt: skip


def test_longer_bars_are_made_of_what_is_complete(alice: APIClient, stored: None) -> None:
    found = alice.get("/api/v1/candles/bars?symbol=BTCUSDT&interval=15m").json()["results"]
    assert [(row["start"] - BEGIN) // MINUTE for row in found] == [0, 15, 30, 45, 75, 90, 105]
    assert (found[0]["open"], found[0]["high"], found[0]["close"]) == ("100.5", "117", "115")


def test_a_span_is_given_in_any_usual_way(alice: APIClient, stored: None) -> None:
    spans = (
        f"from={BEGIN + 5 * MINUTE}&to={BEGIN + 7 * MINUTE}",
        "from=2026-01-30T00:05:00Z&to=2026-01-30T01:07:00%2B01:00",
    )
    for span in spans:
        rows = alice.get(f"/api/v1/candles/bars?{LINE}&{span}").json()["results"]
        assert [row["start"] for row in rows] == [BEGIN + 5 * MINUTE, BEGIN + 6 * MINUTE], span


def test_funding_is_told_without_rounding(alice: APIClient, stored: None) -> None:
    page = alice.get("/api/v1/candles/funding?symbol=BTCUSDT&limit=1").json()
    assert page["results"] == [{"time": BEGIN, "rate": "0.0001"}]
    assert alice.get(page["next"]).json()["results"] == [{"time": BEGIN + 480 * MINUTE, "rate": "-0.00005"}]


def test_an_exported_file_is_imported_again_as_the_same_bars(alice: APIClient, bob: APIClient, stored: None) -> None:
    answer = alice.get(f"/api/v1/candles/export?{LINE}")
    assert 'filename="bybit-linear-BTCUSDT-1.csv"' in answer["Content-Disposition"]
    content = b"".join(_read(answer))
    assert content.count(b"\n") == 111
    report = upload(bob, content, repairs=["accept_gaps"])
    assert (report.status_code, report.json()["unchanged"], report.json()["stored"]) == (201, 110, 0)


def _read(answer: Any) -> list[bytes]:
    async def collected() -> list[bytes]:
        return [piece if isinstance(piece, bytes) else piece.encode() async for piece in answer]

    return async_to_sync(collected)()


def test_staff_and_who_may_import_do(alice: APIClient, bob: APIClient) -> None:
    assert_refused(upload(alice, body(range(60))), 403)
    assert_refused(alice.get("/api/v1/candles/imports"), 403)
    assert not ArchiveImport.objects.exists()
    assert upload(bob, body(range(60))).json()["stored"] == 60
    staff = signed_in(builders.user("sam", is_staff=True))
    assert upload(staff, gzip.compress(body(range(70)))).json()["stored"] == 10
    listed = bob.get("/api/v1/candles/imports").json()["results"]
    assert [(row["actor"], row["bars"], row["source"]) for row in listed] == [
        ("sam", 10, "btc.csv"),
        ("bob", 60, "btc.csv"),
    ]
    assert listed[0]["trace_id"]


def test_a_bad_file_is_refused_by_row_and_repaired_on_request(bob: APIClient) -> None:
    lines = body(range(60)).decode().splitlines()
    lines[5] = lines[5].replace("104.5", "nan")
    content = "\n".join([*lines, lines[-1]]).encode()
    answer = upload(bob, content)
    assert "nan" in assert_refused(answer, 400, "row 6")
    assert "--drop-duplicates" in assert_refused(answer, 400, "duplicate")
    assert not ArchiveMonth.objects.exists()
    repairs = ["drop_bad_rows", "drop_duplicates", "fill_gaps"]
    report = upload(bob, content, repairs=repairs).json()
    assert (report["stored"], report["filled"], report["gaps"]) == (60, 1, [])
    assert {each["kind"]: each["handled"] for each in report["findings"]} == {
        "number": "left out", "duplicate": "one kept", "gap": "filled with flat bars"
    }  # fmt: skip


def test_what_is_too_large_is_refused(bob: APIClient, settings: Any) -> None:
    settings.ARCHIVE_UPLOAD_ROWS = 50
    assert "more than 50 rows" in assert_refused(upload(bob, body(range(60))), 400, "file")
    settings.ARCHIVE_UPLOAD_MEGABYTES = 1
    assert_refused(upload(bob, b"x" * (2**20 + 1)), 413)
    assert_refused(upload(bob, b"x" * (3 * 2**20)), 413)


HOSTILE_QUERIES = [
    ("bars", "", "symbol"),
    ("bars", "symbol=btc", "symbol"),
    ("bars", "symbol=BTCUSDT&interval=7", "interval"),
    ("bars", "symbol=BTCUSDT&interval=funding", "interval"),
    ("bars", "symbol=BTCUSDT&market=moon", "market"),
    ("bars", "symbol=BTCUSDT&venue=../..", "venue"),
    ("bars", f"{LINE}&from=yesterday", "from"),
    ("bars", f"{LINE}&to=2026-01-30T00:00:00", "to"),
    ("bars", f"{LINE}&from=99999999999999", "from"),
    ("bars", f"{LINE}&from=1769731200000&to=5", "from"),
    ("bars", f"{LINE}&limit=0", "limit"),
    ("bars", f"{LINE}&limit=5001", "limit"),
    ("bars", f"{LINE}&limit=１２", "limit"),
    ("export", f"{LINE}&to=x", "to"),
    ("funding", "symbol=BTCUSDT&limit=-1", "limit"),
    ("series", "page=0", "page"),
    ("series", f"symbol={'x' * 500}", "symbol"),
    ("series", "limit=1000", "limit"),
]


@pytest.mark.parametrize(("path", "query", "field"), HOSTILE_QUERIES)
def test_hostile_parameters_are_refused_with_a_sentence(
    alice: APIClient, stored: None, path: str, query: str, field: str
) -> None:
    alice.raise_request_exception = False
    assert assert_refused(alice.get(f"/api/v1/candles/{path}?{query}"), 400, field)


def test_what_nobody_stored_is_not_found(alice: APIClient, stored: None) -> None:
    for path in ("bars?symbol=NOBODYUSDT", "export?symbol=NOBODYUSDT", "funding?symbol=NOBODYUSDT"):
        assert_refused(alice.get(f"/api/v1/candles/{path}"), 404)
    assert alice.get(f"/api/v1/candles/bars?{LINE}&from=2040-01-01T00:00:00Z").json()["results"] == []
    assert alice.get("/api/v1/candles/bars?symbol=BTCUSDT&interval=1d").json()["results"] == []
    assert alice.get(f"/api/v1/candles/bars?{LINE}&from=0&to=9999999999999").json()["results"]


HOSTILE_FIELDS = [
    {"symbol": "btc"}, {"symbol": ""}, {"symbol": "x" * 5_000}, {"interval": "7"}, {"interval": "１"},
    {"market": "moon"}, {"venue": "a/b"}, {"format": "xml"}, {"columns": "time"}, {"columns": "price=x"},
    {"time_unit": "h"}, {"shift_hours": "NaN"}, {"shift_hours": "1e9"}, {"round_decimals": "-1"}, {"repairs": "all"},
    {"most_zero_bars": "-1"}, {"symbol": "BTC\u0000"}, {"file": "no file"},
]  # fmt: skip


@pytest.mark.parametrize("fields", HOSTILE_FIELDS, ids=str)
def test_hostile_fields_of_an_upload_are_refused_with_a_sentence(bob: APIClient, fields: dict[str, Any]) -> None:
    bob.raise_request_exception = False
    assert_refused(upload(bob, body(range(60)), **fields), 400, next(iter(fields)))
    assert not ArchiveMonth.objects.exists()


def test_a_malformed_form_is_refused_as_json(bob: APIClient) -> None:
    bob.raise_request_exception = False
    form = "multipart/form-data; boundary=x"
    many = "".join(f'--x\r\nContent-Disposition: form-data; name="f{n}"\r\n\r\n1\r\n' for n in range(2_000))
    for content, content_type in (
        (b"nothing", form),
        (b"", form),
        (many.encode() + b"--x--", form),
        (b"{}", "text/csv"),
    ):
        answer = bob.generic("POST", "/api/v1/candles/import", content, content_type)
        assert 400 <= answer.status_code < 500 and answer["Content-Type"] == "application/json", answer.content
