"""The life that backtests and searches have in common: somebody asks, a worker carries it out, and another takes it up
when that worker dies. What only one of them does is in its own module."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from audit.services import record
from marketdata.instruments import Violation
from trading.backtest.request_json import RequestInvalid
from trading.models import BacktestRun, Search

Run = TypeVar("Run", BacktestRun, Search)
QUEUED, RUNNING, UNFINISHED = "queued", "running", ("queued", "running")
DONE, FAILED, STOPPED = "done", "failed", "stopped"
NOUNS: dict[type[Any], str] = {BacktestRun: "backtest", Search: "search"}
PLURALS: dict[type[Any], str] = {BacktestRun: "backtests", Search: "searches"}
NAME_RULE = "must be at most 80 characters, none of them a control character"
# A worker renews its hold every second; a kernel that compiles keeps it from that for some time.
LEASE_SECONDS = 60
# What was sent to the workers and not begun is sent again after this: the broker may have lost it.
SEND_AGAIN_SECONDS = 60


class BacktestRefused(Exception):
    """What was asked of a run cannot be done in its state."""


class BacktestLost(Exception):
    """The run was taken up by another worker, or is over, or is gone: what this one finds is not wanted any more."""


def checked_name(name: Any) -> str:
    """
    Raises:
        RequestInvalid: no name that a run may have.
    """
    if not isinstance(name, str) or len(name) > 80 or not name.isprintable():
        raise RequestInvalid([Violation("name", str(name)[:100], NAME_RULE)])
    return name.strip()


def find_room(kind: type[Run], owner: Any, most: int) -> None:
    """Inside a transaction, until whose end the owner can ask for nothing else.

    Raises:
        BacktestRefused: so many of the owner's wait already.
    """
    # Locked, so that two requests at once do not both find the last place.
    get_user_model().objects.select_for_update(no_key=True).get(pk=owner.pk)
    waiting = kind._default_manager.filter(owner=owner, state__in=UNFINISHED).count()
    if waiting >= most:
        raise BacktestRefused(f"{waiting} of your {PLURALS[kind]} are not finished; wait for one, or stop one")


@transaction.atomic
def stop(run: Run, actor: str) -> Run:
    """One that waits is stopped at once, one that runs by its worker within a second or two.

    Raises:
        BacktestRefused: it is over.
    """
    run = locked(run)
    if run.is_over:
        raise BacktestRefused(f"the {NOUNS[type(run)]} is {run.state}; only one that waits or runs can be stopped")
    if run.stop_asked:
        return run
    run.stop_asked = True
    if run.state == QUEUED:
        run.state, run.finished_at = STOPPED, timezone.now()
        run.words = "" if run.started_at else "stopped before it began"
    run.save()
    record(actor=actor, action=f"{NOUNS[type(run)]}.stopped", subject=subject_of(run))
    return run


@transaction.atomic
def delete(run: Run, actor: str) -> None:
    """
    Raises:
        BacktestRefused: it is not over; stop it first.
    """
    run = locked(run)
    noun = NOUNS[type(run)]
    if not run.is_over:
        raise BacktestRefused(f"the {noun} is {run.state}; stop it first")
    before = {"name": run.name, "state": run.state, "request": run.request}
    record(actor=actor, action=f"{noun}.deleted", subject=subject_of(run), before=before)
    run.delete()


def subject_of(run: Run) -> str:
    return f"{NOUNS[type(run)]}:{run.pk}"


def locked(run: Run) -> Run:
    """The run as it is now, for the transaction's time."""
    return type(run)._default_manager.select_for_update(no_key=True).get(pk=run.pk)


# The work of a worker.


def claim(kind: type[Run], pk: int, worker: str) -> Run | None:
    """Inside a transaction: the run for this worker to carry out, not saved yet; or None: it is over, another has it,
    or it is gone."""
    run = kind._default_manager.select_for_update(no_key=True).filter(pk=pk, state=QUEUED).first()
    if run is None:
        return None
    run.state, run.worker, run.attempt = RUNNING, worker[:100], run.attempt + 1
    run.heartbeat_at, run.words = timezone.now(), "reading the data"
    return run


def renew(run: Run, **told: Any) -> bool:
    """Renew the worker's hold and keep what it told; whether it shall stop.

    Raises:
        BacktestLost: the run is not this worker's any more.
    """
    if not _held(run).update(heartbeat_at=timezone.now(), **told):
        raise _lost(run)
    return type(run)._default_manager.filter(pk=run.pk, stop_asked=True).exists()


def locked_while_held(run: Run) -> Run:
    """The run as it is now, for the transaction's time.

    Raises:
        BacktestLost: the run is not this worker's any more.
    """
    held: Run | None = _held(run).select_for_update(no_key=True).first()
    if held is None:
        raise _lost(run)
    return held


def finish(run: Run, state: str, error: str = "") -> Run:
    run.state, run.error, run.finished_at, run.words = state, error[:4_000], timezone.now(), ""
    run.save()
    return run


@transaction.atomic
def take_up(kind: type[Run], despair: Callable[[Run], str], now: datetime | None = None) -> list[int]:
    """Those whose worker died wait again, or have failed where ``despair`` has words for it; returns what is to be sent
    to the workers: these, and what was sent long ago and never begun."""
    now = now or timezone.now()
    late = now - timedelta(seconds=LEASE_SECONDS)
    rows = kind._default_manager.select_for_update(no_key=True, skip_locked=True)
    for run in rows.filter(state=RUNNING, heartbeat_at__lt=late):
        if run.stop_asked:
            finish(run, STOPPED)
        elif words := despair(run):
            finish(run, FAILED, words)
        else:
            run.state, run.words = QUEUED, f"{run.worker} ended in the middle; waits for another"
            run.sent_at = now - timedelta(seconds=2 * SEND_AGAIN_SECONDS)
            run.save()
    waiting = rows.filter(state=QUEUED, sent_at__lt=now - timedelta(seconds=SEND_AGAIN_SECONDS))
    found = list(waiting.order_by("sent_at", "asked_at").values_list("pk", flat=True))
    kind._default_manager.filter(pk__in=found).update(sent_at=now)
    return found


def _held(run: Run) -> Any:
    return type(run)._default_manager.filter(pk=run.pk, state=RUNNING, attempt=run.attempt)


def _lost(run: Run) -> BacktestLost:
    return BacktestLost(f"{NOUNS[type(run)]} {run.pk} is not carried out by {run.worker} any more")
