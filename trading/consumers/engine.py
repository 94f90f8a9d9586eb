from __future__ import annotations

import logging
from typing import Any, Protocol

from channels.consumer import AsyncConsumer

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
            log.error("a command named no subject: %r", message)
            return
        self._engine.command(command, identifier)
