"""Blocking questions to the database, from the engine's loop and its threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from asgiref.sync import sync_to_async
from django.db import close_old_connections

Result = TypeVar("Result")


def with_connection(work: Callable[[], Result]) -> Result:
    """Threads keep their database connection; one that died with the server is replaced here."""
    close_old_connections()
    return work()


async def ask_database(work: Callable[[], Result]) -> Result:
    """On a thread of the loop's own pool: for what may wait for others who ask."""
    return await sync_to_async(partial(with_connection, work), thread_sensitive=False)()
