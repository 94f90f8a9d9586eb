from __future__ import annotations

import asyncio
import signal
from argparse import ArgumentTypeError
from contextlib import suppress
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import uvloop
from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketdata.feeds.recorded import RecordingError
from trading.simulator.faults.errors import FaultError
from trading.simulator.journal import JournalError
from trading.simulator.keys import KeysError
from trading.simulator.server import SimulatorOptions, serve
from trading.simulator.venue import INSURANCE_FUND


def amount(text: str) -> Decimal:
    """Money that may be zero."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text} is not an amount") from None
    if not value.is_finite() or value < 0:
        raise ArgumentTypeError(f"{text} is not an amount of zero or more")
    return value


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
        parser.add_argument("--keys", type=Path, help="JSON list of further API keys")
        parser.add_argument("--state", type=Path, help="file that keeps wallets and orders across restarts")
        parser.add_argument("--faults", type=Path, help="JSON list of fault rules: what goes wrong, where and when")
        parser.add_argument("--fault-seed", type=int, help="the same seed makes the same faults (default: --seed)")
        parser.add_argument(
            "--insurance",
            type=amount,
            default=INSURANCE_FUND,
            help="USDT in the insurance fund; with 0, auto-deleveraging begins where the book ends",
        )
        parser.add_argument("--ip-limit", action="store_true", help="limit requests and connections of an address")

    def handle(self, *args: Any, **options: Any) -> None:
        chosen = SimulatorOptions(**{each.name: options[each.name] for each in fields(SimulatorOptions)})
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(until_signal(chosen))
        except (FaultError, JournalError, KeysError, RecordingError, OSError) as error:
            raise CommandError(str(error)) from None


async def until_signal(options: SimulatorOptions) -> None:
    serving = asyncio.create_task(serve(options))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving
