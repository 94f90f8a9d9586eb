"""What is at stake on an account, as its owner knows it: what its risk checks go by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import DatabaseError

from risk.exposure import Exposure
from trading.pipeline import Pipeline
from trading.runtime.exposure_reader import ExposureReader
from trading.runtime.order_sender import OrderSender
from trading.runtime.position_guard import PositionGuard
from trading.runtime.position_watch import PositionWatch

# Each reading costs as much of the interpreter as an order does.
EXPOSURE_SECONDS = 0.1


class KnownExposure:
    """Lives in the engine's event loop, and tells the pipeline, the guard and the watch. ``trades``: whether the
    account is proven; until then nothing is known of it. ``spawn`` runs work beside everything else."""

    def __init__(
        self,
        account_id: int,
        reader: ExposureReader,
        *,
        orders: OrderSender,
        pipeline: Pipeline,
        guard: PositionGuard,
        watch: PositionWatch,
        trades: Callable[[], bool],
        spawn: Callable[[Any], None],
    ) -> None:
        self._account_id, self._reader = account_id, reader
        self._orders, self._pipeline, self._guard, self._watch = orders, pipeline, guard, watch
        self._trades, self._spawn = trades, spawn
        self._read_at, self._refresh_waits = 0.0, False
        # When the reading of the books began that was gone by last.
        self._known_since = 0.0

    def forget(self) -> None:
        """Nothing is known: no new order passes the checks."""
        self._pipeline.update_exposure(self._account_id, Exposure())

    async def refresh(self) -> None:
        """Rebuild the exposure from the books, plus what is approved but not in them yet."""
        self._read_at = time.monotonic()
        await self.know(*await self.read())

    async def read(self) -> tuple[Exposure, set[str], float]:
        """What the books say, what was in them before they were read, and when that began (monotonic).

        Raises: as :meth:`ExposureReader.read`.
        """
        booked = self._orders.booked()
        books, began = await self._reader.read(self._account_id)
        return books, booked, began

    def refresh_soon(self) -> None:
        """After news that came in: at once, and not again before EXPOSURE_SECONDS. Until then what was approved counts
        as pending, whatever became of it."""
        if not self._refresh_waits:
            self._refresh_waits = True
            self._spawn(self._refresh_paced())

    async def _refresh_paced(self) -> None:
        await asyncio.sleep(self._read_at + EXPOSURE_SECONDS - time.monotonic())
        self._refresh_waits = False
        with suppress(DatabaseError):  # what is approved counts on; the account's loop reads again within a second
            await self.refresh()

    async def know(self, books: Exposure, booked: set[str], began: float) -> None:
        """Go by what the books said, unless a later reading of them has come in first."""
        if began < self._known_since:
            return
        exposure = self._orders.with_reserved(books, booked, self._pipeline.reference_prices())
        self._watch.booked(exposure.positions)
        if self._trades():
            self._known_since = began
            self._pipeline.update_exposure(self._account_id, exposure)
            await self._guard.follow(exposure)
