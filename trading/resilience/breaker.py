"""A circuit breaker: after too many failures in a while nothing is asked for a while, then one probe decides."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class BreakerState(IntEnum):
    """The number is what Prometheus shows as ``circuit_breaker_state``."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """``failures`` within ``window_seconds`` open the breaker for ``open_seconds``. A probe whose end nobody told
    within ``probe_seconds`` (its thread died) gives its place to another."""

    failures: int
    window_seconds: float
    open_seconds: float
    probe_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A breaker has changed its state. ``reason`` is the last failure in words."""

    name: str
    before: BreakerState
    after: BreakerState
    reason: str


class Breaker:
    """One group of endpoints of one venue. Threads may share it; ``on_change`` is called without its lock held."""

    def __init__(
        self,
        name: str,
        limits: BreakerLimits,
        *,
        on_change: Callable[[BreakerChange], None] = lambda change: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.limits = name, limits
        self._on_change, self._clock = on_change, clock
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._failures: deque[float] = deque()
        self._opened_at = 0.0
        self._probe_since: float | None = None
        self._reason = ""
        self._counts = {"failures": 0, "opened": 0, "refused": 0}

    @property
    def state(self) -> BreakerState:
        """As a call would find it now: OPEN becomes HALF_OPEN by itself when its time is over."""
        with self._lock:
            return self._now(self._clock())

    def refusal(self) -> str:
        """Why a call would be refused now, without taking the probe's place; empty when it would not."""
        with self._lock:
            return self._refusal(self._clock())

    def admit(self) -> str:
        """Ask right before a call; why it must not be made, or empty. Then :meth:`record` or
        :meth:`release` must follow."""
        now = self._clock()
        with self._lock:
            refusal = self._refusal(now)
            if refusal:
                self._counts["refused"] += 1
            elif self._now(now) is BreakerState.HALF_OPEN:
                self._probe_since = now
        return refusal

    def record(self, failure: str = "") -> None:
        """How a call ended: ``failure`` in words, empty when the venue answered, whatever it said."""
        now = self._clock()
        with self._lock:
            before = self._now(now)
            self._probe_since = None
            if failure:
                self._fail(now, before, failure)
            elif before is BreakerState.HALF_OPEN:
                # While it is open an answer proves little: a venue that answers every other call is still ill.
                self._state = BreakerState.CLOSED
                self._failures.clear()
            change = BreakerChange(self.name, before, self._state, self._reason)
        if change.before is not change.after:
            self._on_change(change)

    def release(self) -> None:
        """Instead of :meth:`record`: the call was not made after all, and says nothing of the venue."""
        with self._lock:
            self._probe_since = None

    def status(self) -> dict[str, Any]:
        now = self._clock()
        with self._lock:
            state = self._now(now)
            remaining = self._opened_at + self.limits.open_seconds - now if state is BreakerState.OPEN else 0.0
            shown = {"state": state.name.lower(), "seconds_left": round(remaining, 1), "reason": self._reason}
            return {**shown, **self._counts}

    def _fail(self, now: float, before: BreakerState, failure: str) -> None:
        self._reason = failure
        self._counts["failures"] += 1
        self._failures.append(now)
        while self._failures[0] <= now - self.limits.window_seconds:
            self._failures.popleft()
        if before is BreakerState.CLOSED and len(self._failures) < self.limits.failures:
            return
        if before is not BreakerState.OPEN:
            # Calls that were under way when it opened, and those let through, do not make it open for longer.
            self._opened_at = now
            self._counts["opened"] += 1
        self._state = BreakerState.OPEN
        self._failures.clear()

    def _now(self, now: float) -> BreakerState:
        if self._state is BreakerState.OPEN and now >= self._opened_at + self.limits.open_seconds:
            return BreakerState.HALF_OPEN
        return self._state

    def _refusal(self, now: float) -> str:
        state = self._now(now)
        if state is BreakerState.OPEN:
            left = self._opened_at + self.limits.open_seconds - now
            return f"the breaker of {self.name} is open for {left:.0f} s more: {self._reason}"
        if state is BreakerState.HALF_OPEN and self._probe_is_under_way(now):
            return f"the breaker of {self.name} waits for the answer to its probe: {self._reason}"
        return ""

    def _probe_is_under_way(self, now: float) -> bool:
        return self._probe_since is not None and now < self._probe_since + self.limits.probe_seconds
