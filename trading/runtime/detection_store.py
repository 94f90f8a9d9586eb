"""What was detected into the database: in batches, beside the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from itertools import islice

from django.db import Error

from marketdata.engine.detectors.detection import Detection
from marketdata.services import detections_store
from trading.runtime.database import ask_database

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
A_BATCH = 1_000
# What waits for a database that is away; beyond it the oldest are forgotten, and counted.
MOST_WAITING = 20_000


class DetectionStore:
    """:meth:`add` never waits."""

    def __init__(self) -> None:
        self._waiting: deque[Detection] = deque()
        self.counts = {"stored": 0, "dropped": 0}

    def add(self, detection: Detection) -> None:
        self._waiting.append(detection)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.counts["dropped"] += 1

    async def run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Store what waits; what cannot be stored now waits on."""
        try:
            while self._waiting:
                batch = list(islice(self._waiting, A_BATCH))
                self.counts["stored"] += await ask_database(partial(detections_store, batch))
                # Only what was stored leaves: the oldest may have been forgotten meanwhile.
                for detection in batch:
                    if self._waiting and self._waiting[0] is detection:
                        self._waiting.popleft()
        except Error as error:
            log.warning("%d detections wait for the database: %s", len(self._waiting), error)
