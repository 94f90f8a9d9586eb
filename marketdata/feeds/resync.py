"""Brings books back: asks for snapshots, one attempt after the other, until the book is proven."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from marketdata.feeds.connection import back_off
from marketdata.feeds.protocol import VenueError

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
# A book that stayed proven for so long is asked for without delay the next time.
CALM_SECONDS = 30.0
ALERT_ATTEMPTS = 5


@dataclass(slots=True)
class _Patient:
    attempts: int = 0
    proven: asyncio.Event = field(default_factory=asyncio.Event)
    proven_at: float = 0.0
    task: asyncio.Task[None] | None = None


class Resync:
    """``ask`` requests one symbol's snapshot (VenueError: it will be asked again); ``on_failed`` hears of each fifth
    attempt that brought nothing. The first attempt is made at once, the next ones after 1, 2, 4 ... 30 s."""

    def __init__(self, ask: Callable[[str], Awaitable[None]], on_failed: Callable[[str, int, str], None]) -> None:
        self._ask, self._on_failed = ask, on_failed
        self._patients: dict[str, _Patient] = {}

    def want(self, symbol: str) -> bool:
        """Bring the book of a symbol back; False when that is under way already."""
        patient = self._patients.setdefault(symbol, _Patient())
        if patient.task is not None:
            return False
        patient.proven.clear()
        if time.monotonic() - patient.proven_at > CALM_SECONDS:
            patient.attempts = 0
        patient.task = asyncio.get_running_loop().create_task(self._bring_back(symbol, patient))
        return True

    def proven(self, symbol: str) -> None:
        patient = self._patients.setdefault(symbol, _Patient())
        patient.proven_at = time.monotonic()
        patient.proven.set()

    def forget(self, symbols: Iterable[str]) -> None:
        """Their connection is gone: nothing that was asked for will come."""
        for symbol in symbols:
            patient = self._patients.get(symbol)
            if patient is not None and patient.task is not None:
                patient.task.cancel()
                patient.task = None

    async def _bring_back(self, symbol: str, patient: _Patient) -> None:
        try:
            while not patient.proven.is_set():
                if patient.attempts and await _within(patient.proven, back_off(patient.attempts)):
                    return
                patient.attempts += 1
                failure = await self._attempt(symbol, patient)
                if failure and patient.attempts % ALERT_ATTEMPTS == 0:
                    self._on_failed(symbol, patient.attempts, failure)
        finally:
            if patient.task is asyncio.current_task():
                patient.task = None

    async def _attempt(self, symbol: str, patient: _Patient) -> str:
        """Empty when the book is proven, else why not."""
        try:
            await self._ask(symbol)
        except VenueError as error:
            log.warning("%s: no snapshot: %s", symbol, error)
            return str(error)
        if await _within(patient.proven, ANSWER_SECONDS):
            return ""
        return f"not proven within {ANSWER_SECONDS:g} s of a request"


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event happens in that time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
