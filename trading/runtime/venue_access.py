"""This process's way to its venues: breakers that all its accounts share, and the budget that all processes share."""

from __future__ import annotations

import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import Error, connection

from audit.services import alert_raise, venue_access_record
from trading.resilience.breaker import Breaker, BreakerChange, BreakerState
from trading.resilience.guard import CallGuard, breakers_of
from trading.resilience.rate_budget import SharedBudget
from trading.runtime.database import with_connection

log = logging.getLogger(__name__)

# Alerts wait for the database; the call that opened the breaker must not.
_notices = ThreadPoolExecutor(1, thread_name_prefix="breaker-notices")
_breakers: dict[str, dict[str, Breaker]] = {}


def venue_guard(rest_url: str, prefix: str = "") -> CallGuard:
    """The protections of a venue in this process, the same for every gateway that is opened to it. ``prefix`` tells
    venues at one address apart."""
    venue = f"{prefix}{urlsplit(rest_url).netloc}"
    # Engines and workers open their gateways in one thread; a set of breakers that lost the race is merely unused.
    breakers = _breakers.setdefault(venue, breakers_of(venue, _breaker_changed))
    return CallGuard(breakers, shared_budget(settings.REDIS_URL, settings.REDIS_PREFIX))


@cache
def shared_budget(url: str, prefix: str) -> SharedBudget:
    return SharedBudget(url, prefix)


def venue_access_status() -> dict[str, Any]:
    """Breakers by venue and group, and the budget, as the status page and Prometheus show them."""
    return {
        "breakers": {
            venue: {group: breaker.status() for group, breaker in groups.items()} for venue, groups in _breakers.items()
        },
        "budget": shared_budget(settings.REDIS_URL, settings.REDIS_PREFIX).status(),
    }


def venue_access_tell(process: str) -> None:
    """Let the status page and Prometheus know; ``process`` names this one among others, like ``engine 1``."""
    venue_access_record(instance=process, detail=venue_access_status())


def worker_name() -> str:
    return f"worker {socket.gethostname()}:{os.getpid()}"


def _breaker_changed(change: BreakerChange) -> None:
    log.warning(
        "circuit breaker of %s: %s -> %s: %s", change.name, change.before.name, change.after.name, change.reason
    )
    if change.after is BreakerState.OPEN and change.before is BreakerState.CLOSED:
        _notices.submit(_raise_alert, change)


def _raise_alert(change: BreakerChange) -> None:
    work = partial(
        alert_raise,
        level="critical" if change.name.endswith(" orders") else "warning",
        kind="circuit_breaker_open",
        message=f"the exchange does not answer: the breaker of {change.name} has opened ({change.reason})",
        detail={"breaker": change.name, "reason": change.reason, "process": os.getpid()},
        key=f"breaker:{change.name}",
    )
    try:
        with_connection(work)
    except Error as error:
        log.error("no alert of the open breaker, the database does not answer: %s", error)
    finally:
        connection.close()
