"""Doorbells: small messages over the channel layer that say what changed, never what it became.

They are at-most-once and fire-and-forget: receivers re-read through selectors, and also on a timer. A doorbell must
therefore never slow down or fail the service that rings it, even while Redis is away. So each process has one
background thread with its own event loop; ``async_to_sync`` would open a new Redis connection in every calling thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from channels.layers import get_channel_layer
from django.db import connection, transaction

log = logging.getLogger(__name__)

MAX_WAITING = 1_000
SEND_TIMEOUT_SECONDS = 5.0


class Bus:
    """One sender thread per process (made again after a fork, whose child has no threads)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process_id = 0
        self._waiting = 0
        self.dropped = 0

    def ring(self, group: str, message: Mapping[str, Any]) -> bool:
        """Queue one message for a group. False when too many wait already: it is dropped and counted."""
        with self._lock:
            if self._waiting >= MAX_WAITING:
                self.dropped += 1
                return False
            self._waiting += 1
            loop = self._running_loop()
        asyncio.run_coroutine_threadsafe(self._send(group, dict(message)), loop)
        return True

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._process_id != os.getpid():
            self._loop, self._process_id, self._waiting = asyncio.new_event_loop(), os.getpid(), 1
            threading.Thread(target=self._loop.run_forever, name="doorbells", daemon=True).start()
        return self._loop

    async def _send(self, group: str, message: dict[str, Any]) -> None:
        try:
            layer = get_channel_layer()
            await asyncio.wait_for(layer.group_send(group, message), SEND_TIMEOUT_SECONDS)
        except Exception as error:  # the doorbell is lost, which receivers survive by their timers
            log.warning("doorbell to %s was lost: %s: %s", group, type(error).__name__, error)
        finally:
            with self._lock:
                self._waiting -= 1


BUS = Bus()


def ring_on_commit(group: str, message: Mapping[str, Any]) -> None:
    """Ring when the surrounding transaction commits (at once if there is none); nothing is sent inside it. What is
    rung twice in a transaction is rung once."""
    mine = set(connection.savepoint_ids)
    for savepoints, waiting, *_ in connection.run_on_commit:
        # One of a savepoint that may still be rolled back without us says nothing.
        if isinstance(waiting, partial) and waiting.args == (group, message) and savepoints <= mine:
            return
    transaction.on_commit(partial(BUS.ring, group, message))


def account_changed(account_id: int, kind: str, identifier: object = "") -> None:
    """Tell browsers that watch an account which order, fill, position, signal, equity or alert changed."""
    message = {"type": "account.changed", "account": account_id, "kind": kind, "id": str(identifier)}
    ring_on_commit(f"account.{account_id}", message)


def platform_changed(kind: str, identifier: object = "") -> None:
    """Tell the browsers of staff what changed that belongs to no account."""
    message = {"type": "platform.changed", "kind": kind, "id": str(identifier)}
    ring_on_commit("platform", message)


def engines_doorbell(kind: str, identifier: object = "") -> None:
    """Tell every engine that configuration of this kind changed and should be re-read."""
    ring_on_commit("engines", {"type": "engine.doorbell", "kind": kind, "id": str(identifier)})


def engines_command(command: str, identifier: object) -> None:
    """Ask the engine that owns the subject to act; it finds the same work in the database if this is lost."""
    ring_on_commit("engines", {"type": "engine.command", "command": command, "id": str(identifier)})
