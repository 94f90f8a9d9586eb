"""What weights follow from, kept over restarts: read when a symbol becomes ours, written while it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from functools import partial

from django.db import Error

from strategies.selectors import performance_states
from strategies.services import performances_store
from strategies.weights import Performance
from trading.pipeline import Pipeline
from trading.runtime.database import ask_database

log = logging.getLogger(__name__)

# What a killed engine noted since is lost; what the market did since is replayed from candles.
FLUSH_SECONDS = 1.0


class PerformanceStore:
    """``is_holder`` says whether a symbol is ours: only then what we know of it is the truth."""

    def __init__(self, pipeline: Pipeline, is_holder: Callable[[str], bool]) -> None:
        self._pipeline, self._is_holder = pipeline, is_holder
        # By account and symbol: what was read (or was found to have nothing to read), and how far it is written.
        self._read: dict[tuple[int, str], Performance] = {}
        self._written: dict[tuple[int, str], int] = {}
        self._reading = asyncio.Lock()

    def forget(self, symbols: Collection[str]) -> None:
        """These were another engine's until now: that one knows better."""
        self._read = {key: each for key, each in self._read.items() if key[1] not in symbols}

    async def restore(self) -> None:
        """Read what is known of accounts and symbols that are new here."""
        async with self._reading:
            unread = [key for key, each in self._pipeline.performances().items() if self._read.get(key) is not each]
            if not unread:
                return
            states = await ask_database(partial(performance_states, unread, self._pipeline.combining))
            try:
                self._pipeline.restore_performances(states)
            except (KeyError, TypeError, ValueError) as error:
                log.error("what was known of signals' results cannot be read, weights begin anew: %s", error)
            now = self._pipeline.performances()
            for key in unread:
                if key in now:
                    self._read[key], self._written[key] = now[key], now[key].changes

    async def run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        changed = {
            key: each
            for key, each in self._pipeline.performances().items()
            if self._read.get(key) is each and each.changes != self._written[key] and self._is_holder(key[1])
        }
        if not changed:
            return
        states = {key: each.state() for key, each in changed.items()}
        written = {key: each.changes for key, each in changed.items()}
        try:
            await ask_database(partial(performances_store, states=states, rules=self._pipeline.combining))
        except Error as error:
            log.warning("results of %d signals' strategies wait for the database: %s", len(states), error)
            return
        self._written |= written
