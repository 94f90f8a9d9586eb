"""The life of a backtest: asked for, carried out once, stopped, taken up again when its worker dies, deleted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.utils import timezone

from audit.models import AuditEvent
from tests import builders
from tests.processes import RunningProcess
from trading.backtest.request import BacktestRequest
from trading.backtest.request_json import RequestInvalid
from trading.backtest.result import BacktestResult
from trading.backtest.result_packing import unpack_equity, unpack_rows
from trading.models import BacktestPart, BacktestRun
from trading.runtime.backtest_data import BacktestData, DataMissing
from trading.runtime.backtest_run import Pulse, carry_out_backtest
from trading.selectors import backtest_part, visible_backtests
from trading.services import backtests
from trading.services.backtests import (
    backtest_claim,
    backtest_create,
    backtest_delete,
    backtest_end,
    backtest_progress,
    backtest_stop,
    backtests_take_up,
)
from trading.services.run_lives import LEASE_SECONDS, SEND_AGAIN_SECONDS, BacktestLost, BacktestRefused

LATE = timedelta(seconds=LEASE_SECONDS + 1)


@pytest.fixture
def alice(db: None) -> Any:
    builders.list_instruments()
    return builders.user("alice")


def found(request: BacktestRequest, data: BacktestData, pulse: Pulse) -> BacktestResult:
    return builders.backtest_found()


def carry_out(run: BacktestRun, simulate: Any = found, load: Any = builders.backtest_data) -> BacktestRun:
    carry_out_backtest(run.pk, load=load, simulate=simulate)
    run.refresh_from_db()
    return run


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return value


def test_what_is_asked_waits_for_a_worker_and_is_on_the_trail(alice: Any) -> None:
    run = builders.backtest_run(alice, done=False)
    assert (run.state, run.name) == ("queued", "supertrend on BTCUSDT")
    event = AuditEvent.objects.get(action="backtest.asked")
    assert (event.actor, event.subject) == ("alice", f"backtest:{run.pk}")
    assert event.parameters["strategies"][0]["parameters"]["period"] == 10


def test_a_worker_carries_it_out_and_keeps_all_that_was_found(alice: Any) -> None:
    run = carry_out(builders.backtest_run(alice, done=False))
    result = builders.backtest_found()
    assert (run.state, run.progress, run.code, run.error) == ("done", 1.0, "test", "")
    assert run.summary["statistics"]["trades"] == 60 and run.summary["coverage"][0]["bars"] == 2_880
    assert run.data == {"candles/BTCUSDT/1": "d" * 64}
    for kind in ("signals", "fills", "trades"):
        assert unpack_rows(kind, backtest_part(run, kind) or b"") == list(getattr(result, kind))
    times, equity, exposed = unpack_equity(backtest_part(run, "equity") or b"")
    assert np.array_equal(times, result.equity_ms) and np.array_equal(equity, result.equity)
    assert np.array_equal(exposed, result.exposed)


def test_a_second_worker_finds_nothing_to_do(alice: Any) -> None:
    run = builders.backtest_run(alice)
    before = BacktestPart.objects.values_list("pk", flat=True)
    assert carry_out_backtest(run.pk) == "" and carry_out_backtest(10**9) == ""
    assert list(before) == list(BacktestPart.objects.values_list("pk", flat=True))


def test_a_fault_fails_the_run_in_words_and_not_the_worker(alice: Any) -> None:
    def broken(request: BacktestRequest, data: BacktestData, pulse: Pulse) -> BacktestResult:
        raise ValueError("strategy mine, line 12: bar 7 is not there yet")

    def missing(request: BacktestRequest) -> BacktestData:
        raise DataMissing("there are no bars")

    run = carry_out(builders.backtest_run(alice, done=False), broken)
    assert (run.state, run.error) == ("failed", "ValueError: strategy mine, line 12: bar 7 is not there yet")
    run = carry_out(builders.backtest_run(alice, done=False), load=missing)
    assert (run.state, run.error) == ("failed", "there are no bars")
    assert run.finished_at and not BacktestPart.objects.exists()


def test_one_that_waits_is_stopped_at_once_and_never_begun(alice: Any) -> None:
    run = backtest_stop(run=builders.backtest_run(alice, done=False), actor="alice")
    assert run.state == "stopped" and carry_out(run).state == "stopped"
    assert AuditEvent.objects.filter(action="backtest.stopped").count() == 1
    with pytest.raises(BacktestRefused, match="stopped; only one that waits or runs"):
        backtest_stop(run=run, actor="alice")


@pytest.mark.django_db(transaction=True)
def test_one_that_runs_tells_its_progress_and_is_stopped_within_two_seconds() -> None:
    builders.list_instruments()
    run = builders.backtest_run(builders.user("alice"), done=False)

    def endless(request: BacktestRequest, data: BacktestData, pulse: Pulse) -> BacktestResult:
        while not pulse.stop():
            pulse.progress(0.25, 1_000)
            time.sleep(0.001)
        raise RuntimeError("stopped")

    def work() -> None:
        carry_out_backtest(run.pk, load=builders.backtest_data, simulate=endless)
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    rows = BacktestRun.objects.filter(pk=run.pk)
    until(lambda: rows.filter(state="running", progress=0.25, events=1_000, words="testing").exists())
    backtest_stop(run=run, actor="alice")
    asked = time.monotonic()
    until(lambda: rows.filter(state="stopped").exists())
    # A beat of a second; the rest is for a machine that is busy.
    assert time.monotonic() - asked < 30
    worker.join()
    assert rows.get().error == ""


def test_progress_is_heard_of_the_worker_that_has_the_run_only(alice: Any) -> None:
    run = builders.backtest_run(alice, done=False)
    first = backtest_claim(run_id=run.pk, worker="one")
    assert first is not None and backtest_claim(run_id=run.pk, worker="two") is None
    assert backtest_progress(run=first, progress=7.0, events=5, words="x") is False
    assert BacktestRun.objects.get().progress == 1.0
    assert backtests_take_up() == [] and backtests_take_up(now=timezone.now() + LATE) == [run.pk]
    second = backtest_claim(run_id=run.pk, worker="two")
    assert second is not None and second.attempt == 2
    for late in (
        lambda: backtest_progress(run=first, progress=0.5, events=5, words="x"),
        lambda: backtest_end(run=first, error="mine"),
    ):
        with pytest.raises(BacktestLost):
            late()
    assert BacktestRun.objects.get().state == "running"


def test_a_run_that_kills_its_workers_fails_and_one_to_be_stopped_is(alice: Any) -> None:
    run, stopped = (builders.backtest_run(alice, done=False) for _ in "ab")
    backtest_claim(run_id=stopped.pk, worker="one")
    backtest_stop(run=stopped, actor="alice")
    for _ in range(backtests.MOST_ATTEMPTS):
        assert backtest_claim(run_id=run.pk, worker="one")
        backtests_take_up(now=timezone.now() + LATE)
    run.refresh_from_db(), stopped.refresh_from_db()
    assert run.state == "failed" and "3 times" in run.error
    assert stopped.state == "stopped"


def test_what_was_sent_and_never_begun_is_sent_again_once_a_minute(alice: Any) -> None:
    run = builders.backtest_run(alice, done=False)
    assert backtests_take_up() == []
    later = timezone.now() + timedelta(seconds=SEND_AGAIN_SECONDS + 1)
    assert backtests_take_up(now=later) == [run.pk] and backtests_take_up(now=later) == []


WORKER = """
import sys, time
import django
django.setup()
from tests import builders
from trading.runtime.backtest_run import carry_out_backtest
def endless(request, data, pulse):
    while True:
        pulse.progress(0.5, 1)
        time.sleep(0.01)
carry_out_backtest(int(sys.argv[1]), load=builders.backtest_data, simulate=endless)
"""


@pytest.fixture
def start_worker(process_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[int], RunningProcess]]:
    running: list[RunningProcess] = []

    def start(run_id: int) -> RunningProcess:
        environment = {**process_environment, "DJANGO_SETTINGS_MODULE": "platform_site.settings"}
        running.append(RunningProcess.start(["-c", WORKER, str(run_id)], environment, tmp_path / "worker.log"))
        return running[-1]

    yield start
    for process in running:
        process.kill()


@pytest.mark.django_db(transaction=True)
def test_a_worker_killed_in_the_middle_leaves_a_run_that_another_carries_out(
    start_worker: Callable[[int], RunningProcess],
) -> None:
    builders.list_instruments()
    run = builders.backtest_run(builders.user("alice"), done=False)
    worker = start_worker(run.pk)
    rows = BacktestRun.objects.filter(pk=run.pk)
    until(lambda: rows.filter(progress=0.5).exists() or worker.process.poll() is not None, 120)
    worker.kill()
    assert rows.get().state == "running", worker.log.read_text()
    assert carry_out_backtest(run.pk) == "", "its hold has not run out"
    assert backtests_take_up(now=timezone.now() + LATE) == [run.pk]
    assert "ended in the middle" in rows.get().words
    assert carry_out(run).state == "done" and run.attempt == 2


def test_only_what_is_over_is_deleted_with_all_that_was_found(alice: Any) -> None:
    run = builders.backtest_run(alice, done=False)
    with pytest.raises(BacktestRefused, match="stop it first"):
        backtest_delete(run=run, actor="alice")
    backtest_delete(run=carry_out(run), actor="alice")
    assert not BacktestRun.objects.exists() and not BacktestPart.objects.exists()
    assert AuditEvent.objects.get(action="backtest.deleted").before["state"] == "done"


def test_nobody_has_more_than_twenty_waiting(alice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtests, "MOST_UNFINISHED", 2)
    for _ in "ab":
        builders.backtest_run(alice, done=False)
    with pytest.raises(BacktestRefused, match="2 of your backtests are not finished"):
        builders.backtest_run(alice, done=False)
    assert builders.backtest_run(builders.user("bob"), done=False).state == "queued"


@pytest.mark.parametrize("name", ["x" * 81, "a\x00b", 5, None])
def test_a_wrong_name_or_an_unlisted_symbol_is_refused(alice: Any, name: Any) -> None:
    with pytest.raises(RequestInvalid, match="name"):
        backtest_create(owner=alice, data=builders.backtest_request(), name=name)
    strategies = [{"strategy": "supertrend", "symbols": ["NOPEUSDT"]}]
    with pytest.raises(RequestInvalid, match="NOPEUSDT: is no instrument"):
        backtest_create(owner=alice, data=builders.backtest_request(strategies=strategies))


def test_a_backtest_is_its_owners_and_the_staffs(alice: Any) -> None:
    run = builders.backtest_run(alice, done=False)
    bob, sam = builders.user("bob"), builders.user("sam", is_staff=True)
    assert [each.pk for each in visible_backtests(alice)] == [run.pk] == [each.pk for each in visible_backtests(sam)]
    assert not visible_backtests(bob).exists() and not visible_backtests(None).exists()
