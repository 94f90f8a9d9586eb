"""How each part of depth analytics is: for the health endpoint and the status page. Says nothing secret."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import redis
from django.db import DatabaseError
from django.utils import timezone

from marketdata.depth import selectors

OK, STARTING, DEGRADED, DOWN = "ok", "starting", "degraded", "down"
WORST_FIRST = (DOWN, DEGRADED, STARTING, OK)
# A round of REST takes a minute; one that was missed is told.
REST_SECONDS = 150.0
STREAM_SECONDS = 30.0
SHOWN = 5
# Some minutes of a hundred symbols: more waits only when the database is slow or away.
MANY_WAITING = 10_000


def depth_health() -> dict[str, Any] | None:
    """``status``, the worst of all parts, and ``components``: of each a ``status`` (ok, starting, degraded, down), a
    sentence of ``detail``, when it was ``updated`` last, its ``latency_ms``, and figures. None until there is something
    to collect, or a collector; while the database is away that is not known."""
    try:
        status = selectors.collector_status()
        if status["reported"] is None and not status["symbols"]:
            return None
        parts = {"collector": _collector(status), **_reported(status), "partitions": _partitions()}
    except DatabaseError:
        return None
    parts["cache"] = _cache()
    found = {part["status"] for part in parts.values()}
    return {"status": next(each for each in WORST_FIRST if each in found), "components": parts}


def _part(status: str, detail: str, updated: Any = None, latency_ms: Any = None, **figures: Any) -> dict[str, Any]:
    if isinstance(updated, int | float):
        updated = datetime.fromtimestamp(updated, tz=UTC)
    return {"status": status, "detail": detail, "updated": updated, "latency_ms": latency_ms, **figures}


def _collector(status: Mapping[str, Any]) -> dict[str, Any]:
    reported = status["reported"]
    if reported is None:
        return _part(STARTING, "no sign of life yet", running=status["running"])
    about = {"updated": reported, "running": status["running"], "symbols": len(status["symbols"])}
    if status["process"] != "alive":
        age = (timezone.now() - reported).total_seconds()
        return _part(DOWN, f"last sign of life {age:.0f} s ago; see manage.py collect_depth", **about)
    return _part(OK, "" if status["running"] else "stopped: nothing is collected", **about)


def _reported(status: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the collector says of its parts, which mean nothing once it is gone."""
    detail = status["detail"]
    names = [
        *(f"{market} {how}" for market in ("spot", "futures") for how in ("stream", "rest")),
        "engines",
        "writer",
        "heat_writer",
    ]
    if status["process"] != "alive" or "streams" not in detail:
        beginning = status["reported"] is None or status["process"] == "alive"
        unknown = _part(STARTING if beginning else DOWN, "unknown while the collector is not running")
        return dict.fromkeys(names, unknown)
    now = time.time()
    found = {}
    for market, row in detail["streams"].items():
        found[f"{market.lower()} stream"] = _stream(row, now)
    for market, row in detail["rest"].items():
        found[f"{market.lower()} rest"] = _rest(row, now)
    engines = detail.get("engines", {})
    found["engines"] = _part(OK, f"{engines.get('books', 0)} books", engines.get("last_update"))
    for name in ("writer", "heat_writer"):
        found[name] = _writer(detail.get(name, {}))
    return found


def _stream(row: Mapping[str, Any], now: float) -> dict[str, Any]:
    books = row["books"]
    live = sum(state == "LIVE" for state in books.values())
    about = {"updated": row.get("last_update"), "latency_ms": row.get("latency_ms"), "books": len(books), "live": live}
    if not books:
        return _part(OK, "no symbols", **about)
    if not row["connected"]:
        return _part(DEGRADED, "not connected", **about)
    if live and now - (row.get("last_update") or 0) > STREAM_SECONDS:
        return _part(DEGRADED, "silent", **about)
    others = [f"{symbol} {state}" for symbol, state in books.items() if state != "LIVE"]
    if not others:
        return _part(OK, f"{live} books", **about)
    beginning = all(state == "SYNCING" for state in books.values() if state != "LIVE")
    return _part(STARTING if beginning and not live else DEGRADED, f"not proven: {_some(others)}", **about)


def _rest(row: Mapping[str, Any], now: float) -> dict[str, Any]:
    last = row["last_collection"]
    about = {"updated": last, "latency_ms": row.get("latency_ms"), "symbols": row["symbols"]}
    about |= {name: row[name] for name in ("requests", "ok", "failed", "used_weight")}
    if not row["symbols"]:
        return _part(OK, "no symbols", **about)
    # What only the other market lists is nobody's failure.
    unlisted = row["unlisted"]
    failing = _some([f"{symbol} ({why})" for symbol, why in row["failing"].items() if symbol not in unlisted])
    silent = now - max(last or 0, row["began"])
    if silent > REST_SECONDS and row["symbols"] > len(unlisted):
        return _part(DEGRADED, f"nothing came for {silent:.0f} s; failing: {failing or 'none'}", **about)
    if last is None and not failing:
        return _part(STARTING, "the first round is under way", **about)
    return _part(DEGRADED if failing else OK, f"failing: {failing}" if failing else "", **about)


def _writer(row: Mapping[str, Any]) -> dict[str, Any]:
    about = {"updated": row.get("last_stored"), "latency_ms": row.get("store_ms")}
    about |= {name: row.get(name) for name in ("waiting", "journal_bytes", "stored", "dropped", "journal_damaged")}
    lost = (row.get("dropped") or 0) + (row.get("journal_damaged") or 0)
    if row.get("breaker") == "open":
        return _part(DEGRADED, "the database does not answer it: the journal grows", **about)
    if lost:
        return _part(DEGRADED, f"{lost} minutes were lost; see the collector's log", **about)
    if (row.get("waiting") or 0) > MANY_WAITING:
        return _part(DEGRADED, f"{row['waiting']} minutes wait", **about)
    return _part(OK, "", **about)


def _partitions() -> dict[str, Any]:
    last = selectors.last_day_made()
    if last is None:
        return _part(OK, "made as rows come", days_ahead=None)
    ahead = (last - timezone.now().astimezone(UTC).date()).days
    detail = "" if ahead > 0 else "none is made ahead (a worker and beat make them); one is made when rows come"
    return _part(OK if ahead > 0 else DEGRADED, detail, days_ahead=ahead, last_day=last)


def _cache() -> dict[str, Any]:
    """The newest two hours in Valkey, and how often they were of use."""
    began = time.monotonic()
    try:
        reads = selectors.hot().reads()
    except (redis.RedisError, OSError):
        return _part(DEGRADED, "Valkey does not answer: minutes are read from PostgreSQL, books not at all")
    asked = reads["hits"] + reads["misses"]
    percent = round(100 * reads["hits"] / asked, 1) if asked else None
    latency = round((time.monotonic() - began) * 1000, 1)
    detail = "" if percent is None else f"{percent:g} % of reads answered"
    return _part(OK, detail, timezone.now(), latency, hit_percent=percent, **reads)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
