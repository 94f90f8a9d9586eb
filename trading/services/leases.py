"""Who acts on which symbol and which account: leases in PostgreSQL, held by sessions that engines renew, fenced by
epochs.

Why PostgreSQL and not Redis. An order cannot be made without the database, so a lease there is never the reason why
nobody trades; Redis may be away while trading goes on. And the fence must be atomic with what it protects: the lease is
confirmed in the very transaction that commits the signal or the order. A lock service beside the database could only be
asked before, and a process may be paused between the question and the commit.

How it holds together:

- Leases have no time of their own. They belong to an :class:`EngineSession`, one row that its engine renews: one small
  update every two seconds, however many symbols it holds. Times are the database's clock alone; engines compare them
  with nothing of their own but elapsed time.
- A session that was not renewed in time is ended by whoever notices, and can never be renewed again. Its engine opens
  a new one and asks anew what it may hold, so a process that was paused comes back with nothing.
- Each change of hands adds one to the lease's epoch. What an engine commits names the epoch under which it was decided;
  :func:`lease_confirm` refuses an older one. It holds the lease row FOR SHARE until the commit: taking it over means
  waiting for that. Who waits instead of holding up everybody takes the next free rows (SKIP LOCKED).
- A process may be paused, or its machine cut off, in the middle of such a transaction. The database ends it after
  IDLE_MILLISECONDS, well before the session can expire: a lock never outlives the lease.
- A lease moves between two living engines without a gap: the one that shall have it follows the market beside the
  holder, says so (``successor``) once its book is proven, and is given the lease by the holder, which acts no more.

An account's lease (``account:7``) has a session of its own, renewed by its owner (trading/runtime/ownership.py): an
engine may lose one account and keep the others. It is confirmed in the transaction that commits each order, and asked
once more, by the clock alone, before the request's first byte is written (trading/gateways/fence.py).

While the database is away nobody can renew: after the lease time no engine signals or orders, books and positions
are still followed. When it is back each engine opens a new session and takes free leases; its books are still proven.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from audit import bus
from audit.services import record, recorded_together
from trading.models import Account, EngineSession, Lease
from trading.pipeline import Quote

IDLE_MILLISECONDS = 2_000
SESSION_KEPT = timedelta(days=1)


class LeaseLost(Exception):
    """The resource belongs to somebody else by now, or to nobody."""


@dataclass(frozen=True, slots=True)
class LeaseToken:
    """Proof of the right to act on a resource: good as long as the resource's epoch is this one."""

    resource: str
    epoch: int


@dataclass(frozen=True, slots=True)
class LeaseSurvey:
    """The leases and living sessions at one moment. ``held`` has only leases of living sessions; ``next_expiry`` is in
    seconds until the next session of somebody else expires, None when there is none."""

    epochs: Mapping[str, int]
    held: Mapping[str, int]
    successors: Mapping[str, int]
    sessions: frozenset[int]
    next_expiry: float | None


def symbol_resource(symbol: str) -> str:
    return f"symbol:{symbol}"


def account_resource(account_id: int) -> str:
    return f"account:{account_id}"


@transaction.atomic
def session_open(*, name: str, seconds: float, resources: Sequence[str]) -> int:
    """Begin a session that lives for ``seconds``; resources that nobody ever held become leases to be taken."""
    end_idle_transactions()
    _forget_sessions()
    session = EngineSession.objects.create(
        name=name[:64],
        started_at=Now(),
        expires_at=Now() + timedelta(seconds=seconds),
        report={},
    )
    known = set(Lease.objects.filter(resource__in=resources).values_list("resource", flat=True))
    new = [Lease(resource=resource, changed_at=Now()) for resource in resources if resource not in known]
    Lease.objects.bulk_create(new, ignore_conflicts=True)
    bus.engines_doorbell("leases")
    return session.pk


def session_renew(*, session_id: int, seconds: float, report: Mapping[str, Any]) -> bool:
    """Live for ``seconds`` more; False when the session has ended, which is for good."""
    sessions = EngineSession.objects
    sessions.filter(ended=False, expires_at__lte=Now()).update(ended=True)
    renewed = sessions.filter(pk=session_id, ended=False, expires_at__gt=Now())
    return renewed.update(expires_at=Now() + timedelta(seconds=seconds), report=dict(report)) == 1


@transaction.atomic
def sessions_renew(*, session_ids: Collection[int], seconds: float) -> tuple[set[int], set[int]]:
    """The same for many at once: those that live for ``seconds`` more, and those that have ended. One that somebody
    else changes at this moment is in neither; the others do not wait for it."""
    end_idle_transactions()
    sessions = EngineSession.objects.filter(pk__in=session_ids)
    living = sessions.filter(ended=False, expires_at__gt=Now())
    free = living.select_for_update(skip_locked=True, no_key=True).order_by("pk")
    renewed = set(free.values_list("pk", flat=True))
    EngineSession.objects.filter(pk__in=renewed).update(expires_at=Now() + timedelta(seconds=seconds))
    ended = set(session_ids) - renewed - set(living.values_list("pk", flat=True))
    EngineSession.objects.filter(pk__in=ended, ended=False).update(ended=True)
    return renewed, ended


@transaction.atomic
def session_close(*, session_id: int) -> None:
    """An engine goes: its leases are free at once."""
    end_idle_transactions()
    closed = EngineSession.objects.filter(pk=session_id, ended=False).update(ended=True, expires_at=Now())
    if closed:
        given_up = Lease.objects.filter(session_id=session_id).values_list("resource", "epoch")
        _recorded(session_id, "leases.released", dict(given_up))


def leases_survey(*, session_id: int, resources: Sequence[str]) -> LeaseSurvey:
    living = EngineSession.objects.filter(ended=False, follows_market=True).annotate(left=F("expires_at") - Now())
    left = dict(living.values_list("pk", "left"))
    rows = Lease.objects.filter(resource__in=resources)
    leases = list(rows.values_list("resource", "epoch", "session_id", "successor_id"))
    others = [time.total_seconds() for session, time in left.items() if session != session_id]
    return LeaseSurvey(
        epochs={resource: epoch for resource, epoch, _, _ in leases},
        held={resource: holder for resource, _, holder, _ in leases if holder in left},
        successors={resource: successor for resource, _, _, successor in leases if successor in left},
        sessions=frozenset(left),
        next_expiry=max(0.0, min(others)) if others else None,
    )


@transaction.atomic
def leases_take(*, session_id: int, resources: Collection[str]) -> dict[str, int]:
    """Take those that no living session holds; returns the epochs of what was taken. A lease under which somebody
    commits at this moment is passed over: ask again."""
    end_idle_transactions()
    free = Lease.objects.filter(Q(session=None) | Q(session__ended=True), resource__in=resources)
    rows = list(free.select_for_update(of=("self",), skip_locked=True, no_key=True).order_by("resource"))
    # Not by the plan alone: a session that has ended meanwhile must not take anything.
    if not rows or not EngineSession.objects.filter(pk=session_id, ended=False, expires_at__gt=Now()).exists():
        return {}
    names = [row.resource for row in rows]
    Lease.objects.filter(resource__in=names).update(
        session_id=session_id, successor=None, epoch=F("epoch") + 1, changed_at=Now()
    )
    taken = {row.resource: row.epoch + 1 for row in rows}
    _recorded(session_id, "leases.taken", taken)
    return taken


@transaction.atomic
def leases_stand_by(*, session_id: int, ready: Collection[str], given_up: Collection[str]) -> None:
    """Say for which leases of others this engine is ready to go on, and for which not any more."""
    end_idle_transactions()
    Lease.objects.filter(resource__in=given_up, successor_id=session_id).update(successor=None)
    if Lease.objects.filter(resource__in=ready).exclude(session_id=session_id).update(successor_id=session_id):
        bus.engines_doorbell("leases")


@transaction.atomic
def leases_hand_over(*, session_id: int, successors: Mapping[str, int]) -> dict[str, int]:
    """Give leases to the engines that stand by for them; returns the new epochs. The caller must not act on the
    resources any more; what it has decided and not committed yet is refused from here on."""
    end_idle_transactions()
    rows = Lease.objects.filter(resource__in=successors, session_id=session_id)
    given: dict[str, int] = {}
    for row in rows.select_for_update(no_key=True).order_by("resource"):
        if row.successor_id == successors[row.resource]:
            row.session_id, row.successor_id, row.epoch = row.successor_id, None, row.epoch + 1
            row.changed_at = Now()
            row.save(update_fields=["session", "successor", "epoch", "changed_at"])
            given[row.resource] = row.epoch
    if given:
        _recorded(session_id, "leases.handed_over", given)
    return given


@dataclass(frozen=True, slots=True)
class Holder:
    """Who wants to own an account. Who has a gateway names its ``mode``: an account that was switched meanwhile is not
    theirs to have."""

    name: str
    mode: str | None = None


@transaction.atomic
def account_leases_take(
    *, holders: Mapping[int, Holder], seconds: float, evict_reason: str = ""
) -> dict[int, tuple[int, LeaseToken]]:
    """Become the owner of accounts for ``seconds``: by account that is ours now, the session to renew and the proof.

    One that somebody else owns, or whose lease is locked at this moment, is left out: ask again. With ``evict_reason``
    living owners lose their accounts at once: they can commit nothing from here on. What they have signed already may
    still reach the venue until its receive window closes.
    """
    # Asked without a lock: everybody who waits for an account asks every second.
    wanted = set(holders) if evict_reason else accounts_without_owner(holders)
    if not wanted:
        return {}
    end_idle_transactions()
    account_of = {account_resource(account_id): account_id for account_id in sorted(wanted)}
    new = [Lease(resource=resource, changed_at=Now()) for resource in account_of]
    Lease.objects.bulk_create(new, ignore_conflicts=True)
    rows = Lease.objects.select_for_update(of=("self",), skip_locked=True, no_key=True).filter(resource__in=account_of)
    leases = {account_of[row.resource]: row for row in rows.order_by("resource")}
    # A switch holds the lease until its commit, so these are the modes for as long as the leases are held.
    modes = dict(Account.objects.filter(pk__in=leases).values_list("pk", "mode"))
    leases = {pk: row for pk, row in leases.items() if holders[pk].mode in (None, modes.get(pk))}
    living = EngineSession.objects.filter(leases__in=list(leases.values()), ended=False, expires_at__gt=Now())
    if evict_reason:
        EngineSession.objects.filter(pk__in=living).update(ended=True, expires_at=Now())
    owned = set() if evict_reason else set(living.values_list("leases__resource", flat=True))
    leases = {pk: row for pk, row in leases.items() if row.resource not in owned}
    _forget_sessions()
    sessions = EngineSession.objects.bulk_create(
        EngineSession(
            name=holders[pk].name[:64],
            started_at=Now(),
            expires_at=Now() + timedelta(seconds=seconds),
            follows_market=False,
            report={},
        )
        for pk in leases
    )
    taken: dict[int, tuple[int, LeaseToken]] = {}
    for (pk, row), session in zip(leases.items(), sessions, strict=True):
        row.session_id, row.successor_id, row.epoch, row.changed_at = session.pk, None, row.epoch + 1, Now()
        taken[pk] = session.pk, LeaseToken(row.resource, row.epoch)
    Lease.objects.bulk_update(leases.values(), ["session", "successor", "epoch", "changed_at"])
    # The audit chain is the last row to be locked: one event tells both, who lost it and who has it now.
    action = "leases.seized" if evict_reason else "leases.taken"
    with recorded_together():
        for session, (_, token) in zip(sessions, taken.values(), strict=True):
            _recorded_of(session, action, {token.resource: token.epoch}, evict_reason)
    return taken


def account_owned(account_id: int) -> bool:
    """Whether a living session owns the account."""
    living = Lease.objects.filter(session__ended=False, session__expires_at__gt=Now())
    return living.filter(resource=account_resource(account_id)).exists()


def accounts_without_owner(account_ids: Collection[int]) -> set[int]:
    """Those that no living session owns."""
    resources = {account_resource(account_id): account_id for account_id in account_ids}
    living = Lease.objects.filter(session__ended=False, session__expires_at__gt=Now(), resource__in=resources)
    return set(account_ids) - {resources[each] for each in living.values_list("resource", flat=True)}


def account_taken_at(account_id: int) -> datetime | None:
    """When the account last changed hands."""
    return Lease.objects.filter(resource=account_resource(account_id)).values_list("changed_at", flat=True).first()


def lease_confirm(*tokens: LeaseToken) -> None:
    """Call it first in the transaction that commits what was decided under the leases.

    Raises:
        LeaseLost: a resource has changed hands, or its holder did not renew in time.
    """
    with connection.cursor() as cursor:
        # The ORM has no FOR SHARE: many accounts may commit under one lease at once, and only its taking must wait.
        cursor.execute(
            "SELECT lease.resource, set_config('idle_in_transaction_session_timeout', %s, true)"
            " FROM trading_lease AS lease JOIN trading_enginesession AS session ON session.id = lease.session_id"
            " JOIN unnest(%s::text[], %s::bigint[]) AS asked (resource, epoch)"
            " ON lease.resource = asked.resource AND lease.epoch = asked.epoch"
            " WHERE NOT session.ended AND session.expires_at > statement_timestamp()"
            " ORDER BY lease.resource FOR SHARE OF lease",
            [str(IDLE_MILLISECONDS), [token.resource for token in tokens], [token.epoch for token in tokens]],
        )
        held = {resource for resource, _ in cursor.fetchall()}
    for token in tokens:
        if token.resource not in held:
            raise LeaseLost(f"{token.resource} is not held under epoch {token.epoch} any more")


def symbol_quote(symbol: str) -> Quote | None:
    """What the engine that follows a symbol last said of it, at most one renewal ago; None when nobody holds it."""
    lease = Lease.objects.select_related("session").filter(
        resource=symbol_resource(symbol), session__ended=False, session__expires_at__gt=Now()
    )
    row = lease.first()
    told = row.session.report.get(symbol) if row is not None and row.session is not None else None
    if not told:
        return None
    state, price = told
    return Quote(None if price is None else Decimal(price), state == "LIVE")


def end_idle_transactions() -> None:
    """Until the end of this transaction: if we are paused in it, the database takes our locks away."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [str(IDLE_MILLISECONDS)])


def _forget_sessions() -> None:
    EngineSession.objects.filter(ended=True, leases=None, expires_at__lt=Now() - SESSION_KEPT).delete()


def _recorded(session_id: int, action: str, epochs: Mapping[str, int]) -> None:
    _recorded_of(EngineSession.objects.get(pk=session_id), action, epochs)


def _recorded_of(session: EngineSession, action: str, epochs: Mapping[str, int], reason: str = "") -> None:
    record(
        actor=f"engine:{session.name}",
        action=action,
        subject=f"engine-session:{session.pk}",
        reason=reason,
        parameters={"epochs": epochs},
    )
    bus.engines_doorbell("leases")
