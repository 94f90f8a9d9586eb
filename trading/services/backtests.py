from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from audit.services import record
from marketdata.instruments import Violation
from marketdata.selectors import instruments
from strategies.base import ParameterSpec
from strategies.registry import STRATEGIES
from trading.backtest.errors import BacktestError
from trading.backtest.recording_files import RecordingFile, described, recordings_in
from trading.backtest.report import Report
from trading.backtest.request import BacktestRequest, Source
from trading.backtest.request_json import RECORDING, RequestInvalid, iso, request_from_json, request_to_json
from trading.models import BacktestPart, BacktestRun

State = BacktestRun.State
MOST_UNFINISHED = 20
MOST_ATTEMPTS = 3
# A worker renews its hold every second; a kernel that compiles keeps it from that for some time.
LEASE_SECONDS = 60
# What was sent to the workers and not begun is sent again after this: the broker may have lost it.
SEND_AGAIN_SECONDS = 60
NAME_RULE = "must be at most 80 characters, none of them a control character"


class BacktestRefused(Exception):
    """What was asked of a run cannot be done in its state."""


class BacktestLost(Exception):
    """The run was taken up by another worker, or is over, or is gone: what this one finds is not wanted any more."""


def candle_strategies() -> dict[str, tuple[ParameterSpec, ...]]:
    """The parameters of the strategies that decide on candles, by key: those that have a timeframe."""
    found = {key: kind.parameters for key, kind in STRATEGIES.refresh().items()}
    return {key: specs for key, specs in found.items() if any(spec.name == "timeframe" for spec in specs)}


def all_strategies() -> dict[str, tuple[ParameterSpec, ...]]:
    """The same of all: recordings tell those of books and trades as well."""
    return {key: kind.parameters for key, kind in STRATEGIES.refresh().items()}


def recordings() -> list[RecordingFile]:
    """What this deployment has recorded, by name."""
    return recordings_in(settings.RECORDINGS_DIR)


def backtest_request(data: Any) -> BacktestRequest:
    """What was asked, checked against the strategies, instruments and recordings of this deployment.

    Raises:
        RequestInvalid: with every field that breaks a rule.
    """
    is_recorded = isinstance(data, Mapping) and data.get("source") in (Source.BOOKS, Source.TRADES)
    if is_recorded:
        data = _with_span(data)
    request = request_from_json(data, all_strategies() if is_recorded else candle_strategies())
    listed = set(instruments().filter(symbol__in=request.symbols).values_list("symbol", flat=True))
    found = [
        Violation(f"strategies.{place}.symbols", symbol, "is no instrument that this deployment lists")
        for place, run in enumerate(request.strategies)
        for symbol in run.symbols
        if symbol not in listed
    ]
    if found:
        raise RequestInvalid(found)
    return request


def _with_span(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked of a recording: from its beginning to its end, where nothing else is said and its index tells them.

    Raises:
        RequestInvalid: it is none of this deployment's, or too large.
    """
    name = data.get("recording", "")
    if not isinstance(name, str) or not RECORDING.fullmatch(name):
        raise _no_recording(name)
    try:
        file = described(settings.RECORDINGS_DIR, name)
    except BacktestError:
        raise _no_recording(name) from None
    most = settings.BACKTEST_RECORDING_MEGABYTES
    if file.bytes > most * 2**20:
        rule = f"is larger than {most} MB (BACKTEST_RECORDING_MEGABYTES); such are for manage.py backtest"
        raise RequestInvalid([Violation("recording", name, rule)])
    span = {}
    if file.first_ms is not None and file.last_ms is not None:
        span = {"start": iso(file.first_ms), "end": iso(file.last_ms + 1)}
    return {**span, **{name: value for name, value in data.items() if value or name not in span}}


def _no_recording(name: Any) -> RequestInvalid:
    names = ", ".join(each.name for each in recordings()[:5]) or "none"
    return RequestInvalid(
        [Violation("recording", str(name)[:100], f"must be one of this deployment; there are {names}")]
    )


@transaction.atomic
def backtest_create(*, owner: Any, data: Any, name: Any = "") -> BacktestRun:
    """Keep what somebody asks for, waiting for a worker; whoever calls sends it to one after the commit.

    Raises:
        RequestInvalid: with every field that breaks a rule.
        BacktestRefused: the owner has too many waiting already.
    """
    if not isinstance(name, str) or len(name) > 80 or not name.isprintable():
        raise RequestInvalid([Violation("name", str(name)[:100], NAME_RULE)])
    request = backtest_request(data)
    # Locked, so that two requests at once do not both find the last place.
    get_user_model().objects.select_for_update(no_key=True).get(pk=owner.pk)
    waiting = BacktestRun.objects.filter(owner=owner, state__in=[State.QUEUED, State.RUNNING]).count()
    if waiting >= MOST_UNFINISHED:
        raise BacktestRefused(f"{waiting} of your backtests are not finished; wait for one, or stop one")
    now = timezone.now()
    run = BacktestRun.objects.create(
        owner=owner, name=name.strip() or title_of(request), request=request_to_json(request), asked_at=now, sent_at=now
    )
    record(actor=owner.get_username(), action="backtest.asked", subject=f"backtest:{run.pk}", parameters=run.request)
    return run


def title_of(request: BacktestRequest) -> str:
    names = ", ".join(run.name or run.strategy for run in request.strategies)
    symbols = request.symbols
    more = f" and {len(symbols) - 2} more" if len(symbols) > 2 else ""
    return f"{names} on {', '.join(symbols[:2])}{more}"[:80]


@transaction.atomic
def backtest_stop(*, run: BacktestRun, actor: str) -> BacktestRun:
    """One that waits is stopped at once, one that runs by its worker within a second or two.

    Raises:
        BacktestRefused: it is over.
    """
    run = BacktestRun.objects.select_for_update(no_key=True).get(pk=run.pk)
    if run.is_over:
        raise BacktestRefused(f"the backtest is {run.state}; only one that waits or runs can be stopped")
    if run.stop_asked:
        return run
    run.stop_asked = True
    if run.state == State.QUEUED:
        run.state, run.finished_at, run.words = State.STOPPED, timezone.now(), "stopped before it began"
    run.save()
    record(actor=actor, action="backtest.stopped", subject=f"backtest:{run.pk}")
    return run


@transaction.atomic
def backtest_delete(*, run: BacktestRun, actor: str) -> None:
    """
    Raises:
        BacktestRefused: it is not over; stop it first.
    """
    run = BacktestRun.objects.select_for_update(no_key=True).get(pk=run.pk)
    if not run.is_over:
        raise BacktestRefused(f"the backtest is {run.state}; stop it first")
    record(
        actor=actor,
        action="backtest.deleted",
        subject=f"backtest:{run.pk}",
        before={"name": run.name, "state": run.state, "request": run.request},
    )
    run.delete()


# The work of a worker.


@transaction.atomic
def backtest_claim(*, run_id: int, worker: str) -> BacktestRun | None:
    """The run for this worker to carry out, or None: it is over, another has it, or it is gone."""
    run = BacktestRun.objects.select_for_update(no_key=True).filter(pk=run_id, state=State.QUEUED).first()
    if run is None:
        return None
    now = timezone.now()
    run.state, run.worker, run.attempt = State.RUNNING, worker[:100], run.attempt + 1
    run.started_at, run.heartbeat_at, run.progress, run.events, run.words = now, now, 0, 0, "reading the data"
    run.save()
    return run


def backtest_progress(*, run: BacktestRun, progress: float, events: int, words: str) -> bool:
    """Renew the worker's hold and tell how far it is; whether it shall stop.

    Raises:
        BacktestLost: the run is not this worker's any more.
    """
    now = timezone.now()
    changed = _held(run).update(
        heartbeat_at=now, progress=min(1.0, max(0.0, progress)), events=events, words=words[:200]
    )
    if not changed:
        raise BacktestLost(f"backtest {run.pk} is not carried out by {run.worker} any more")
    return bool(BacktestRun.objects.filter(pk=run.pk, stop_asked=True).exists())


@transaction.atomic
def backtest_finish(*, run: BacktestRun, report: Report) -> BacktestRun:
    """Keep what was found.

    Raises:
        BacktestLost: the run is not this worker's any more.
    """
    held = _locked(run)
    BacktestPart.objects.bulk_create(
        [BacktestPart(run=held, kind=kind, count=count, data=data) for kind, (count, data) in report.parts.items()]
    )
    held.summary, held.data, held.code = report.summary, report.data, report.code[:100]
    held.events, held.progress = report.events, 1.0
    return _over(held, State.DONE, "")


@transaction.atomic
def backtest_end(*, run: BacktestRun, error: str = "") -> BacktestRun:
    """It was stopped, or with an ``error`` failed.

    Raises:
        BacktestLost: the run is not this worker's any more.
    """
    return _over(_locked(run), State.FAILED if error else State.STOPPED, error)


def _held(run: BacktestRun) -> Any:
    return BacktestRun.objects.filter(pk=run.pk, state=State.RUNNING, attempt=run.attempt)


def _locked(run: BacktestRun) -> BacktestRun:
    held: BacktestRun | None = _held(run).select_for_update(no_key=True).first()
    if held is None:
        raise BacktestLost(f"backtest {run.pk} is not carried out by {run.worker} any more")
    return held


def _over(run: BacktestRun, state: str, error: str) -> BacktestRun:
    run.state, run.error, run.finished_at, run.words = state, error[:4_000], timezone.now(), ""
    run.save()
    return run


@transaction.atomic
def backtests_take_up(*, now: datetime | None = None) -> list[int]:
    """Those whose worker died wait again, or have failed after :data:`MOST_ATTEMPTS`; returns what is to be sent to
    the workers: these, and what was sent long ago and never begun."""
    now = now or timezone.now()
    late = now - timedelta(seconds=LEASE_SECONDS)
    rows = BacktestRun.objects.select_for_update(no_key=True, skip_locked=True)
    for run in rows.filter(state=State.RUNNING, heartbeat_at__lt=late):
        if run.stop_asked:
            _over(run, State.STOPPED, "")
        elif run.attempt >= MOST_ATTEMPTS:
            _over(run, State.FAILED, f"its worker ended in the middle of it {run.attempt} times (out of memory?)")
        else:
            run.state, run.words = State.QUEUED, f"{run.worker} ended in the middle; waits for another"
            run.sent_at = now - timedelta(seconds=2 * SEND_AGAIN_SECONDS)
            run.save()
    waiting = rows.filter(state=State.QUEUED, sent_at__lt=now - timedelta(seconds=SEND_AGAIN_SECONDS))
    found = list(waiting.order_by("asked_at").values_list("pk", flat=True))
    BacktestRun.objects.filter(pk__in=found).update(sent_at=now)
    return found
