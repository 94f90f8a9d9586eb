"""Reads what accounts have at stake from the books, for all who ask at a time in one reading: fifty accounts that trade
at once cost hardly more questions than one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial

from django.db import DatabaseError

from risk.exposure import Exposure
from trading.models import Account
from trading.runtime.database import with_connection
from trading.services.exposures import account_exposures


class ExposureReader:
    """Lives in the engine's event loop, with one thread. ``prices``: the newest marks."""

    def __init__(self, prices: Callable[[], Mapping[str, Decimal]]) -> None:
        self._prices = prices
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="exposures")
        self._waiting: dict[int, asyncio.Future[tuple[Exposure, float]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def read(self, account_id: int) -> tuple[Exposure, float]:
        """What the account has at stake, by a reading that begins after this call, and when it began (monotonic).

        Raises:
            django.db.Error: the database does not answer.
            Account.DoesNotExist: there is no such account.
        """
        if account_id not in self._waiting:
            self._waiting[account_id] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[account_id]
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="reading exposures")
        return await asyncio.shield(waiting)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _read(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            began = time.monotonic()
            found = await self._ask(list(asked))
            for account_id, waiting in asked.items():
                answer = found.get(account_id) or Account.DoesNotExist(f"there is no account {account_id}")
                if waiting.done():
                    continue
                if isinstance(answer, Exposure):
                    waiting.set_result((answer, began))
                else:
                    waiting.set_exception(answer)

    async def _ask(self, account_ids: list[int]) -> dict[int, Exposure | Exception]:
        """By account, what it has at stake, or why that is not known."""
        question = partial(account_exposures, account_ids, dict(self._prices()))
        try:
            run = asyncio.get_running_loop().run_in_executor
            return dict(await run(self._thread, partial(with_connection, question)))
        except DatabaseError as error:
            return dict.fromkeys(account_ids, error)
        except Exception as error:  # books that are not understood must not keep the other accounts from being read
            if len(account_ids) == 1:
                return {account_ids[0]: error}
        found: dict[int, Exposure | Exception] = {}
        for account_id in account_ids:
            found |= await self._ask([account_id])
        return found
