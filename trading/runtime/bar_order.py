"""Closed bars to strategies one after the other, none left out. What a feed did not tell while it was away, or while a
strategy was being warmed up, is asked of the venue: with another history it decides otherwise than its backtest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from marketdata.events import Candle
from marketdata.feeds.protocol import VenueError
from risk.checks import Refusal

log = logging.getLogger(__name__)

Key = tuple[str, str]
RETRY_SECONDS = 2.0
LATE = Refusal(
    "bar", "in time", "late", "the feed was away: when this bar was told, newer ones had closed, and the price moved on"
)


class BarOrder:
    """Lives in the engine's event loop. ``lacking`` says how many older bars must come before one, ``history(symbol,
    interval, bars)`` asks the venue for the newest closed ones, ``warm`` tells them to strategies that are cold, and
    ``tell(candle, receive_ns, late)`` tells one to those that are warm."""

    def __init__(
        self,
        *,
        lacking: Callable[[Candle], int],
        history: Callable[[str, str, int], Awaitable[list[Candle]]],
        warm: Callable[[Iterable[Candle]], None],
        tell: Callable[[Candle, int, Refusal | None], None],
        spawn: Callable[[Any], None],
    ) -> None:
        self._lacking, self._history, self._warm, self._tell, self._spawn = lacking, history, warm, tell, spawn
        # Closed bars that wait for older ones, by their start, with the time when they were received.
        self._waiting: dict[Key, dict[int, tuple[Candle, int]]] = {}
        # How many are to be asked for, and the start of the open bar that showed last that some are missing.
        self._wanted: dict[Key, int] = {}
        self._shown: dict[Key, int] = {}
        self.counts = {"asked": 0}

    def take(self, candle: Candle, receive_ns: int) -> None:
        """A bar as the feed told it, open or closed."""
        key = candle.symbol, candle.interval
        if key not in self._waiting:
            lacking = self._lacking(candle)
            # An open bar shows early that others are missing; what the venue does not have is asked for once.
            in_vain = not candle.closed and self._shown.get(key) == candle.start_ms
            if not lacking or in_vain:
                self._tell(candle, receive_ns, None)
                return
            self._shown[key] = candle.start_ms
            self.fill(*key, lacking)
        if candle.closed:
            self._waiting[key][candle.start_ms] = candle, receive_ns

    def fill(self, symbol: str, interval: str, bars: int) -> None:
        """Ask the venue for so many bars before the newest; what the feed tells meanwhile waits."""
        key = symbol, interval
        self._wanted[key] = max(self._wanted.get(key, 0), bars)
        if key not in self._waiting:
            self._waiting[key] = {}
            self._spawn(self._filled(key))

    async def _filled(self, key: Key) -> None:
        try:
            history = await self._answer(key)
        except Exception:  # whatever it was, what waits is told: a strategy that hears nothing is no better off
            log.exception("bars of %s %s that are missing were not had", *key)
            history = []
        waiting = self._waiting.pop(key)
        del self._wanted[key]
        self._in_order(history, waiting)

    async def _answer(self, key: Key) -> list[Candle]:
        while True:
            try:
                self.counts["asked"] += 1
                # One more than is missing, for each that closes while the question is under way.
                return await self._history(*key, self._wanted[key] + len(self._waiting[key]) + 1)
            except VenueError as error:
                log.warning("bars of %s %s that are missing cannot be had yet: %s", *key, error)
                await asyncio.sleep(RETRY_SECONDS)

    def _in_order(self, history: list[Candle], waiting: dict[int, tuple[Candle, int]]) -> None:
        self._warm(history)
        now_ns = time.time_ns()
        bars = {each.start_ms: (each, now_ns) for each in history if each.closed} | waiting
        for start_ms in sorted(bars):
            candle, receive_ns = bars[start_ms]
            self._tell(candle, receive_ns, LATE if start_ms != max(bars) else None)
