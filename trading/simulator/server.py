"""One process, one port: REST, websockets, and a small control interface for tests (loopback only)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from trading.simulator.binance.endpoints import FUTURES_ENDPOINTS, SPOT_ENDPOINTS
from trading.simulator.binance.side import BinanceSide
from trading.simulator.clerk import Clerk
from trading.simulator.errors import ApiError
from trading.simulator.faults.rules import Known, read_rules, rules_of
from trading.simulator.followed import FollowedVenue
from trading.simulator.instruments import DEFAULT_SYMBOLS
from trading.simulator.keys import DEMO_KEYS, read_keys
from trading.simulator.limits import AddressLimits
from trading.simulator.paper_keys import PaperKeys
from trading.simulator.rest import ENDPOINTS, MAX_BODY, RestApi, envelope
from trading.simulator.signatures import Authority
from trading.simulator.stepping import SteppedClock, Stepper
from trading.simulator.venue import HISTORY_DELAY_MS, INSURANCE_FUND, Venue, now_ms
from trading.simulator.websockets import Websockets

log = logging.getLogger(__name__)

BINANCE_ENDPOINTS = SPOT_ENDPOINTS.keys() | FUTURES_ENDPOINTS.keys()


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    host: str = "127.0.0.1"
    port: int = 8900
    seed: int = 7
    symbols: int = DEFAULT_SYMBOLS
    liveliness: float = 1.0
    market: Path | None = None
    keys: Path | None = None
    state: Path | None = None
    faults: Path | None = None
    fault_seed: int | None = None  # None: the seed of the market
    ip_limit: bool = False
    history_delay: int = HISTORY_DELAY_MS  # ms
    speed: float = 1.0  # seconds of the venue in a real one
    ago: int = 0  # of a venue with a speed: ms before now when its clock begins
    insurance: Decimal = INSURANCE_FUND
    # A paper venue: whose public market it follows (REST and websocket addresses), and of which symbols (empty: all).
    follow: tuple[str, str] | None = None
    follow_symbols: tuple[str, ...] = ()
    # What the keys of paper accounts follow from.
    paper_secrets: tuple[str, ...] = ()


def build(options: SimulatorOptions, followed: FollowedVenue | None = None) -> web.Application:
    """The application of one venue, see :func:`venue_and_application`."""
    return venue_and_application(options, followed)[1]


def venue_and_application(
    options: SimulatorOptions, followed: FollowedVenue | None = None
) -> tuple[Venue, web.Application]:
    """One venue, and its application; its clock runs while the application does.

    Raises:
        FaultError: a fault rule that cannot be.
    """
    # The demo's well-known keys open nothing at a paper venue.
    keys = {} if followed is not None else dict(DEMO_KEYS)
    keys |= read_keys(options.keys) if options.keys is not None else {}
    stepped = SteppedClock(now_ms() - options.ago) if options.speed != 1 else None
    venue = Venue(
        keys,
        seed=options.seed,
        symbols=options.symbols,
        liveliness=options.liveliness,
        recording=options.market,
        followed=followed,
        state=options.state,
        fault_seed=options.fault_seed,
        history_delay_ms=options.history_delay,
        clock=stepped,
        insurance=options.insurance,
    )
    venue.speed = options.speed
    issued = PaperKeys(options.paper_secrets if followed is not None else ()).key_of
    authority, clerk = Authority(keys, issued, venue.open_account), Clerk(venue)
    application = web.Application(client_max_size=MAX_BODY)
    addresses = AddressLimits() if options.ip_limit else None
    RestApi(venue, authority, clerk, addresses).register(application)
    known = Known(ENDPOINTS | BINANCE_ENDPOINTS, frozenset(keys))
    Websockets(venue, authority, clerk, addresses).register(application)
    binance = BinanceSide(venue)
    binance.register(application)
    Control(venue, binance, known).register(application)
    if options.faults is not None:
        venue.faults.add(read_rules(options.faults, known))

    async def clock(_: web.Application) -> AsyncIterator[None]:
        pace = Stepper(venue, stepped).run(options.speed) if stepped is not None else None
        running = asyncio.create_task(venue.run(pace))
        running.add_done_callback(report_end)
        yield
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        venue.journal.close()

    async def hang_up(_: web.Application) -> None:
        binance.announce_shutdown()
        await asyncio.sleep(0)  # what waits is written in the next turn
        venue.hub.disconnect(private=True)
        venue.hub.disconnect(private=False)

    application.cleanup_ctx.append(clock)
    application.on_shutdown.append(hang_up)
    return venue, application


def report_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("the exchange stopped", exc_info=task.exception())


class Control:
    """What a test may do to the exchange that no client could; for this machine only."""

    def __init__(self, venue: Venue, binance: BinanceSide, known: Known) -> None:
        self._venue, self._binance, self._known = venue, binance, known

    def register(self, application: web.Application) -> None:
        router, control = application.router, "/simulator/control"
        router.add_get("/simulator/status", self._status)
        router.add_get(f"{control}/faults", self._controlled(lambda body: {"rules": self._venue.faults.rows()}))
        router.add_post(f"{control}/faults", self._controlled(self._add_faults))
        router.add_delete(f"{control}/faults", self._controlled(lambda body: {"cleared": self._venue.faults.clear()}))
        router.add_post(f"{control}/restart", self._controlled(lambda body: {"cut": self._venue.restart()}))
        router.add_post(f"{control}/disconnect", self._controlled(self._disconnect))
        router.add_post(f"{control}/skip_update", self._controlled(self._skip_update))
        router.add_post(f"{control}/move", self._controlled(self._move))
        router.add_post(f"{control}/transfer", self._controlled(self._transfer))
        router.add_post(f"{control}/lateness", self._controlled(self._lateness))
        router.add_post(f"{control}/funding", self._controlled(self._funding))
        router.add_post(f"{control}/announce", self._controlled(self._announce))
        router.add_post(f"{control}/shutdown_notice", self._controlled(self._shutdown_notice))

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self._venue.status())

    def _add_faults(self, body: Any) -> dict[str, Any]:
        rules = rules_of(body, self._known)
        self._venue.faults.add(rules)
        return {"added": len(rules)}

    def _disconnect(self, body: Any) -> dict[str, Any]:
        return {"cut": self._venue.hub.disconnect(private=body.get("which") == "private")}

    def _skip_update(self, body: Any) -> dict[str, Any]:
        return {"streams": self._venue.skip_update(str(body["symbol"]))}

    def _move(self, body: Any) -> dict[str, Any]:
        self._venue.move(str(body["symbol"]), float(body["percent"]))
        return {}

    def _transfer(self, body: Any) -> dict[str, Any]:
        told = bool(body.get("told", True))
        self._venue.transfer(str(body["user"]), str(body["coin"]), Decimal(str(body["amount"])), told=told)
        return {}

    def _lateness(self, body: Any) -> dict[str, Any]:
        """In ms: how late ended orders come into the history, and executions into their list."""
        self._venue.history_delay_ms, self._venue.execution_delay_ms = int(body["history"]), int(body["executions"])
        return {}

    def _funding(self, body: Any) -> dict[str, Any]:
        self._venue.pay_funding(str(body["symbol"]))
        return {}

    def _shutdown_notice(self, body: Any) -> dict[str, Any]:
        return {"told": self._binance.announce_shutdown()}

    def _announce(self, body: Any) -> dict[str, Any]:
        begin_ms, end_ms = int(body["begin"]), int(body["end"])
        title, state, now_ms = str(body["title"]), str(body["state"]), self._venue.clock()
        return self._venue.system.announce(title, state, begin_ms, end_ms, now_ms, body.get("id"))

    def _controlled(self, work: Callable[[Any], dict[str, Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            if request.remote not in ("127.0.0.1", "::1"):
                return web.Response(status=403, text="the control interface answers on loopback only")
            raw = await request.read()
            try:
                return envelope(0, "OK", work(orjson.loads(raw) if raw else {}), self._venue.clock())
            except (ApiError, ArithmeticError, KeyError, ValueError, TypeError, AttributeError) as error:
                return envelope(10001, f"{type(error).__name__}: {error}", {}, self._venue.clock())

        return handle


async def serve(options: SimulatorOptions) -> None:
    """Run until cancelled. A paper venue waits for the one that it follows.

    Raises:
        VenueError: the venue to follow has none of the symbols.
    """
    followed = None
    if options.follow is not None:
        followed = await FollowedVenue.read(*options.follow, options.follow_symbols)
    runner = web.AppRunner(build(options, followed), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port, shutdown_timeout=0.5).start()
        log.info("simulator on http://%s:%d", options.host, options.port)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
