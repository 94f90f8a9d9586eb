"""Bybit's private websocket: our orders, executions, positions and wallet as they change.

Not through pybit: it resubscribes after a reconnect without waiting for the answer to its ``auth``, and hides that it
reconnected - but Bybit never replays what was missed, so the owner must reconcile after every reconnect.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import orjson

from trading.gateways.bybit_reports import ReportError, fill_report, order_report, position_report, wallet_report
from trading.report_text import Report

log = logging.getLogger(__name__)

TOPICS = ("order", "execution", "position", "wallet")
DEAD_MAN_TOPIC = "dcp.future"
READERS: Mapping[str, Callable[[Mapping[str, Any]], Report]] = {
    "order": order_report,
    "execution": fill_report,
    "position": position_report,
    "wallet": wallet_report,
}
PING_SECONDS = 20.0
SILENCE_SECONDS = 45.0
ANSWER_SECONDS = 10.0
FIRST_BACK_OFF_SECONDS, LAST_BACK_OFF_SECONDS = 0.5, 30.0


class StreamRefused(Exception):
    """The venue answered the authentication or the subscription with no."""


class BybitPrivateStream:
    """Runs until cancelled. ``on_reports`` gets each message's reports in order; ``on_connected`` is awaited after
    every (re)subscription, before the first report; ``on_trouble`` gets one sentence for each thing that went wrong,
    with the frame if it was one."""

    def __init__(
        self,
        url: str,
        api_key: str,
        api_secret: str,
        *,
        on_reports: Callable[[list[Report]], Awaitable[None]],
        on_connected: Callable[[], Awaitable[None]],
        on_disconnected: Callable[[str], None],
        on_trouble: Callable[[str, bytes], None],
    ) -> None:
        self._url, self._api_key, self._api_secret = url, api_key, api_secret
        self._on_reports, self._on_connected = on_reports, on_connected
        self._on_disconnected, self._on_trouble = on_disconnected, on_trouble
        self.connected = False
        # Subscribe to the topic that makes the venue cancel all orders when this stream is gone for too long.
        self.dead_man = False

    async def run(self) -> None:
        back_off = FIRST_BACK_OFF_SECONDS
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    await self._connection(session)
                except Exception as error:  # whatever ended it: a stream that is not run again would stay deaf
                    reason = f"{type(error).__name__}: {error}"
                else:
                    reason = "the venue closed the connection"
                if self.connected:
                    back_off = FIRST_BACK_OFF_SECONDS
                self.connected = False
                self._on_disconnected(reason)
                await asyncio.sleep(back_off * random.uniform(0.5, 1.0))
                back_off = min(back_off * 2, LAST_BACK_OFF_SECONDS)

    async def _connection(self, session: aiohttp.ClientSession) -> None:
        timeout = aiohttp.ClientWSTimeout(ws_close=2.0)
        async with session.ws_connect(self._url, timeout=timeout, max_msg_size=16 * 2**20) as socket:
            await self._authenticate(socket)
            await self._subscribe(socket)
            await self._on_connected()
            self.connected = True
            pinger = asyncio.create_task(self._ping(socket))
            try:
                await self._read(socket)
            finally:
                pinger.cancel()

    async def _authenticate(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        expires = int(time.time() * 1000) + 10_000
        signature = hmac.new(self._api_secret.encode(), f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
        await socket.send_json({"op": "auth", "args": [self._api_key, expires, signature]})
        await self._answer_to(socket, "auth")

    async def _subscribe(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        topics = [*TOPICS, DEAD_MAN_TOPIC] if self.dead_man else list(TOPICS)
        await socket.send_json({"op": "subscribe", "args": topics})
        await self._answer_to(socket, "subscribe")

    async def _answer_to(self, socket: aiohttp.ClientWebSocketResponse, operation: str) -> None:
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                message = await socket.receive()
                if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    raise StreamRefused(f"closed while {operation} was unanswered")
                answer = orjson.loads(message.data)
                if answer.get("op") == operation:
                    if not answer.get("success", answer.get("retCode") == 0):
                        raise StreamRefused(f"{operation}: {answer.get('ret_msg') or answer.get('retMsg')}")
                    return

    async def _ping(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            await socket.send_json({"op": "ping"})

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            message = await socket.receive(timeout=SILENCE_SECONDS)
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return
            raw = message.data.encode() if isinstance(message.data, str) else message.data
            reports = self._reports(raw)
            if reports:
                await self._on_reports(reports)

    def _reports(self, raw: bytes) -> list[Report]:
        reports, troubles = reports_of_frame(raw)
        for sentence in troubles:
            self._on_trouble(sentence, raw)
        return reports


def reports_of_frame(raw: bytes) -> tuple[list[Report], list[str]]:
    """The reports of one private frame, and a sentence for what could not be read: one row costs that row alone."""
    try:
        message = orjson.loads(raw)
        topic = str(message.get("topic", "")).split(".")[0]
        rows = message.get("data") if topic in READERS else []
        if not isinstance(rows, list):
            raise ReportError(f"data is {type(rows).__name__}; expected a list")
    except (orjson.JSONDecodeError, AttributeError, ReportError) as error:
        return [], [f"unreadable private frame: {error}"]
    reports: list[Report] = []
    troubles = []
    for row in rows:
        try:
            if row.get("category", "linear") == "linear":
                reports.append(READERS[topic](row))
        except (ReportError, AttributeError) as error:
            troubles.append(f"unreadable {topic}: {error}")
    return reports, troubles
