from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.utils import timezone

from audit.chain import GENESIS, link_hash
from audit.models import AuditChain, AuditEvent, ComponentHeartbeat

PLATFORM = "platform"


def record(
    *,
    actor: str,
    action: str,
    subject: str,
    account_id: int | None = None,
    reason: str = "",
    trace_id: str = "",
    parameters: Mapping[str, Any] | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Append one event to its chain, inside the transaction of the change it describes.

    The chain's head is locked until that transaction ends: lock rows of the change first, the audit chain last. Lock
    them with ``no_key=True``: foreign keys are checked at commit, when the chain is held already, and a plain FOR
    UPDATE of somebody else on the referenced row would then deadlock with us.
    """
    if not connection.in_atomic_block:
        raise ImproperlyConfigured("audit.services.record must run inside the transaction of the change it describes.")
    chain = PLATFORM if account_id is None else f"account:{account_id}"
    AuditChain.objects.bulk_create([AuditChain(name=chain, hash=GENESIS)], ignore_conflicts=True)
    head = AuditChain.objects.select_for_update(no_key=True).get(name=chain)
    event = AuditEvent(
        chain=chain,
        sequence=head.sequence + 1,
        previous_hash=head.hash,
        created_at=timezone.now(),
        actor=actor[:150],
        action=action,
        subject=subject,
        reason=reason,
        trace_id=trace_id,
        parameters=as_json(parameters or {}),
        before=None if before is None else as_json(before),
        after=None if after is None else as_json(after),
    )
    event.hash = link_hash(event.previous_hash, hashed_content(event))
    event.save(force_insert=True)
    AuditChain.objects.filter(name=chain).update(sequence=event.sequence, hash=event.hash)
    return event


def hashed_content(event: AuditEvent) -> dict[str, Any]:
    """What an event's hash covers: everything but the hashes themselves and the database's own key."""
    return {
        "chain": event.chain,
        "sequence": event.sequence,
        "created_at": event.created_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": event.actor,
        "action": event.action,
        "subject": event.subject,
        "reason": event.reason,
        "trace_id": event.trace_id,
        "parameters": event.parameters,
        "before": event.before,
        "after": event.after,
    }


def as_json(value: Any) -> Any:
    """Plain JSON: Decimals and times become text and floats their shortest text, so that hashes never depend on
    how a database or a JSON library spells a number."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def heartbeat_record(
    component: str, instance: str = "1", status: str = "ok", detail: Mapping[str, Any] | None = None
) -> None:
    """Note that a process lives; the health endpoint calls it down when this grows old."""
    ComponentHeartbeat.objects.update_or_create(
        component=component,
        instance=instance,
        defaults={"status": status, "detail": dict(detail or {}), "updated_at": timezone.now()},
    )
