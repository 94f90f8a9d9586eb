"""A websocket server on loopback that plays prepared Bybit frames at a given rate, and ends by itself.

``python -m benchmarks.engine.load_server RATE MESSAGES``: prints its port; begins when every symbol is subscribed to.
Frames of all symbols go out in turns, each to the connection that asked for it, as many a millisecond as are due.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from benchmarks.engine import streams

SYMBOLS, FRAMES_A_SYMBOL = 100, 600
PATIENCE_SECONDS = 40.0


def framed(payload: bytes) -> bytes:
    """A whole, unmasked text message."""
    head = struct.pack("!BBH", 0x81, 126, len(payload)) if 125 < len(payload) < 1 << 16 else None
    if head is None:
        head = (
            struct.pack("!BB", 0x81, len(payload))
            if len(payload) < 126
            else struct.pack("!BBQ", 0x81, 127, len(payload))
        )
    return head + payload


def played() -> dict[str, list[bytes]]:
    """The frames of each symbol; the last is followed by the snapshot again."""
    made = {}
    for index in range(SYMBOLS):
        listing = streams.alike(index)
        made[listing.symbol] = streams.stream("bybit", listing, FRAMES_A_SYMBOL, 100 + index).frames()
    return made


class _Subscriber(WSListener):
    def __init__(self, server: LoadServer) -> None:
        super().__init__()
        self._server = server

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        if frame.msg_type != WSMsgType.TEXT:
            return
        message = json.loads(frame.get_payload_as_bytes())
        if message.get("op") == "subscribe":
            answer = {"success": True, "ret_msg": "", "conn_id": "1", "op": "subscribe"}
            transport.send(WSMsgType.TEXT, json.dumps({**answer, "req_id": message.get("req_id", "")}).encode())
            for topic in message["args"]:
                self._server.subscribe(topic, transport)


class LoadServer:
    def __init__(self, rate: float, messages: int) -> None:
        self._rate, self._messages = rate, messages
        self._frames = {symbol: [framed(frame) for frame in frames] for symbol, frames in played().items()}
        self._wanted: dict[str, Any] = {}
        self._complete = asyncio.Event()

    def subscribe(self, topic: str, transport: WSTransport) -> None:
        self._wanted[topic.rpartition(".")[2]] = transport.underlying_transport
        if len(self._wanted) == len(self._frames):
            self._complete.set()

    async def run(self) -> None:
        def listener(_request: WSUpgradeRequest) -> WSListener:
            return _Subscriber(self)

        server = await ws_create_server(listener, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._complete.wait()
            await asyncio.sleep(0.3)
            spent = await self._play()
            print(json.dumps({"sent": self._messages, "seconds": spent}), flush=True)
            # Whoever is behind still reads; whoever has all leaves.
            while not all(transport.is_closing() for transport in self._wanted.values()):
                await asyncio.sleep(0.05)
        server.close()

    async def _play(self) -> float:
        frames, targets = list(self._frames.values()), [self._wanted[symbol] for symbol in self._frames]
        sent, symbols, began = 0, len(frames), time.perf_counter()
        while sent < self._messages:
            due = min(int((time.perf_counter() - began) * self._rate), self._messages)
            parts: dict[Any, list[bytes]] = {}
            for number in range(sent, due):
                turn, symbol = divmod(number, symbols)
                parts.setdefault(targets[symbol], []).append(frames[symbol][turn % FRAMES_A_SYMBOL])
            for transport, chunks in parts.items():
                transport.write(b"".join(chunks))
            sent = max(due, sent)
            await asyncio.sleep(0.001)
        return time.perf_counter() - began


if __name__ == "__main__":
    asyncio.run(LoadServer(float(sys.argv[1]), int(sys.argv[2])).run())
