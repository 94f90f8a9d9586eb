"""Frames as clients get them: made once, written together, and never waited for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import WSMsgType
from aiohttp._websocket.reader_py import WebSocketDataQueue, WebSocketReader

from trading.simulator.faults.engine import Faults
from trading.simulator.hub import MOST_WAITING_BYTES, Client, Hub, frame_of


class Connection:
    """A socket, its request and its transport; ``buffered`` is what its peer has not read."""

    def __init__(self) -> None:
        self._req = self.transport = self
        self.closed = self.aborted = False
        self.buffered = 0
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def abort(self) -> None:
        self.aborted = True


def connected(hub: Hub, *topics: str) -> tuple[Connection, Client]:
    connection = Connection()
    socket: Any = connection
    client = Client(socket)
    hub.clients.add(client)
    for topic in topics:
        hub.subscribe(client, topic)
    return connection, client


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
async def test_a_frame_is_what_a_client_reads(length: int) -> None:
    protocol: Any = type("Protocol", (), {"_reading_paused": False, "pause_reading": lambda self: None})()
    queue = WebSocketDataQueue(protocol, 2**20, loop=asyncio.get_running_loop())
    WebSocketReader(queue, 2**20, compress=False, decode_text=True).feed_data(frame_of(b"x" * length))
    message = await queue.read()
    assert (message.type, message.data) == (WSMsgType.TEXT, "x" * length)


async def test_everything_of_one_turn_is_written_at_once() -> None:
    hub = Hub(Faults(1))
    first, _ = connected(hub, "a", "b")
    second, _ = connected(hub, "b")
    hub.publish("a", b"1")
    hub.publish("b", b"2")
    assert first.writes == []
    await asyncio.sleep(0)
    assert first.writes == [frame_of(b"1") + frame_of(b"2")]
    assert second.writes == [frame_of(b"2")]


async def test_a_pause_holds_back_only_what_follows() -> None:
    connection, client = connected(Hub(Faults(1)))
    client.send(b"before")
    client.pause(20)
    client.send(b"after")
    await asyncio.sleep(0.001)
    assert connection.writes == [frame_of(b"before")]
    client.send(b"last")
    await client.drained()
    assert connection.writes == [frame_of(b"before"), frame_of(b"after") + frame_of(b"last")]


async def test_a_client_that_does_not_read_is_dropped_and_nobody_waits_for_it() -> None:
    hub = Hub(Faults(1))
    slow, slow_client = connected(hub, "a")
    quick, _ = connected(hub, "a")
    slow.buffered = MOST_WAITING_BYTES + 1
    hub.publish("a", b"1")
    await asyncio.sleep(0)
    assert slow.aborted and slow_client.is_cut and not quick.aborted
    hub.publish("a", b"2")
    await asyncio.sleep(0)
    assert len(slow.writes) == 1 and len(quick.writes) == 2
