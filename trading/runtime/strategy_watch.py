"""What an engine does about strategies that fail: they are disabled and people told, and the others go on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from functools import partial
from types import FrameType
from typing import Any

from django.db import Error

from strategies.call_watch import CallWatch, Overrun
from strategies.faults import file_of, place_of_frame, words_of
from strategies.registry import STRATEGIES
from strategies.services import strategy_stop
from trading.pipeline import RunningStrategy, StrategyFault
from trading.runtime.database import ask_database

log = logging.getLogger(__name__)

# Less than half of a lease: whoever is kept waiting by a strategy still renews in time.
CALL_SECONDS = 2.5
PREPARE_SECONDS = 60.0
STUCK_EXIT = 70


class StrategyWatch:
    """``calls`` is what the pipeline asks strategies through."""

    def __init__(self, engine: str) -> None:
        self._actor = f"engine:{engine}"
        self.calls = CallWatch(CALL_SECONDS, self._on_stuck)
        self._over: dict[int, StrategyFault] = {}
        self._prepared: set[type] = set()
        self.count = 0

    def note(self, faults: Iterable[StrategyFault]) -> bool:
        """Report them; whether there is one that should be settled."""
        for fault in faults:
            self.count += 1
            log.error("strategy %s on %s: %s", fault.running.name, fault.symbol, fault.error)
            if fault.is_over:
                self._over[fault.running.config_id] = fault
        return bool(self._over)

    async def settle(self) -> None:
        """Disable those that are over; what the database does not take now is tried again with the next call."""
        for config_id, fault in list(self._over.items()):
            reason = f"{fault.error}, on {fault.symbol}"
            stop = partial(
                strategy_stop,
                config_id=config_id,
                actor=self._actor,
                reason=reason,
                where=fault.where,
                version=fault.running.version,
            )
            try:
                await ask_database(stop)
            except Error as error:
                log.error("strategy %s is not disabled yet: %s", fault.running.name, error)
                continue
            if self._over.get(config_id) is fault:
                del self._over[config_id]

    def prepare(self, running: Iterable[RunningStrategy]) -> None:
        """Compile what has to be compiled, in a thread of its own: it would keep the books waiting."""
        for kind in {STRATEGIES[each.strategy] for each in running if each.strategy in STRATEGIES} - self._prepared:
            self._prepared.add(kind)
            compile_kernel = getattr(kind, "kernel", None)
            if compile_kernel is None:
                continue
            try:
                with CallWatch(PREPARE_SECONDS) as watch:
                    watch.call(kind.name, compile_kernel)
            except (Exception, Overrun, SystemExit) as error:
                # Whoever makes the strategy meets the same, and says whose it is.
                log.error("the kernel of %s cannot be prepared: %s", kind.name, words_of(error))

    def _on_stuck(self, subject: Any, frame: FrameType | None) -> None:
        """A strategy is in machine code that does not return, so nothing in this process does any more. Another one
        takes our symbols and accounts over, and a new one starts in our place: both without this strategy."""
        running, symbol = subject
        kind: type | None = STRATEGIES.get(running.strategy)
        where = str(place_of_frame(frame, file_of(kind) if kind is not None else ""))
        reason = f"it did not come back from {where}, on {symbol}; the engine had to be started again"
        log.critical("strategy %s: %s", running.name, reason)
        try:
            strategy_stop(
                config_id=running.config_id, actor=self._actor, reason=reason, where=where, version=running.version
            )
        except Error as error:
            log.critical("strategy %s is not disabled: %s", running.name, error)
        finally:
            os._exit(STUCK_EXIT)
