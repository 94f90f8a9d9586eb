"""A desk with the rounds of an engine that has no other account."""

from __future__ import annotations

import asyncio
from typing import Any

from trading.runtime.account_desk import AccountDesk
from trading.runtime.account_desks import AccountDesks
from trading.runtime.cancellation import end_tasks


class LoneDesk(AccountDesk):
    """``begin`` opens the desk and runs what engines run for all of theirs; ``end`` ends both."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.desks = AccountDesks(self._pipeline.reference_prices)
        self._loops: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        self.desks.open(self)
        loops = (self.desks.keep_leases, self.desks.obey_kill_switches, self.desks.attend)
        self._loops = [asyncio.create_task(loop()) for loop in loops]

    async def end(self) -> None:
        await end_tasks(self._loops)
        await self.desks.close()
