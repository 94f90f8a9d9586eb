"""Blocking questions to the database, from the engine's loop and its threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connection

Result = TypeVar("Result")


# A connection that answered just now is not asked whether it lives: that would be one more question for each order.
TRUSTED_SECONDS = 1.0
_used = threading.local()


def with_connection(work: Callable[[], Result]) -> Result:
    """Threads keep their database connection; one that died with the server is replaced here."""
    if connection.errors_occurred or time.monotonic() - getattr(_used, "at", -TRUSTED_SECONDS) > TRUSTED_SECONDS:
        close_old_connections()
    try:
        return work()
    finally:
        _used.at = time.monotonic()


async def ask_database(work: Callable[[], Result]) -> Result:
    """On a thread of the loop's own pool: for what may wait for others who ask."""
    return await sync_to_async(partial(with_connection, work), thread_sensitive=False)()
