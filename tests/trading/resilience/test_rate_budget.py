"""One rate budget for all processes: against a real Valkey, and against the limits that the exchange enforces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_site.supervisor.ports import free_port
from tests.processes import REPOSITORY, ServerProcess, start_simulator
from tests.trading.resilience.clocks import Clock
from tests.trading.resilience.own_valkey import OwnValkey
from trading.resilience.rate_budget import (
    ASSUMED_PROCESSES,
    MARGIN_MS,
    Allowance,
    Bucket,
    BudgetExhausted,
    LocalBudget,
    Permit,
    SharedBudget,
)

PROCESSES = 4


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[OwnValkey]:
    server = OwnValkey(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def prefix() -> str:
    """Buckets of this test's own."""
    return f"test-{uuid4().hex}"


@pytest.fixture(params=["local", "shared"])
def budget(request: pytest.FixtureRequest, prefix: str) -> LocalBudget | SharedBudget:
    return LocalBudget() if request.param == "local" else SharedBudget(os.environ["REDIS_URL"], prefix)


def use(budget: LocalBudget | SharedBudget, bucket: Bucket, times: int, **options: Any) -> list[Permit]:
    return [budget.take((bucket,), options.get("priority", "normal"), 0.0) for _ in range(times)]


def test_normal_calls_leave_the_reserve_to_cancels_and_those_to_the_kill_switch(
    budget: LocalBudget | SharedBudget,
) -> None:
    bucket = Bucket("address", 10)
    use(budget, bucket, 8)
    with pytest.raises(BudgetExhausted, match="address"):
        use(budget, bucket, 1)
    use(budget, bucket, 1, priority="cancel")
    with pytest.raises(BudgetExhausted):
        use(budget, bucket, 1, priority="cancel")
    use(budget, bucket, 1, priority="kill")
    with pytest.raises(BudgetExhausted):
        use(budget, bucket, 1, priority="kill")


def test_a_token_comes_back_one_window_after_its_answer_however_late_that_is(
    budget: LocalBudget | SharedBudget,
) -> None:
    bucket = Bucket("slow", 1, window_ms=300)
    (permit,) = use(budget, bucket, 1)
    with pytest.raises(BudgetExhausted):
        budget.take((bucket,), "normal", 0.5)
    settled = time.monotonic()
    budget.settle(permit)
    budget.take((bucket,), "normal", 2.0)
    assert time.monotonic() - settled >= 0.3


def test_a_call_takes_from_all_its_buckets_or_from_none(budget: LocalBudget | SharedBudget) -> None:
    wide, narrow = Bucket("wide", 10), Bucket("narrow", 2)
    use(budget, narrow, 1)
    for _ in range(3):
        with pytest.raises(BudgetExhausted):
            budget.take((wide, narrow), "normal", 0.0)
    use(budget, wide, 8)


def test_what_others_used_of_the_same_key_is_learned_from_the_headers(prefix: str) -> None:
    budget, bucket = SharedBudget(os.environ["REDIS_URL"], prefix), Bucket("key", 10)
    (permit,) = use(budget, bucket, 1)
    budget.settle(permit, Allowance(limit=10, remaining=3))
    use(budget, bucket, 1)
    with pytest.raises(BudgetExhausted):
        use(budget, bucket, 1)


def test_the_venues_own_limit_takes_the_place_of_ours_for_every_process(prefix: str) -> None:
    mine, theirs = (SharedBudget(os.environ["REDIS_URL"], prefix) for _ in range(2))
    bucket = Bucket("vip", 10)
    mine.settle(use(mine, bucket, 1)[0], Allowance(limit=40, remaining=39))
    assert len(use(theirs, bucket, 30)) == 30


def test_a_refusal_of_the_venue_stops_every_process_until_its_reset(prefix: str) -> None:
    mine, theirs = (SharedBudget(os.environ["REDIS_URL"], prefix) for _ in range(2))
    bucket = Bucket("refused", 10)
    began = time.monotonic()
    mine.settle(use(mine, bucket, 1)[0], Allowance(blocked_ms=700))
    with pytest.raises(BudgetExhausted):
        use(theirs, bucket, 1, priority="kill")
    theirs.take((bucket,), "kill", 3.0)
    assert time.monotonic() - began >= 0.7


def test_an_address_that_the_venue_refuses_is_left_alone_by_every_key_and_endpoint(
    budget: LocalBudget | SharedBudget,
) -> None:
    address, mine, others = Bucket("address", 600, 5_000), Bucket("mine", 10), Bucket("others", 10)
    permit = budget.take((mine, address), "normal", 0.0)
    budget.settle(permit, Allowance(blocked_ms=700, everywhere=True))
    with pytest.raises(BudgetExhausted):
        budget.take((others, address), "normal", 0.0)
    assert budget.take((others, address), "normal", 3.0)


def test_many_threads_never_have_more_tokens_out_than_there_are(prefix: str) -> None:
    budget, bucket = SharedBudget(os.environ["REDIS_URL"], prefix), Bucket("crowd", 10, window_ms=100)
    out: list[int] = [0]
    most: list[int] = [0]
    lock = threading.Lock()

    def work() -> None:
        for _ in range(5):
            permit = budget.take((bucket,), "normal", 5.0)
            with lock:
                out[0] += 1
                most[0] = max(most[0], out[0])
            time.sleep(0.005)
            with lock:
                out[0] -= 1
            budget.settle(permit)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most[0] <= 8 and budget.status()["taken"] == 80


@given(
    calls=st.lists(st.tuples(st.floats(0, 400), st.floats(0, 300), st.floats(0, 1)), min_size=1, max_size=60),
    limit=st.integers(1, 8),
)
def test_whatever_the_delays_no_rolling_window_of_the_venue_sees_more_than_its_limit(
    calls: list[tuple[float, float, float]], limit: int
) -> None:
    """Each call: ms after the one before, ms until its answer, and where in between the venue counts it."""
    clock = Clock()
    budget, bucket = LocalBudget(clock=clock), Bucket("venue", limit, shares={"normal": 1.0})  # type: ignore[arg-type]
    counted: list[float] = []
    under_way: list[tuple[float, Permit]] = []
    for pause_ms, delay_ms, part in calls:
        clock.advance(pause_ms / 1_000)
        taken: Permit | float = 0.0
        while not isinstance(taken, Permit):
            for ends, permit in [each for each in under_way if each[0] <= clock.now]:
                # Told as late as this process notices it, never earlier.
                under_way.remove((ends, permit))
                budget.settle(permit)
            taken = budget.try_take((bucket,), "normal")
            if not isinstance(taken, Permit):
                clock.advance(min(taken, 0.05))
        counted.append(clock.now + part * delay_ms / 1_000)
        under_way.append((clock.now + delay_ms / 1_000, taken))
    for start in counted:
        assert sum(start <= each < start + 1.0 for each in counted) <= limit


def test_without_valkey_a_process_goes_on_with_its_share_says_so_and_nothing_waits_for_valkey(
    own_valkey: OwnValkey,
) -> None:
    budget, bucket = SharedBudget(own_valkey.url, "test"), Bucket("key", 40)
    use(budget, bucket, 1)
    assert budget.status() | {"processes": 1} == budget.status() and budget.status()["mode"] == "shared"
    own_valkey.kill()
    began = time.monotonic()
    budget.take((bucket,), "normal", 5.0)
    # One window, because what was taken before is still counted at the venue, and no longer.
    assert 0.9 < time.monotonic() - began < 5.0
    assert budget.status()["mode"] == "local" and budget.status()["reason"]
    own_valkey.start_again()
    deadline = time.monotonic() + 20
    while budget.status()["mode"] == "local" and time.monotonic() < deadline:
        budget.take((bucket,), "normal", 5.0)
        time.sleep(0.05)
    assert budget.status()["mode"] == "shared" and budget.status()["outages"] == 1


def test_a_process_that_never_met_valkey_takes_the_share_of_one_of_several() -> None:
    budget, bucket = SharedBudget(f"redis://127.0.0.1:{free_port()}/0", "test"), Bucket("key", 40)
    budget.take((bucket,), "normal", 5.0)
    use(budget, bucket, 32 // ASSUMED_PROCESSES - 1)
    with pytest.raises(BudgetExhausted):
        use(budget, bucket, 1)


def hammers(simulator: ServerProcess, redis_url: str, prefix: str, seconds: float) -> list[subprocess.Popen[str]]:
    """Processes that place as many orders as they may, and one more that cancels beside them."""
    command = [sys.executable, "-m", "tests.trading.resilience.hammer", str(seconds), redis_url, prefix, simulator.url]
    return [
        subprocess.Popen([*command, "alice", what], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for what in (*["create"] * PROCESSES, "cancel")
    ]


def told(running: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    try:
        return [json.loads(process.communicate(timeout=60)[0]) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[ServerProcess]:
    """With the limits of an address as well as those of a key."""
    server = start_simulator(tmp_path / "simulator.log", ("--symbols", "1", "--ip-limit"))
    yield server
    server.stop()


@pytest.mark.slow
def test_at_full_load_of_several_processes_the_venue_refuses_nothing_and_cancels_get_through(
    venue: ServerProcess, prefix: str
) -> None:
    *creators, canceller = told(hammers(venue, os.environ["REDIS_URL"], prefix, 5.0))
    accepted = sum(each["outcomes"].get("accepted", 0) for each in creators)
    assert [each["codes"] for each in creators] == [{}] * PROCESSES
    # At most 8 in each window of a second, from the first process's start to the last one's end; how many fewer depends
    # on how fast a busy machine answers.
    span = max(each["ended"] for each in creators) - min(each["started"] for each in creators)
    assert 8 <= accepted <= 8 * (span + 1)
    assert set(canceller["outcomes"]) == {"closed"} and set(canceller["codes"]) == {"110001"}
    assert canceller["longest"] < 5.0
    assert "shared" in {mode for each in creators for mode in each["modes"]}


@pytest.mark.long
def test_valkey_killed_in_the_middle_of_full_load_makes_nobody_wait_long_and_the_venue_refuses_nothing(
    venue: ServerProcess, own_valkey: OwnValkey
) -> None:
    running = hammers(venue, own_valkey.url, "test", 12.0)
    time.sleep(5.0)
    own_valkey.kill()
    time.sleep(3.0)
    own_valkey.start_again()
    *creators, canceller = told(running)
    assert {mode for each in creators for mode in each["modes"]} == {"shared", "local"}
    assert {each["status"]["budget"]["mode"] for each in creators} == {"shared"}
    assert [code for each in creators for code in each["codes"]] == []
    assert max(each["longest"] for each in (*creators, canceller)) <= 6.0
    assert sum(each["outcomes"].get("accepted", 0) for each in creators) >= 8
    assert set(canceller["outcomes"]) == {"closed"}


def test_the_margin_is_small_beside_the_window() -> None:
    assert 0 < MARGIN_MS <= 20
