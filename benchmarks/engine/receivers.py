"""One process that receives the load server's stream: Ballast's, cryptofeed's or ccxt.pro's own client and book.

``python -m benchmarks.engine.receivers KIND PORT MESSAGES SECONDS``: prints what it used, when every message came or
the time is over. Latency is from the moment a message's bytes reached its handler to the book's (for ours: and its
features') being up to date.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.engine import peers, streams
from benchmarks.engine.load_server import SYMBOLS

SYMBOL_NAMES = [streams.alike(index).symbol for index in range(SYMBOLS)]


def _largest_memory() -> float:
    """MB. The kernel's own high-water mark: getrusage's is inherited from whoever started the process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Count:
    """What arrived, and how long each took."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.latencies_ns: list[int] = []
        self.done = asyncio.Event()
        self.wrong = 0
        self._began = self._ended = self._cpu = self._cpu_ended = 0.0

    def add(self, latency_ns: int) -> None:
        if not self.latencies_ns:
            self._began, self._cpu = time.perf_counter(), time.process_time()
        self.latencies_ns.append(latency_ns)
        number = len(self.latencies_ns)
        # The clocks at the newest of every hundred, should the last never come.
        if number % 100 == 0 or number == self.expected:
            self._ended, self._cpu_ended = time.perf_counter(), time.process_time()
        if number == self.expected:
            self.done.set()

    def report(self) -> dict[str, float]:
        microseconds = np.array(self.latencies_ns or [0]) / 1_000
        p50, p99, p999 = np.percentile(microseconds, [50, 99, 99.9])
        seconds = max(self._ended - self._began, 1e-9)
        return {
            "received": len(self.latencies_ns),
            "wrong": self.wrong,
            "seconds": seconds,
            "cpu": (self._cpu_ended - self._cpu) / seconds,
            "cpu_us": 1e6 * (self._cpu_ended - self._cpu) / max(len(self.latencies_ns), 1),
            "rss_mb": _largest_memory(),
            "p50": float(p50),
            "p99": float(p99),
            "p999": float(p999),
        }


def _books() -> dict[bytes, Any]:
    from marketdata.engine.book import SymbolBook

    sizes = Decimal("0.10"), Decimal("0.001")
    return {b"orderbook.200." + name.encode(): SymbolBook(name, *sizes, 200) for name in SYMBOL_NAMES}


async def _our_connections(url: str, on_message: Callable[[bytes, int], None], count: Count) -> None:
    """The product's connections, ten symbols each."""
    from marketdata.feeds.bybit import BybitPublicFeed
    from marketdata.feeds.connection import Connection
    from marketdata.feeds.meters import ConnectionMeter

    def connect(names: list[str]) -> Connection:
        def subscribe() -> None:
            topics = [f"orderbook.200.{name}" for name in names]
            connection.send(json.dumps({"op": "subscribe", "args": topics}).encode())

        connection = Connection(
            url,
            BybitPublicFeed.HEARTBEAT,
            ConnectionMeter(names[0]),
            on_connected=subscribe,
            on_message=on_message,
            on_disconnected=lambda reason, failures: None,
        )
        return connection

    connections = [connect(SYMBOL_NAMES[start : start + 10]) for start in range(0, SYMBOLS, 10)]
    tasks = [asyncio.create_task(connection.run()) for connection in connections]
    await count.done.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def ours(url: str, count: Count) -> None:
    """One call a message, as the product's market plane does: book, bands and features before the next message."""
    from marketdata.engine.sync import BookOutcome

    books = _books()
    delta = BookOutcome.DELTA

    def on_message(frame: bytes, receive_ns: int) -> None:
        if not frame.startswith(b'{"topic":"'):
            return
        outcome = books[frame[10 : frame.index(b'"', 10)]].on_frame(frame, receive_ns)
        if outcome > delta:
            count.wrong += 1
        count.add(time.time_ns() - receive_ns)

    await _our_connections(url, on_message, count)


async def ours_batched(url: str, count: Count) -> None:
    """A FrameBatch that is taken once a turn of the event loop, or when it is full."""
    from marketdata.engine.batch import FrameBatch
    from marketdata.engine.sync import BookOutcome

    books, batch, loop = _books(), FrameBatch(), asyncio.get_running_loop()
    received: list[int] = []

    def take() -> None:
        outcomes = list(batch.take())
        now = time.time_ns()
        for (_place, outcome), receive_ns in zip(outcomes, received, strict=True):
            count.wrong += outcome > BookOutcome.DELTA
            count.add(now - receive_ns)
        received.clear()

    def on_message(frame: bytes, receive_ns: int) -> None:
        if not frame.startswith(b'{"topic":"'):
            return
        book = books[frame[10 : frame.index(b'"', 10)]]
        if not received:
            loop.call_soon(take_waiting)
        if not batch.add(book, frame, receive_ns):
            take()
            batch.add(book, frame, receive_ns)
        received.append(receive_ns)

    def take_waiting() -> None:
        if received:
            take()

    await _our_connections(url, on_message, count)


async def cryptofeed(url: str, count: Count) -> None:
    from cryptofeed.connection import WSAsyncConn

    feed = peers.cryptofeed_handler({name: f"{name[:-4]}-USDT-PERP" for name in SYMBOL_NAMES}, lambda _book: None)

    async def receive(names: list[str]) -> None:
        connection = WSAsyncConn("wss://loopback", "benchmark", ping_interval=None)
        connection.address = f"{url}/v5/public/linear"  # which is not encrypted: its constructor would refuse it
        async with connection.connect() as open_connection:
            topics = [f"orderbook.200.{name}" for name in names]
            await open_connection.write(json.dumps({"op": "subscribe", "args": topics}))
            async for message in open_connection.read():
                began = time.perf_counter_ns()
                if '"topic"' not in message[:20]:
                    continue
                await feed.message_handler(message, open_connection, time.time())
                count.add(time.perf_counter_ns() - began)

    await _until_done([receive(SYMBOL_NAMES[start : start + 10]) for start in range(0, SYMBOLS, 10)], count)


async def ccxt_pro(url: str, count: Count) -> None:
    import ccxt.pro

    class Exchange(ccxt.pro.bybit):  # type: ignore[misc]
        def handle_order_book(self, client: Any, message: Any) -> None:
            began = time.perf_counter_ns()
            super().handle_order_book(client, message)
            count.add(time.perf_counter_ns() - began)

    exchange = Exchange({"newUpdates": True})
    exchange.urls["api"]["ws"]["public"]["linear"] = f"{url}/v5/public/linear"
    markets = []
    for name in SYMBOL_NAMES:
        base = name[:-4]
        kind = {"type": "swap", "swap": True, "spot": False, "contract": True, "linear": True, "inverse": False}
        parts = {"base": base, "quote": "USDT", "settle": "USDT", "active": True, "contractSize": 1.0}
        markets.append(
            exchange.safe_market_structure(
                {"id": name, "symbol": f"{base}/USDT:USDT", **parts, **kind, "option": False}
            )
        )
    exchange.set_markets(markets)
    symbols = [market["symbol"] for market in markets]

    async def watch() -> None:
        while True:
            await exchange.watch_order_book_for_symbols(symbols, 200)

    try:
        await _until_done([watch()], count)
    finally:
        await exchange.close()


async def _until_done(works: list[Awaitable[None]], count: Count) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    waiting = asyncio.ensure_future(count.done.wait())
    try:
        finished, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in finished:
            task.result()
    finally:
        for task in [waiting, *tasks]:
            task.cancel()
        await asyncio.gather(waiting, *tasks, return_exceptions=True)


KINDS: dict[str, Callable[[str, Count], Awaitable[None]]] = {
    "ours": ours,
    "ours-batched": ours_batched,
    "cryptofeed": cryptofeed,
    "ccxt": ccxt_pro,
}


async def main(kind: str, port: str, messages: str, seconds: str) -> None:
    count = Count(int(messages))
    try:
        async with asyncio.timeout(float(seconds)):
            await KINDS[kind](f"ws://127.0.0.1:{port}", count)
    except TimeoutError:
        pass
    print(json.dumps(count.report()), flush=True)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:5]))
