"""What is left out while the event loop does not keep up: what something newer replaces before anybody was told of it.

Books take every message when it arrives, and trades are told when they arrive. Views of a book and states of an open
candle replace each other: while the loop is behind, only the newest of each is told, at the loop's next tick.

The loop is behind when a timer comes late: for as long no socket was read, and what is read next is as old. That is
judged between frames, never during one, and the tap is told, so that a replay leaves out exactly the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable

import orjson

from marketdata.feeds.protocol import Tap

log = logging.getLogger(__name__)

TICK_SECONDS = 0.005
BEHIND_SECONDS = 0.02
# The connection and the marks under which recordings have it.
NAME, BEHIND, CAUGHT_UP = "engine", "behind", "caught up"


class Backlog:
    """``counts``: ticks that came too late, what was left out, and what failed in whoever was told."""

    def __init__(self, tap: Tap | None = None) -> None:
        self._tap = tap
        self._behind = False
        self._owed: dict[Hashable, Callable[[], None]] = {}
        self.counts = {"behind": 0, "left_out": 0, "handler_errors": 0}

    def tell(self, key: Hashable, tell: Callable[[], None]) -> None:
        """Call it: now, or at the next tick if nothing of the same key comes before that."""
        if self._behind:
            self.counts["left_out"] += key in self._owed
            self._owed[key] = tell
        else:
            self._call(tell)

    def tell_now(self, key: Hashable, tell: Callable[[], None]) -> None:
        """Call it whatever happens; what was owed under its key is replaced by it."""
        self.counts["left_out"] += self._owed.pop(key, None) is not None
        self._call(tell)

    def tick(self, *, behind: bool) -> None:
        """Tell what is owed. Of what comes until the next tick, all is told; ``behind``: only the newest, then."""
        if self._tap is not None and (behind or self._behind):
            mark = orjson.dumps({"mark": BEHIND if behind else CAUGHT_UP})
            self._tap(NAME, "mark", mark, time.time_ns(), None)
        self._behind = behind
        self.counts["behind"] += behind
        owed, self._owed = self._owed, {}
        for tell in owed.values():
            self._call(tell)

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            due = time.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self.tick(behind=time.monotonic() - due > BEHIND_SECONDS)

    def _call(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception:
            self.counts["handler_errors"] += 1
            log.exception("what arrived could not be handled")
