"""The threads of one account's owner, and what it does in the background: none of it ends unheard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from audit.services import dead_letters
from trading.runtime.database import with_connection

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class DeskThreads:
    """One talks to the venue about orders and may block for seconds on a lost answer; one keeps the books meanwhile;
    one asks the venue for all else, so that no order waits for that; one does what a kill switch asks for, whatever
    keeps the others busy. Rows are locked by the services, so they cannot contradict each other.

    Use from the engine's loop.
    """

    def __init__(self, account_id: int, account_name: str, mode: str) -> None:
        self._account_id, self._account_name, self._mode = account_id, account_name, mode
        self._sender = ThreadPoolExecutor(1, thread_name_prefix=f"sender-{account_id}")
        self._bookkeeper = ThreadPoolExecutor(1, thread_name_prefix=f"books-{account_id}")
        self._watcher = ThreadPoolExecutor(1, thread_name_prefix=f"watch-{account_id}")
        self._killer = ThreadPoolExecutor(1, thread_name_prefix=f"kill-{account_id}")
        self._background: set[asyncio.Future[Any]] = set()

    async def on_books(self, work: Callable[[], Result]) -> Result:
        return await _in_thread(self._bookkeeper, work)

    async def on_sender(self, work: Callable[[], Result]) -> Result:
        return await _in_thread(self._sender, work)

    async def on_watcher(self, work: Callable[[], Result]) -> Result:
        return await _in_thread(self._watcher, work)

    async def on_killer(self, work: Callable[[], Result]) -> Result:
        return await _in_thread(self._killer, work)

    def send(self, work: Callable[[], None]) -> None:
        """On the sender's thread, in the order of the calls; nobody waits for it."""
        self._keep(_in_thread(self._sender, work))

    def book(self, work: Callable[[], None]) -> None:
        """The same on the bookkeeper's."""
        self._keep(_in_thread(self._bookkeeper, work))

    def spawn(self, work: Any) -> None:
        """Run an awaitable in the loop; nobody waits for it."""
        self._keep(asyncio.ensure_future(work))

    def lay_aside(self, kind: str, error: str, payload: str, same: str = "") -> None:
        """Keep what could not be handled as a dead letter, on the thread that no order waits for."""
        known_as = f"{self._account_id}:{same}" if same else ""
        context = {"account": self._account_id, "mode": self._mode}
        put = partial(dead_letters().put, kind, error=error, payload=payload, context=context, same=known_as)
        with suppress(RuntimeError):  # the desk has ended, and its threads with it
            self._keep(_in_thread(self._watcher, put))

    async def close(self) -> None:
        if self._background:
            await asyncio.wait(self._background, timeout=5.0)
        for thread in (self._sender, self._bookkeeper, self._watcher, self._killer):
            thread.shutdown(wait=False, cancel_futures=True)

    def _keep(self, future: asyncio.Future[Any]) -> None:
        self._background.add(future)
        future.add_done_callback(self._done)

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._background.discard(future)
        if not future.cancelled() and future.exception() is not None:
            error = future.exception()
            log.error("account %s: background work failed", self._account_name, exc_info=error)
            self.lay_aside("desk_work", f"{type(error).__name__}: {error}", "", same=type(error).__name__)


def _in_thread(thread: ThreadPoolExecutor, work: Callable[[], Result]) -> asyncio.Future[Result]:
    return asyncio.get_running_loop().run_in_executor(thread, partial(with_connection, work))
