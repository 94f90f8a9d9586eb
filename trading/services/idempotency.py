from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta

from django.db import OperationalError, connection, transaction
from django.utils import timezone

from trading.models import IdempotencyKey

LIFETIME = timedelta(hours=24)
WAIT_SECONDS = 10
LOCK_NOT_AVAILABLE = "55P03"


class StillRunning(Exception):
    """The first request under the key has not ended within ``WAIT_SECONDS``."""


@transaction.atomic
def answered_once(
    *, user_id: int, key: str, method: str, path: str, body: bytes, first: Callable[[], tuple[int, bytes]]
) -> IdempotencyKey | None:
    """Call ``first``, which returns a status and a body, and keep its answer; or return the answer that is kept
    without calling it. None when the key belongs to another request. What ``first`` changes and its answer commit
    together; what it raises undoes both, and the next one is the first again.

    Whoever else comes with the key meanwhile, in whichever process, waits: the lock is PostgreSQL's, and ends with
    the transaction or with the connection of a process that dies.

    Raises:
        StillRunning: somebody holds the key for too long.
    """
    _lock(f"{user_id}:{key}")
    body_hash = hashlib.sha256(body).hexdigest()
    kept = IdempotencyKey.objects.filter(user_id=user_id, key=key).first()
    if kept is not None and timezone.now() - kept.created_at > LIFETIME:
        kept.delete()
        kept = None
    if kept is not None:
        same = (kept.method, kept.path, kept.body_hash) == (method, path, body_hash)
        return kept if same else None
    status, answer = first()
    return IdempotencyKey.objects.create(
        user_id=user_id,
        key=key,
        method=method,
        path=path,
        body_hash=body_hash,
        status=status,
        answer=answer.decode(),
        created_at=timezone.now(),
    )


def _lock(name: str) -> None:
    number = int.from_bytes(hashlib.sha256(f"idempotency:{name}".encode()).digest()[:8], signed=True)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{WAIT_SECONDS * 1_000:.0f}ms"])
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [number])
            cursor.execute("SET LOCAL lock_timeout = DEFAULT")
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") != LOCK_NOT_AVAILABLE:
            raise
        raise StillRunning from None


def idempotency_keys_prune() -> int:
    """Forget answers that are older than their promise; returns how many."""
    return IdempotencyKey.objects.filter(created_at__lt=timezone.now() - LIFETIME).delete()[0]
