"""The desks of all accounts of an engine, and what is asked of the database for all of them at once: whose leases live
on, whom a kill switch stops, what the books hold. Fifty accounts cost few more questions than one.

Four threads: none of these questions waits for another, nor for a desk. What a desk then does for its account it does
beside the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import TypeVar

from django.conf import settings
from django.db import DatabaseError, Error

from trading.runtime.account_desk import AccountDesk
from trading.runtime.database import with_connection
from trading.runtime.emergency import import_journal
from trading.runtime.ownership import acquire_all, renew_all
from trading.services.leases import accounts_without_owner
from trading.services.owner_work import OwnerWork, accounts_being_stopped, owner_work

log = logging.getLogger(__name__)
Result = TypeVar("Result")

TICK_SECONDS = 1.0
OWNERSHIP_RETRY_SECONDS = 1.0
# Each account that changes hands rings: many at once are one look.
LOOK_PAUSE_SECONDS = 0.05


class AccountDesks(Mapping[int, AccountDesk]):
    """By account. Lives in the engine's event loop; ``keep_leases``, ``obey_kill_switches`` and ``attend`` run until
    cancelled, then :meth:`close`. ``prices``: the newest marks."""

    def __init__(self, prices: Callable[[], Mapping[str, Decimal]]) -> None:
        self._prices = prices
        self._desks: dict[int, AccountDesk] = {}
        self._look, self._stop_rung = asyncio.Event(), asyncio.Event()
        self._renewals, self._owning = _thread("leases"), _thread("owning")
        self._stops, self._rounds = _thread("stops"), _thread("rounds")
        self._taking: asyncio.Task[None] | None = None

    def __getitem__(self, account_id: int) -> AccountDesk:
        return self._desks[account_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._desks)

    def __len__(self) -> int:
        return len(self._desks)

    def open(self, desk: AccountDesk) -> None:
        self._desks[desk.account_id] = desk
        desk.start()
        self.look()

    async def remove(self, account_id: int) -> None:
        """End a desk, and give its account back."""
        desk = self._desks.pop(account_id)
        await desk.stop()
        # On the thread that takes accounts: what it is about to take is given back after that.
        await self._in_thread(self._owning, desk.lease.release)

    async def close(self) -> None:
        """After the loops have ended."""
        if self._taking is not None:
            self._taking.cancel()
        await asyncio.gather(*(self.remove(account_id) for account_id in list(self._desks)), return_exceptions=True)
        for thread in (self._renewals, self._owning, self._stops, self._rounds):
            thread.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """An account has changed hands, or a kill switch was engaged: see at once what it means here."""
        self._look.set()
        self._stop_rung.set()

    # Leases.

    async def keep_leases(self) -> None:
        """Renew what is ours, and take what nobody holds: at once when it is given back, or its time is over."""
        while True:
            self._look.clear()
            try:
                await self._in_thread(self._renewals, partial(renew_all, [desk.lease for desk in self.values()]))
                away = False
            except Error as error:
                away = True
                log.warning("the database does not answer for the leases of accounts: %s", error)
            for desk in self.values():
                desk.lease_heard(database_away=away)
            if not away and (self._taking is None or self._taking.done()):
                self._taking = asyncio.create_task(self._take(), name="taking accounts")
            all_owned = all(desk.owns for desk in self.values())
            await asyncio.sleep(LOOK_PAUSE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.LEASE_RENEWAL_SECONDS if all_owned else OWNERSHIP_RETRY_SECONDS):
                    await self._look.wait()

    async def _take(self) -> None:
        wanted = [desk.account_id for desk in self.values() if not desk.owns]
        try:
            free = await self._in_thread(self._owning, partial(accounts_without_owner, wanted)) if wanted else ()
            # What an emergency close did is booked, and the account stopped, before anybody trades on it again.
            if not free or not await self._in_thread(self._owning, import_journal):
                return
            desks = [desk for desk in self.values() if desk.account_id in free and desk.lease.session_id is None]
            await self._in_thread(self._owning, partial(acquire_all, [desk.lease for desk in desks]))
            for desk in desks:
                desk.lease_heard(database_away=False)
        except Error as error:
            log.warning("free accounts are not taken, the database does not answer: %s", error)
        except Exception:  # such as a journal that cannot be read: nobody trades before it is booked
            log.exception("free accounts are not taken")

    # Kill switches.

    async def obey_kill_switches(self) -> None:
        """Asked of the database every second, so that no doorbell is needed."""
        while True:
            self._stop_rung.clear()
            try:
                stopped = await self._in_thread(self._stops, partial(accounts_being_stopped, list(self)))
                for account_id in stopped:
                    if (desk := self.get(account_id)) is not None:
                        desk.obey_kill_switch()
            except Error as error:
                log.warning("are accounts stopped? The database does not answer: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._stop_rung.wait()

    # The rounds.

    async def attend(self) -> None:
        """Once a second, give each owner what the books say of its account: what no doorbell has told."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            # Before the books are read: what is in them by then counts no more as only approved.
            began = time.monotonic()
            booked = {account_id: desk.orders.booked() for account_id, desk in self.items() if desk.owns}
            for account_id, work in (await self._work(list(booked))).items():
                if (desk := self.get(account_id)) is not None:
                    desk.attend(work, booked[account_id], began)

    async def _work(self, account_ids: list[int]) -> dict[int, OwnerWork]:
        if not account_ids:
            return {}
        prices = dict(self._prices())
        try:
            return await self._in_thread(self._rounds, partial(owner_work, account_ids, prices))
        except DatabaseError as error:
            log.warning("accounts are not looked after, the database does not answer: %s", error)
            return {}
        except Exception:  # the books of one account must not keep the others from being looked after
            if len(account_ids) == 1:
                log.exception("account %d: its books are not understood", account_ids[0])
                return {}
            found: dict[int, OwnerWork] = {}
            for account_id in account_ids:
                found |= await self._work([account_id])
            return found

    def _in_thread(self, thread: ThreadPoolExecutor, work: Callable[[], Result]) -> asyncio.Future[Result]:
        return asyncio.get_running_loop().run_in_executor(thread, partial(with_connection, work))


def _thread(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix=f"accounts-{name}")
