from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from platform_site.chaos.command import RESULTS, Options, run_chaos
from platform_site.chaos.deployment import ChaosError, LanePlan
from platform_site.chaos.lane import Lane
from platform_site.supervisor.refusals import StartRefused

MOST_RUNS, MOST_LANES = 100_000, 16


class Command(BaseCommand):
    help = (
        "Trade through the simulator under seeded faults and kills, and compare the exchange's own ledger with our "
        "books after each run. Prints a JSON summary; the exit status is 1 when anything differed."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--runs", type=int, default=10, help="how many runs (default: 10)")
        parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same plans (default: 1)")
        parser.add_argument("--first", type=int, default=0, help="number of the first run, to see one again")
        parser.add_argument("--lanes", type=int, default=2, help="deployments side by side (default: 2)")
        parser.add_argument("--lease-seconds", type=int, default=4, help="life of a lease, 3 to 60 (default: 4)")
        parser.add_argument("--output", type=Path, help="write the summary here too")
        parser.add_argument("--keep", type=Path, help="a new folder for everything, which is not removed")
        parser.add_argument("--lane", type=Path, help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["lane"] is not None:
            run_lane(options["lane"])
            return
        for name, least, most in (("runs", 1, MOST_RUNS), ("lanes", 1, MOST_LANES), ("lease_seconds", 3, 60)):
            if not least <= options[name] <= most:
                raise CommandError(f"--{name.replace('_', '-')} is {options[name]}; expected {least} to {most}")
        if options["seed"] < 0 or options["first"] < 0:
            raise CommandError("--seed and --first are whole numbers from 0")
        if options["keep"] is not None and options["keep"].exists():
            raise CommandError(f"--keep: {options['keep']} exists; name a folder that does not")
        chosen = Options(
            options["runs"],
            options["seed"],
            min(options["lanes"], options["runs"]),
            options["lease_seconds"],
            options["first"],
            options["keep"],
        )
        try:
            summary = run_chaos(chosen, settings.VERSION, self.stderr.write)
        except KeyboardInterrupt:
            raise CommandError("interrupted; everything was ended", returncode=130) from None
        text = json.dumps(summary, indent=2)
        if options["output"] is not None:
            options["output"].write_text(text + "\n")
        self.stdout.write(text)
        if not summary["passed"]:
            sys.exit(1)


def run_lane(path: Path) -> None:
    """A lane's process: tells line by line, in a file beside its plan."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    plan = LanePlan.read(path)
    with path.with_name(RESULTS).open("a", buffering=1) as results:
        try:
            Lane(plan, lambda told: print(json.dumps(told), file=results)).run()
        except (ChaosError, StartRefused) as error:
            raise CommandError(str(error)) from error


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
