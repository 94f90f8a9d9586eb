"""Every call to a venue goes through here: budget, breaker, the call itself, what its end teaches, and maybe again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from trading.resilience.breaker import Breaker, BreakerChange, BreakerLimits
from trading.resilience.rate_budget import (
    MOST_WAIT_SECONDS,
    NOTHING_SAID,
    Allowance,
    Bucket,
    BudgetExhausted,
    LocalBudget,
    Permit,
    Priority,
    RateBudget,
)
from trading.resilience.retry import NO_RETRY, Backoff

Value = TypeVar("Value")

BREAKERS: Mapping[str, BreakerLimits] = {
    "orders": BreakerLimits(failures=3, window_seconds=30.0, open_seconds=30.0),
    "account": BreakerLimits(failures=5, window_seconds=30.0, open_seconds=60.0),
    "market": BreakerLimits(failures=5, window_seconds=30.0, open_seconds=60.0),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is asked for: the breaker's group, and the buckets that a call takes from, the endpoint's own first."""

    group: str
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """What the end of a call teaches. ``failure``: the venue did not answer, or not in earnest, in words; a refusal
    of the venue is an answer. ``transport``: the same question may be answered in a moment. ``asked``: False when the
    call stopped on our side, which says nothing of the venue."""

    asked: bool = True
    failure: str = ""
    transport: bool = False
    said: Allowance = NOTHING_SAID


class NotSent(Exception):
    """The call was not made: no byte of it left. The message says why and what would help."""


class CallGuard:
    """The protections of one key at one venue; threads may share it."""

    def __init__(
        self, breakers: Mapping[str, Breaker], budget: RateBudget, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.breakers, self.budget = breakers, budget
        self._sleep = sleep

    @classmethod
    def alone(cls) -> CallGuard:
        """Of one gateway only, for a process that shares its key with nobody."""
        return cls(breakers_of("venue"), LocalBudget())

    def call(
        self,
        endpoint: Endpoint,
        attempt: Callable[[], Value],
        read: Callable[[Value | Exception], Ending],
        *,
        priority: Priority = "normal",
        wait_seconds: float = MOST_WAIT_SECONDS,
        backoff: Backoff = NO_RETRY,
        reserved: Permit | None = None,
    ) -> Value:
        """The value of ``attempt``, or what it raised last. It is tried again only as ``backoff`` has it, and only when
        ``read`` says that its transport failed: give a back-off to what is idempotent, and to nothing else. A permit
        that was ``reserved`` is used up by the first attempt.

        Raises:
            NotSent: the breaker is open (unless the priority is "kill"), or the budget had no room in time.
        """
        failed = 0
        while True:
            try:
                value = self._once(endpoint, attempt, read, priority, wait_seconds, reserved)
            except _TransportFailed as error:
                reserved = None
                failed += 1
                pause = backoff.pause(failed)
                if pause is None or self._refusal(endpoint, priority):
                    raise error.cause from None
                self._sleep(pause)
            else:
                return value

    async def ask(
        self,
        endpoint: Endpoint,
        question: Callable[[], Awaitable[Value]],
        read: Callable[[Value | Exception], Ending],
        *,
        wait_seconds: float = MOST_WAIT_SECONDS,
    ) -> Value:
        """As :meth:`call`, for what is awaited, and never tried again. The budget blocks: it is asked in a thread.

        Raises:
            NotSent: as :meth:`call`.
        """
        permit = await asyncio.to_thread(self._permit, endpoint, "normal", wait_seconds)
        ending = Ending()
        try:
            breaker = self.breakers[endpoint.group]
            if refusal := breaker.admit():
                raise NotSent(refusal)
            try:
                value = await question()
            except Exception as error:
                ending = read(error)
                if ending.asked:
                    breaker.record(ending.failure)
                else:
                    breaker.release()
                raise
            except BaseException:  # cancelled: that says nothing of the venue
                breaker.release()
                raise
            ending = read(value)
            breaker.record(ending.failure)
            return value
        finally:
            await asyncio.to_thread(self.budget.settle, permit, ending.said)

    def reserve(self, endpoint: Endpoint, *, priority: Priority = "normal") -> Permit:
        """A permit for a call that follows within seconds, for whoever must not wait any more later. Hand it to
        :meth:`call`, or to the budget's ``settle`` when the call is not made after all.

        Raises:
            NotSent: as :meth:`call` would.
        """
        return self._permit(endpoint, priority, MOST_WAIT_SECONDS)

    def status(self) -> dict[str, Any]:
        return {
            "breakers": {group: breaker.status() for group, breaker in self.breakers.items()},
            "budget": self.budget.status(),
        }

    def _once(
        self,
        endpoint: Endpoint,
        attempt: Callable[[], Value],
        read: Callable[[Value | Exception], Ending],
        priority: Priority,
        wait_seconds: float,
        reserved: Permit | None,
    ) -> Value:
        permit = reserved or self._permit(endpoint, priority, wait_seconds)
        ending = Ending()
        try:
            breaker = self.breakers[endpoint.group]
            refusal = breaker.admit()
            if refusal and priority != "kill":
                raise NotSent(refusal)
            try:
                value = attempt()
            except Exception as error:
                ending = read(error)
                if ending.asked:
                    breaker.record(ending.failure)
                else:
                    breaker.release()
                if ending.transport:
                    raise _TransportFailed(error) from error
                raise
            ending = read(value)
            breaker.record(ending.failure)
            return value
        finally:
            self.budget.settle(permit, ending.said)

    def _permit(self, endpoint: Endpoint, priority: Priority, wait_seconds: float) -> Permit:
        # Asked before too: nobody should wait for a token that an open breaker makes worthless.
        if refusal := self._refusal(endpoint, priority):
            raise NotSent(refusal)
        try:
            return self.budget.take(endpoint.buckets, priority, wait_seconds)
        except BudgetExhausted as error:
            raise NotSent(str(error)) from None

    def _refusal(self, endpoint: Endpoint, priority: Priority) -> str:
        return "" if priority == "kill" else self.breakers[endpoint.group].refusal()


class _TransportFailed(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def breakers_of(venue: str, on_change: Callable[[BreakerChange], None] = lambda change: None) -> dict[str, Breaker]:
    """A closed breaker for each group of endpoints; their names begin with the venue's."""
    return {group: Breaker(f"{venue} {group}", limits, on_change=on_change) for group, limits in BREAKERS.items()}
