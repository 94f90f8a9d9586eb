"""What the guard lets through, what it asks again, and what it learns from each end of a call - without a venue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trading.resilience.breaker import BreakerState
from trading.resilience.guard import CallGuard, Ending, Endpoint, NotSent, breakers_of
from trading.resilience.rate_budget import Allowance, Bucket, LocalBudget
from trading.resilience.retry import Backoff

ENDPOINT = Endpoint("orders", (Bucket("create", 10),))
NO_ANSWER = Ending(failure="no answer", transport=True)


def guard() -> CallGuard:
    return CallGuard(breakers_of("venue"), LocalBudget(), sleep=lambda seconds: None)


def ends(*endings: Ending) -> tuple[Callable[[], str], Callable[[Any], Ending], list[Ending]]:
    """A call that ends so, one after the other: an asked one without a failure has a value, others raise."""
    left = list(endings)

    def attempt() -> str:
        if left[0].failure or not left[0].asked:
            raise ConnectionError(left[0].failure)
        return "value"

    return attempt, lambda end: left.pop(0), left


def test_only_a_failed_transport_is_asked_again_and_only_as_often_as_allowed() -> None:
    attempt, read, left = ends(NO_ANSWER, NO_ANSWER, Ending())
    assert guard().call(ENDPOINT, attempt, read, backoff=Backoff(3)) == "value" and not left
    attempt, read, left = ends(NO_ANSWER, NO_ANSWER, NO_ANSWER, Ending())
    with pytest.raises(ConnectionError):
        guard().call(Endpoint("account", ()), attempt, read, backoff=Backoff(3))
    assert len(left) == 1
    attempt, read, left = ends(Ending(failure="server error"), Ending())
    with pytest.raises(ConnectionError):
        guard().call(ENDPOINT, attempt, read, backoff=Backoff(3))
    assert len(left) == 1


def test_without_a_back_off_nothing_is_asked_twice() -> None:
    attempt, read, left = ends(NO_ANSWER, Ending())
    with pytest.raises(ConnectionError):
        guard().call(ENDPOINT, attempt, read)
    assert len(left) == 1


def test_an_open_breaker_stops_asking_again_and_everybody_else() -> None:
    subject = guard()
    attempt, read, left = ends(*[NO_ANSWER] * 6)
    with pytest.raises(ConnectionError):
        subject.call(ENDPOINT, attempt, read, backoff=Backoff(6))
    assert len(left) == 3 and subject.breakers["orders"].state is BreakerState.OPEN
    with pytest.raises(NotSent, match="breaker of venue orders is open"):
        subject.call(ENDPOINT, attempt, read)
    assert len(left) == 3


def test_the_kill_switch_goes_through_an_open_breaker() -> None:
    subject = guard()
    attempt, read, _ = ends(*[NO_ANSWER] * 3)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            subject.call(ENDPOINT, attempt, read)
    attempt, read, _ = ends(Ending(), Ending())
    assert subject.call(ENDPOINT, attempt, read, priority="kill") == "value"
    with pytest.raises(NotSent):
        subject.call(ENDPOINT, attempt, read)


def test_a_call_that_stopped_on_our_side_says_nothing_of_the_venue() -> None:
    subject = guard()
    attempt, read, _ = ends(*[Ending(asked=False)] * 5)
    for _ in range(5):
        with pytest.raises(ConnectionError):
            subject.call(ENDPOINT, attempt, read)
    assert subject.breakers["orders"].status()["failures"] == 0


def test_groups_fail_apart() -> None:
    subject = guard()
    attempt, read, _ = ends(*[NO_ANSWER] * 3, Ending())
    for _ in range(3):
        with pytest.raises(ConnectionError):
            subject.call(ENDPOINT, attempt, read)
    assert subject.call(Endpoint("account", ()), attempt, read) == "value"


def test_a_budget_without_room_is_a_definite_no_and_no_failure_of_the_venue() -> None:
    subject = guard()
    attempt, read, _ = ends(*[Ending()] * 20)
    for _ in range(8):
        subject.call(ENDPOINT, attempt, read, wait_seconds=0)
    with pytest.raises(NotSent, match="rate budget of create has no room"):
        subject.call(ENDPOINT, attempt, read, wait_seconds=0.05)
    assert subject.call(ENDPOINT, attempt, read, priority="kill", wait_seconds=0) == "value"
    assert subject.breakers["orders"].status()["failures"] == 0


def test_what_the_venue_says_of_its_limit_is_believed() -> None:
    subject = guard()
    attempt, read, _ = ends(Ending(said=Allowance(limit=2)), Ending())
    subject.call(ENDPOINT, attempt, read)
    with pytest.raises(NotSent):
        subject.call(ENDPOINT, attempt, read, wait_seconds=0)
    attempt, read, _ = ends(Ending(said=Allowance(blocked_ms=60_000)))
    subject = guard()
    subject.call(ENDPOINT, attempt, read)
    with pytest.raises(NotSent):
        subject.call(ENDPOINT, attempt, read, priority="kill", wait_seconds=0)
