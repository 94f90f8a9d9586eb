from __future__ import annotations

import asyncio
import re
import signal
from argparse import ArgumentTypeError
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import uvloop
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketdata.feeds.protocol import VenueError
from marketdata.feeds.recorded import RecordingError
from trading.gateways.bybit import BybitEndpoints
from trading.simulator.faults.errors import FaultError
from trading.simulator.instruments import INSTRUMENTS
from trading.simulator.journal import JournalError
from trading.simulator.keys import KeysError
from trading.simulator.server import SimulatorOptions, serve
from trading.simulator.simulation import simulate
from trading.simulator.venue import HISTORY_DELAY_MS, INSURANCE_FUND

BAD_VALUE = 2  # the exit status, as argparse has it
LEAST_SPEED, MOST_SPEED = 0.1, 1_000.0
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
MOST_SECONDS = 365 * 86_400
DAY_MS = 86_400_000
VENUES = {"bybit": "live", "bybit-testnet": "testnet", "simulator": "simulator"}


class Command(BaseCommand):
    help = "Run the exchange simulator: Bybit v5 REST and websockets on one port of this machine."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8900)
        parser.add_argument("--seed", type=int, default=7, help="the same seed makes the same market")
        parser.add_argument("--symbols", type=int, default=20, help="how many instruments to list (1 to 100)")
        parser.add_argument("--liveliness", type=float, default=1.0, help="how much happens (default: 1)")
        parser.add_argument("--market", type=Path, help="a recording to replay instead of generated order flow")
        parser.add_argument(
            "--follow",
            metavar="VENUE",
            help="be the paper venue: follow the public market of bybit, bybit-testnet, simulator or an http address",
        )
        parser.add_argument(
            "--follow-symbols", default="", help="with --follow: only these symbols, with commas (default: SYMBOLS)"
        )
        parser.add_argument("--keys", type=Path, help="JSON list of further API keys")
        parser.add_argument("--state", type=Path, help="file that keeps wallets and orders across restarts")
        parser.add_argument("--faults", type=Path, help="JSON list of fault rules: what goes wrong, where and when")
        parser.add_argument("--fault-seed", type=int, help="the same seed makes the same faults (default: --seed)")
        parser.add_argument(
            "--history-delay",
            type=milliseconds,
            default=HISTORY_DELAY_MS,
            help="after how many ms a closed order is in the order history (default: 1000)",
        )
        parser.add_argument(
            "--insurance",
            type=amount,
            default=INSURANCE_FUND,
            help="USDT in the insurance fund; with 0, auto-deleveraging begins where the book ends",
        )
        parser.add_argument("--ip-limit", action="store_true", help="limit requests and connections of an address")
        parser.add_argument("--speed", default="1", help="let the exchange's clock run so many times as fast")
        parser.add_argument(
            "--ago",
            type=milliseconds,
            default=0,
            help="with --speed: so many ms before now its clock begins, so that it does not run ahead of the world's",
        )
        parser.add_argument("--simulate", metavar="TIME", help="no sockets: live 90s, 30m, 24h or 7d at once and tell")
        parser.add_argument("--write", type=Path, metavar="FILE", help="with --simulate: write a recording to replay")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            check_symbols(options["symbols"])
            options["speed"] = speed_of(options["speed"])
            if options["ago"] and options["speed"] == 1:
                raise ValueError("--ago needs --speed: a clock of the world's pace shows the world's time")
            seconds = simulated_seconds(options)
            paper = paper_options(options)
        except ValueError as error:
            raise CommandError(str(error), returncode=BAD_VALUE) from None
        if seconds is not None:
            self.simulate(seconds, options)
            return
        chosen = SimulatorOptions(
            **{each.name: options[each.name] for each in fields(SimulatorOptions) if each.name not in paper}, **paper
        )
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(until_signal(chosen))
        except (FaultError, JournalError, KeysError, RecordingError, VenueError, OSError) as error:
            raise CommandError(str(error)) from None

    def simulate(self, seconds: int, options: dict[str, Any]) -> None:
        try:
            summary = simulate(
                seconds,
                seed=options["seed"],
                symbols=options["symbols"],
                liveliness=options["liveliness"],
                recording=options["write"],
            )
        except OSError as error:
            raise CommandError(f"--write: {error}", returncode=BAD_VALUE) from None
        for line in summary.lines():
            self.stdout.write(line)


def check_symbols(symbols: int) -> None:
    if not 1 <= symbols <= len(INSTRUMENTS):
        raise ValueError(f"--symbols is {symbols}; expected 1 to {len(INSTRUMENTS)}")


def speed_of(text: str) -> float:
    """Raises ValueError with a sentence."""
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not LEAST_SPEED <= speed <= MOST_SPEED:
        raise ValueError(f"--speed is {text!r}; expected a number from {LEAST_SPEED:g} to {MOST_SPEED:g}")
    return speed


def simulated_seconds(options: Mapping[str, Any]) -> int | None:
    """How long to simulate without sockets; None to serve. Raises ValueError with a sentence."""
    text = options["simulate"]
    if text is None:
        if options["write"] is not None:
            raise ValueError("--write needs --simulate: it writes what a simulation of some hours said")
        return None
    for name in ("market", "follow", "state", "faults", "keys"):
        if options[name] is not None:
            raise ValueError(f"--simulate has no use for --{name}: it lives generated order flow, without clients")
    if options["speed"] != 1:
        raise ValueError("--simulate has no use for --speed: it is as fast as this machine can be")
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    seconds = int(found[1]) * UNIT_SECONDS[found[2]] if found is not None else 0
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"--simulate is {text!r}; expected a time such as 90s, 30m, 24h or 7d, at most 365d")
    return seconds


def paper_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the simulator a paper venue. Raises ValueError with a sentence."""
    venue = options["follow"]
    symbols = tuple(symbol for symbol in options["follow_symbols"].split(",") if symbol)
    if venue is None:
        if symbols:
            raise ValueError("--follow-symbols needs --follow")
        return {"follow": None, "follow_symbols": (), "paper_secrets": ()}
    if options["market"] is not None:
        raise ValueError("--follow has no use for --market: the market is the followed venue's")
    if options["speed"] != 1:
        raise ValueError("--follow has no use for --speed: a live market has the pace of the world")
    if venue in VENUES:
        endpoints = BybitEndpoints.of_environment(VENUES[venue], settings.SIMULATOR_URL)
    elif re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+", venue):
        endpoints = BybitEndpoints.of_environment("simulator", venue)
    else:
        raise ValueError(
            f"--follow is {venue!r}; expected {', '.join(VENUES)} or an address like http://127.0.0.1:8900"
        )
    return {
        "follow": (endpoints.rest, endpoints.websocket),
        "follow_symbols": symbols or tuple(sorted(settings.SYMBOLS)),
        "paper_secrets": tuple(key.strip() for key in settings.MASTER_KEY.split(",") if key.strip()),
    }


def milliseconds(text: str) -> int:
    if not text.isdecimal() or int(text) > DAY_MS:
        raise ArgumentTypeError(f"{text!r} is no number of ms between 0 and {DAY_MS}")
    return int(text)


def amount(text: str) -> Decimal:
    """Money that may be zero."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text} is not an amount") from None
    if not value.is_finite() or value < 0:
        raise ArgumentTypeError(f"{text} is not an amount of zero or more")
    return value


async def until_signal(options: SimulatorOptions) -> None:
    serving = asyncio.create_task(serve(options))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving
