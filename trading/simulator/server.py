"""One process, one port: REST, websockets, and a small control interface for tests (loopback only)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from trading.simulator.binance.side import BinanceSide
from trading.simulator.errors import ApiError
from trading.simulator.faults import Fault, FaultError
from trading.simulator.keys import DEMO_KEYS, read_keys
from trading.simulator.rest import MAX_BODY, RestApi, envelope, parsed_body
from trading.simulator.signatures import Authority
from trading.simulator.venue import Venue
from trading.simulator.websockets import Websockets

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    host: str = "127.0.0.1"
    port: int = 8900
    seed: int = 7
    symbols: int = 20
    liveliness: float = 1.0
    market: Path | None = None
    keys: Path | None = None
    state: Path | None = None


def build(options: SimulatorOptions) -> web.Application:
    """The application of one venue; its clock runs while the application does."""
    keys = DEMO_KEYS | (read_keys(options.keys) if options.keys is not None else {})
    venue = Venue(
        keys,
        seed=options.seed,
        symbols=options.symbols,
        liveliness=options.liveliness,
        recording=options.market,
        state=options.state,
    )
    authority = Authority(keys)
    application = web.Application(client_max_size=MAX_BODY)
    RestApi(venue, authority).register(application)
    Websockets(venue, authority).register(application)
    BinanceSide(venue).register(application)
    Control(venue).register(application)

    async def clock(_: web.Application) -> AsyncIterator[None]:
        running = asyncio.create_task(venue.run())
        running.add_done_callback(report_end)
        yield
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        venue.journal.close()

    async def hang_up(_: web.Application) -> None:
        venue.hub.disconnect(private=True)
        venue.hub.disconnect(private=False)

    application.cleanup_ctx.append(clock)
    application.on_shutdown.append(hang_up)
    return application


def report_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("the exchange stopped", exc_info=task.exception())


class Control:
    """What a test may do to the exchange that no client could."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def register(self, application: web.Application) -> None:
        application.router.add_get("/simulator/status", self._status)
        application.router.add_post("/simulator/control/faults", self._faults)
        application.router.add_post("/simulator/control/disconnect", self._disconnect)
        application.router.add_post("/simulator/control/skip_update", self._skip_update)
        application.router.add_post("/simulator/control/move", self._move)

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self._venue.status())

    async def _faults(self, request: web.Request) -> web.Response:
        return await self._controlled(request, self._add_fault)

    async def _disconnect(self, request: web.Request) -> web.Response:
        return await self._controlled(
            request, lambda body: {"cut": self._venue.hub.disconnect(private=body.get("which") == "private")}
        )

    async def _skip_update(self, request: web.Request) -> web.Response:
        return await self._controlled(request, lambda body: {"streams": self._venue.skip_update(str(body["symbol"]))})

    async def _move(self, request: web.Request) -> web.Response:
        def move(body: Any) -> dict[str, Any]:
            self._venue.move(str(body["symbol"]), float(body["percent"]))
            return {}

        return await self._controlled(request, move)

    def _add_fault(self, body: Any) -> dict[str, Any]:
        fault = Fault(str(body["endpoint"]), str(body["kind"]), float(body.get("value", 0)), int(body.get("count", 1)))
        self._venue.faults.add(fault)
        return {}

    async def _controlled(self, request: web.Request, work: Any) -> web.Response:
        if request.remote not in ("127.0.0.1", "::1"):
            return web.Response(status=403, text="the control interface answers on loopback only")
        try:
            return envelope(0, "OK", work(parsed_body(await request.read())), {})
        except (ApiError, FaultError, KeyError, ValueError, TypeError) as error:
            return envelope(10001, f"{type(error).__name__}: {error}", {}, {})


async def serve(options: SimulatorOptions) -> None:
    """Run until cancelled."""
    runner = web.AppRunner(build(options), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port, shutdown_timeout=0.5).start()
        log.info("simulator on http://%s:%d", options.host, options.port)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
