"""One websocket that stays connected: raw frames with their time of arrival, heartbeats, back-off, no surprises."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from marketdata.feeds.meters import ConnectionMeter
from marketdata.feeds.protocol import Heartbeat

log = logging.getLogger(__name__)

FIRST_BACK_OFF_SECONDS, LAST_BACK_OFF_SECONDS = 1.0, 30.0
CONNECT_SECONDS = 10.0
_DATA = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION)


def back_off(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4 ... 30, with jitter."""
    longest = min(FIRST_BACK_OFF_SECONDS * 2 ** min(failures - 1, 16), LAST_BACK_OFF_SECONDS)
    return longest * random.uniform(0.5, 1.0)


class _Listener(WSListener):
    """Collects fragments into whole messages and hands them on; nothing it calls can end the connection's loop."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._fragments: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        receive_ns = time.time_ns()
        if frame.msg_type not in _DATA:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
            else:
                self._connection.is_alive()
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
    """Runs until cancelled, or until :meth:`retire`. ``on_connected`` is called after each (re)connection and sends the
    subscriptions; ``on_message`` gets each whole message; ``on_disconnected`` one sentence why, and how many
    connections in a row brought nothing."""

    def __init__(
        self,
        url: str,
        heartbeat: Heartbeat,
        meter: ConnectionMeter,
        *,
        on_connected: Callable[[], None],
        on_message: Callable[[bytes, int], None],
        on_disconnected: Callable[[str, int], None],
    ) -> None:
        self.url, self.meter = url, meter
        self._heartbeat = heartbeat
        self._on_connected, self._on_message, self._on_disconnected = on_connected, on_message, on_disconnected
        self._transport: WSTransport | None = None
        self._last_sign = self._began = 0.0
        self._heard = asyncio.Event()
        self._retired = asyncio.Event()

    @property
    def connected(self) -> bool:
        return self._transport is not None

    @property
    def age(self) -> float:
        """Seconds since it connected; 0 while it is not."""
        return time.monotonic() - self._began if self.connected else 0.0

    async def run(self) -> None:
        failures = 0
        while not self._retired.is_set():
            self._heard.clear()
            reason = await self._one_connection()
            self._transport = None
            if self._retired.is_set():
                return
            # Only a connection that delivered something earns a fresh back-off.
            failures = 0 if self._heard.is_set() else failures + 1
            self.meter.reconnects += 1
            self.meter.failures = failures
            self._on_disconnected(reason, failures)
            await asyncio.sleep(back_off(max(failures, 1)))

    async def heard(self) -> None:
        """Until it delivers its first message."""
        await self._heard.wait()

    def retire(self) -> None:
        """End without a word: another connection has taken over."""
        self._retired.set()
        if self._transport is not None:
            self._transport.disconnect()

    async def _one_connection(self) -> str:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                transport, _ = await ws_connect(lambda: _Listener(self), self.url)
        except Exception as error:  # refused, unresolvable, not a websocket: all the same to a reconnecting client
            return f"{type(error).__name__}: {error}"
        self._transport = transport
        self._began = self._last_sign = time.monotonic()
        keeper = asyncio.create_task(self._keep_alive(transport))
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
            keeper.cancel()

    async def _keep_alive(self, transport: WSTransport) -> None:
        """Venues cut connections that never ping; we cut one that is silent although it is pinged."""
        heartbeat = self._heartbeat
        while True:
            await asyncio.sleep(heartbeat.ping)
            if time.monotonic() - self._last_sign > heartbeat.silence:
                log.warning("%s: silent for %g s, reconnecting", self.url, heartbeat.silence)
                transport.disconnect()
                return
            if heartbeat.message is None:
                transport.send_ping()
            else:
                transport.send(WSMsgType.TEXT, heartbeat.message)

    def send(self, message: bytes) -> bool:
        """Send now; False while disconnected."""
        if self._transport is None:
            return False
        self._transport.send(WSMsgType.TEXT, message)
        return True

    def is_alive(self) -> None:
        self._last_sign = time.monotonic()

    def received(self, payload: bytes, receive_ns: int) -> None:
        self.is_alive()
        self._heard.set()
        self.meter.took(len(payload), receive_ns)
        try:
            self._on_message(payload, receive_ns)
        except Exception:
            self.meter.handler_errors += 1
            log.exception("a message could not be handled: %r", payload[:300])
