"""Connections to Valkey that say soon that it is away."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_SECONDS = 1


def connect(url: str) -> redis.Redis:
    """A client of this process's own, for any thread of it; no call takes longer than two timeouts."""
    return redis.Redis.from_url(
        url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, retry=once_more()
    )


def once_more() -> Retry:
    """A call is tried twice, for the sake of a connection that the server has closed. The client's own ten tries, with
    pauses between them, are seconds in which whoever asks could go on without Valkey."""
    return Retry(NoBackoff(), 1)
