"""What happens to feeds is stored beside the event loop, survives a database that is away, and is kept for 14 days."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError
from django.test import Client
from django.utils import timezone

from audit.services import heartbeat_record
from marketdata.events import FeedEvent, FeedEventKind
from marketdata.models import FeedEvent as FeedEventRow
from marketdata.services import feed_events_store
from marketdata.tasks import prune_feed_events
from tests import builders
from trading.runtime import feed_event_store
from trading.runtime.feed_event_store import FeedEventStore

NOW = 1_800_000_000_000_000_000


def event(message: str = "update 7 after 5", **changes: Any) -> FeedEvent:
    values: dict[str, Any] = {
        "kind": FeedEventKind.GAP_DETECTED,
        "venue": "bybit",
        "market_type": "linear",
        "symbol": "BTCUSDT",
        "message": message,
        "time_ns": NOW,
        "metadata": {"u": 5},
    }
    return FeedEvent(**(values | changes))


def messages() -> list[str]:
    return list(FeedEventRow.objects.order_by("pk").values_list("message", flat=True))


@pytest.mark.django_db(transaction=True)
async def test_events_are_stored_in_their_order(tmp_path: Path) -> None:
    store = FeedEventStore(tmp_path / "spill.jsonl")
    for number in range(2_500):
        store.add(event(str(number)))
    await store.flush()
    rows = [row async for row in FeedEventRow.objects.order_by("pk")]
    assert [row.message for row in rows] == [str(number) for number in range(2_500)]
    assert (rows[0].kind, rows[0].metadata, rows[0].happened_at.year) == ("GAP_DETECTED", {"u": 5}, 2027)


@pytest.mark.django_db(transaction=True)
async def test_events_wait_in_memory_then_in_a_file_while_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(events: Any) -> int:
        raise DatabaseError("the database is away")

    monkeypatch.setattr(feed_event_store, "MOST_WAITING", 10)
    store = FeedEventStore(tmp_path / "spill.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(feed_event_store, "feed_events_store", away)
        for number in range(15):
            store.add(event(str(number)))
        await store.flush()
        assert store.counts == {"stored": 0, "spilled": 15, "dropped": 0}
        for number in range(15, 40):
            store.add(event(str(number)))
        assert store.counts["dropped"] == 5  # bounded, whatever happens
        await store.close()
    again = FeedEventStore(tmp_path / "spill.jsonl")
    await again.flush()
    stored = [row.message async for row in FeedEventRow.objects.order_by("pk")]
    assert stored == [str(number) for number in [*range(15), *range(20, 40)]]
    assert not (tmp_path / "spill.jsonl").exists()


@pytest.mark.django_db
def test_events_are_forgotten_after_fourteen_days() -> None:
    feed_events_store([event("old"), event("new")])
    for days, message in ((15, "old"), (13, "new")):
        FeedEventRow.objects.filter(message=message).update(happened_at=timezone.now() - timedelta(days=days))
    assert prune_feed_events() == 1 and messages() == ["new"]


@pytest.mark.django_db
def test_a_refused_frame_with_a_nul_can_be_stored() -> None:
    feed_events_store([event("a\0b")])
    assert messages() == ["ab"]


@pytest.mark.django_db
def test_the_api_lists_them_newest_first_and_refuses_what_it_does_not_know() -> None:
    builders.list_instruments()
    feed_events_store(
        [event("first"), event("second", time_ns=NOW + 10**9), event("other", symbol="", kind=FeedEventKind.ERROR)]
    )
    client = Client()
    assert client.get("/api/v1/market/feed-events").status_code in (401, 403)
    client.force_login(builders.user("alice"))
    rows = client.get("/api/v1/market/feed-events?symbol=BTCUSDT&limit=5").json()
    assert [row["message"] for row in rows] == ["second", "first"] and rows[0]["metadata"] == {"u": 5}
    assert [row["message"] for row in client.get("/api/v1/market/feed-events?kind=ERROR").json()] == ["other"]
    assert client.get("/api/v1/market/feed-events?kind=BOOM").status_code == 400
    assert client.get("/api/v1/market/feed-events?limit=0").status_code == 400
    assert client.get("/api/v1/market/feed-events?symbol=NOPE").status_code == 404


@pytest.mark.django_db
def test_figures_of_feeds_are_exported_to_prometheus(client: Client) -> None:
    link = {"connected": True, "messages": 7, "bytes": 700, "reconnects": 1, "clock_offset_ms": -1300.0}
    symbol = {"state": "STALE", "reason": "no update for 5 s", "messages": 5, "gaps": 2, "latency_p99_ms": 1.5}
    feed = {"connected": True, "books": {"LIVE": 1}, "connections": {"bybit-linear.0": link}, "symbols": {"X": symbol}}
    heartbeat_record("engine", "1", "ok", {"feeds": {"bybit linear": feed}, "accounts": {}})
    text = client.get("/metrics").content.decode()
    about = 'engine="1",feed="bybit linear"'
    assert f'ballast_feed_connection_messages_total{{connection="bybit-linear.0",{about}}} 7.0' in text
    assert f'ballast_feed_connection_clock_offset_seconds{{connection="bybit-linear.0",{about}}} -1.3' in text
    assert f'ballast_feed_symbol_gaps_total{{{about},symbol="X"}} 2.0' in text
    assert f'ballast_feed_symbol_live{{{about},symbol="X"}} 0.0' in text
    health = client.get("/api/v1/health").json()
    assert "X STALE (no update for 5 s)" in health["components"]["venue"]["detail"]
    assert health["feeds"][0]["clock_offset_ms"] == -1300.0
