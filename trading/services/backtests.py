from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
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
from trading.services import run_lives

MOST_UNFINISHED = 20
MOST_ATTEMPTS = 3


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
    name = run_lives.checked_name(name)
    request = backtest_request(data)
    run_lives.find_room(BacktestRun, owner, MOST_UNFINISHED)
    now = timezone.now()
    run = BacktestRun.objects.create(
        owner=owner, name=name or title_of(request), request=request_to_json(request), asked_at=now, sent_at=now
    )
    subject = run_lives.subject_of(run)
    record(actor=owner.get_username(), action="backtest.asked", subject=subject, parameters=run.request)
    return run


def title_of(request: BacktestRequest) -> str:
    names = ", ".join(run.name or run.strategy for run in request.strategies)
    symbols = request.symbols
    more = f" and {len(symbols) - 2} more" if len(symbols) > 2 else ""
    return f"{names} on {', '.join(symbols[:2])}{more}"[:80]


def backtest_stop(*, run: BacktestRun, actor: str) -> BacktestRun:
    """One that waits is stopped at once, one that runs by its worker within a second or two.

    Raises:
        BacktestRefused: it is over.
    """
    return run_lives.stop(run, actor)


def backtest_delete(*, run: BacktestRun, actor: str) -> None:
    """
    Raises:
        BacktestRefused: it is not over; stop it first.
    """
    run_lives.delete(run, actor)


# The work of a worker.


@transaction.atomic
def backtest_claim(*, run_id: int, worker: str) -> BacktestRun | None:
    """The run for this worker to carry out, or None: it is over, another has it, or it is gone."""
    run = run_lives.claim(BacktestRun, run_id, worker)
    if run is not None:
        run.started_at, run.progress, run.events = run.heartbeat_at, 0, 0
        run.save()
    return run


def backtest_progress(*, run: BacktestRun, progress: float, events: int, words: str) -> bool:
    """Renew the worker's hold and tell how far it is; whether it shall stop.

    Raises:
        BacktestLost: the run is not this worker's any more.
    """
    return run_lives.renew(run, progress=min(1.0, max(0.0, progress)), events=events, words=words[:200])


@transaction.atomic
def backtest_finish(*, run: BacktestRun, report: Report) -> BacktestRun:
    """Keep what was found.

    Raises:
        BacktestLost: the run is not this worker's any more.
    """
    held = run_lives.locked_while_held(run)
    BacktestPart.objects.bulk_create(
        [BacktestPart(run=held, kind=kind, count=count, data=data) for kind, (count, data) in report.parts.items()]
    )
    held.summary, held.data, held.code = report.summary, report.data, report.code[:100]
    held.events, held.progress = report.events, 1.0
    return run_lives.finish(held, run_lives.DONE)


@transaction.atomic
def backtest_end(*, run: BacktestRun, error: str = "") -> BacktestRun:
    """It was stopped, or with an ``error`` failed.

    Raises:
        BacktestLost: the run is not this worker's any more.
    """
    held = run_lives.locked_while_held(run)
    return run_lives.finish(held, run_lives.FAILED if error else run_lives.STOPPED, error)


def backtests_take_up(*, now: datetime | None = None) -> list[int]:
    """Those whose worker died wait again, or have failed after :data:`MOST_ATTEMPTS`; returns what is to be sent to
    the workers: these, and what was sent long ago and never begun."""
    return run_lives.take_up(BacktestRun, _despair, now)


def _despair(run: BacktestRun) -> str:
    if run.attempt < MOST_ATTEMPTS:
        return ""
    return f"its worker ended in the middle of it {run.attempt} times (out of memory?)"
