from __future__ import annotations

import json
import re
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import closing
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson
from django.db import connection, transaction
from django.db.models import Count, Q, QuerySet, Sum

from audit.chain import GENESIS, NONE_NOTED, PLATFORM, Break, Head, Link, first_break, heads_in, noted_by_chain
from audit.models import Alert, AuditChain, AuditEvent, ComponentHeartbeat
from audit.services import HASHED

EXPORTED = (*HASHED, "previous_hash", "hash")
JSON_FIELDS = ("parameters", "before", "after")
# orjson reads integers above 64 bits as floats.
LONG = 19
LONG_NUMBER = re.compile(f"[0-9]{{{LONG}}}")
READ_AT_ONCE = 1_000
# Times and JSON as text: Python's own reading of them would take most of the time.
ROWS = (
    "SELECT chain, sequence, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"'), actor, "
    "action, subject, reason, trace_id, parameters::text, before::text, after::text, previous_hash, hash "
    "FROM audit_auditevent WHERE chain = %s AND sequence BETWEEN %s AND %s ORDER BY sequence"
)
MOST_EVENTS = 2**62
# As migrations 0002 and 0004 make them.
TRIGGERS = ("audit_event_no_change", "audit_event_no_truncate")


def heartbeats(component: str) -> QuerySet[ComponentHeartbeat]:
    return ComponentHeartbeat.objects.filter(component=component).order_by("-updated_at")


def chain_heads() -> list[Head]:
    """Where every chain stands, the platform's first: it holds heads of the others."""
    rows = sorted(AuditChain.objects.all(), key=lambda row: (row.name != PLATFORM, row.name))
    return [Head(row.name, row.sequence, row.hash) for row in rows]


def _stored(name: str, first: int, last: int) -> Generator[tuple[Any, ...]]:
    """The columns of :data:`ROWS`, in memory that does not grow with them: the database goes on reading while we hash.
    Nothing else may use the connection before the end, so whoever may stop earlier closes this."""
    with transaction.atomic(), connection.cursor() as cursor:
        yield from cursor.cursor.stream(ROWS, [name, first, last], size=READ_AT_ONCE)


def _value(text: str | None) -> Any:
    """JSON as it was recorded."""
    if text is None:
        return None
    return json.loads(text) if len(text) >= LONG and LONG_NUMBER.search(text) else orjson.loads(text)


def exported_rows(name: str, first: int, last: int) -> Generator[dict[str, Any]]:
    """The events ``first`` to ``last`` of one chain, each with its hashes. Close it if you stop earlier: until then the
    connection is not free."""
    with closing(_stored(name, first, last)) as stored:
        for values in stored:
            row = dict(zip(EXPORTED, values, strict=True))
            for field in JSON_FIELDS:
                row[field] = _value(row[field])
            yield row


def quick_hash(previous_hash: str, content: Mapping[str, Any]) -> str:
    """``link_hash`` by a faster library that spells nearly everything the same; where it does not, that one decides."""
    try:
        return sha256(previous_hash.encode() + b"\n" + orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
    except TypeError:  # an integer above 64 bits
        return ""


def chain_links(name: str, last: int | None = None) -> Generator[Link]:
    """Oldest first, up to the event ``last``. Close it as :func:`exported_rows`."""
    with closing(_stored(name, 1, MOST_EVENTS if last is None else last)) as stored:
        # Spelled out: this runs once for each event there ever was.
        for chain, sequence, at, actor, action, subject, reason, trace, given, before, after, previous, own in stored:
            content = {
                "chain": chain,
                "sequence": sequence,
                "created_at": at,
                "actor": actor,
                "action": action,
                "subject": subject,
                "reason": reason,
                "trace_id": trace,
                "parameters": {} if given == "{}" else _value(given),
                "before": _value(before),
                "after": _value(after),
            }
            yield Link(sequence, previous, own, content)


def chain_break(name: str, noted: Mapping[int, str] = NONE_NOTED) -> Break | None:
    """The first break of one chain, checked against its head, and heads that were noted earlier."""
    head = AuditChain.objects.get(name=name)
    links = chain_links(name, head.sequence)  # more may be appended while we read
    return _break(Head(name, head.sequence, head.hash), links, noted)


def _break(head: Head, links: Generator[Link], noted: Mapping[int, str]) -> Break | None:
    with closing(links):
        return first_break(links, head_sequence=head.sequence, head_hash=head.hash, noted=noted, digest=quick_hash)


def trail_breaks(noted: Iterable[Head] = ()) -> dict[str, Break | None]:
    """Every chain with its first break, compared with each other and with heads that were noted earlier."""
    by_chain = noted_by_chain(noted)
    found: dict[str, Break | None] = {}
    for head in chain_heads():
        links = chain_links(head.chain, head.sequence)
        if head.chain == PLATFORM:
            links = _noting(links, by_chain)
        expected = by_chain.get(head.chain, {})
        found[head.chain] = _break(head, links, expected)
    for chain in AuditEvent.objects.order_by().values_list("chain", flat=True).distinct():
        found.setdefault(chain, Break(1, "the chain has no head any more"))
    for chain in by_chain:
        found.setdefault(chain, Break(1, "the chain is gone; its head was noted earlier"))
    return found


def _noting(links: Generator[Link], by_chain: dict[str, dict[int, str]]) -> Generator[Link]:
    """Keeps the heads of other chains that pass by."""
    with closing(links):
        for link in links:
            for head in heads_in(link):
                by_chain.setdefault(head.chain, {}).setdefault(head.sequence, head.hash)
            yield link


def first_since(name: str, since: datetime) -> int:
    """The sequence of the first event of a chain from a moment on; the one after its last where there is none."""
    found = AuditEvent.objects.filter(chain=name, created_at__gte=since).order_by("sequence")
    sequence = found.values_list("sequence", flat=True).first()
    return AuditChain.objects.get(name=name).sequence + 1 if sequence is None else sequence


def hash_of(name: str, sequence: int) -> str:
    """The hash of one event; of the one before the first, GENESIS."""
    if sequence == 0:
        return GENESIS
    return AuditEvent.objects.values_list("hash", flat=True).get(chain=name, sequence=sequence)


def unprotected() -> list[str]:
    """What keeps the database from refusing changes of the trail: missing or disabled triggers. Empty: nothing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = ANY(%s)",
            [AuditEvent._meta.db_table, list(TRIGGERS)],
        )
        enabled = dict(cursor.fetchall())
    said = {None: "is missing", "D": "is disabled", "R": "is disabled for normal sessions", "O": "can be passed by"}
    return [f"trigger {name} {said[enabled.get(name)]}" for name in TRIGGERS if enabled.get(name) in said]


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


def events_of(chains: Collection[str] | None) -> QuerySet[AuditEvent]:
    """The events of these chains (None: of all), the newest first."""
    rows = AuditEvent.objects.order_by("-id")
    return rows if chains is None else rows.filter(chain__in=chains)


def events_found(rows: QuerySet[AuditEvent], text: str) -> QuerySet[AuditEvent]:
    """Those whose trace, subject, actor or action is exactly this text: each of them has an index."""
    return rows.filter(Q(trace_id=text) | Q(subject=text) | Q(actor=text) | Q(action=text)) if text else rows
