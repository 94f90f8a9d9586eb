"""The circuit breaker, by examples and against a plain model of it in any order of events."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.trading.resilience.clocks import Clock
from trading.resilience.breaker import Breaker, BreakerChange, BreakerLimits, BreakerState

LIMITS = BreakerLimits(failures=3, window_seconds=30.0, open_seconds=30.0, probe_seconds=10.0)


def breaker(clock: Clock, changes: list[BreakerChange] | None = None) -> Breaker:
    return Breaker("venue orders", LIMITS, clock=clock, on_change=(changes if changes is not None else []).append)


def fail(subject: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert subject.admit() == ""
        subject.record("no answer")


def test_it_opens_after_so_many_failures_within_its_window_and_says_why() -> None:
    clock, changes = Clock(), []
    subject = breaker(clock, changes)
    fail(subject, 2)
    assert subject.state is BreakerState.CLOSED
    fail(subject)
    assert subject.state is BreakerState.OPEN
    assert "open for 30 s more: no answer" in subject.admit()
    assert changes == [BreakerChange("venue orders", BreakerState.CLOSED, BreakerState.OPEN, "no answer")]


def test_failures_that_are_further_apart_than_the_window_never_open_it() -> None:
    clock = Clock()
    subject = breaker(clock)
    for _ in range(20):
        fail(subject)
        clock.advance(16)
    assert subject.state is BreakerState.CLOSED


def test_answers_between_failures_do_not_hide_them() -> None:
    subject = breaker(Clock())
    for _ in range(2):
        fail(subject)
        subject.record()
    fail(subject)
    assert subject.state is BreakerState.OPEN


def test_after_its_time_exactly_one_probe_is_let_through_and_decides() -> None:
    clock = Clock()
    subject = breaker(clock)
    fail(subject, 3)
    clock.advance(30)
    assert subject.state is BreakerState.HALF_OPEN
    assert subject.admit() == "" and "probe" in subject.admit()
    subject.record("still away")
    assert subject.state is BreakerState.OPEN and "still away" in subject.admit()
    clock.advance(30)
    assert subject.admit() == ""
    subject.record()
    assert subject.state is BreakerState.CLOSED and subject.admit() == "" == subject.admit()


def test_a_probe_that_was_not_made_or_never_ends_gives_its_place_to_another() -> None:
    clock = Clock()
    subject = breaker(clock)
    fail(subject, 3)
    clock.advance(30)
    assert subject.admit() == ""
    subject.release()
    assert subject.state is BreakerState.HALF_OPEN and subject.admit() == ""
    clock.advance(9)
    assert subject.admit()
    clock.advance(1)
    assert subject.admit() == ""


def test_asking_whether_it_would_refuse_takes_nobodys_place() -> None:
    clock = Clock()
    subject = breaker(clock)
    fail(subject, 3)
    clock.advance(30)
    assert subject.refusal() == "" == subject.refusal() == subject.admit()


def test_calls_that_were_let_through_while_it_is_open_neither_close_nor_prolong_it() -> None:
    clock = Clock()
    subject = breaker(clock)
    fail(subject, 3)
    clock.advance(20)
    subject.record("the kill switch got no answer either")
    subject.record()
    assert subject.state is BreakerState.OPEN
    clock.advance(10)
    assert subject.state is BreakerState.HALF_OPEN
    subject.record()
    assert subject.state is BreakerState.CLOSED


class BreakerModel(RuleBasedStateMachine):
    """Lists of what happened, searched anew at every question."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.changes: list[BreakerChange] = []
        self.subject = breaker(self.clock, self.changes)
        self.failures: list[float] = []
        self.opened_at: float | None = None
        self.probe_at: float | None = None

    def expected(self) -> BreakerState:
        if self.opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self.clock.now < self.opened_at + 30 else BreakerState.HALF_OPEN

    @rule(seconds=st.sampled_from([0.0, 1.0, 9.0, 10.0, 15.0, 29.0, 30.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def somebody_asks(self) -> None:
        state = self.expected()
        probing = self.probe_at is not None and self.clock.now < self.probe_at + 10
        admitted = state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not probing)
        assert (self.subject.admit() == "") == admitted
        if admitted and state is BreakerState.HALF_OPEN:
            self.probe_at = self.clock.now

    @rule()
    def a_call_fails(self) -> None:
        state = self.expected()
        self.subject.record("failed")
        self.probe_at = None
        if state is BreakerState.CLOSED:
            self.failures = [each for each in self.failures if each > self.clock.now - 30] + [self.clock.now]
            if len(self.failures) >= 3:
                self.opened_at, self.failures = self.clock.now, []
        elif state is BreakerState.HALF_OPEN:
            self.opened_at = self.clock.now

    @rule()
    def a_call_is_answered(self) -> None:
        if self.expected() is BreakerState.HALF_OPEN:
            self.failures, self.opened_at = [], None
        self.subject.record()
        self.probe_at = None

    @rule()
    def a_call_is_not_made(self) -> None:
        self.subject.release()
        self.probe_at = None

    @invariant()
    def they_agree(self) -> None:
        assert self.subject.state is self.expected()

    @invariant()
    def changes_follow_each_other_and_open_only_after_a_failure(self) -> None:
        assert all(change.before is not change.after for change in self.changes)
        assert all(change.reason == "failed" for change in self.changes if change.after is BreakerState.OPEN)


TestBreakerModel = BreakerModel.TestCase
TestBreakerModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
