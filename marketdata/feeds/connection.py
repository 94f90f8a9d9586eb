"""One websocket that stays connected: raw frames with their time of arrival, heartbeats, back-off, no surprises."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

log = logging.getLogger(__name__)

FIRST_BACK_OFF_SECONDS, LAST_BACK_OFF_SECONDS = 1.0, 30.0
PING_SECONDS = 20.0
SILENCE_SECONDS = 45.0
CONNECT_SECONDS = 10.0
PING = b'{"op":"ping"}'


class _Listener(WSListener):
    """Collects fragments into whole messages and hands them on; nothing it calls can end the connection's loop."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._fragments: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        receive_ns = time.time_ns()
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        if frame.msg_type not in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            return
        payload = frame.get_payload_as_bytes()
        if not frame.fin:
            self._fragments.append(payload)
            return
        if self._fragments:
            payload = b"".join([*self._fragments, payload])
            self._fragments.clear()
        self._connection.received(payload, receive_ns)


class Connection:
    """Runs until cancelled. ``on_connected`` is called after each (re)connection and sends the subscriptions;
    ``on_message`` gets each whole message; ``on_disconnected`` one sentence why."""

    def __init__(
        self,
        url: str,
        *,
        on_connected: Callable[[], None],
        on_message: Callable[[bytes, int], None],
        on_disconnected: Callable[[str], None],
    ) -> None:
        self.url = url
        self._on_connected, self._on_message, self._on_disconnected = on_connected, on_message, on_disconnected
        self._transport: WSTransport | None = None
        self._last_message = 0.0
        self.messages = self.reconnects = self.handler_errors = 0

    @property
    def connected(self) -> bool:
        return self._transport is not None

    async def run(self) -> None:
        back_off = FIRST_BACK_OFF_SECONDS
        while True:
            before = self.messages
            reason = await self._one_connection()
            self._transport = None
            self._on_disconnected(reason)
            self.reconnects += 1
            # Only a connection that delivered something earns a fresh back-off.
            back_off = FIRST_BACK_OFF_SECONDS if self.messages > before else min(back_off * 2, LAST_BACK_OFF_SECONDS)
            await asyncio.sleep(back_off * random.uniform(0.5, 1.0))

    async def _one_connection(self) -> str:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                transport, _ = await ws_connect(lambda: _Listener(self), self.url)
        except Exception as error:  # refused, unresolvable, not a websocket: all the same to a reconnecting client
            return f"{type(error).__name__}: {error}"
        self._transport, self._last_message = transport, time.monotonic()
        pinger = asyncio.create_task(self._keep_alive(transport))
        try:
            self._on_connected()
            await transport.wait_disconnected()
            return "the connection was closed"
        except asyncio.CancelledError:
            transport.disconnect()
            raise
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            pinger.cancel()

    async def _keep_alive(self, transport: WSTransport) -> None:
        """The venue cuts connections that never ping; we cut one that is silent although it is pinged."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            if time.monotonic() - self._last_message > SILENCE_SECONDS:
                log.warning("%s: silent for %g s, reconnecting", self.url, SILENCE_SECONDS)
                transport.disconnect()
                return
            transport.send(WSMsgType.TEXT, PING)

    def send(self, message: bytes) -> bool:
        """Send now; False while disconnected."""
        if self._transport is None:
            return False
        self._transport.send(WSMsgType.TEXT, message)
        return True

    def received(self, payload: bytes, receive_ns: int) -> None:
        self.messages += 1
        self._last_message = time.monotonic()
        try:
            self._on_message(payload, receive_ns)
        except Exception:
            self.handler_errors += 1
            log.exception("a message could not be handled: %r", payload[:300])
