"""What the health endpoint says of depth analytics: each part, when it was heard of last, how late; to everybody."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from audit.models import ComponentHeartbeat
from audit.services import heartbeat_record
from marketdata.depth import selectors, services
from marketdata.depth.partitions import storage_of

pytestmark = pytest.mark.django_db


def stream(**changes: Any) -> dict[str, Any]:
    about = {"connected": True, "books": {"BTCUSDT": "LIVE"}, "unlisted": [], "last_update": time.time()}
    return about | {"latency_ms": 12.5} | changes


def rest(**changes: Any) -> dict[str, Any]:
    now = time.time()
    counts = {"requests": 9, "ok": 9, "failed": 0, "used_weight": 225, "symbols": 2, "latency_ms": 80.0}
    return counts | {"last_collection": now, "began": now, "failing": {}, "unlisted": []} | changes


def writer(**changes: Any) -> dict[str, Any]:
    about = {"waiting": 3, "journal_bytes": 400, "breaker": "closed", "last_stored": time.time(), "store_ms": 8.0}
    return about | {"stored": 70, "dropped": 0, "journal_damaged": 0} | changes


def beat(**changes: Any) -> None:
    detail = {
        "streams": {"SPOT": stream(), "FUTURES": stream()},
        "rest": {"SPOT": rest(), "FUTURES": rest()},
        "engines": {"books": 3, "last_update": time.time()},
        "writer": writer(),
        "heat_writer": writer(),
    }
    heartbeat_record(selectors.HEARTBEAT, "1", "ok", detail | changes)


def told() -> dict[str, Any]:
    return Client().get("/api/v1/health").json()["depth"]


def part(name: str) -> tuple[str, str]:
    found = told()["components"][name]
    return found["status"], found["detail"]


def test_nothing_is_said_until_there_is_something_to_collect() -> None:
    assert told() is None
    services.collector_symbols_add(symbols=["BTCUSDT"], source="stream", actor="test")
    with connection.cursor() as cursor:  # of other tests
        for day in storage_of(cursor).days(cursor):
            storage_of(cursor).drop(cursor, day)
    services.depth_days_make(now=timezone.now() - timedelta(days=8))
    assert told()["status"] == "degraded" and part("collector")[0] == "starting"
    assert part("partitions")[0] == "degraded"
    services.depth_days_make()
    assert told()["status"] == "starting"


def test_a_well_collector_has_each_part_with_its_last_update_and_latency() -> None:
    services.depth_days_make()
    selectors.hot()._redis.flushdb()
    selectors.hot().read("BTCUSDT", selectors.Market.SPOT, 50, 0, 60, time.time())
    beat()
    found = told()
    assert found["status"] == "ok"
    assert set(found["components"]) == {
        "collector",
        *("spot stream", "spot rest", "futures stream", "futures rest", "engines"),
        *("writer", "heat_writer", "partitions", "cache"),
    }
    for name, latency in (("spot stream", 12.5), ("futures rest", 80.0), ("writer", 8.0)):
        each = found["components"][name]
        assert each["latency_ms"] == latency and each["updated"].startswith("20"), name
    assert found["components"]["writer"]["waiting"] == 3
    assert found["components"]["partitions"]["days_ahead"] == 7
    assert found["components"]["cache"]["hit_percent"] == 0.0 and found["components"]["cache"]["misses"] == 1
    whole = Client().get("/api/v1/health").json()
    assert whole["uptime_seconds"] >= 0 and whole["components"]["database"]["latency_ms"] >= 0


def test_a_collector_that_fell_silent_says_nothing_of_its_parts() -> None:
    beat()
    ComponentHeartbeat.objects.update(updated_at=timezone.now() - timedelta(seconds=40))
    status, detail = part("collector")
    assert status == "down" and detail.startswith("last sign of life ") and "collect_depth" in detail
    assert part("spot stream") == ("down", "unknown while the collector is not running")
    services.collector_switch(running=False, actor="test")
    beat()
    assert part("collector") == ("ok", "stopped: nothing is collected")


@pytest.mark.parametrize(
    ("changes", "name", "status", "words"),
    [
        (lambda: {"streams": {"SPOT": stream(connected=False)}}, "spot stream", "degraded", "not connected"),
        (
            lambda: {"streams": {"SPOT": stream(books={"A": "LIVE", "B": "BROKEN"})}},
            "spot stream",
            "degraded",
            "B BROKEN",
        ),
        (lambda: {"streams": {"SPOT": stream(books={"A": "SYNCING"})}}, "spot stream", "starting", "A SYNCING"),
        (lambda: {"streams": {"SPOT": stream(last_update=time.time() - 99)}}, "spot stream", "degraded", "silent"),
        (lambda: {"streams": {"SPOT": stream(books={}, connected=False)}}, "spot stream", "ok", "no symbols"),
        (lambda: {"rest": {"SPOT": rest(failing={"A": "HTTP 500"})}}, "spot rest", "degraded", "A (HTTP 500)"),
        (lambda: {"rest": {"SPOT": rest(failing={"A": "unknown"}, unlisted=["A"])}}, "spot rest", "ok", ""),
        (lambda: {"rest": {"SPOT": rest(last_collection=None)}}, "spot rest", "starting", "first round"),
        (lambda: {"rest": {"SPOT": rest(last_collection=1.0, began=1.0)}}, "spot rest", "degraded", "nothing came for"),
        (lambda: {"rest": {"SPOT": rest(symbols=0, last_collection=None)}}, "spot rest", "ok", "no symbols"),
        (lambda: {"writer": writer(breaker="open")}, "writer", "degraded", "does not answer"),
        (lambda: {"heat_writer": writer(dropped=2)}, "heat_writer", "degraded", "2 minutes were lost"),
        (lambda: {"writer": writer(waiting=20_000)}, "writer", "degraded", "20000 minutes wait"),
    ],
)
def test_what_is_wrong_is_said_of_its_part(
    changes: Callable[[], dict[str, Any]], name: str, status: str, words: str
) -> None:
    beat(**changes())
    found = part(name)
    assert found[0] == status and words in found[1]


def test_trading_is_not_called_degraded_for_it() -> None:
    heartbeat_record("engine", detail={"feeds": {"x": {"connected": True, "books": {"LIVE": 1}}}, "accounts": {}})
    heartbeat_record("worker")
    heartbeat_record("beat")
    beat(writer=writer(breaker="open"))
    health = Client().get("/api/v1/health").json()
    assert (health["status"], health["depth"]["status"]) == ("ok", "degraded")
