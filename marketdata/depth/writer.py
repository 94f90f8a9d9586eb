"""Minutes into the database: in batches, in their order, through the journal, so that none is lost on the way.

Everything is written down before it is sent. What the database takes twice, because a crash came between the two, it
keeps once. While it is away nothing is tried for a while (the breaker), and the journal grows; then it is drained.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from marketdata.depth.journal import Journal, JournalFull

log = logging.getLogger(__name__)

BATCH_ROWS, BATCH_SECONDS = 50, 60.0
# In one transaction, when much waits.
DRAIN_ROWS = 5_000
RETRIES = 3
RETRY_SECONDS = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
# What the journal has no room for waits in memory, up to so many.
MOST_IN_MEMORY = 20_000

Item = TypeVar("Item")


class JournaledWriter(Generic[Item]):
    """One thread may add while another flushes. ``store`` takes a batch in one transaction, each row at most once.

    Args:
        store: raises ``away`` when the database does not answer, ``refused`` when it takes something in the batch for
            impossible.
        pause: waits for so many seconds.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        store: Callable[[Sequence[Item]], int],
        journal: Journal[Item],
        *,
        away: tuple[type[Exception], ...],
        refused: tuple[type[Exception], ...] = (),
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._journal, self._away, self._refused = store, journal, away, refused
        self._pause, self._clock = pause, clock
        self._memory: list[Item] = []
        self._oldest: float | None = clock() if journal.waiting else None
        self._closed_until = 0.0
        self._pauses = 0
        # When a batch was stored last, in seconds since 1970, and how long that took.
        self.last_stored: float | None = None
        self.store_seconds: float | None = None
        self.counts = {"stored": 0, "known": 0, "batches": 0, "failures": 0, "refused": 0, "dropped": 0}

    @property
    def waiting(self) -> int:
        """How many are not in the database yet."""
        return self._journal.waiting + len(self._memory)

    @property
    def is_open(self) -> bool:
        """Whether the breaker keeps the database from being asked."""
        return self._clock() < self._closed_until

    def add(self, items: Sequence[Item]) -> None:
        """Take them; they are on the disk when this returns."""
        if not items:
            return
        try:
            self._journal.append(items)
        except JournalFull as error:
            self._keep_in_memory(items, str(error))
        if self._oldest is None:
            self._oldest = self._clock()

    @property
    def is_due(self) -> bool:
        """Whether a batch is full, or old enough."""
        if self._oldest is None or self.is_open:
            return False
        return self.waiting >= BATCH_ROWS or self._clock() - self._oldest >= BATCH_SECONDS

    def flush(self) -> bool:
        """Store what waits, until nothing does or the database is away; whether nothing waits now."""
        if self.is_open:
            return False
        while batch := self._journal.read(DRAIN_ROWS):
            if not self._store_batch(batch):
                return False
            self._journal.stored(len(batch))
        if in_memory := list(self._memory):
            if not self._store_batch(in_memory):
                return False
            del self._memory[: len(in_memory)]
        # In this order: whoever adds now either finds nothing noted, or has added before it is looked at here.
        self._oldest = None
        if self.waiting:
            self._oldest = self._clock()
        return True

    def close(self) -> None:
        """Try once more, whatever the breaker says. What is not stored stays in the journal."""
        self._closed_until = 0.0
        self.flush()
        self._journal.close()

    def status(self) -> dict[str, Any]:
        return {
            "waiting": self.waiting,
            "journal_bytes": self._journal.size,
            "breaker": "open" if self.is_open else "closed",
            "last_stored": self.last_stored,
            "store_ms": _milliseconds(self.store_seconds),
            **self.counts,
            **{f"journal_{name}": count for name, count in self._journal.counts.items()},
        }

    def _store_batch(self, batch: Sequence[Item]) -> bool:
        for attempt in range(RETRIES + 1):
            began = time.monotonic()
            try:
                new = self._store(batch)
            except self._refused as error:
                return self._store_singly(batch, error)
            except self._away as error:
                self.counts["failures"] += 1
                if attempt == RETRIES:
                    self._open(error)
                    return False
                self._pause(RETRY_SECONDS * 2**attempt)
            else:
                self._pauses = 0
                self.last_stored, self.store_seconds = time.time(), time.monotonic() - began
                self.counts["stored"] += new
                self.counts["known"] += len(batch) - new
                self.counts["batches"] += 1
                return True
        return False

    def _store_singly(self, batch: Sequence[Item], error: Exception) -> bool:
        """One impossible row must not hold up all that come after it."""
        if len(batch) == 1:
            self.counts["refused"] += 1
            log.error("the database refuses %.500r: %s", batch[0], error)
            return True
        middle = len(batch) // 2
        return self._store_batch(batch[:middle]) and self._store_batch(batch[middle:])

    def _open(self, error: Exception) -> None:
        seconds = min(FIRST_PAUSE * 2**self._pauses, LONGEST_PAUSE)
        self._pauses += 1
        self._closed_until = self._clock() + seconds
        log.warning("%d minutes wait, the database is left alone for %g s: %s", self.waiting, seconds, error)

    def _keep_in_memory(self, items: Sequence[Item], why: str) -> None:
        room = MOST_IN_MEMORY - len(self._memory)
        self._memory += items[:room]
        lost = len(items[room:])
        if lost:
            self.counts["dropped"] += lost
            log.error("%d minutes are lost: %s", lost, why)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
