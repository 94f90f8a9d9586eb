"""A venue whose clock is stepped: as many times faster than the real one as asked for, or as fast as the CPU allows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import numpy as np

from trading.simulator.flow_kernels import STEP
from trading.simulator.intervals import MINUTE_MS
from trading.simulator.stretches import Stretch
from trading.simulator.venue import TICK_SECONDS, Venue

log = logging.getLogger(__name__)

TICK_MS = round(TICK_SECONDS * 1_000)
HALF_TICK_MS = TICK_MS // 2
# How often a fast venue is moved on, and the real time for which one move may keep its clients waiting.
WAKE_SECONDS = 0.002
MOVE_SECONDS = 0.05


class SteppedClock:
    """Milliseconds since 1970; stands still between steps."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Stepper:
    """Moves a venue and the clock that it was made with. How far each call goes makes no difference: the same seed and
    the same start make the same messages at any speed."""

    def __init__(self, venue: Venue, clock: SteppedClock) -> None:
        self._venue, self._clock = venue, clock
        self._is_between = False  # after a half tick, before its tick

    def advance(self, until_ms: int) -> None:
        """Half ticks and ticks, 10 ms apart, until then. Markets with which nobody has anything to do live up to a
        minute at once."""
        clock = self._clock
        if self._is_between and clock.now_ms + HALF_TICK_MS <= until_ms:
            self._tick()
        while not self._is_between and clock.now_ms + TICK_MS <= until_ms:
            first_ms = clock.now_ms + TICK_MS
            # A stretch ends with its minute: all its trades belong to one bar.
            minute_end = (first_ms // MINUTE_MS + 1) * MINUTE_MS
            self._stretch(1 + (min(until_ms, minute_end - 1) - first_ms) // TICK_MS)
        if not self._is_between and clock.now_ms + HALF_TICK_MS <= until_ms:
            self._half_tick()

    async def run(self, speed: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Keep the clock at ``speed`` times real time. Where the CPU is too slow for that, time is lost, not made up
        for: clients are answered first."""
        began, start_ms, told = monotonic(), self._clock.now_ms, False
        while True:
            await asyncio.sleep(max(WAKE_SECONDS, TICK_SECONDS / 2 / speed))
            due_ms = start_ms + int((monotonic() - began) * 1_000 * speed)
            most_ms = self._clock.now_ms + max(TICK_MS, int(MOVE_SECONDS * 1_000 * speed))
            self.advance(min(due_ms, most_ms))
            if due_ms > most_ms:
                start_ms -= due_ms - most_ms
                if not told:
                    log.warning("this machine is too slow to live %g times as fast as real time", speed)
                    told = True

    def _stretch(self, ticks: int) -> None:
        venue, clock, flow = self._venue, self._clock, self._venue.flow
        is_alone = False
        if flow is not None and ticks > 1:
            watched, began_ms = venue.watched(), clock.now_ms
            quiet = [name for name in flow.names if name.rpartition(":")[2] not in watched]
            owes = any(account.balance < 0 for account in venue.exchange.accounts.values())
            is_alone = len(quiet) == len(flow.names) and not venue.followers and not owes
            venue.open_bars(began_ms + TICK_MS)
            for name, rows in flow.live_ahead(quiet, ticks, began_ms + ticks * TICK_MS).items():
                category, _, symbol = name.rpartition(":")
                market = venue.exchange.market(symbol, category or "linear")
                # A step numbers its trades one by one, then its change of the book.
                sequences = market.sequence + rows[:, STEP] + np.arange(1, len(rows) + 1)
                last_sequence = market.sequence + ticks + len(rows)
                rows[:, STEP] = began_ms + (rows[:, STEP] + 1) * TICK_MS
                venue.take_in(name, Stretch(venue.exchange, market, rows, sequences, last_sequence))
        if is_alone:
            clock.now_ms += ticks * TICK_MS
            venue.pass_over(ticks, TICK_MS)
            return
        for _ in range(ticks):
            self._half_tick()
            self._tick()

    def _half_tick(self) -> None:
        self._clock.now_ms += HALF_TICK_MS
        self._venue.half_tick(self._clock.now_ms)
        self._is_between = True

    def _tick(self) -> None:
        self._clock.now_ms += HALF_TICK_MS
        self._venue.tick(self._clock.now_ms)
        self._is_between = False
