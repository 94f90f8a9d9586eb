"""The depth API: shapes as specified, hostile parameters refused with a sentence, market data for users, control for
staff."""

from __future__ import annotations

import calendar
import csv
import io
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from audit.models import AuditEvent
from audit.valkey import connect
from marketdata.api.depth import export
from marketdata.api.depth.answers import groups_now
from marketdata.depth import selectors, services
from marketdata.depth.current import current_book
from marketdata.depth.hot import HotDepth
from marketdata.depth.snapshots import DEPTHS, HOUR, MINUTE, DepthSnapshot, Market, minute_of
from tests import builders
from tests.marketdata.depth.volumes import volume, walk

pytestmark = pytest.mark.django_db

CHART = "/api/v1/chart-data?symbol=BTCUSDT"
LADDER = ([["100.0", "1"], ["99.5", "2"]], [["100.5", "3"]])


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    hot = selectors.hot()
    hot.reads()  # what is not counted yet is counted, and forgotten with the rest
    hot._redis.flushdb()
    cache.clear()
    yield
    hot._redis.flushdb()


@pytest.fixture
def alice() -> APIClient:
    client = APIClient()
    client.force_authenticate(builders.user("alice"))
    return client


@pytest.fixture
def staff() -> APIClient:
    client = APIClient()
    client.force_authenticate(builders.user("sam", is_staff=True))
    return client


@pytest.fixture
def minutes() -> list[DepthSnapshot]:
    """Three hours until now."""
    services.collector_symbols_add(symbols=["BTCUSDT", "ETHUSDT"], source="rest", actor="test")
    now = minute_of(time.time())
    rows = walk(range(now - 3 * HOUR, now + 1, MINUTE))
    services.depth_rows_store(rows)
    services.depth_aggregates_refresh()
    return rows


def tell(market: Market, symbol: str = "BTCUSDT", bid: str = "10", age: float = 0) -> None:
    volumes = [volume(depth, bid) for depth in DEPTHS]
    moment = int((time.time() - age) * 1000)
    book = current_book(market, symbol, LADDER, volumes, time_ms=moment, status="CONNECTED")
    selectors.hot().latest_put({(market, symbol): book})


def test_nothing_is_told_to_strangers() -> None:
    for path in (
        "binance/spot?symbol=BTCUSDT",
        "chart-data?symbol=BTCUSDT",
        "collector",
        "snapshots",
        "analytics/stats",
    ):
        assert Client().get(f"/api/v1/{path}").status_code in (401, 403), path


def test_the_book_now_has_the_specified_shape(alice: APIClient, minutes: list[DepthSnapshot]) -> None:
    assert alice.get("/api/v1/binance/spot?symbol=BTCUSDT").status_code == 503
    tell(Market.SPOT)
    answer = alice.get("/api/v1/binance/spot?symbol=BTCUSDT")
    body = answer.json()
    assert (body["type"], body["midPrice"], body["spread"], body["bestBid"]) == ("spot", "100.25", "0.5", "100.0")
    assert [row["depth"] for row in body["depthVolumes"]] == ["1.5", "3", "5", "8", "15", "30"]
    assert body["diffs"][2] == {"depth": "5", "diff": "2", "percentage": "11.111111"}
    assert body["bids"] == LADDER[0] and body["wsStatus"] == "CONNECTED"
    assert answer["X-Request-ID"] and int(answer["X-RateLimit-Remaining"]) < int(answer["X-RateLimit-Limit"])
    assert alice.get("/api/v1/binance/futures?symbol=BTCUSDT").status_code == 503
    tell(Market.SPOT, age=600)
    assert alice.get("/api/v1/binance/spot?symbol=BTCUSDT").json()["wsStatus"] == "STALE"


def test_what_a_client_has_already_is_not_sent_again(alice: APIClient, minutes: list[DepthSnapshot]) -> None:
    tell(Market.SPOT)
    for address in (
        "/api/v1/binance/spot?symbol=BTCUSDT",
        f"{CHART}&from={minutes[-60].minute}&to={minutes[-9].minute}",
    ):
        first = alice.get(address)
        again = alice.get(address, headers={"If-None-Match": f'"other", W/{first["ETag"]}'})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
        assert again["X-Request-ID"] and again["X-RateLimit-Remaining"]
    known = first["ETag"]
    assert alice.get(f"{CHART}&from={minutes[0].minute}", headers={"If-None-Match": known}).status_code == 200


def test_a_chart_of_older_minutes_is_kept_for_a_while(alice: APIClient, minutes: list[DepthSnapshot]) -> None:
    old = minutes[:30]
    address = f"{CHART}&type=ask&from={old[0].minute}&to={old[-1].minute + 59}"
    expected = [{"time": row.minute, "value": float(row.volume.ask_volume)} for row in old]
    assert alice.get(address).json() == expected
    with CaptureQueriesContext(connection) as asked:
        assert alice.get(f"{CHART}&type=ask&from={old[0].minute}&to={old[-1].minute}").json() == expected
    assert not any("depthrow" in each["sql"] for each in asked)
    assert alice.get(f"{CHART}&type=bid&from={old[0].minute}&to={old[-1].minute}").json() != expected
    assert selectors.hot().reads() == {"hits": 1, "misses": 2}


def test_charts_go_on_without_valkey(
    alice: APIClient, minutes: list[DepthSnapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = connect("redis://127.0.0.1:1")
    monkeypatch.setattr("marketdata.api.rate_limit.valkey", lambda: away)
    monkeypatch.setattr("marketdata.api.depth.charts.valkey", lambda: away)
    monkeypatch.setattr(selectors, "hot", lambda: HotDepth(away, "away"))
    for first in (minutes[0], minutes[-60]):
        points = alice.get(f"{CHART}&from={first.minute}&to={minutes[-1].minute}").json()
        assert [each["time"] for each in points] == list(range(first.minute, minutes[-1].minute + 1, MINUTE))
    assert alice.get("/api/v1/binance/spot?symbol=BTCUSDT").status_code == 503
    assert alice.get("/api/v1/binance/spot?symbol=NOSUCHUSDT").status_code == 404


def test_a_revoked_token_reads_for_a_second_at_most_and_changes_nothing_at_all(
    minutes: list[DepthSnapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("marketdata.api.brief_tokens.time", SimpleNamespace(monotonic=lambda: now))
    tell(Market.SPOT)
    robot, bob = builders.user("robot", is_staff=True), builders.user("bob")
    client, other = APIClient(), APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.create(user=robot).key}")
    other.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.create(user=bob).key}")
    address = "/api/v1/binance/spot?symbol=BTCUSDT"
    assert client.get(address).status_code == other.get(address).status_code == 200
    now += 0.9
    with CaptureQueriesContext(connection) as asked:
        assert client.get(address).status_code == 200
    assert not asked.captured_queries
    robot.auth_token.delete()
    assert client.post("/api/v1/collector").json()["error"]["message"] == "Invalid token."
    assert client.get(address).status_code == 200
    now += 0.1
    assert client.get(address).status_code == 403
    assert other.get(address).status_code == 200


def test_one_depth_of_both_markets_and_their_difference(alice: APIClient, minutes: list[DepthSnapshot]) -> None:
    tell(Market.SPOT, bid="10")
    tell(Market.FUTURES, bid="15")
    body = alice.get("/api/v1/binance/depth?symbol=BTCUSDT&depth=1.5&type=all").json()
    assert [(row["type"], row["bid"], row["totalBidValue"]) for row in body["markets"]] == [
        ("spot", "10", "1000"),
        ("futures", "15", "1500"),
    ]
    assert body["futuresOverSpotPercent"] == {"bid": "50.000000", "ask": "0.000000"}
    one = alice.get("/api/v1/binance/depth?symbol=BTCUSDT&type=futures").json()
    assert [row["type"] for row in one["markets"]] == ["futures"] and one["depth"] == "5"


def test_charts_get_points_and_valkey_is_asked_first(alice: APIClient, minutes: list[DepthSnapshot]) -> None:
    expected = [{"time": row.minute, "value": float(row.volume.bid_volume)} for row in minutes[-60:]]
    address = f"/api/v1/chart-data?symbol=BTCUSDT&depth=5&type=bid&from={minutes[-60].minute}&to={minutes[-1].minute}"
    for _ in range(3):
        assert alice.get(address).json() == expected
    assert selectors.hot().reads() == {"hits": 2, "misses": 1}
    assert 59 <= len(alice.get("/api/v1/chart-data?symbol=BTCUSDT").json()) <= 61  # the last hour, of both sides


def test_a_hole_in_valkey_is_filled_from_postgresql(alice: APIClient, minutes: list[DepthSnapshot]) -> None:
    address = f"/api/v1/chart-data?symbol=BTCUSDT&type=ask&from={minutes[-60].minute}&to={minutes[-1].minute}"
    whole = alice.get(address).json()
    key = next(iter(selectors.hot()._redis.scan_iter("*:recent")))
    assert key.endswith(b":snapshot:BTCUSDT:SPOT:5:recent")
    selectors.hot()._redis.zremrangebyrank(key, 20, 25)
    assert alice.get(address).json() == whole and selectors.hot().reads()["misses"] == 2


def test_history_is_paged_without_loss(alice: APIClient, minutes: list[DepthSnapshot]) -> None:
    address: str | None = f"/api/v1/snapshots?symbol=BTCUSDT&depth=5&limit=50&from={minutes[0].minute}"
    found: list[dict[str, Any]] = []
    while address is not None:
        page = alice.get(address).json()
        found += page["results"]
        address = page["next"]
    assert [Decimal(row["bidVolume"]) for row in found] == [row.volume.bid_volume for row in minutes]
    assert len(found) == 181


async def test_an_export_is_streamed_and_equals_the_history() -> None:
    days = [[(row.minute, row.volume) for row in walk(range(MINUTE, 5 * MINUTE, MINUTE))], [], [(HOUR, volume())]]
    text = "".join([piece async for piece in export.streamed(export.csv_lines(iter(days)))])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["bidVolume"] for row in rows][-1] == "10" and len(rows) == 5
    text = "".join([piece async for piece in export.streamed(export.json_lines(iter(days)))])
    assert [row["askVolumeUsd"] for row in json.loads(text)][-1] == "800"
    assert json.loads("".join(export.json_lines(iter([])))) == []


def test_an_export_is_a_file(alice: APIClient, minutes: list[DepthSnapshot]) -> None:
    answer = alice.get("/api/v1/snapshots/export?symbol=BTCUSDT&as=csv")
    assert answer["Content-Disposition"] == 'attachment; filename="BTCUSDT-SPOT-5.csv"' and answer.streaming


def test_aggregates_and_stats(alice: APIClient, minutes: list[DepthSnapshot]) -> None:
    body = alice.get("/api/v1/analytics/history?symbol=BTCUSDT&interval=1h").json()
    assert sum(row["count"] for row in body["results"]) == 181
    whole = body["results"][1]
    hour = calendar.timegm(time.strptime(whole["start"], "%Y-%m-%dT%H:%M:%SZ"))
    inside = [row.volume.bid_volume for row in minutes if hour <= row.minute < hour + HOUR]
    assert float(whole["bidVolume"]["avg"]) == pytest.approx(float(sum(inside) / len(inside)))
    assert whole["bidVolume"]["max"] == f"{max(inside):f}" and len(inside) == 60
    stats = alice.get("/api/v1/analytics/stats?symbol=BTCUSDT&marketType=SPOT").json()
    assert stats["totalSnapshots"] == 181 and stats["dataAvailableDays"] in (1, 2)
    assert alice.get("/api/v1/analytics/stats?symbol=ETHUSDT").json()["oldest"] is None


def test_groups_and_correlations(alice: APIClient, minutes: list[DepthSnapshot]) -> None:
    tell(Market.SPOT, "BTCUSDT", "100")
    tell(Market.SPOT, "ETHUSDT", "50")
    tell(Market.SPOT, "XRPUSDT", "7")
    groups = {row["name"]: row for row in alice.get("/api/v1/analytics/groups").json()["groups"]}
    assert [groups[name]["bidUsd"] for name in ("TOTAL", "TOTAL1", "TOTAL2")] == ["15700", "5700", "700"]
    history = alice.get("/api/v1/analytics/groups/history").json()
    assert len(history) >= 59 and history[-1]["groups"][0]["symbols"] == 1
    found = alice.get("/api/v1/analytics/correlation?symbols=BTCUSDT,ETHUSDT&window=30").json()
    assert found["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert found["windows"][0]["matrix"] == [[1.0, None], [None, None]]


@pytest.mark.parametrize(
    "body", [b"\xff{", b"null", b"[]", b"{}", b'{"timestamp": "now"}', b'{"timestamp": 9e12, "depthVolumes": []}',
             b'{"timestamp": 9e12, "depthVolumes": [{"depth": "5", "bidVolume": "?"}]}'],
)  # fmt: skip
def test_a_book_that_cannot_be_read_is_left_out_of_the_groups_and_named(alice: APIClient, body: bytes) -> None:
    tell(Market.SPOT, "BTCUSDT", "100")
    tell(Market.SPOT, "ETHUSDT", "50")
    hot = selectors.hot()
    hot._redis.hset(hot._latest(Market.SPOT), "XRPUSDT", body)
    found = groups_now(Market.SPOT, DEPTHS)
    assert found.keys() == set(DEPTHS)
    assert {each["unreadable"][0] for each in found.values()} == {"XRPUSDT"}
    answer = alice.get("/api/v1/analytics/groups").json()
    assert answer["unreadable"] == ["XRPUSDT"]
    groups = {row["name"]: (row["bidUsd"], row["symbols"]) for row in answer["groups"]}
    assert (groups["TOTAL"], groups["TOTAL1"]) == (("15000", 2), ("5000", 1))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("binance/spot", 400),
        ("binance/spot?symbol=btcusdt", 400),
        ("binance/spot?symbol=BTC", 400),
        ("binance/spot?symbol=BTCUSDT%0A", 400),
        ("binance/spot?symbol=BTCUSDT%00", 400),
        ("binance/spot?symbol=';DROP TABLE x", 400),
        ("binance/spot?symbol=NOSUCHUSDT", 404),
        ("binance/depth?symbol=BTCUSDT&depth=4", 400),
        ("binance/depth?symbol=BTCUSDT&depth=5.0", 400),
        ("binance/depth?symbol=BTCUSDT&type=both", 400),
        ("chart-data?symbol=BTCUSDT&marketType=spot", 400),
        ("chart-data?symbol=BTCUSDT&from=yesterday", 400),
        ("chart-data?symbol=BTCUSDT&from=2026-01-01T00:00:00", 400),
        ("chart-data?symbol=BTCUSDT&from=0001-01-01T00:00:00%2B23:00", 400),
        ("chart-data?symbol=BTCUSDT&from=1000000000&to=1900000000", 400),
        ("chart-data?symbol=BTCUSDT&from=1900000000&to=1000000000", 400),
        ("chart-data?symbol=BTCUSDT&type=mid", 400),
        ("snapshots?symbol=BTCUSDT&limit=0", 400),
        ("snapshots?symbol=BTCUSDT&limit=5001", 400),
        ("snapshots/export?symbol=BTCUSDT&as=xml", 400),
        ("analytics/history?symbol=BTCUSDT&interval=5m", 400),
        ("analytics/stats?symbol=NOSUCHUSDT", 404),
        ("analytics/correlation?symbols=BTCUSDT", 400),
        ("analytics/correlation?symbols=BTCUSDT,NOSUCHUSDT", 404),
        ("analytics/correlation?symbols=BTCUSDT,ETHUSDT&window=2", 400),
    ],
)
def test_hostile_parameters_are_refused_with_a_sentence(alice: APIClient, path: str, status: int) -> None:
    services.collector_symbols_add(symbols=["BTCUSDT", "ETHUSDT"], source="rest", actor="test")
    answer = alice.get(f"/api/v1/{path}")
    assert answer.status_code == status, answer.content
    error = answer.json()["error"]
    assert error["message"] and error["request_id"] == answer["X-Request-ID"]
    if status == 400 and error["fields"]:
        assert all(field["rule"] for field in error["fields"])


def row(**changes: Any) -> dict[str, Any]:
    minute = time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime())
    volumes = {"bidVolume": "1.5", "askVolume": "2", "bidVolumeUsd": "150", "askVolumeUsd": "200"}
    return {"symbol": "BTCUSDT", "marketType": "SPOT", "depth": "5", "timestamp": minute, **volumes, **changes}


def test_minutes_from_elsewhere_are_taken_once_and_from_staff_alone(staff: APIClient, alice: APIClient) -> None:
    body = {"snapshots": [row(), row(depth="30")]}
    assert alice.post("/api/v1/snapshots", body, format="json").status_code == 403
    assert staff.post("/api/v1/snapshots", body, format="json").json() == {"received": 2, "stored": 2}
    assert staff.post("/api/v1/snapshots", body, format="json").json() == {"received": 2, "stored": 0}
    assert alice.get("/api/v1/chart-data?symbol=BTCUSDT&type=bid").json()[0]["value"] == 1.5


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": 4},
        {"symbol": "btc"},
        {"bidVolume": "-1"},
        {"bidVolume": "NaN"},
        {"askVolumeUsd": "1e99"},
        {"timestamp": "2026-01-01T00:00:30Z"},
        {"timestamp": "1960-01-01T00:00:00Z"},
        {"marketType": "COIN"},
    ],
)
def test_impossible_minutes_are_refused(staff: APIClient, changes: dict[str, Any]) -> None:
    answer = staff.post("/api/v1/snapshots", {"snapshots": [row(**changes)]}, format="json")
    assert answer.status_code == 400, answer.content
    too_many = {"snapshots": [row()] * 1_001}
    assert staff.post("/api/v1/snapshots", too_many, format="json").status_code == 400
    assert staff.post("/api/v1/snapshots", [1], format="json").status_code == 400


def test_staff_start_stop_and_choose_and_it_is_on_the_trail(staff: APIClient, alice: APIClient) -> None:
    added = {"symbols": ["BTCUSDT", "ETHUSDT"], "source": "stream"}
    for method, path, body in (
        ("post", "collector", None),
        ("delete", "collector", None),
        ("post", "collector/symbols", added),
        ("delete", "collector/symbols", added),
    ):
        assert getattr(alice, method)(f"/api/v1/{path}", body, format="json").status_code == 403
    assert staff.post("/api/v1/collector/symbols", added, format="json").json() == {"changed": ["BTCUSDT", "ETHUSDT"]}
    assert staff.post("/api/v1/collector/symbols", added, format="json").json() == {"changed": []}
    assert staff.delete("/api/v1/collector").json()["running"] is False
    status = alice.get("/api/v1/collector").json()
    assert status["process"] == "absent" and [each["source"] for each in status["symbols"]] == ["stream"] * 2
    assert staff.post("/api/v1/collector").json()["running"] is True
    gone = {"symbols": ["ETHUSDT"]}
    assert staff.delete("/api/v1/collector/symbols", gone, format="json").json() == {"changed": ["ETHUSDT"]}
    assert staff.delete("/api/v1/collector/symbols", gone, format="json").status_code == 404
    assert staff.post("/api/v1/collector/symbols", {"symbols": ["x"]}, format="json").status_code == 400
    told = list(
        AuditEvent.objects.filter(subject="depth_collector").order_by("sequence").values_list("action", "actor")
    )
    assert told == [
        ("depth_collector.symbols_added", "sam"),
        ("depth_collector.stopped", "sam"),
        ("depth_collector.started", "sam"),
        ("depth_collector.symbols_removed", "sam"),
    ]


def test_too_many_requests_are_told_when_to_come_back(alice: APIClient, settings: Any) -> None:
    settings.DEPTH_API_RATE = 2
    answers = [alice.get("/api/v1/collector") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    refused = answers[-1]
    assert 0 < int(refused["Retry-After"]) <= 60 and refused["X-RateLimit-Remaining"] == "0"
    assert refused.json()["error"]["code"] == "too_many_requests" and refused["X-Request-ID"]


def test_one_process_has_the_lease_and_the_next_one_follows() -> None:
    assert services.collector_lease_take(holder="first", seconds=30)
    assert services.collector_lease_take(holder="first", seconds=30)
    assert not services.collector_lease_take(holder="second", seconds=30)
    services.collector_lease_release(holder="second")
    assert not services.collector_lease_take(holder="second", seconds=30)
    services.collector_lease_release(holder="first")
    assert services.collector_lease_take(holder="second", seconds=-1)
    assert services.collector_lease_take(holder="first", seconds=30)  # the other one's has run out
