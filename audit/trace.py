"""The trace: one id for everything that one cause brings about, in rows, on the trail and in every line of the log.

A signal of a strategy begins one, a request to the API, a task of the worker. Threads do not inherit it: whoever hands
work to another thread begins it there again.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from structlog.contextvars import bound_contextvars, get_contextvars

# What clients and proxies use: UUIDs, hexadecimal and base64 digits, prefixes with a colon. Never a space or a quote.
TRACE_ID = re.compile(r"[A-Za-z0-9._:+=-]{1,64}")
KEY = "trace_id"


def new_trace_id() -> str:
    return secrets.token_hex(16)


def current_trace() -> str:
    """The id of what is being done here; empty outside of any trace."""
    return str(get_contextvars().get(KEY, ""))


@contextmanager
def tracing(trace_id: str) -> Iterator[str]:
    """Everything inside belongs to this trace."""
    with bound_contextvars(**{KEY: trace_id}):
        yield trace_id


class TraceFilter(logging.Filter):
    """Gives each record ``trace``: the id in brackets and a space, or nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        found = current_trace()
        record.trace = f"[{found}] " if found else ""
        return True
