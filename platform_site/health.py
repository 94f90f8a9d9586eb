"""How every component is, from their heartbeats and two quick questions. Says nothing secret: it needs no login."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import redis
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.engine_memory import EngineMemory
from audit.models import ComponentHeartbeat
from audit.selectors import heartbeats
from audit.services import VENUE_ACCESS
from platform_site.degraded_modes import ALL_TRADE, AccountsHeldBack, degraded_modes
from platform_site.depth_health import depth_health
from strategies.registry import STRATEGIES
from trading.models import EngineSession, KillSwitch
from trading.runtime.configuration import ENVIRONMENTS, load_accounts
from trading.selectors import engine_sessions, symbols_without_engine

STARTED = time.monotonic()
ENGINE_AGE = timedelta(seconds=10)
# An engine that fell silent among others is reported for so long; after that it counts as taken away.
NAMED_FOR = timedelta(minutes=5)
# Beat rings every 5 s, and a worker may be busy with a reconciliation meanwhile.
WORKER_AGE = timedelta(seconds=20)
SHOWN_BOOKS = 5
# Workers tell of theirs after each reconciliation of all accounts, every 10 s.
ACCESS_AGE = timedelta(seconds=40)
# Accounts are compared every 10 s; one that the venue did not answer for several times is told.
RECONCILED_AGE = timedelta(seconds=60)


def components() -> dict[str, dict[str, Any]]:
    """Each component's ``status`` (ok, starting, degraded, down) and a sentence of ``detail``; of those that were asked
    just now ``latency_ms``, of those that tell by themselves when that was (``updated``)."""
    found = {"database": _database()}
    found["cache"] = _cache()
    if found["database"]["status"] != "ok":
        unknown = {"status": "down", "detail": "unknown while the database is down"}
        return found | dict.fromkeys(("venue", "worker", "beat"), unknown) | {"engine": _remembered_engines()}
    found["engine"], found["venue"] = _engines()
    found["worker"] = _alive("worker")
    found["beat"] = _alive("beat")
    audit = heartbeats("audit").first()
    if audit is not None and audit.status != "ok":
        found["audit"] = {"status": "degraded", "detail": "an audit chain is broken; run manage.py audit_verify"}
    return found


def _database() -> dict[str, Any]:
    began = time.monotonic()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return {"status": "down", "detail": "PostgreSQL does not answer"}
    return {"status": "ok", "detail": "", "latency_ms": milliseconds_since(began)}


def _cache() -> dict[str, Any]:
    began = time.monotonic()
    try:
        cache.set("health", "1", 10)
    except Exception:  # whatever the client library raises: the cache is not usable
        return {"status": "down", "detail": "Valkey does not answer: pages get no live data, trading goes on"}
    return {"status": "ok", "detail": "", "latency_ms": milliseconds_since(began)}


def milliseconds_since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)


def _alive(component: str) -> dict[str, Any]:
    newest = heartbeats(component).first()
    if newest is None:
        return {"status": "starting", "detail": "no sign of life yet"}
    age = timezone.now() - newest.updated_at
    if age > WORKER_AGE:
        detail = f"last sign of life {age.total_seconds():.0f} s ago"
        return {"status": "down", "detail": detail, "updated": newest.updated_at}
    return {"status": "ok", "detail": "", "updated": newest.updated_at}


def _engines() -> tuple[dict[str, Any], dict[str, Any]]:
    """The engines together, and the venue as they see it. One that is silent is named as long as people may wonder."""
    now = timezone.now()
    beats = list(heartbeats("engine"))
    if not beats:
        waiting = {"status": "starting", "detail": "no sign of life yet"}
        return waiting, waiting
    heard = [beat for beat in beats if now - beat.updated_at <= ENGINE_AGE and beat.status != "stopped"]
    if not heard:
        unknown = {"status": "down", "detail": "unknown while the engine is down"}
        return {"status": "down", "detail": _last_words(beats[0], now)}, unknown
    begun = [beat for beat in heard if beat.status == "ok"]
    if not begun:
        return {"status": heard[0].status, "detail": str(heard[0].detail.get("reason", ""))}, {
            "status": "starting",
            "detail": "the engine is not connected yet",
        }
    troubles = [
        f"engine {beat.instance}: {_last_words(beat, now)}"
        for beat in beats
        if beat.status != "stopped" and ENGINE_AGE < now - beat.updated_at < NAMED_FOR
    ]
    if orphans := symbols_without_engine():
        troubles.append(f"no engine follows {', '.join(orphans[:5])}{' and others' if len(orphans) > 5 else ''}")
    engine = {"status": "degraded" if troubles else "ok", "detail": "; ".join(troubles), "updated": heard[0].updated_at}
    return engine, _venue([beat.detail for beat in begun])


def _remembered_engines() -> dict[str, str]:
    """What engines say of themselves in Valkey, while the database is away."""
    engines = remembered_engines()
    if not engines:
        return {"status": "down", "detail": "unknown while the database is down"}
    detail = f"{', '.join(sorted(engines))}: no new orders while the database is down"
    return {"status": "degraded", "detail": detail}


def remembered_engines() -> dict[str, dict[str, Any]]:
    try:
        return EngineMemory(settings.REDIS_URL, settings.REDIS_PREFIX).read()
    except (redis.RedisError, OSError):
        return {}


def watched_positions(engines: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The positions that engines keep in memory: how many of which symbol; whose they are is not for everybody."""
    held: Counter[str] = Counter()
    for words in engines.values():
        for account in words["detail"].get("accounts", {}).values():
            held.update(row["symbol"] for row in account.get("positions", []))
    return [{"symbol": symbol, "positions": count} for symbol, count in sorted(held.items())]


def venue_accesses() -> dict[str, dict[str, Any]]:
    """Each living process's breakers and rate budget."""
    try:
        beats = heartbeats(VENUE_ACCESS).filter(updated_at__gt=timezone.now() - ACCESS_AGE)
        return {beat.instance: beat.detail for beat in beats}
    except DatabaseError:
        return {}


def accounts_held_back() -> AccountsHeldBack:
    try:
        stopped = list(KillSwitch.objects.filter(rearmed_at=None).values_list("account_id", flat=True))
        since = timezone.now() - RECONCILED_AGE
        accounts = load_accounts(ENVIRONMENTS[settings.EXCHANGE])
    except DatabaseError:
        return ALL_TRADE
    old = sum(account.reconciled_at is None or account.reconciled_at < since for account in accounts)
    return AccountsHeldBack(None in stopped, len([pk for pk in stopped if pk is not None]), old)


def _last_words(beat: ComponentHeartbeat, now: datetime) -> str:
    if beat.status == "stopped":
        return "was stopped"
    return f"last sign of life {(now - beat.updated_at).total_seconds():.0f} s ago"


def _venue(details: list[dict[str, Any]]) -> dict[str, str]:
    """The market feeds and the accounts' private streams, as the engines see them."""
    feeds = [(name, feed) for detail in details for name, feed in detail.get("feeds", {}).items()]
    away = sorted({name for name, feed in feeds if not feed.get("connected")})
    if away or not feeds:
        return {"status": "degraded", "detail": f"market feeds that are not connected: {', '.join(away) or 'all'}"}
    if not any(feed.get("books", {}).get("LIVE") for _, feed in feeds):
        return {"status": "starting", "detail": "no book is proven yet"}
    accounts = [(key, account) for detail in details for key, account in detail.get("accounts", {}).items()]
    # Every engine names every account, and one of them owns it.
    trading = {key for key, account in accounts if account.get("state") == "trading"}
    closed = len({key for key, _ in accounts} - trading)
    if closed:
        return {"status": "degraded", "detail": f"{closed} of the accounts do not trade; see the status page"}
    return {"status": "ok", "detail": _unproven(feeds)}


def _unproven(feeds: list[tuple[str, dict[str, Any]]]) -> str:
    """Which books do not trade now, and why; one symbol's trouble is not the venue's."""
    found = [
        f"{feed} {symbol} {row['state']} ({row['reason']})"
        for feed, figures in feeds
        for symbol, row in figures.get("symbols", {}).items()
        if row.get("state") != "LIVE"
    ]
    if not found:
        return ""
    more = f" and {len(found) - SHOWN_BOOKS} more" if len(found) > SHOWN_BOOKS else ""
    return f"books that do not trade: {', '.join(found[:SHOWN_BOOKS])}{more}"


def feeds() -> list[dict[str, Any]]:
    """Each connection of each engine's market feeds: where it stands, how late it is, how far the clocks are apart."""
    rows: list[dict[str, Any]] = []
    try:
        beats = list(heartbeats("engine").filter(updated_at__gt=timezone.now() - ENGINE_AGE))
    except DatabaseError:
        return rows
    for beat in beats:
        for feed, figures in beat.detail.get("feeds", {}).items():
            for name, row in figures.get("connections", {}).items():
                shown = {key: row.get(key) for key in ("connected", "reconnects", "clock_offset_ms", "latency_p99_ms")}
                rows.append({"engine": beat.instance, "feed": feed, "connection": name, **shown})
    return rows


def strategy_files() -> dict[str, str]:
    """Users' own strategies; which file it is, and what is wrong with it, is for who is logged in."""
    left_out = len(STRATEGIES.refresh().problems)
    if left_out == 0:
        return {"status": "ok", "detail": ""}
    files = "1 file" if left_out == 1 else f"{left_out} files"
    return {"status": "degraded", "detail": f"{files} of the strategies folder cannot be used; see the strategies page"}


def overall(found: dict[str, dict[str, Any]]) -> str:
    statuses = {component["status"] for component in found.values()}
    if statuses == {"ok"}:
        return "ok"
    return "starting" if statuses <= {"ok", "starting"} else "degraded"


class HealthView(APIView):
    authentication_classes: tuple[()] = ()
    permission_classes = (AllowAny,)
    throttle_classes: tuple[()] = ()

    @extend_schema(
        responses={
            200: {
                "type": "object",
                "properties": {
                    "status": {"type": "string", "enum": ["ok", "starting", "degraded"]},
                    "version": {"type": "string"},
                    "uptime_seconds": {"type": "integer"},
                    "exchange": {"type": "string"},
                    "components": {"type": "object"},
                    "depth": {"type": "object"},
                    "strategies": {"type": "object"},
                    "feeds": {"type": "array", "items": {"type": "object"}},
                    "degraded_modes": {"type": "array", "items": {"type": "object"}},
                    "venue_access": {"type": "object"},
                    "watched_positions": {"type": "array", "items": {"type": "object"}},
                },
            }
        }
    )
    def get(self, request: Request) -> Response:
        """How every component is, what still works while a part is away (``degraded_modes``), and how each process
        gets through to the exchange. ``depth`` has the parts of depth analytics in the same form (null until there is
        something to collect), ``strategies`` says whether files of users' own strategies cannot be used; these are not
        part of ``status``, which is about trading. 503 only when the database is
        down; then ``watched_positions`` counts what the engines keep in memory."""
        found = components()
        accesses = venue_accesses()
        database_down = found["database"]["status"] != "ok"
        code = 200 if found["database"]["status"] == "ok" else 503
        body = {
            "status": overall(found),
            "version": settings.VERSION,
            "uptime_seconds": int(time.monotonic() - STARTED),
            "exchange": settings.EXCHANGE,
            "components": found,
            "depth": None if database_down else depth_health(),
            "strategies": strategy_files(),
            "feeds": feeds(),
            "degraded_modes": degraded_modes(found, accesses, ALL_TRADE if database_down else accounts_held_back()),
            "venue_access": accesses,
            "watched_positions": watched_positions(remembered_engines()) if database_down else [],
        }
        return Response(body, status=code)


class LeaseSerializer(serializers.Serializer):
    symbol = serializers.CharField()
    epoch = serializers.IntegerField(help_text="grows with every change of hands")
    state = serializers.CharField(help_text="of the book; empty before the engine has told")


class EngineSerializer(serializers.Serializer):
    name = serializers.CharField()
    session = serializers.IntegerField()
    started_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(help_text="unless it is renewed before")
    symbols = LeaseSerializer(many=True)
    standing_by = serializers.ListField(child=serializers.CharField(), help_text="symbols that it is about to take")


class EnginesView(APIView):
    @extend_schema(responses=EngineSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The living engines and the symbols that each of them acts on."""
        return Response(EngineSerializer([_engine_row(session) for session in engine_sessions()], many=True).data)


def _engine_row(session: EngineSession) -> dict[str, Any]:
    epochs = {lease.resource.removeprefix("symbol:"): lease.epoch for lease in session.leases.all()}
    return {
        "name": session.name,
        "session": session.pk,
        "started_at": session.started_at,
        "expires_at": session.expires_at,
        "symbols": [
            {"symbol": symbol, "epoch": epoch, "state": session.report.get(symbol, [""])[0]}
            for symbol, epoch in epochs.items()
        ],
        "standing_by": sorted(session.report.keys() - epochs.keys()),
    }
