"""What the health endpoint says still works, while each part is away."""

from __future__ import annotations

import http.client
import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from audit.engine_memory import EngineMemory
from audit.models import ComponentHeartbeat
from audit.services import heartbeat_record, venue_access_record
from platform_site.degraded_modes import AccountsHeldBack, degraded_modes
from tests import builders
from tests.processes import start_site, until
from tests.trading.resilience.own_valkey import OwnValkey
from tests.trading.test_shards import database_cut
from trading.models import Account
from trading.resilience.guard import CallGuard
from trading.services.kill_switch import kill_switch_engage, kill_switch_rearm

PARTS = ("database", "cache", "engine", "venue", "worker", "beat")


def components(**down: str) -> dict[str, dict[str, str]]:
    return {name: {"status": down.get(name, "ok"), "detail": ""} for name in PARTS}


def names(found: list[dict[str, str]]) -> list[str]:
    return [mode["name"] for mode in found]


def access(**changes: Any) -> dict[str, Any]:
    told = CallGuard.alone().status()
    closed = {group: dict(row) for group, row in told["breakers"].items()}
    for group, state in changes.items():
        closed[group] |= {"state": state, "reason": "ReadTimeout"}
    return {"breakers": {"api.bybit.com": closed}, "budget": {"mode": "shared", "exhausted": 0, "taken": 0}}


@pytest.mark.parametrize("part", ["database", "cache", "engine", "worker", "beat"])
def test_each_part_that_is_away_is_one_mode_with_a_sentence(part: str) -> None:
    found = degraded_modes(components(**{part: "down"}), {})
    assert names(found) == [f"{part}_away"] and len(found[0]["sentence"]) > 40


def test_when_all_is_well_or_just_starting_no_mode_is_named() -> None:
    assert degraded_modes(components(), {"engine 1": access()}) == []
    assert degraded_modes(components(engine="starting", worker="starting"), {}) == []


def test_with_the_database_away_what_only_it_could_tell_is_not_called_away() -> None:
    found = degraded_modes(components(database="down", cache="down", engine="down", worker="down", beat="down"), {})
    assert names(found) == ["cache_away", "database_away"] or names(found) == ["database_away", "cache_away"]


def test_an_open_breaker_names_process_venue_group_and_reason() -> None:
    (found,) = degraded_modes(components(), {"engine 1": access(orders="open")})
    assert found["name"] == "breaker_open_orders"
    assert all(word in found["sentence"] for word in ("engine 1", "api.bybit.com", "kill switch", "ReadTimeout"))
    (probing,) = degraded_modes(components(), {"engine 1": access(account="half_open")})
    assert "half-open" in probing["sentence"]


def test_accounts_that_do_not_trade_are_counted_and_not_named() -> None:
    found = degraded_modes(components(), {}, AccountsHeldBack(platform_stopped=True, stopped=2, not_reconciled=3))
    assert names(found) == ["kill_switch", "kill_switch_accounts", "accounts_not_reconciled"]
    assert ": 2;" in found[1]["sentence"] and ": 3;" in found[2]["sentence"]


def test_a_broken_audit_trail_is_a_mode() -> None:
    broken = components() | {"audit": {"status": "degraded", "detail": ""}}
    assert names(degraded_modes(broken, {})) == ["audit_broken"]


@pytest.mark.django_db
def test_kill_switches_and_accounts_that_were_not_compared_are_named_until_they_are(client: Client) -> None:
    account = builders.account(builders.user("alice"))

    def told() -> set[str]:
        modes = names(client.get("/api/v1/health").json()["degraded_modes"])
        return {"kill_switch", "kill_switch_accounts", "accounts_not_reconciled"} & set(modes)

    assert told() == {"accounts_not_reconciled"}
    Account.objects.update(reconciled_at=timezone.now())
    assert told() == set()
    kill_switch_engage(account=account, actor="alice", reason="a test")
    kill_switch_engage(account=None, actor="alice", reason="a test")
    assert told() == {"kill_switch", "kill_switch_accounts"}
    kill_switch_rearm(account=account, actor="alice", reason="checked", force=True)
    kill_switch_rearm(account=None, actor="bob", reason="checked", force=True)
    assert told() == set()
    Account.objects.update(reconciled_at=timezone.now() - timedelta(minutes=2))
    assert told() == {"accounts_not_reconciled"}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_valkey_and_a_postgresql_that_are_really_away_are_named_and_named_no_more_when_they_are_back(
    worker_environment: dict[str, str], tmp_path: Path
) -> None:
    valkey = OwnValkey(tmp_path)
    site = start_site(tmp_path / "web.log", worker_environment | {"REDIS_URL": valkey.url})

    def told() -> set[str]:
        with suppress(OSError, http.client.HTTPException):
            asked = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
            asked.request("GET", "/api/v1/health")
            return {"asked", *names(json.loads(asked.getresponse().read())["degraded_modes"])}
        return set()

    def named(mode: str) -> bool:
        return mode in told()

    def not_named(mode: str) -> bool:
        found = told()
        return "asked" in found and mode not in found

    try:
        until(lambda: not_named("cache_away") and not_named("database_away"))
        with database_cut():
            until(lambda: named("database_away"))
        until(lambda: not_named("database_away"))
        valkey.kill()
        until(lambda: named("cache_away"))
        valkey.start_again()
        until(lambda: not_named("cache_away"))
    finally:
        site.stop()
        valkey.kill()


def test_a_process_that_counts_alone_is_named() -> None:
    alone = access() | {"budget": {"mode": "local", "reason": "Valkey does not answer"}}
    assert names(degraded_modes(components(), {"worker x:1": alone})) == ["rate_budget_local"]


@pytest.mark.django_db
def test_health_and_prometheus_tell_breakers_and_budgets_of_living_processes_only(client: Client) -> None:
    venue_access_record(instance="engine 1", detail=access(orders="open"))
    venue_access_record(instance="worker old", detail=access(account="open"))
    long_ago = timezone.now() - timedelta(minutes=5)
    ComponentHeartbeat.objects.filter(instance="worker old").update(updated_at=long_ago)
    health = client.get("/api/v1/health").json()
    assert set(health["venue_access"]) == {"engine 1"}
    assert "breaker_open_orders" in names(health["degraded_modes"])
    figures = client.get("/metrics").content.decode()
    labels = 'group="orders",process="engine 1",venue="api.bybit.com"'
    assert f"circuit_breaker_state{{{labels}}} 2.0" in figures
    assert "worker old" not in figures
    assert 'rate_budget_shared{process="engine 1"} 1.0' in figures


@pytest.mark.django_db
def test_names_of_processes_that_are_gone_for_a_day_are_forgotten() -> None:
    venue_access_record(instance="worker old", detail=access())
    ComponentHeartbeat.objects.update(updated_at=timezone.now() - timedelta(days=2))
    heartbeat_record("engine", "kept")
    venue_access_record(instance="worker new", detail=access())
    assert set(ComponentHeartbeat.objects.values_list("instance", flat=True)) == {"kept", "worker new"}


@pytest.mark.django_db
def test_a_silent_worker_and_a_silent_engine_are_named(client: Client) -> None:
    for component in ("worker", "beat", "engine"):
        heartbeat_record(component)
    ComponentHeartbeat.objects.update(updated_at=timezone.now() - timedelta(minutes=1))
    found = names(client.get("/api/v1/health").json()["degraded_modes"])
    assert {"worker_away", "beat_away", "engine_away"} <= set(found)


@pytest.mark.django_db
def test_with_the_database_away_health_tells_what_engines_keep_in_memory(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"symbol": "BTCUSDT", "side": "Buy", "quantity": "1", "mark_price": "60000"}
    detail = {"accounts": {"1": {"positions": [row]}, "2": {"positions": [row]}}}
    EngineMemory(settings.REDIS_URL, settings.REDIS_PREFIX).store("memory", "ok", detail)
    down = {"status": "down", "detail": "PostgreSQL does not answer"}
    monkeypatch.setattr("platform_site.health._database", lambda: down)
    answer = client.get("/api/v1/health")
    assert answer.status_code == 503
    health = answer.json()
    assert health["watched_positions"] == [{"symbol": "BTCUSDT", "positions": 2}]
    assert "memory" in health["components"]["engine"]["detail"]
    # Nobody has logged in: how large the positions are is nobody's business.
    assert "60000" not in answer.content.decode()
