from __future__ import annotations

import zlib
from datetime import datetime
from typing import Any

import numpy as np
from django.db import transaction
from django.utils import timezone

from audit.services import record
from marketdata.instruments import Violation
from marketdata.selectors import instruments
from trading.backtest.request_json import RequestInvalid
from trading.backtest.search import Trial, TrialOutcome
from trading.backtest.search_request import SearchRequest, search_request_from_json, search_request_to_json
from trading.backtest.statistics import drawdowns, sharpe
from trading.models import BacktestRun, Search, SearchTrial
from trading.services import run_lives
from trading.services.backtests import candle_strategies, title_of
from trading.services.run_lives import BacktestRefused

MOST_UNFINISHED = 5
# So many workers in a row may end before the next trial: then it is the search that ends them.
MOST_FRUITLESS = 3


def search_request(data: Any) -> SearchRequest:
    """What was asked, checked against the strategies and instruments of this deployment.

    Raises:
        RequestInvalid: with every field that breaks a rule.
    """
    request = search_request_from_json(data, candle_strategies())
    symbols = request.backtest.symbols
    listed = set(instruments().filter(symbol__in=symbols).values_list("symbol", flat=True))
    rule = "is no instrument that this deployment lists"
    found = [Violation("backtest.strategies.0.symbols", each, rule) for each in symbols if each not in listed]
    if found:
        raise RequestInvalid(found)
    return request


@transaction.atomic
def search_create(*, owner: Any, data: Any, name: Any = "") -> Search:
    """Keep what somebody asks for, waiting for a worker; whoever calls sends it to one after the commit.

    Raises:
        RequestInvalid: with every field that breaks a rule.
        BacktestRefused: the owner has too many waiting already.
    """
    name = run_lives.checked_name(name)
    request = search_request(data)
    run_lives.find_room(Search, owner, MOST_UNFINISHED)
    now = timezone.now()
    search = Search.objects.create(
        owner=owner,
        name=name or title_of(request.backtest),
        request=search_request_to_json(request),
        total=request.total,
        asked_at=now,
        sent_at=now,
    )
    subject = run_lives.subject_of(search)
    record(actor=owner.get_username(), action="search.asked", subject=subject, parameters=search.request)
    return search


def search_stop(*, search: Search, actor: str) -> Search:
    """One that waits is stopped at once, one that runs by its worker within a second or two. Its trials stay.

    Raises:
        BacktestRefused: it is over.
    """
    return run_lives.stop(search, actor)


@transaction.atomic
def search_resume(*, search: Search, actor: str) -> Search:
    """Go on with one that was stopped or failed, after the last of its trials; whoever calls sends it to a worker.

    Raises:
        BacktestRefused: it is not over, or has found all that it can.
    """
    search = run_lives.locked(search)
    if search.state not in (run_lives.STOPPED, run_lives.FAILED):
        raise BacktestRefused(f"the search is {search.state}; only one that was stopped or failed can go on")
    search.state, search.stop_asked, search.error, search.fruitless = run_lives.QUEUED, False, "", 0
    search.finished_at, search.sent_at = None, timezone.now()
    search.save()
    record(actor=actor, action="search.resumed", subject=run_lives.subject_of(search))
    return search


def search_delete(*, search: Search, actor: str) -> None:
    """
    Raises:
        BacktestRefused: it is not over; stop it first.
    """
    run_lives.delete(search, actor)


# The work of a worker.


@transaction.atomic
def search_claim(*, search_id: int, worker: str) -> Search | None:
    """The search for this worker to carry on, or None: it is over, another has it, or it is gone."""
    search = run_lives.claim(Search, search_id, worker)
    if search is not None:
        search.started_at = search.started_at or search.heartbeat_at
        search.fruitless += 1
        search.save()
    return search


def search_progress(*, run: Search, progress: float, events: int, words: str) -> bool:
    """Renew the worker's hold; whether it shall stop. How far it is the trials themselves tell.

    Raises:
        BacktestLost: the search is not this worker's any more.
    """
    return run_lives.renew(run, words=words[:200])


@transaction.atomic
def trial_keep(*, search: Search, training: int, trial: Trial, seconds: float) -> None:
    """
    Raises:
        BacktestLost: the search is not this worker's any more.
    """
    held = run_lives.locked_while_held(search)
    returns = trial.returns
    equity = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    SearchTrial.objects.create(
        search=held,
        training=training,
        number=trial.number,
        parameters=dict(trial.parameters),
        outcome=str(trial.outcome),
        values=list(trial.values),
        value=trial.value,
        sharpe=sharpe(returns),
        total_return=float(equity[-1]) - 1.0 if len(returns) else None,
        max_drawdown=float(drawdowns(equity).max()) if len(returns) else None,
        trades=trial.trades,
        profit=trial.profit,
        returns=zlib.compress(returns.astype("<f8").tobytes()),
        words=trial.words[:400],
        seconds=seconds,
    )
    held.done, held.fruitless, held.heartbeat_at = held.done + 1, 0, timezone.now()
    held.save(update_fields=["done", "fruitless", "heartbeat_at"])


def trial_of(row: SearchTrial) -> Trial:
    return Trial(
        number=row.number,
        parameters=row.parameters,
        outcome=TrialOutcome(row.outcome),
        values=tuple(row.values),
        value=row.value,
        trades=row.trades,
        profit=row.profit,
        returns=np.frombuffer(zlib.decompress(row.returns), dtype="<f8"),
        words=row.words,
    )


@transaction.atomic
def search_finish(*, search: Search, summary: dict[str, Any]) -> Search:
    """Keep what was found.

    Raises:
        BacktestLost: the search is not this worker's any more.
    """
    held = run_lives.locked_while_held(search)
    held.summary = summary
    return run_lives.finish(held, run_lives.DONE)


@transaction.atomic
def search_end(*, search: Search, error: str = "", summary: dict[str, Any] | None = None) -> Search:
    """It was stopped, or with an ``error`` failed; ``summary``: what was found until then.

    Raises:
        BacktestLost: the search is not this worker's any more.
    """
    held = run_lives.locked_while_held(search)
    held.summary = held.summary if summary is None else summary
    return run_lives.finish(held, run_lives.FAILED if error else run_lives.STOPPED, error)


@transaction.atomic
def search_give_way(*, search: Search) -> None:
    """Back into the queue, behind those that wait; whoever calls sends it again after the commit.

    Raises:
        BacktestLost: the search is not this worker's any more.
    """
    held = run_lives.locked_while_held(search)
    held.state, held.words, held.sent_at = run_lives.QUEUED, "lets others go first", timezone.now()
    held.save()


def others_wait(search: Search) -> bool:
    """Whether somebody else's run, or another one, waits for the worker that has this search."""
    searches = Search.objects.filter(state=run_lives.QUEUED).exclude(pk=search.pk)
    return BacktestRun.objects.filter(state=run_lives.QUEUED).exists() or searches.exists()


def searches_take_up(*, now: datetime | None = None) -> list[int]:
    """Those whose worker died wait again, or have failed after :data:`MOST_FRUITLESS`; returns what is to be sent to
    the workers: these, and what was sent long ago and never begun."""
    return run_lives.take_up(Search, _despair, now)


def _despair(search: Search) -> str:
    if search.fruitless < MOST_FRUITLESS:
        return ""
    return f"its worker ended {search.fruitless} times in the middle of the same trial (out of memory?)"
