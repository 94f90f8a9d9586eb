"""What engines say of themselves while the database is away: their newest words, in Valkey, for some seconds."""

from __future__ import annotations

import time
from typing import Any

import orjson

from audit.valkey import connect

WORDS_SECONDS = 15


class EngineMemory:
    """Raises ``redis.RedisError`` while Valkey is away."""

    def __init__(self, url: str, prefix: str) -> None:
        self._key = f"{prefix}:engines"
        self._redis: Any = connect(url)

    def store(self, name: str, status: str, detail: dict[str, Any]) -> None:
        words = orjson.dumps({"status": status, "at": time.time(), "detail": detail}, default=str)
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hset(self._key, name, words)
        pipeline.expire(self._key, WORDS_SECONDS)
        pipeline.execute()

    def read(self) -> dict[str, dict[str, Any]]:
        """``status``, ``at`` (seconds since 1970) and ``detail`` of each engine that was heard lately."""
        found = {name.decode(): orjson.loads(words) for name, words in self._redis.hgetall(self._key).items()}
        return {name: words for name, words in found.items() if time.time() - words["at"] < WORDS_SECONDS}
