from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, Protocol

import orjson
from channels.consumer import AsyncConsumer

from audit.services import dead_letters

log = logging.getLogger(__name__)


class Receiver(Protocol):
    """The engine, as far as this consumer knows it."""

    def doorbell(self, kind: str, identifier: str) -> None: ...

    def command(self, command: str, identifier: str) -> None: ...


class EngineConsumer(AsyncConsumer):
    """The engine's ear on the channel layer. What it hears is a hint, never data: the engine re-reads."""

    def __init__(self, engine: Receiver) -> None:
        self._engine = engine

    async def engine_doorbell(self, message: dict[str, Any]) -> None:
        self._engine.doorbell(str(message.get("kind", "")), str(message.get("id", "")))

    async def engine_command(self, message: dict[str, Any]) -> None:
        command, identifier = str(message.get("command", "")), str(message.get("id", ""))
        if not identifier.isdigit():
            await self._lay_aside(message, "it names no subject")
            return
        try:
            self._engine.command(command, identifier)
        except Exception as error:
            await self._lay_aside(message, f"{type(error).__name__}: {error}")

    async def _lay_aside(self, message: dict[str, Any], error: str) -> None:
        log.error("a command could not be handled: %s: %r", error, message)
        words = orjson.dumps(message, default=str).decode()
        await asyncio.to_thread(partial(dead_letters().put, "engine_command", error=error, payload=words))
