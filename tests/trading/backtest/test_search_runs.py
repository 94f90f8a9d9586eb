"""The life of a search: asked for, carried out trial by trial, stopped and gone on with, taken up when a worker dies,
behind others where they wait, deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.utils import timezone

from audit.models import AuditEvent
from marketdata.candles.series import DAY_MS, CandleSeries, interval_ms
from tests import builders
from tests.processes import RunningProcess
from trading.backtest.compiled import compiled_reason
from trading.backtest.errors import BacktestError
from trading.backtest.request import BacktestRequest
from trading.backtest.request_json import LIMITS, RequestInvalid
from trading.models import Search, SearchTrial
from trading.runtime import backtest_run
from trading.runtime.backtest_data import BacktestData, DataMissing
from trading.runtime.backtest_run import simulate
from trading.runtime.search_run import GAVE_WAY, carry_out_search, longest_warm_up_ms, quickly
from trading.selectors import search_trials, visible_searches
from trading.services import searches
from trading.services.run_lives import LEASE_SECONDS, SEND_AGAIN_SECONDS, BacktestLost, BacktestRefused
from trading.services.searches import (
    search_claim,
    search_create,
    search_delete,
    search_end,
    search_request,
    search_resume,
    search_stop,
    searches_take_up,
    trial_of,
)

LATE = timedelta(seconds=LEASE_SECONDS + 1)
WALK = {"splits": 2, "train_days": 6, "purge_days": 1}


@pytest.fixture
def alice(db: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    # Its thread would not see what the test's transaction holds.
    monkeypatch.setattr(backtest_run, "PULSE_SECONDS", 600.0)
    builders.list_instruments()
    return builders.user("alice")


def carry_on(search: Search, **options: Any) -> str:
    chosen = {
        "load": builders.backtest_data,
        "test": builders.hill,
        "confirm": builders.hill,
        "turn_seconds": 600.0,
    } | options
    state = carry_out_search(search.pk, **chosen)
    search.refresh_from_db()
    return state


def dies_after(trials: int, death: BaseException) -> Callable[..., Any]:
    """Two folds make a trial."""
    left = 2 * trials

    def evaluate(*asked: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise death
        return builders.hill(*asked)

    return evaluate


def told(search: Search) -> list[tuple[Any, ...]]:
    rows = SearchTrial.objects.filter(search=search).order_by("training", "number")
    return [(row.training, row.number, row.parameters, row.outcome, row.values, row.value) for row in rows]


def test_what_is_asked_waits_for_a_worker_and_is_on_the_trail(alice: Any) -> None:
    search = builders.search(alice, done=False, walk_forward=WALK, folds=2)
    assert (search.state, search.name, search.total) == ("queued", "supertrend on BTCUSDT", 60)
    event = AuditEvent.objects.get(action="search.asked")
    assert (event.actor, event.subject) == ("alice", f"search:{search.pk}")
    assert event.parameters["space"] == {"period": {"low": 5, "high": 30, "step": 1}}


def test_a_worker_finds_the_best_and_says_what_it_is_worth(alice: Any) -> None:
    search = builders.search(alice, folds=2, trials=20)
    assert (search.state, search.done, search.progress, search.error) == ("done", 20, 1.0, "")
    found = search.summary
    trials = search_trials(search, 0)
    best = trials.get(number=found["best"]["number"])
    assert best.value == found["best"]["value"] == max(row.value for row in trials if row.value is not None)
    assert abs(found["best"]["parameters"]["period"] - 12) <= 1
    assert found["best"]["statistics"]["trades"] == 40
    assert sum(found["outcomes"].values()) == found["honesty"]["trials"] == 20
    assert 0 <= found["honesty"]["deflated_sharpe"] <= 1
    assert found["verdict"][0].startswith("20 sets of parameters were tried")
    assert found["importances"]["period"] > 0.1
    assert len(trial_of(best).returns) == 10
    assert found["walk_forward"] is None


def test_walk_forward_chooses_on_each_training_and_is_judged_by_the_tests_alone(alice: Any) -> None:
    search = builders.search(alice, folds=2, trials=6, walk_forward=WALK)
    assert search.done == 18
    found = search.summary["walk_forward"]
    assert [each["test"]["start_ms"] - each["train"]["end_ms"] for each in found["splits"]] == [86_400_000] * 2
    for training, split in enumerate(found["splits"], 1):
        judged = search_trials(search, training).exclude(value=None)
        assert split["parameters"] == judged.order_by("-value", "number")[0].parameters
    record = found["record"]
    assert record["days"] == 3 and record["trades"] == 12
    assert record["curve"]["equity"][0] == 10_000


@pytest.mark.parametrize("begun", [0, 15])
def test_a_search_whose_worker_was_killed_goes_on_where_it_was(alice: Any, begun: int) -> None:
    whole = builders.search(alice, folds=2, trials=13, prune=False, walk_forward=WALK)
    search = builders.search(alice, done=False, folds=2, trials=13, prune=False, walk_forward=WALK)
    with pytest.raises(KeyboardInterrupt):
        carry_on(search, test=dies_after(begun, KeyboardInterrupt()))
    search.refresh_from_db()
    assert (search.state, search.done) == ("running", begun)
    assert carry_on(search) == "", "its hold has not run out"
    assert searches_take_up(now=timezone.now() + LATE) == [search.pk]
    assert carry_on(search) == "done"
    assert told(search) == told(whole)
    assert search.summary == whole.summary


def test_a_search_that_ends_its_workers_at_the_same_trial_fails(alice: Any) -> None:
    search = builders.search(alice, done=False, folds=2)
    for attempt in range(searches.MOST_FRUITLESS + 1):
        # The first worker gets one trial further, which counts as going on.
        with pytest.raises(KeyboardInterrupt):
            carry_on(search, test=dies_after(1 if attempt == 0 else 0, KeyboardInterrupt()))
        searches_take_up(now=timezone.now() + LATE)
    search.refresh_from_db()
    assert search.state == "failed" and "3 times in the middle of the same trial" in search.error


def test_what_a_worker_says_that_has_lost_the_search_is_not_heard(alice: Any) -> None:
    search = builders.search(alice, done=False)
    first = search_claim(search_id=search.pk, worker="one")
    assert first is not None and search_claim(search_id=search.pk, worker="two") is None
    searches_take_up(now=timezone.now() + LATE)
    assert search_claim(search_id=search.pk, worker="two") is not None
    with pytest.raises(BacktestLost):
        search_end(search=first, error="mine")
    assert Search.objects.get().state == "running"


def test_a_search_lets_others_go_first_between_two_trials(alice: Any) -> None:
    search = builders.search(alice, done=False, folds=2)
    assert carry_on(search, turn_seconds=0) == "done", "nobody waits"
    search = builders.search(alice, done=False, folds=2)
    builders.backtest_run(alice, done=False)
    assert carry_on(search, turn_seconds=0) == GAVE_WAY
    assert (search.state, search.words, search.done) == ("queued", "lets others go first", 1)
    assert carry_on(search) == "done"


def test_one_that_waits_is_stopped_at_once_and_can_go_on_later(alice: Any) -> None:
    search = search_stop(search=builders.search(alice, done=False, folds=2), actor="alice")
    assert search.state == "stopped" and carry_on(search) == ""
    with pytest.raises(BacktestRefused, match="stopped; only one that waits or runs"):
        search_stop(search=search, actor="alice")
    assert search_resume(search=search, actor="alice").state == "queued"
    assert carry_on(search) == "done"
    with pytest.raises(BacktestRefused, match="done; only one that was stopped or failed"):
        search_resume(search=search, actor="alice")
    trail = AuditEvent.objects.filter(subject=f"search:{search.pk}").order_by("id")
    assert [event.action for event in trail] == ["search.asked", "search.stopped", "search.resumed"]


def test_what_fails_says_why_and_the_worker_lives_on(alice: Any) -> None:
    def missing(request: Any) -> Any:
        raise DataMissing("there are no bars")

    def broken(*asked: Any) -> Any:
        raise BacktestError("fast must be below slow")

    search = builders.search(alice, done=False, folds=2)
    assert carry_on(search, load=missing) == "failed" and search.error == "there are no bars"
    search = builders.search(alice, done=False, folds=2)
    assert carry_on(search, test=broken) == "failed"
    assert search.error == "none of 10 trials could be carried out; the last one: fast must be below slow"
    search = builders.search(alice, done=False, folds=2)
    assert carry_on(search, test=dies_after(1, ValueError("ours"))) == "failed"
    assert (search.error, search.done) == ("ValueError: ours", 1)


def test_the_past_is_read_as_far_back_as_any_of_its_parameters_needs(alice: Any) -> None:
    space = {"period": {"low": 5, "high": 20}, "timeframe": {"choices": ["5", "30"]}}
    request = search_request(builders.search_request(space=space))
    longest = longest_warm_up_ms(request)
    asked = []

    def load(backtest: Any) -> Any:
        asked.append(backtest.start_ms)
        return builders.backtest_data(backtest)

    carry_on(builders.search(alice, done=False, space=space, folds=2, trials=1), load=load)
    assert longest >= 20 * 30 * 60_000
    assert asked == [request.span.start_ms - longest]


def walk_of(request: BacktestRequest) -> BacktestData:
    """Bars of a random walk for all of the time, the same whoever asks."""
    step = interval_ms(request.interval)
    first, end = 1_767_225_600_000 - 5 * DAY_MS, 1_767_225_600_000 + 10 * DAY_MS
    count = (end - first) // step
    random = np.random.default_rng(3)
    close = (600_000 * np.exp(np.cumsum(random.normal(0, 0.001, count)))).astype(np.int64)
    opened = np.concatenate([[600_000], close[:-1]])
    spread = random.integers(0, 300, count)
    prices = (opened, np.maximum(opened, close) + spread, np.minimum(opened, close) - spread, close)
    start_ms = first + step * np.arange(count, dtype=np.int64)
    series = CandleSeries(
        "bybit", "BTCUSDT", request.interval, 1, 3, start_ms, *prices, random.integers(1, 9_999, count)
    )
    return BacktestData({("BTCUSDT", request.interval): series}, {}, {"BTCUSDT": builders.RULES})


def test_trials_of_a_real_strategy_are_the_same_through_the_compiled_path_and_the_full_one(alice: Any) -> None:
    # What only the full path knows is switched off: then the compiled one may take the trials.
    open_limits = dict.fromkeys(LIMITS)
    backtest = builders.backtest_request(interval="5", limits=open_limits)
    space = {"period": {"low": 3, "high": 20}, "multiplier": {"low": 1, "high": 4}}
    asked = {"backtest": backtest, "space": space, "trials": 6, "folds": 2, "least_trades": 1}
    assert compiled_reason(search_request(builders.search_request(**asked)).backtest) == ""
    quick, full = (builders.search(alice, done=False, **asked) for _ in "ab")
    assert carry_on(quick, load=walk_of, test=quickly, confirm=simulate) == "done", quick.error
    assert carry_on(full, load=walk_of, test=simulate, confirm=simulate) == "done", full.error
    for one, other in zip(told(quick), told(full), strict=True):
        # Equity is a float on either path: the same but for what adding up in another order rounds.
        assert one[:4] == other[:4]
        assert one[4] == pytest.approx(other[4], rel=1e-9)
    assert quick.summary["best"]["parameters"] == full.summary["best"]["parameters"]
    assert quick.summary["best"]["statistics"] == full.summary["best"]["statistics"]
    assert quick.summary["best"]["statistics"]["trades"] > 0


def test_only_what_is_over_is_deleted_with_its_trials(alice: Any) -> None:
    search = builders.search(alice, done=False, folds=2)
    with pytest.raises(BacktestRefused, match="stop it first"):
        search_delete(search=search, actor="alice")
    carry_on(search)
    search_delete(search=search, actor="alice")
    assert not Search.objects.exists() and not SearchTrial.objects.exists()


def test_nobody_has_more_than_five_waiting(alice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "MOST_UNFINISHED", 1)
    builders.search(alice, done=False)
    with pytest.raises(BacktestRefused, match="1 of your searches are not finished"):
        builders.search(alice, done=False)
    assert builders.search(builders.user("bob"), done=False).state == "queued"


def test_an_unlisted_symbol_or_a_wrong_name_is_refused(alice: Any) -> None:
    strategies = [{"strategy": "supertrend", "symbols": ["NOPEUSDT"]}]
    with pytest.raises(RequestInvalid, match="NOPEUSDT: is no instrument"):
        builders.search(alice, backtest=builders.backtest_request(strategies=strategies))
    with pytest.raises(RequestInvalid, match="name"):
        search_create(owner=alice, data=builders.search_request(), name="a\x00b")


def test_what_was_sent_and_never_begun_is_sent_again_once_a_minute(alice: Any) -> None:
    search = builders.search(alice, done=False)
    later = timezone.now() + timedelta(seconds=SEND_AGAIN_SECONDS + 1)
    assert searches_take_up() == [] and searches_take_up(now=later) == [search.pk] and searches_take_up(now=later) == []


def test_a_search_is_its_owners_and_the_staffs(alice: Any) -> None:
    search = builders.search(alice, done=False)
    bob, sam = builders.user("bob"), builders.user("sam", is_staff=True)
    assert [each.pk for each in visible_searches(alice)] == [search.pk] == [each.pk for each in visible_searches(sam)]
    assert not visible_searches(bob).exists() and not visible_searches(None).exists()


WORKER = """
import sys, time
import django
django.setup()
from tests import builders
from trading.runtime.search_run import carry_out_search
def slow(*asked):
    time.sleep(0.05)
    return builders.hill(*asked)
carry_out_search(int(sys.argv[1]), load=builders.backtest_data, test=slow, confirm=slow)
"""


@pytest.fixture
def start_worker(process_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[int], RunningProcess]]:
    running: list[RunningProcess] = []

    def start(search_id: int) -> RunningProcess:
        environment = {**process_environment, "DJANGO_SETTINGS_MODULE": "platform_site.settings"}
        running.append(RunningProcess.start(["-c", WORKER, str(search_id)], environment, tmp_path / "worker.log"))
        return running[-1]

    yield start
    for process in running:
        process.kill()


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_kill_9_in_the_middle_loses_no_trial_and_a_stop_is_heard_by_another_process(
    start_worker: Callable[[int], RunningProcess],
) -> None:
    builders.list_instruments()
    alice = builders.user("alice")
    search = builders.search(alice, done=False, folds=2, trials=16, prune=False)
    worker = start_worker(search.pk)
    rows = Search.objects.filter(pk=search.pk)
    until(lambda: rows.filter(done__gte=3).exists() or worker.process.poll() is not None)
    worker.kill()
    begun = rows.get().done
    assert begun >= 3 and rows.get().state == "running", worker.log.read_text()
    before = told(search)
    assert len(before) == begun
    assert searches_take_up(now=timezone.now() + LATE) == [search.pk]
    start_worker(search.pk)
    until(lambda: rows.filter(done__gt=begun).exists())
    search_stop(search=search, actor="alice")
    until(lambda: rows.filter(state="stopped").exists())
    stopped = rows.get()
    assert told(search)[:begun] == before and stopped.attempt == 2
    assert stopped.summary["outcomes"] == {"complete": stopped.done}
    search_resume(search=search, actor="alice")
    assert carry_on(search) == "done" and search.done == 16
    whole = builders.search(alice, folds=2, trials=16, prune=False)
    assert told(search) == told(whole)


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return value
