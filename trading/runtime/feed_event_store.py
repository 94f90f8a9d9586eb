"""What happens to feeds into the database: in batches, beside the event loop, and kept while the database is away."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import orjson
from asgiref.sync import sync_to_async
from django.db import Error

from marketdata.events import FeedEvent, FeedEventKind
from marketdata.services import feed_events_store

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
A_BATCH = 1_000
# More than this waits in the file, and more than that is forgotten, the oldest first, and counted.
MOST_WAITING = 5_000
MOST_SPILLED_BYTES = 64 * 2**20


class FeedEventStore:
    """:meth:`add` never waits. What waits for a database that is away goes to the file ``spill``, of this engine
    alone, when it becomes too much or the engine stops; the file is stored when the database is back."""

    def __init__(self, spill: Path) -> None:
        self._spill = spill
        self._waiting: deque[FeedEvent] = deque()
        self.counts = {"stored": 0, "spilled": 0, "dropped": 0}

    def add(self, event: FeedEvent) -> None:
        self._waiting.append(event)
        if len(self._waiting) > 2 * MOST_WAITING:
            self._waiting.popleft()
            self.counts["dropped"] += 1

    async def run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Store what waits, in this process's memory and in the file."""
        if not self._waiting and not self._spill.exists():
            return
        try:
            while self._waiting:
                batch = list(islice(self._waiting, A_BATCH))
                self.counts["stored"] += await sync_to_async(feed_events_store, thread_sensitive=False)(batch)
                # Only what was stored leaves; what was added meanwhile is behind it.
                for event in batch:
                    if self._waiting and self._waiting[0] is event:
                        self._waiting.popleft()
            await asyncio.to_thread(self._store_spilled)
        except Error as error:
            log.warning("%d events of feeds wait for the database: %s", len(self._waiting), error)
            if len(self._waiting) > MOST_WAITING:
                await self._spill_waiting()

    async def close(self) -> None:
        await self.flush()
        if self._waiting:
            await self._spill_waiting()

    async def _spill_waiting(self) -> None:
        batch = list(self._waiting)
        self._waiting.clear()
        if await asyncio.to_thread(self._append, batch):
            self.counts["spilled"] += len(batch)
        else:
            self.counts["dropped"] += len(batch)

    def _append(self, batch: list[FeedEvent]) -> bool:
        """Whether there was room in the file for them."""
        try:
            if self._spill.exists() and self._spill.stat().st_size > MOST_SPILLED_BYTES:
                return False
            with self._spill.open("ab") as file:
                file.writelines(orjson.dumps(asdict(event), option=orjson.OPT_APPEND_NEWLINE) for event in batch)
        except OSError as error:
            log.error("%d events of feeds are lost: %s", len(batch), error)
            return False
        return True

    def _store_spilled(self) -> None:
        """Raises django.db.Error, and leaves the file as it is."""
        if not self._spill.exists():
            return
        events = []
        for line in self._spill.read_bytes().splitlines():
            with suppress(ValueError, TypeError, KeyError):  # a line that a crash cut off
                row = orjson.loads(line)
                events.append(FeedEvent(**row | {"kind": FeedEventKind(row["kind"])}))
        self.counts["stored"] += feed_events_store(events)
        self._spill.unlink()
