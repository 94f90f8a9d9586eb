from __future__ import annotations

import socket

from celery import shared_task

from audit import selectors, services


@shared_task
def worker_heartbeat() -> None:
    """Scheduled by beat and run by a worker: its age proves that both live."""
    services.heartbeat_record("worker", socket.gethostname())
    services.heartbeat_record("beat")


@shared_task
def drain_dead_letters() -> int:
    """Move dead letters that waited in this machine's file for Valkey into the stream."""
    return services.dead_letters().drain()


@shared_task
def verify_chains() -> dict[str, str]:
    """Verify every audit chain; broken ones are named in the health of component ``audit``."""
    broken = {}
    for name in selectors.chain_names():
        found = selectors.chain_break(name)
        if found is not None:
            broken[name] = f"event {found.sequence}: {found.reason}"
    services.heartbeat_record("audit", status="broken" if broken else "ok", detail={"broken": broken})
    return broken
