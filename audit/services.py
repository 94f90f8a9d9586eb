from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Literal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, models, transaction
from django.utils import timezone

from audit import bus
from audit.chain import GENESIS, HEADS_NOTED, PLATFORM, Head, account_chain, link_hash
from audit.dead_letters import DeadLetter, DeadLetterQueue
from audit.models import Alert, AuditChain, AuditEvent, ComponentHeartbeat
from audit.trace import current_trace

_together: ContextVar[_Together | None] = ContextVar("audit_together", default=None)
# The heads as this process left them: whoever appends names the head that he links to, and reads it only where
# somebody else has appended since. What a rolled back transaction left here is simply wrong, and read anew.
_heads: dict[str, tuple[int, str]] = {}
MOVE_HEAD = "UPDATE audit_auditchain SET sequence = %s, hash = %s WHERE name = %s AND sequence = %s AND hash = %s"


class _Together:
    """What waits to be written at once: rows that others made, then events."""

    def __init__(self) -> None:
        self.rows: list[models.Model] = []
        self.events: list[AuditEvent] = []


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
) -> None:
    """Append one event to its chain, inside the transaction of the change it describes.

    Without a ``trace_id`` it belongs to the trace in which it is recorded, if there is one.

    The chain's head is locked until that transaction ends: lock rows of the change first, the audit chain last. Lock
    them with ``no_key=True``: foreign keys are checked at commit, when the chain is held already, and a plain FOR
    UPDATE of somebody else on the referenced row would then deadlock with us.
    """
    if not connection.in_atomic_block:
        raise ImproperlyConfigured("audit.services.record must run inside the transaction of the change it describes.")
    event = AuditEvent(
        chain=PLATFORM if account_id is None else account_chain(account_id),
        created_at=timezone.now(),
        actor=actor[:150],
        action=action,
        subject=subject,
        reason=reason,
        trace_id=trace_id or current_trace(),
        parameters=as_json(parameters or {}),
        before=None if before is None else as_json(before),
        after=None if after is None else as_json(after),
    )
    waiting = _together.get()
    if waiting is None:
        _append([event], [])
    else:
        waiting.events.append(event)


def insert_together(row: models.Model) -> None:
    """Insert a row that nothing in this transaction reads again: inside :func:`recorded_together` in the statement that
    appends the events, otherwise at once. Give it a primary key first where somebody refers to it."""
    waiting = _together.get()
    if waiting is None:
        row.save(force_insert=True)
    else:
        row._state.adding = False
        waiting.rows.append(row)


@contextmanager
def recorded_together() -> Iterator[None]:
    """Write what is recorded and inserted inside in one statement at the end.

    Open it inside the transaction, around whole services; a savepoint that is rolled back inside it does not take its
    events back.
    """
    if _together.get() is not None:
        yield
        return
    waiting = _Together()
    token = _together.set(waiting)
    try:
        yield
    finally:
        _together.reset(token)
    _append(waiting.events, waiting.rows)


def _append(events: Sequence[AuditEvent], rows: Sequence[models.Model]) -> None:
    chains = sorted({event.chain for event in events})
    if not chains:
        for row in rows:
            row.save(force_insert=True)
    # Sorted: whoever appends to several chains locks them in the same order.
    for chain in chains:
        own = [event for event in events if event.chain == chain]
        head = _heads.get(chain)
        if head is None or not _link(own, head, rows):
            # After a head that had moved on the rows are written already.
            found = _locked_head(chain)
            if not _link(own, (found.sequence, found.hash), rows if head is None else []):
                raise ImproperlyConfigured(f"the head of the audit chain {chain} moved although it was locked")
        rows = []


def _link(events: Sequence[AuditEvent], head: tuple[int, str], rows: Sequence[models.Model]) -> bool:
    """Write rows, events and the new head in one statement; False when the chain's head is another one: then the rows
    are written, and nothing else."""
    sequence, previous = head
    for event in events:
        sequence += 1
        event.sequence, event.previous_hash = sequence, previous
        previous = event.hash = link_hash(previous, hashed_content(event))
    parts, values = [], []
    for place, row in enumerate(rows):
        table, marks, made = _as_insert(row)
        parts.append(f"row{place} AS (INSERT INTO {table} VALUES ({marks}) RETURNING 1)")  # noqa: S608 - our own names
        values += made
    # The rows first, the head after them: it is the last to be locked.
    after = "".join(f" AND EXISTS (TABLE row{place})" for place in range(len(rows)))
    parts.append(f"head AS ({MOVE_HEAD}{after} RETURNING 1)")
    values += [sequence, previous, events[0].chain, *head]
    inserts = [_as_insert(event) for event in events]
    marks = ", ".join(f"({marks})" for _, marks, _ in inserts)
    # Of the head: where it is another one, nothing is appended.
    linked = f"SELECT linked.* FROM head, (VALUES {marks}) linked RETURNING 1"  # noqa: S608 - our own names
    parts.append(f"event AS (INSERT INTO {inserts[0][0]} {linked})")
    values += [value for _, _, made in inserts for value in made]
    with connection.cursor() as cursor:
        cursor.execute(f"WITH {', '.join(parts)} SELECT count(*) FROM event", values)  # noqa: S608 - our own names
        if cursor.fetchone() != (len(events),):
            return False
    _heads[events[0].chain] = (sequence, previous)
    return True


def _as_insert(row: models.Model) -> tuple[str, str, list[Any]]:
    """Its table with columns, a mark for each value, and the values."""
    fields, columns, marks = _columns(type(row), row.pk is not None)
    return columns, marks, [field.get_db_prep_save(field.pre_save(row, True), connection) for field in fields]


@cache
def _columns(model: type[models.Model], with_key: bool) -> tuple[tuple[Any, ...], str, str]:
    fields = tuple(each for each in model._meta.concrete_fields if with_key or not each.primary_key)
    names = ", ".join(f'"{each.column}"' for each in fields)
    # Typed, for the database does not know whose values they are; without a length, for a cast would cut.
    marks = ", ".join(f"%s::{str(each.cast_db_type(connection)).split('(')[0]}" for each in fields)
    return fields, f'"{model._meta.db_table}" ({names})', marks


def _locked_head(chain: str) -> AuditChain:
    heads = AuditChain.objects.select_for_update(no_key=True).filter(name=chain)
    head = heads.first()
    if head is None:
        AuditChain.objects.bulk_create([AuditChain(name=chain, hash=GENESIS)], ignore_conflicts=True)
        head = heads.get()
    return head


# What an event's hash covers: everything but the hashes themselves and the database's own key.
HASHED = (
    "chain",
    "sequence",
    "created_at",
    "actor",
    "action",
    "subject",
    "reason",
    "trace_id",
    "parameters",
    "before",
    "after",
)


def hashed_content(event: AuditEvent) -> dict[str, Any]:
    content = {name: getattr(event, name) for name in HASHED}
    content["created_at"] = time_text(event.created_at)
    return content


def time_text(moment: datetime) -> str:
    """As events spell times: UTC, always with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


@transaction.atomic
def heads_note() -> Head:
    """Write the heads of all other chains on the platform's, whose own head then stands for all; returns that one.

    Called from a task, which also keeps it outside the database: whoever may rewrite every table may not reach that.
    """
    rows = AuditChain.objects.exclude(name=PLATFORM).filter(sequence__gt=0).order_by("name")
    heads = [str(Head(row.name, row.sequence, row.hash)) for row in rows]
    record(actor="audit", action=HEADS_NOTED, subject="audit", parameters={"heads": heads})
    own = AuditChain.objects.get(name=PLATFORM)
    return Head(own.name, own.sequence, own.hash)


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


VENUE_ACCESS = "venue access"
FORGOTTEN_AFTER = timedelta(days=1)


def venue_access_record(*, instance: str, detail: Mapping[str, Any]) -> None:
    """Note how a process gets through to its venues. Workers come and go under ever new names: old ones are removed."""
    long_ago = timezone.now() - FORGOTTEN_AFTER
    ComponentHeartbeat.objects.filter(component=VENUE_ACCESS, updated_at__lt=long_ago).delete()
    heartbeat_record(VENUE_ACCESS, instance[:64], detail=detail)


def heartbeat_record(
    component: str, instance: str = "1", status: str = "ok", detail: Mapping[str, Any] | None = None
) -> None:
    """Note that a process lives; the health endpoint calls it down when this grows old."""
    ComponentHeartbeat.objects.update_or_create(
        component=component,
        instance=instance,
        defaults={"status": status, "detail": dict(detail or {}), "updated_at": timezone.now()},
    )


@transaction.atomic
def alert_raise(
    *,
    level: Literal["info", "warning", "critical"],
    kind: str,
    message: str,
    account_id: int | None = None,
    detail: Mapping[str, Any] | None = None,
    key: str = "",
) -> Alert:
    """Tell people: a row, a doorbell to their pages, a count for Prometheus, all when the caller's transaction commits.

    ``kind`` names what happened in general (``circuit_breaker_open``), ``key`` this trouble in particular: while an
    alert with the key is open on the same account, that one is brought up to date and counts up instead of a new row.
    """
    if level not in Alert.Level:
        raise ValueError(f"level is {level!r}; expected one of {', '.join(Alert.Level.values)}")
    now = timezone.now()
    values: dict[str, Any] = {
        "level": level,
        "kind": kind,
        "message": message,
        "detail": as_json(detail or {}),
        "last_raised_at": now,
    }
    alert = Alert(account_id=account_id, key=key, raised_at=now, count=0, **values)
    if key:
        alert = _open_alert(alert)
    for name, value in values.items():
        setattr(alert, name, value)
    alert.count += 1
    alert.save()
    _alert_changed(alert)
    return alert


def _open_alert(alert: Alert) -> Alert:
    """The open one with its key, made of ``alert`` where there is none, locked. Whoever else raises it meanwhile waits
    for the end of our transaction; one that is acknowledged in between is another one's beginning."""
    rows = Alert.objects.select_for_update().filter(acknowledged_at=None, account_id=alert.account_id, key=alert.key)
    while (found := rows.first()) is None:
        Alert.objects.bulk_create([alert], ignore_conflicts=True)
    return found


@transaction.atomic
def alert_acknowledge(*, alert_id: int, actor: str) -> Alert:
    """Somebody has seen it. Acknowledged once: whoever is later changes nothing."""
    alert = Alert.objects.select_for_update().get(pk=alert_id)
    if alert.acknowledged_at is not None:
        return alert
    alert.acknowledged_at, alert.acknowledged_by = timezone.now(), actor[:150]
    alert.save(update_fields=["acknowledged_at", "acknowledged_by"])
    record(
        actor=actor,
        action="alert.acknowledged",
        subject=f"alert:{alert.pk}",
        account_id=alert.account_id,
        parameters={"kind": alert.kind, "level": alert.level, "message": alert.message, "count": alert.count},
    )
    _alert_changed(alert)
    return alert


def _alert_changed(alert: Alert) -> None:
    if alert.account_id is None:
        bus.platform_changed("raised_alert", alert.pk)
    else:
        bus.account_changed(alert.account_id, "raised_alert", alert.pk)


def dead_letters() -> DeadLetterQueue:
    """The queue of this deployment. ``put`` into it from anywhere but inside a transaction."""
    return _queue(settings.REDIS_URL, settings.REDIS_PREFIX)


@cache
def _queue(url: str, prefix: str) -> DeadLetterQueue:
    return DeadLetterQueue(url, prefix, settings.DATA_DIR / "dead-letters.jsonl")


def dead_letter_close(*, letter: DeadLetter, actor: str, action: str, reason: str = "") -> None:
    """A letter was replayed or is discarded: on the trail first, then out of the queue.

    Raises:
        LetterGone: somebody else has closed it meanwhile.
    """
    account_id = letter.context.get("account")
    with transaction.atomic():
        record(
            actor=actor,
            action=action,
            subject=f"dead_letter:{letter.identifier}",
            account_id=account_id if isinstance(account_id, int) else None,
            reason=reason,
            trace_id=letter.trace_id,
            parameters={
                "kind": letter.kind,
                "error": letter.error,
                "context": letter.context,
                "payload": letter.payload,
            },
        )
        dead_letters().remove(letter.identifier)
