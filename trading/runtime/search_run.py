"""Carries a search out in a worker: claim, data, trial after trial, result. Each trial is stored when it is done; who
claims the search next goes on after the last of them."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from itertools import islice, product
from typing import Any

from marketdata.candles.series import DAY_MS
from trading.backtest.errors import BacktestCancelled, BacktestError
from trading.backtest.request import BacktestRequest
from trading.backtest.result import BacktestResult
from trading.backtest.search import (
    FoldResult,
    Stopped,
    Trial,
    TrialBroke,
    TrialOutcome,
    best_of,
    fold_result,
    next_trial,
)
from trading.backtest.search_report import Tested, summary_of_search
from trading.backtest.search_request import SearchRequest
from trading.backtest.walk_forward import Span, folds_of
from trading.models import Search
from trading.runtime.backtest_data import BacktestData, DataMissing, load_data, warm_up_ms
from trading.runtime.backtest_run import Pulse, simulate
from trading.selectors import search_trials
from trading.services.run_lives import BacktestLost
from trading.services.searches import (
    others_wait,
    search_claim,
    search_end,
    search_finish,
    search_give_way,
    search_progress,
    search_request,
    trial_keep,
    trial_of,
)

log = logging.getLogger(__name__)

# So long a search has its worker for itself before it lets others go first.
TURN_SECONDS = 30.0
# If all of so many trials break it is not the parameters' fault.
MOST_BROKEN = 10
MOST_CORNERS = 64
GAVE_WAY = "gave way"
Test = Callable[[BacktestRequest, BacktestData, Pulse], BacktestResult]


class GivesWay(Exception):
    """Others wait for the worker."""


class SearchBroke(Exception):
    """No trial can be carried out; why, in words."""


def quickly(request: BacktestRequest, data: BacktestData, pulse: Pulse) -> BacktestResult:
    """Through the compiled path where that gives the same, otherwise the full one."""
    # Here, not above: numba takes a second to load, and only workers that run backtests need it.
    compiled = import_module("trading.backtest.compiled")
    if not compiled.compiled_reason(request):
        try:
            found: BacktestResult = compiled.run_compiled(request, data.candles, data.funding, data.rules).result()
            return found
        except compiled.CompiledUnfit as unfit:
            log.info("through the full path: %s", unfit)
    return simulate(request, data, pulse)


def carry_out_search(
    search_id: int,
    *,
    load: Callable[[BacktestRequest], BacktestData] = load_data,
    test: Test = quickly,
    confirm: Test = simulate,
    turn_seconds: float = TURN_SECONDS,
) -> str:
    """Carry it on, if it waits and nobody else has it; the state that it ends in, :data:`GAVE_WAY`, or "" where there
    was nothing to do. ``test`` is for trials, ``confirm`` for the best one and the tests of walk-forward."""
    search = search_claim(search_id=search_id, worker=f"{socket.gethostname()}:{os.getpid()}")
    if search is None:
        return ""
    try:
        with Pulse(search, tell=search_progress) as pulse:
            return SearchWork(search, pulse, load, test, confirm, turn_seconds).go()
    except BacktestLost as lost:
        log.warning("%s", lost)
        return ""


class SearchWork:
    """What one worker does of a search."""

    def __init__(
        self,
        search: Search,
        pulse: Pulse,
        load: Callable[[BacktestRequest], BacktestData],
        test: Test,
        confirm: Test,
        turn_seconds: float,
    ) -> None:
        self._search, self._pulse, self._load, self._test, self._confirm = search, pulse, load, test, confirm
        self._turn_seconds, self._until = turn_seconds, 0.0
        self._done = 0
        self._request: SearchRequest
        self._data: BacktestData
        self._trainings: list[list[Trial]] = []

    def go(self) -> str:
        search = self._search
        try:
            self._request = search_request(search.request)
            self._read()
            for training, span in enumerate(self._request.trainings):
                self._train(training, span)
            self._pulse.say("working out what it is worth")
            return search_finish(search=search, summary=self._summary(is_whole=True)).state
        except GivesWay:
            search_give_way(search=search)
            return GAVE_WAY
        except (Stopped, BacktestCancelled):
            if self._pulse.lost:
                return ""
            return search_end(search=search, summary=self._summary(is_whole=False)).state
        except (DataMissing, SearchBroke) as error:
            return search_end(search=search, error=str(error)).state
        except BacktestLost:
            raise
        except Exception as error:  # a strategy's own fault, or ours: its person is told which, and the worker lives on
            log.exception("search %s broke", search.pk)
            return search_end(search=search, error=f"{type(error).__name__}: {error}").state

    def _read(self) -> None:
        backtest, self._warm_up = self._request.backtest, longest_warm_up_ms(self._request)
        earlier = replace(backtest, start_ms=max(0, backtest.start_ms - self._warm_up))
        self._data = self._load(earlier)
        self._of = lru_cache(maxsize=64)(self._part)
        self._pulse.progress(0.0)
        self._until = time.monotonic() + self._turn_seconds

    def _part(self, span: Span) -> BacktestData:
        """The data of one stretch with what warms strategies up before it; views of the same arrays."""
        first = span.start_ms - self._warm_up
        candles = {key: series.between(first, span.end_ms) for key, series in self._data.candles.items()}
        return BacktestData(candles, self._data.funding, self._data.rules)

    def _train(self, training: int, span: Span) -> None:
        # Here, not above: Optuna takes a second to load, and only workers need it.
        proposals = import_module("trading.backtest.search_sampler").Proposals(self._request, training)
        trials = [trial_of(row) for row in search_trials(self._search, training).order_by("number")]
        self._trainings.append(trials)
        proposals.replay(trials)
        folds = folds_of(span, self._request.folds, DAY_MS)
        for number in range(len(trials), self._request.tries):
            self._look_up(trials)
            self._pulse.say(self._words(training, number))
            began = time.monotonic()
            trial = next_trial(
                proposals,
                number=number,
                folds=folds,
                evaluate=self._evaluate,
                objective=self._request.objective,
                least_trades=self._request.least_trades,
            )
            seconds = time.monotonic() - began
            trial_keep(search=self._search, training=training, trial=trial, seconds=seconds)
            trials.append(trial)
            self._done += 1

    def _look_up(self, trials: list[Trial]) -> None:
        if self._pulse.stop():
            raise Stopped
        if len(trials) >= MOST_BROKEN and all(trial.outcome is TrialOutcome.FAILED for trial in trials):
            raise SearchBroke(f"none of {len(trials)} trials could be carried out; the last one: {trials[-1].words}")
        # Never before a trial is done: two that wait for each other would both get nowhere.
        if self._done and time.monotonic() > self._until and others_wait(self._search):
            raise GivesWay

    def _words(self, training: int, number: int) -> str:
        trial = f"trial {number + 1} of {self._request.tries}"
        return f"walk-forward {training} of {len(self._request.splits)}, {trial}" if training else trial

    def _evaluate(self, parameters: Mapping[str, Any], span: Span) -> FoldResult:
        return fold_result(self._tested(parameters, span, self._test), span)

    def _tested(self, parameters: Mapping[str, Any], span: Span, test: Test) -> BacktestResult:
        try:
            return test(self._request.with_parameters(parameters, span), self._of(span), self._pulse)
        except BacktestCancelled:
            raise Stopped from None
        except BacktestError as error:
            raise TrialBroke(str(error)) from None

    def _summary(self, *, is_whole: bool) -> dict[str, Any]:
        """What was found; of one that was stopped, without the runs that only a whole search gets."""
        if not self._trainings:
            return {}
        whole = best_of(self._trainings[0])
        best_run = None
        tested = []
        if is_whole and whole is not None:
            best_run = self._tested(whole.parameters, self._request.span, self._confirm)
        if is_whole:
            for split, trials in zip(self._request.splits, self._trainings[1:], strict=True):
                best = best_of(trials)
                if best is not None:
                    tested.append(Tested(split, best, self._tested(best.parameters, split.test, self._confirm)))
        return summary_of_search(self._request, self._trainings, best_run, tested)


def longest_warm_up_ms(request: SearchRequest) -> int:
    """How much of the past strategies need before the start, at most, of the parameters in the corners of the space."""
    longest = 0
    for corner in islice(corners(request), MOST_CORNERS):
        # A corner that the strategy itself refuses, like a fast mean slower than the slow one, needs nothing.
        with suppress(ValueError):
            longest = max(longest, warm_up_ms(request.with_parameters(corner, request.span)))
    return longest


def corners(request: SearchRequest) -> Iterator[dict[str, Any]]:
    """All choices, with numbers all at their highest or all at their lowest."""
    choices = [each for each in request.space if each.kind == "choice"]
    numbers = [each for each in request.space if each.kind != "choice"]
    for chosen in product(*(each.choices for each in choices)):
        named = {each.name: value for each, value in zip(choices, chosen, strict=True)}
        yield named | {each.name: each.value(each.size - 1) for each in numbers}
        yield named | {each.name: each.value(0) for each in numbers}
