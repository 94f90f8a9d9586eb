from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum

from audit.chain import Break, Link, first_break
from audit.models import Alert, AuditChain, AuditEvent, ComponentHeartbeat
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


def alerts_of(account_ids: QuerySet[Any] | Collection[int], *, platform: bool) -> QuerySet[Alert]:
    """Alerts of these accounts, and with ``platform`` those that belong to no account."""
    of_accounts = Q(account_id__in=account_ids)
    return Alert.objects.filter(of_accounts | Q(account_id=None) if platform else of_accounts)


def alert_counts() -> list[tuple[str, str, int]]:
    """How often alerts were raised, by level and kind."""
    rows = Alert.objects.order_by().values_list("level", "kind").annotate(raised=Sum("count"))
    return [(level, kind, raised) for level, kind, raised in rows]


def open_alert_counts() -> dict[str, int]:
    """How many alerts nobody has acknowledged, by level."""
    rows = Alert.objects.filter(acknowledged_at=None).order_by().values_list("level").annotate(found=Count("pk"))
    return dict(rows)
