from __future__ import annotations

import zlib
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.contrib.auth import get_user_model
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
from trading.services.backtests import (
    LEASE_SECONDS,
    NAME_RULE,
    SEND_AGAIN_SECONDS,
    BacktestLost,
    BacktestRefused,
    candle_strategies,
    title_of,
)

State = Search.State
UNFINISHED = (State.QUEUED, State.RUNNING)
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
    if not isinstance(name, str) or len(name) > 80 or not name.isprintable():
        raise RequestInvalid([Violation("name", str(name)[:100], NAME_RULE)])
    request = search_request(data)
    # Locked, so that two requests at once do not both find the last place.
    get_user_model().objects.select_for_update(no_key=True).get(pk=owner.pk)
    waiting = Search.objects.filter(owner=owner, state__in=UNFINISHED).count()
    if waiting >= MOST_UNFINISHED:
        raise BacktestRefused(f"{waiting} of your searches are not finished; wait for one, or stop one")
    now = timezone.now()
    search = Search.objects.create(
        owner=owner,
        name=name.strip() or title_of(request.backtest),
        request=search_request_to_json(request),
        total=request.total,
        asked_at=now,
        sent_at=now,
    )
    parameters = search.request
    record(actor=owner.get_username(), action="search.asked", subject=f"search:{search.pk}", parameters=parameters)
    return search


@transaction.atomic
def search_stop(*, search: Search, actor: str) -> Search:
    """One that waits is stopped at once, one that runs by its worker within a second or two. Its trials stay.

    Raises:
        BacktestRefused: it is over.
    """
    search = Search.objects.select_for_update(no_key=True).get(pk=search.pk)
    if search.is_over:
        raise BacktestRefused(f"the search is {search.state}; only one that waits or runs can be stopped")
    if search.stop_asked:
        return search
    search.stop_asked = True
    if search.state == State.QUEUED:
        search.state, search.finished_at, search.words = State.STOPPED, timezone.now(), ""
    search.save()
    record(actor=actor, action="search.stopped", subject=f"search:{search.pk}")
    return search


@transaction.atomic
def search_resume(*, search: Search, actor: str) -> Search:
    """Go on with one that was stopped or failed, after the last of its trials; whoever calls sends it to a worker.

    Raises:
        BacktestRefused: it is not over, or has found all that it can.
    """
    search = Search.objects.select_for_update(no_key=True).get(pk=search.pk)
    if search.state not in (State.STOPPED, State.FAILED):
        raise BacktestRefused(f"the search is {search.state}; only one that was stopped or failed can go on")
    search.state, search.stop_asked, search.error, search.fruitless = State.QUEUED, False, "", 0
    search.finished_at, search.sent_at = None, timezone.now()
    search.save()
    record(actor=actor, action="search.resumed", subject=f"search:{search.pk}")
    return search


@transaction.atomic
def search_delete(*, search: Search, actor: str) -> None:
    """
    Raises:
        BacktestRefused: it is not over; stop it first.
    """
    search = Search.objects.select_for_update(no_key=True).get(pk=search.pk)
    if not search.is_over:
        raise BacktestRefused(f"the search is {search.state}; stop it first")
    before = {"name": search.name, "state": search.state, "request": search.request}
    record(actor=actor, action="search.deleted", subject=f"search:{search.pk}", before=before)
    search.delete()


# The work of a worker.


@transaction.atomic
def search_claim(*, search_id: int, worker: str) -> Search | None:
    """The search for this worker to carry on, or None: it is over, another has it, or it is gone."""
    search = Search.objects.select_for_update(no_key=True).filter(pk=search_id, state=State.QUEUED).first()
    if search is None:
        return None
    now = timezone.now()
    search.state, search.worker, search.attempt = State.RUNNING, worker[:100], search.attempt + 1
    search.started_at, search.heartbeat_at, search.words = search.started_at or now, now, "reading the data"
    search.fruitless += 1
    search.save()
    return search


def search_progress(*, run: Search, progress: float, events: int, words: str) -> bool:
    """Renew the worker's hold; whether it shall stop. How far it is the trials themselves tell.

    Raises:
        BacktestLost: the search is not this worker's any more.
    """
    if not _held(run).update(heartbeat_at=timezone.now(), words=words[:200]):
        raise BacktestLost(f"search {run.pk} is not carried out by {run.worker} any more")
    return bool(Search.objects.filter(pk=run.pk, stop_asked=True).exists())


@transaction.atomic
def trial_keep(*, search: Search, training: int, trial: Trial, seconds: float) -> None:
    """
    Raises:
        BacktestLost: the search is not this worker's any more.
    """
    held = _locked(search)
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
    held = _locked(search)
    held.summary = summary
    return _over(held, State.DONE, "")


@transaction.atomic
def search_end(*, search: Search, error: str = "", summary: dict[str, Any] | None = None) -> Search:
    """It was stopped, or with an ``error`` failed; ``summary``: what was found until then.

    Raises:
        BacktestLost: the search is not this worker's any more.
    """
    held = _locked(search)
    held.summary = held.summary if summary is None else summary
    return _over(held, State.FAILED if error else State.STOPPED, error)


@transaction.atomic
def search_give_way(*, search: Search) -> None:
    """Back into the queue, behind those that wait; whoever calls sends it again after the commit.

    Raises:
        BacktestLost: the search is not this worker's any more.
    """
    held = _locked(search)
    held.state, held.words, held.sent_at = State.QUEUED, "lets others go first", timezone.now()
    held.save()


def others_wait(search: Search) -> bool:
    """Whether somebody else's run, or another one, waits for the worker that has this search."""
    searches = Search.objects.filter(state=State.QUEUED).exclude(pk=search.pk)
    return BacktestRun.objects.filter(state=BacktestRun.State.QUEUED).exists() or searches.exists()


def _held(search: Search) -> Any:
    return Search.objects.filter(pk=search.pk, state=State.RUNNING, attempt=search.attempt)


def _locked(search: Search) -> Search:
    held: Search | None = _held(search).select_for_update(no_key=True).first()
    if held is None:
        raise BacktestLost(f"search {search.pk} is not carried out by {search.worker} any more")
    return held


def _over(search: Search, state: str, error: str) -> Search:
    search.state, search.error, search.finished_at, search.words = state, error[:4_000], timezone.now(), ""
    search.save()
    return search


@transaction.atomic
def searches_take_up(*, now: datetime | None = None) -> list[int]:
    """Those whose worker died wait again, or have failed after :data:`MOST_FRUITLESS`; returns what is to be sent to
    the workers: these, and what was sent long ago and never begun."""
    now = now or timezone.now()
    rows = Search.objects.select_for_update(no_key=True, skip_locked=True)
    for search in rows.filter(state=State.RUNNING, heartbeat_at__lt=now - timedelta(seconds=LEASE_SECONDS)):
        if search.stop_asked:
            _over(search, State.STOPPED, "")
        elif search.fruitless >= MOST_FRUITLESS:
            words = f"its worker ended {search.fruitless} times in the middle of the same trial (out of memory?)"
            _over(search, State.FAILED, words)
        else:
            search.state, search.words = State.QUEUED, f"{search.worker} ended in the middle; waits for another"
            search.sent_at = now - timedelta(seconds=2 * SEND_AGAIN_SECONDS)
            search.save()
    waiting = rows.filter(state=State.QUEUED, sent_at__lt=now - timedelta(seconds=SEND_AGAIN_SECONDS))
    found = list(waiting.order_by("sent_at").values_list("pk", flat=True))
    Search.objects.filter(pk__in=found).update(sent_at=now)
    return found
