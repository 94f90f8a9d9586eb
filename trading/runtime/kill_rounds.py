"""The rounds in which an account's owner does what a kill switch asks for, whatever else keeps it busy."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from django.db import Error

from trading.runtime.desk_threads import DeskThreads
from trading.runtime.kill_execution import KillExecution
from trading.runtime.ownership import AccountLease

log = logging.getLogger(__name__)


class KillRounds:
    """Lives in the engine's event loop."""

    def __init__(self, account_name: str, lease: AccountLease, execution: KillExecution, threads: DeskThreads) -> None:
        self._account_name, self._lease, self._execution, self._threads = account_name, lease, execution, threads
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """A kill switch that is engaged has something left to do here."""
        self._rung.set()

    async def run(self) -> None:
        """Goes on where another process stopped, in rounds until nothing is left; rung for again every second."""
        while True:
            await self._rung.wait()
            self._rung.clear()
            pause = await self._step()
            while pause is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._rung.wait()
                self._rung.clear()
                pause = await self._step()

    async def _step(self) -> float | None:
        try:
            return await self._threads.on_killer(self._execution.step) if self._lease.valid else None
        except Error as error:
            log.warning("account %s: is it stopped? The database does not answer: %s", self._account_name, error)
        except Exception:  # a kill switch that gave up would be none
            log.exception("account %s: the kill switch stumbled and goes on", self._account_name)
        return None
