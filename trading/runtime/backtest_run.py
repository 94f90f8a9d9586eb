"""Carries a backtest out in a worker: claim, data, run, result. A thread of its own renews the claim, tells how far
it is and hears of a stop, so that the run itself never asks the database."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from django.conf import settings
from django.db import DatabaseError, connection

from trading.backtest.errors import BacktestError
from trading.backtest.recording_files import recording_at
from trading.backtest.report import Report, report_of
from trading.backtest.request import BacktestRequest, Source
from trading.backtest.result import BacktestResult
from trading.models import BacktestRun, Search
from trading.runtime.backtest_data import BacktestData, DataMissing, load_data
from trading.runtime.database import with_connection
from trading.runtime.live_comparison import compare_with_live
from trading.selectors import visible_strategies
from trading.services.backtests import (
    backtest_claim,
    backtest_end,
    backtest_finish,
    backtest_progress,
    backtest_request,
)
from trading.services.run_lives import BacktestLost

log = logging.getLogger(__name__)

# A stop is heard within this, and progress is written no more often.
PULSE_SECONDS = 1.0
Simulate = Callable[[BacktestRequest, BacktestData, "Pulse"], BacktestResult]


class Pulse:
    """The hold on one run, renewed while it is open. ``progress`` and ``stop`` are for the backtester: cheap, from any
    thread. ``lost``: somebody else has the run."""

    def __init__(self, run: BacktestRun | Search, tell: Callable[..., bool] = backtest_progress) -> None:
        self._run, self._tell = run, tell
        self._share, self._events, self._words = 0.0, 0, "reading the data"
        self._stop, self._closed = threading.Event(), threading.Event()
        self.lost = False
        self._thread = threading.Thread(target=self._beat, name=f"backtest-{run.pk}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def progress(self, share: float, events: int = 0) -> None:
        self._share, self._events, self._words = share, events, "testing"

    def say(self, words: str) -> None:
        self._words = words

    def stop(self) -> bool:
        """Whether the run shall end: somebody wants that, or it is another worker's."""
        return self._stop.is_set()

    def _beat(self) -> None:
        try:
            while not self._closed.wait(PULSE_SECONDS):
                self._renew()
        finally:
            connection.close()

    def _renew(self) -> None:
        try:
            stop = with_connection(
                lambda: self._tell(run=self._run, progress=self._share, events=self._events, words=self._words)
            )
        except BacktestLost as error:
            log.warning("%s", error)
            self.lost, stop = True, True
        except DatabaseError as error:  # the hold outlasts a restart of the database
            log.warning("%s: its progress is not told: %s", self._run, error)
            return
        if stop:
            self._stop.set()


def simulate(request: BacktestRequest, data: BacktestData, pulse: Pulse) -> BacktestResult:
    """Through the full path, as live."""
    # Here, not above: numba takes a second to load, and only workers that run backtests need it.
    from trading.backtest.run import run_backtest  # noqa: PLC0415

    bars = sum(len(series) for series in data.candles.values())

    def progress(share: float) -> None:
        pulse.progress(share, int(share * bars))

    return run_backtest(request, data.candles, data.funding, data.rules, progress=progress, stop=pulse.stop)


def over_recording(request: BacktestRequest, pulse: Pulse) -> Report:
    """The whole way of one that is tested on books or trades."""
    from trading.backtest.recorded_run import run_recorded  # noqa: PLC0415 as above
    from trading.runtime.recorded_data import load_recorded  # noqa: PLC0415

    data = load_recorded(request, recording_at(settings.RECORDINGS_DIR, request.recording))
    found = run_recorded(
        request, data.recorded, data.candles, data.funding, progress=pulse.progress, stop=pulse.stop
    )  # fmt: skip
    pulse.say("working out the figures")
    return report_of(found.result, request, found.candles)


def carry_out_backtest(
    run_id: int,
    *,
    load: Callable[[BacktestRequest], BacktestData] = load_data,
    simulate: Simulate = simulate,
) -> str:
    """Run it, if it waits and nobody else has it; the state that it ends in, or "" where there was nothing to do."""
    run = backtest_claim(run_id=run_id, worker=f"{socket.gethostname()}:{os.getpid()}")
    if run is None:
        return ""
    try:
        with Pulse(run) as pulse:
            outcome = _outcome(run, pulse, load, simulate)
        if pulse.lost:
            return ""
        if pulse.stop():
            return backtest_end(run=run).state
        if isinstance(outcome, str):
            return backtest_end(run=run, error=outcome).state
        return backtest_finish(run=run, report=outcome).state
    except BacktestLost as lost:
        log.warning("%s", lost)
        return ""


def _outcome(
    run: BacktestRun, pulse: Pulse, load: Callable[[BacktestRequest], BacktestData], simulate: Simulate
) -> Report | str:
    """What it found, or why it failed."""
    try:
        request = backtest_request(run.request)
        if request.source is not Source.CANDLES:
            return over_recording(request, pulse)
        data = load(request)
        pulse.progress(0.0)
        result = simulate(request, data, pulse)
        pulse.say("working out the figures")
        report = report_of(result, request, data.candles)
        if run.compares_id is None:
            return report
        pulse.say("comparing with what was live")
        return replace(report, summary={**report.summary, "live": _live(run, request)})
    except (DataMissing, BacktestError) as error:  # words for whoever asked
        return str(error)
    except Exception as error:  # a strategy's own fault, or ours: its person is told which, and the worker lives on
        if not pulse.stop():
            log.exception("backtest %s broke", run.pk)
        return f"{type(error).__name__}: {error}"


def _live(run: BacktestRun, request: BacktestRequest) -> dict[str, Any]:
    """The run's configuration, live and tested; of what its owner may still see."""
    config = visible_strategies(run.owner).filter(comparisons=run).first()
    if config is None:
        return {"error": "the configuration is gone, or its account is not yours to see any more"}
    start, end = (datetime.fromtimestamp(each / 1_000, UTC) for each in (request.start_ms, request.end_ms))
    try:
        found = compare_with_live(config, start, end, request.costs)
    except DataMissing as error:
        return {"error": str(error)}
    return {"configuration": config.name, "account": config.account.name, **found.as_json()}
