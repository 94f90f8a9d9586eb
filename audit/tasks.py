from __future__ import annotations

import logging
import socket

from celery import shared_task
from django.conf import settings

from audit import heads, selectors, services

log = logging.getLogger(__name__)


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
    """Verify every audit chain, also against the heads that this machine has kept; broken ones are named in the health
    of component ``audit`` and alerted."""
    try:
        kept = heads.kept(settings.AUDIT_HEADS_FILE)
    except (OSError, ValueError) as error:
        kept, broken = [], {"heads": f"{settings.AUDIT_HEADS_FILE} cannot be read: {error}"}
    else:
        broken = {}
    broken |= {
        chain: f"event {found.sequence}: {found.reason}"
        for chain, found in selectors.trail_breaks(kept).items()
        if found is not None
    }
    if gaps := selectors.unprotected():
        broken["database"] = "; ".join(gaps)
    services.heartbeat_record("audit", status="broken" if broken else "ok", detail={"broken": broken})
    if broken:
        said = "; ".join(f"{chain}: {reason}" for chain, reason in broken.items())
        services.alert_raise(
            level="critical",
            kind="audit_trail_broken",
            message=f"the audit trail is not what it was: {said[:1_000]}",
            detail={"broken": broken},
            key="audit_trail_broken",
        )
    return broken


@shared_task
def note_heads() -> str:
    """Note where the trail stands: on the trail, in a file of this machine, and in the log."""
    head = services.heads_note()
    heads.keep(settings.AUDIT_HEADS_FILE, head)
    log.info("the audit trail's head is %s", head)
    return str(head)
