"""A desk with the rounds of an engine that has no other account."""

from __future__ import annotations

import asyncio

from trading.gateways.bybit import BybitEndpoints
from trading.models import Account
from trading.pipeline import Pipeline
from trading.runtime.account_desk import AccountDesk
from trading.runtime.account_desks import AccountDesks
from trading.runtime.cancellation import end_tasks
from trading.runtime.exposure_reader import ExposureReader


class LoneDesk(AccountDesk):
    """``begin`` opens the desk and runs what engines run for all of theirs; ``end`` ends both."""

    def __init__(self, account: Account, pipeline: Pipeline, endpoints: BybitEndpoints) -> None:
        self._reader = ExposureReader(pipeline.reference_prices)
        super().__init__(account, pipeline, endpoints, self._reader)
        self.desks = AccountDesks(pipeline.reference_prices)
        self._loops: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        self.desks.open(self)
        loops = (self.desks.keep_leases, self.desks.obey_kill_switches, self.desks.attend)
        self._loops = [asyncio.create_task(loop()) for loop in loops]

    async def end(self) -> None:
        await end_tasks(self._loops)
        await self.desks.close()
        self._reader.close()
