"""Asking again: exponential back-off with full jitter, so that many who failed together do not come back together."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """At most ``attempts`` in all; before the second one up to ``first_seconds``, then ``factor`` times as long each
    time, never more than ``longest_seconds``."""

    attempts: int = 3
    first_seconds: float = 0.25
    factor: float = 2.0
    longest_seconds: float = 10.0

    def bound(self, failed: int) -> float:
        """The longest pause in seconds after so many failed attempts (from 1 on)."""
        return min(self.longest_seconds, self.first_seconds * self.factor ** (failed - 1))

    def pause(self, failed: int, generator: random.Random | None = None) -> float | None:
        """Seconds to wait before the next attempt: anything from 0 to the bound. None when there shall be none."""
        if failed >= self.attempts:
            return None
        return (generator or random).uniform(0.0, self.bound(failed))


NO_RETRY = Backoff(attempts=1)
