"""A venue to follow and a paper venue that follows it, both of this process, over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.simulator.loopback import Client
from trading.simulator.clerk import Clerk
from trading.simulator.followed import FollowedVenue
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.paper_keys import PaperKeys
from trading.simulator.rest import MAX_BODY, RestApi
from trading.simulator.server import SimulatorOptions, venue_and_application
from trading.simulator.signatures import Authority
from trading.simulator.venue import Venue, now_ms
from trading.simulator.websockets import Websockets

MASTER_KEY = "a master key of tests"
KEYS = PaperKeys([MASTER_KEY])
DEADLINE_SECONDS = 20.0


@dataclass
class Live:
    """The followed venue. Time stands still between :meth:`tick` calls; ``signed`` are the paths that anybody asked
    for with a key or that only keys open."""

    venue: Venue
    runner: web.AppRunner
    port: int = 0
    signed: list[str] = field(default_factory=list)
    now: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.now = max(self.now + 20, now_ms())
            self.venue.tick(self.now)
            await asyncio.sleep(0)

    async def listen(self) -> None:
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def hang_up(self) -> None:
        """As a venue that is gone: nobody listens, every connection is cut."""
        for site in list(self.runner.sites):
            await site.stop()
        self.venue.hub.disconnect_all()


@dataclass
class Paper:
    venue: Venue
    client: Client
    session: aiohttp.ClientSession
    url: str

    def of(self, account_id: int) -> Client:
        return Client(self.session, self.url, KEYS.issue(account_id), now_ms)


@asynccontextmanager
async def live_venue(symbols: int = 2) -> AsyncIterator[Live]:
    venue = Venue(DEMO_KEYS, symbols=symbols)
    signed: list[str] = []

    @web.middleware
    async def watch(request: web.Request, handler: Any) -> web.StreamResponse:
        public = request.path.startswith(("/v5/market/", "/v5/public/"))
        if not public or any(name.upper().startswith("X-BAPI") for name in request.headers):
            signed.append(request.path)
        return await handler(request)

    application = web.Application(client_max_size=MAX_BODY, middlewares=[watch])
    authority, clerk = Authority(DEMO_KEYS), Clerk(venue)
    RestApi(venue, authority, clerk).register(application)
    Websockets(venue, authority, clerk).register(application)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    live = Live(venue, runner, signed=signed)
    await live.listen()
    try:
        yield live
    finally:
        venue.hub.disconnect_all()
        await runner.cleanup()


@asynccontextmanager
async def paper_venue(
    live: Live, state: Path | None = None, account_id: int = 1, master_key: str = MASTER_KEY
) -> AsyncIterator[Paper]:
    """It is live when the block begins."""
    followed = await FollowedVenue.read(live.url, live.url.replace("http", "ws", 1))
    options = SimulatorOptions(state=state, paper_secrets=(master_key,))
    venue, application = venue_and_application(options, followed)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as session:
            await until(lambda: not venue.status()["stale"], live)
            yield Paper(venue, Client(session, url, KEYS.issue(account_id), now_ms), session, url)
    finally:
        venue.hub.disconnect_all()
        await runner.cleanup()


@dataclass
class Both:
    """A live venue and a paper venue on a thread of their own, while the market goes on."""

    live: Live
    paper: Paper
    thread: threading.Thread


@contextmanager
def both_venues(master_key: str) -> Iterator[Both]:
    started: Future[tuple[Live, Paper]] = Future()
    over = threading.Event()

    async def live_and_follow() -> None:
        try:
            async with live_venue(symbols=1) as live, paper_venue(live, master_key=master_key) as paper:
                started.set_result((live, paper))
                while not over.is_set():
                    await live.tick()
                    await asyncio.sleep(0.02)
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = threading.Thread(target=lambda: asyncio.run(live_and_follow()), daemon=True)
    thread.start()
    try:
        yield Both(*started.result(60), thread)
    finally:
        over.set()
        thread.join(30)


async def until(condition: Callable[[], Any], live: Live | None = None) -> None:
    """While the followed market goes on."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            if live is not None:
                await live.tick()
            await asyncio.sleep(0.005)
