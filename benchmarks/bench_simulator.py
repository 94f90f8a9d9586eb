"""The exchange simulator, measured: matching, REST, fan-out of websockets, the market's own cost, and its likeness.

``python benchmarks/bench_simulator.py [--seconds 8] [--matching]``; the latter measures matching alone. Servers are
processes of their own on 127.0.0.1, kept on one core; who asks them is on another. The documented limit on requests a
second is lifted: it would be all that is seen.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))


from benchmarks.likeness import how_close  # noqa: E402
from platform_site.supervisor.ports import free_port  # noqa: E402
from trading.simulator import limits  # noqa: E402
from trading.simulator.book import MatchingBook  # noqa: E402
from trading.simulator.exchange import Exchange  # noqa: E402
from trading.simulator.hub import Client  # noqa: E402
from trading.simulator.instruments import INSTRUMENTS  # noqa: E402
from trading.simulator.keys import DEMO_KEYS  # noqa: E402
from trading.simulator.markets import market_of  # noqa: E402
from trading.simulator.server import SimulatorOptions, serve  # noqa: E402
from trading.simulator.venue import TICK_SECONDS, Venue  # noqa: E402

LISTENERS = 10
CONNECTIONS = 8
TOPICS = ("orderbook.1", "orderbook.50", "orderbook.200", "publicTrade", "tickers")
SYMBOLS = [each.symbol for each in INSTRUMENTS]
KEY = DEMO_KEYS["alice"]


def matching(seconds: float) -> float:
    """Anonymous orders a second through ``MatchingBook.process``: 55 % limit orders, 45 % cancels."""
    rng = np.random.default_rng(1)
    count = 200_000
    orders = np.empty((count, 4), dtype=np.int64)
    is_cancel = rng.random(count) < 0.45
    orders[:, 0] = np.where(is_cancel, 2, 1)
    orders[:, 1] = np.where(rng.random(count) < 0.5, 1, -1)
    # Most rest a few ticks behind a price that wanders, a sixth or so takes.
    middle = 100_000 + np.cumsum(rng.normal(0, 0.2, count))
    orders[:, 2] = middle - orders[:, 1] * (rng.geometric(0.08, count) - 3)
    orders[:, 3] = 1 + rng.lognormal(3, 1.2, count).astype(np.int64)
    earlier = np.maximum(0, np.arange(count) - rng.geometric(0.005, count))
    orders[is_cancel, 2] = earlier[is_cancel]
    MatchingBook().process(orders[:1_000])
    done, spent = 0, 0.0
    while spent < seconds:
        book = MatchingBook()
        began = time.perf_counter()
        book.process(orders)
        spent += time.perf_counter() - began
        done += count
    return done / spent


def accounts(seconds: float, resting: int = 0) -> float:
    """Operations a second of ``Exchange.create`` and ``cancel``, with all rules of accounts; ``resting`` is how many
    other orders the account has."""
    each = INSTRUMENTS[0]
    exchange = Exchange({each.symbol: market_of(each.listing())}, DEMO_KEYS)
    market = exchange.markets[each.symbol]
    market.last_price = market.mark_price = each.price
    base = {"symbol": each.symbol, "side": "Buy", "orderType": "Limit", "qty": "0.001", "timeInForce": "GTC"}
    prices = [f"{each.price - each.tick_size * distance:f}" for distance in range(1, 200)]
    for number in range(resting):
        exchange.create("alice", base | {"price": f"{each.price - each.tick_size * (300 + number):f}"}, 1)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for price in prices:
            order = exchange.create("alice", base | {"price": price}, 1)
            exchange.cancel("alice", {"symbol": each.symbol, "orderId": order.order_id}, 1)
        done += 2 * len(prices)
        exchange.outbox.clear()
        exchange.dirty.clear()
        exchange.changed_orders.clear()
        exchange.accounts["alice"].orders.clear()
    return done / (time.perf_counter() - began)


class Sink:
    """A socket and its transport that take everything."""

    closed = False

    def __init__(self) -> None:
        self._req = self.transport = self
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self.bytes += len(data)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


async def stepping(ticks: int, *, listened: bool) -> tuple[float, float, float]:
    """100 instruments without a server: % of a core, the longest tick in ms, MB/s to the one client."""
    venue, sink = Venue(DEMO_KEYS, symbols=100), Sink()
    if listened:
        client: Any = Client(sink)  # type: ignore[arg-type]
        for symbol in SYMBOLS:
            for topic in TOPICS:
                venue.hub.subscribe(client, f"{topic}.{symbol}")
                venue.first_message(f"{topic}.{symbol}")
    lengths, now, spent = [], time.time_ns() // 1_000_000, time.process_time()
    for tick in range(ticks):
        began = time.perf_counter()
        venue.tick(now + tick * 20)
        await asyncio.sleep(0)
        lengths.append(time.perf_counter() - began)
    share = (time.process_time() - spent) / ticks / TICK_SECONDS
    return 100 * share, 1_000 * max(lengths), sink.bytes / ticks / TICK_SECONDS / 1e6


class Server:
    """A simulator of its own on one core."""

    def __init__(self, symbols: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ballast-bench-")
        self.port = free_port()
        state = f"{self._folder.name}/state.sqlite3"
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(self.port), "--symbols", str(symbols), "--state", state]
        )

    async def started(self) -> None:
        for _ in range(600):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
        raise RuntimeError("the simulator did not start within a minute")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


class Asker:
    """One connection that asks one signed request after the other: an order, its cancellation, now and then a list."""

    def __init__(self, port: int, number: int) -> None:
        self._port, self._random = port, random.Random(number)
        self._open: deque[str] = deque()

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self) -> None:
        draw = self._random.random()
        if draw < 0.1:
            await self._send("GET", "/v5/order/realtime", "category=linear&symbol=BTCUSDT")
        elif self._open and (draw < 0.55 or len(self._open) > 5):
            await self._send("POST", "/v5/order/cancel", self._order(orderId=self._open.popleft()))
        else:
            price = f"{63_000 + self._random.randint(0, 900)}.5"
            order = self._order(side="Buy", orderType="Limit", qty="0.001", price=price)
            answer = await self._send("POST", "/v5/order/create", order)
            self._open.append(answer["result"]["orderId"])

    def _order(self, **fields: str) -> str:
        return orjson.dumps({"category": "linear", "symbol": "BTCUSDT", **fields}).decode()

    async def _send(self, method: str, path: str, payload: str) -> Any:
        stamp = str(time.time_ns() // 1_000_000)
        signed = hmac.new(KEY.api_secret.encode(), f"{stamp}{KEY.api_key}5000{payload}".encode(), hashlib.sha256)
        is_post = method == "POST"
        target, body = (path, payload) if is_post else (f"{path}?{payload}", "")
        self._writer.write(
            f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-BAPI-API-KEY: {KEY.api_key}\r\n"
            f"X-BAPI-TIMESTAMP: {stamp}\r\nX-BAPI-RECV-WINDOW: 5000\r\nX-BAPI-SIGN: {signed.hexdigest()}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer = orjson.loads(await self._reader.readexactly(length))
        if answer["retCode"]:
            raise RuntimeError(f"{path}: {answer['retMsg']}")
        return answer


async def rest(seconds: float) -> tuple[float, float, float, float, float]:
    """Requests a second at most, the server's CPU time for each in ms, the load at which the latency was taken, and its
    p50 and p99 in ms."""
    server = Server(20)
    try:
        await server.started()
        askers = [Asker(server.port, number) for number in range(CONNECTIONS)]
        for asker in askers:
            await asker.connect()

        async def hurry(asker: Asker, until: float) -> int:
            done = 0
            while time.monotonic() < until:
                await asker.ask()
                done += 1
            return done

        async def at_all(until: float) -> int:
            return sum(await asyncio.gather(*(hurry(asker, until) for asker in askers)))

        await at_all(time.monotonic() + 1)
        began, before = time.monotonic(), server.cpu_seconds()
        done = await at_all(began + seconds)
        most, cost = done / (time.monotonic() - began), 1_000 * (server.cpu_seconds() - before) / done
        waits: list[float] = []

        async def paced(asker: Asker, start: float, until: float) -> None:
            due, every = start, CONNECTIONS / (most / 2)
            while due < until:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await asker.ask()
                # From when it was due: a server that stalls is not forgiven what it kept waiting.
                waits.append(time.monotonic() - due)
                due += every

        start = time.monotonic() + 0.1
        await asyncio.gather(*(paced(asker, start + n / most, start + seconds) for n, asker in enumerate(askers)))
        p50, p99 = np.percentile(waits, (50, 99)) * 1_000
        return most, cost, len(waits) / seconds, p50, p99
    finally:
        server.stop()


class Listener(asyncio.Protocol):
    """A websocket client that subscribes to everything and counts what it gets."""

    def __init__(self) -> None:
        self.bytes = self.frames = 0
        self._rest = b""
        self._is_open = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(
            b"GET /v5/public/linear HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if not self._is_open:
            head, end, data = (self._rest + data).partition(b"\r\n\r\n")
            self._rest = head
            if not end:
                return
            self._is_open, self._rest = True, b""
            for symbol in SYMBOLS:
                self._subscribe([f"{topic}.{symbol}" for topic in TOPICS])
        self._count(self._rest + data)

    def _subscribe(self, topics: list[str]) -> None:
        body = orjson.dumps({"op": "subscribe", "args": topics})
        self.transport.write(struct.pack("!BBHI", 0x81, 0x80 | 126, len(body), 0) + body)

    def _count(self, data: bytes) -> None:
        at = 0
        while at + 10 <= len(data):
            length, head = data[at + 1], 2
            if length == 126:
                length, head = int.from_bytes(data[at + 2 : at + 4]), 4
            elif length == 127:
                length, head = int.from_bytes(data[at + 2 : at + 10]), 10
            if at + head + length > len(data):
                break
            if data[at] != 0x81:
                raise RuntimeError(f"a frame begins with {data[at]:#x}")
            at += head + length
            self.frames += 1
        self._rest = data[at:]


async def fan_out(seconds: float) -> tuple[float, float, float, float]:
    """100 symbols to ten clients: % of a core without them and with them, frames a second, MB a second."""
    server = Server(100)
    try:
        await server.started()
        await asyncio.sleep(2)
        before = server.cpu_seconds()
        await asyncio.sleep(seconds / 2)
        alone = (server.cpu_seconds() - before) / (seconds / 2)
        loop, listeners = asyncio.get_running_loop(), []
        for _ in range(LISTENERS):
            _, listener = await loop.create_connection(Listener, "127.0.0.1", server.port)
            listeners.append(listener)
        await asyncio.sleep(3)
        before, frames, size = server.cpu_seconds(), _sum(listeners, "frames"), _sum(listeners, "bytes")
        began = time.monotonic()
        await asyncio.sleep(seconds)
        spent = time.monotonic() - began
        busy = (server.cpu_seconds() - before) / spent
        if any(listener.transport.is_closing() for listener in listeners):
            raise RuntimeError("a listener was dropped")
        frames, size = _sum(listeners, "frames") - frames, _sum(listeners, "bytes") - size
        return 100 * alone, 100 * busy, frames / spent, size / spent / 1e6
    finally:
        server.stop()


def _sum(listeners: list[Listener], name: str) -> int:
    return sum(getattr(listener, name) for listener in listeners)


def run_server(port: int, symbols: int, state: Path) -> None:
    """A server as ``manage.py runsimulator`` runs it, with no limit on requests a second."""
    _keep_to(0)
    limits.limit_of = lambda endpoint, category: 10**9
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        serving = runner.get_loop().create_task(serve(SimulatorOptions(port=port, symbols=symbols, state=state)))
        runner.get_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            runner.run(_until(serving))


async def _until(task: asyncio.Task[None]) -> None:
    await task


def _keep_to(number: int) -> None:
    """Stay on one core, another one for the clients where there is one."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})


def tell(name: str, value: str, target: str = "") -> None:
    print(f"{name:<58}{value:>28}{'   target ' + target if target else ''}", flush=True)


def measure_matching(seconds: float) -> None:
    tell("matching, MatchingBook.process (45 % cancels)", f"{matching(seconds / 2):,.0f} orders/s", ">= 300,000")
    tell("orders with all account rules, create and cancel", f"{accounts(seconds / 2):,.0f} operations/s")
    tell("  of an account with 400 more open orders", f"{accounts(seconds / 2, 400):,.0f} operations/s")


def measure(seconds: float) -> None:
    measure_matching(seconds)
    ticks = int(seconds * 100)
    for listened, name in ((False, "nobody listens"), (True, "one client on everything")):
        share, longest, rate = asyncio.run(stepping(ticks, listened=listened))
        told = f"{share:.1f} % of a core" + (f", {rate:.1f} MB/s" if listened else "")
        tell(f"100 instruments, {name}", told)
        tell("  the longest tick of 20 ms", f"{longest:.1f} ms")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        most, cost, load, p50, p99 = runner.run(rest(seconds))
        tell(f"REST, signed, {CONNECTIONS} connections, 20 instruments live", f"{most:,.0f} requests/s", ">= 1,500")
        tell("  by the server's CPU time, its market included", f"{1_000 / cost:,.0f} requests/s")
        tell(f"  at {load:,.0f} requests/s: p50, p99", f"{p50:.2f} ms, {p99:.2f} ms", "p99 < 10 ms")
        alone, busy, frames, rate = runner.run(fan_out(seconds))
        tell(f"fan-out, 100 instruments x {LISTENERS} clients", f"{busy:.0f} % of a core", "< 50 %")
        tell("  of that with nobody connected", f"{alone:.0f} % of a core")
        tell("  told", f"{frames:,.0f} frames/s, {rate:.0f} MB/s")
    print("\n".join(how_close()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--matching", action="store_true", help="only what needs no server")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--symbols", type=int, default=20, help=argparse.SUPPRESS)
    parser.add_argument("--state", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        run_server(chosen.serve, chosen.symbols, chosen.state)
    else:
        _keep_to(1)
        (measure_matching if chosen.matching else measure)(chosen.seconds)
