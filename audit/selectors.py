from __future__ import annotations

from collections.abc import Iterator

from django.db.models import QuerySet

from audit.chain import Break, Link, first_break
from audit.models import AuditChain, AuditEvent, ComponentHeartbeat
from audit.services import hashed_content


def heartbeats(component: str) -> QuerySet[ComponentHeartbeat]:
    return ComponentHeartbeat.objects.filter(component=component).order_by("-updated_at")


def chain_names() -> list[str]:
    return list(AuditChain.objects.order_by("name").values_list("name", flat=True))


def chain_links(name: str) -> Iterator[Link]:
    for event in AuditEvent.objects.filter(chain=name).order_by("sequence").iterator(chunk_size=2_000):
        yield Link(event.sequence, event.previous_hash, event.hash, hashed_content(event))


def chain_break(name: str) -> Break | None:
    """The first break of one chain, checked against its head as well."""
    head = AuditChain.objects.get(name=name)
    events = (link for link in chain_links(name) if link.sequence <= head.sequence)  # appended while we read
    return first_break(events, head_sequence=head.sequence, head_hash=head.hash)


def events_about(subject: str) -> QuerySet[AuditEvent]:
    return AuditEvent.objects.filter(subject=subject).order_by("created_at", "sequence")
