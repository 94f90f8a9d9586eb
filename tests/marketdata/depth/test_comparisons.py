"""Histories that compare: spot against futures, groups of symbols, over rows, packed days, hours and days."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.core.cache import cache
from rest_framework.test import APIClient

from marketdata import tasks
from marketdata.depth import selectors, services
from marketdata.depth.models import DepthPack
from marketdata.depth.snapshots import DAY, HOUR, MINUTE, DepthSnapshot, Market, minute_of
from tests import builders
from tests.marketdata.depth.volumes import snapshot

pytestmark = pytest.mark.django_db

PACKED = 20 * DAY


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    selectors.hot()._redis.flushdb()
    cache.clear()
    yield
    selectors.hot()._redis.flushdb()


@pytest.fixture
def alice() -> APIClient:
    client = APIClient()
    client.force_authenticate(builders.user("alice"))
    return client


def asked(client: APIClient, path: str) -> Any:
    answer = client.get(f"/api/v1/analytics/{path}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def both_markets(minute: int, spot: str, futures: str | None) -> list[DepthSnapshot]:
    rows = [snapshot(minute, bid=spot)]
    return rows + ([snapshot(minute, bid=futures, market=Market.FUTURES)] if futures is not None else [])


def test_spot_and_futures_stand_side_by_side_where_both_are_known(alice: APIClient) -> None:
    now = minute_of(time.time())
    rows = [*both_markets(now - 2 * MINUTE, "10", "15"), *both_markets(now - MINUTE, "0", "4")]
    services.depth_rows_store([*rows, *both_markets(now, "10", None)])
    body = asked(alice, f"spread?symbol=BTCUSDT&depth=5&from={now - 10 * MINUTE}&to={now}")
    assert (body["symbol"], body["depth"], body["interval"]) == ("BTCUSDT", "5", "1m")
    first, second = body["results"]
    assert (first["time"], first["spotBid"], first["futuresBid"]) == (now - 2 * MINUTE, "10", "15")
    # 8 asks on each: 18 in all on spot, 23 on futures.
    assert (first["bidPercent"], first["askPercent"], first["percent"]) == ("50.000000", "0.000000", "27.777778")
    assert second["bidPercent"] is None and second["percent"] == "50.000000"


def test_spot_and_futures_by_the_hour_are_the_means(alice: APIClient) -> None:
    hour = minute_of(time.time()) // HOUR * HOUR - 3 * HOUR
    rows = [*both_markets(hour, "10", "10"), *both_markets(hour + MINUTE, "20", "50")]
    services.depth_rows_store(rows)
    services.depth_aggregates_refresh()
    (row,) = asked(alice, "spread?symbol=BTCUSDT&interval=1h")["results"]
    assert (row["time"], row["spotBid"], row["futuresBid"], row["bidPercent"]) == (hour, "15", "30", "100.000000")
    assert len(asked(alice, "spread?symbol=BTCUSDT&interval=1d")["results"]) == 1


def test_groups_go_back_over_packed_days_and_rows_that_came_late(alice: APIClient) -> None:
    now = datetime.now(tz=UTC)
    old = minute_of(time.time()) // DAY * DAY - PACKED + 12 * HOUR
    rows = [snapshot(old, bid="10"), snapshot(old, bid="20", symbol="ETHUSDT"), snapshot(old + MINUTE, bid="30")]
    services.depth_rows_store(rows)
    address = f"groups/history?from={old}&to={old + 5 * MINUTE}"
    before = asked(alice, address)
    assert [(row["time"], row["groups"][0]["bidUsd"]) for row in before] == [(old, "3000"), (old + MINUTE, "3000")]
    services.depth_days_pack(now=now)
    assert DepthPack.objects.count() == 2
    cache.clear()
    assert asked(alice, address) == before
    late = [snapshot(old, bid="99"), snapshot(old + 2 * MINUTE, bid="40"), snapshot(old + MINUTE, "5", "ETHUSDT")]
    services.depth_rows_store(late)
    cache.clear()
    found = {row["time"] - old: row["groups"][0]["bidUsd"] for row in asked(alice, address)}
    assert found == {0: "3000", MINUTE: "3500", 2 * MINUTE: "4000"}


def test_groups_of_hours_and_days_are_made_of_the_means_of_their_symbols(alice: APIClient) -> None:
    hour = minute_of(time.time()) // HOUR * HOUR - 30 * HOUR
    rows = [snapshot(hour, bid="10"), snapshot(hour + MINUTE, bid="20"), snapshot(hour + HOUR, bid="60")]
    services.depth_rows_store([*rows, snapshot(hour, bid="1", symbol="ETHUSDT")])
    services.depth_aggregates_refresh()
    hours = asked(alice, "groups/history?interval=1h")
    values = [[(row["name"], row["bidUsd"]) for row in each["groups"]][:2] for each in hours]
    assert values == [[("TOTAL", "1600"), ("TOTAL1", "100")], [("TOTAL", "6000"), ("TOTAL1", "0")]]
    days = asked(alice, "groups/history?interval=1d")
    assert all(row["covered"] for each in hours for row in each["groups"])
    services.depth_rows_store([snapshot(hour + 2 * MINUTE, bid="15", covered=False)])
    services.depth_aggregates_refresh()
    cache.clear()
    hours = asked(alice, "groups/history?interval=1h")
    # BTCUSDT is not in TOTAL1.
    covered = [[(row["name"], row["covered"]) for row in each["groups"]][:2] for each in hours]
    assert covered == [[("TOTAL", False), ("TOTAL1", True)], [("TOTAL", True), ("TOTAL1", True)]]
    (first, *_) = asked(alice, "history?symbol=BTCUSDT&depth=5&interval=1h")["results"]
    assert (first["count"], first["bidCovered"], first["askCovered"]) == (3, False, False)
    same_day = (hour % DAY) < DAY - HOUR
    assert [row["groups"][0]["bidUsd"] for row in days] == (["3100"] if same_day else ["1600", "6000"])


@pytest.mark.parametrize("path", ["spread?symbol=BTCUSDT&", "groups/history?"])
def test_more_than_is_answered_at_once_is_refused_with_a_sentence(alice: APIClient, path: str) -> None:
    services.collector_symbols_add(symbols=["BTCUSDT"], source="rest", actor="test")
    start = int((datetime.now(tz=UTC) - timedelta(days=8)).timestamp())
    for wrong in (f"from={start}", "interval=5m", "depth=4"):
        answer = alice.get(f"/api/v1/analytics/{path}{wrong}")
        assert answer.status_code == 400 and answer.json()["error"]["message"], wrong
    assert alice.get(f"/api/v1/analytics/{path}interval=1h&from={start}").status_code == 200
    assert APIClient().get(f"/api/v1/analytics/{path}").status_code in (401, 403)


def test_a_mean_is_exact_to_twelve_decimals() -> None:
    start = minute_of(time.time()) // HOUR * HOUR - HOUR
    services.depth_rows_store([snapshot(start + number * MINUTE, bid=bid) for number, bid in enumerate("112")])
    services.depth_aggregates_refresh()
    moments = datetime.fromtimestamp(start, tz=UTC), datetime.fromtimestamp(start, tz=UTC)
    (row,) = selectors.depth_aggregates("BTCUSDT", Market.SPOT, 50, "1h", *moments)
    assert selectors.mean_volume(row, 50).bid_volume == Decimal("1.333333333333")


def test_every_task_of_market_data_is_scheduled() -> None:
    scheduled = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    known = {name for name in current_app.tasks if re.match(r"marketdata\.tasks\.", name)}
    assert tasks.pack_depth_heat.name in known and known <= scheduled
