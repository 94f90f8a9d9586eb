from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from strategies.check_process import CheckRequest, check_apart
from strategies.checker import Report
from strategies.registry import STRATEGIES


class Command(BaseCommand):
    help = (
        "Look for what makes a strategy's backtest untrue: looking ahead, too short a warm-up, chance, clocks, "
        "exceptions, endless loops. Ends with 1 where something is found."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the strategy's key, or the name of its file in the strategies folder")
        parser.add_argument("--symbol", default="BTCUSDT")
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--candles", metavar="FILE", help="bars of a CSV file (plain or .gz) to check it on")
        source.add_argument("--generated", action="store_true", help="on a market that is made up (the default)")
        parser.add_argument("--seed", type=int, default=7, help="of the market that is made up")
        parser.add_argument(
            "--set", metavar="PARAMETER=VALUE", action="append", default=[], help="a parameter other than its default"
        )
        parser.add_argument("--call-seconds", type=float, default=2.0, help="what one call may take")
        parser.add_argument("--seconds", type=float, default=180.0, help="what all of it may take")

    def handle(self, *args: Any, **options: Any) -> None:
        report = check_apart(self._request(options))
        self._tell(report)
        if report.findings:
            raise CommandError(f"{len(report.findings)} found", returncode=1)

    def _request(self, options: dict[str, Any]) -> CheckRequest:
        key, file = self._strategy(options["name"])
        candles = options["candles"] or ""
        if candles and not Path(candles).is_file():
            raise CommandError(f"there is no file {candles}")
        parameters = dict(each.partition("=")[::2] for each in options["set"])
        return CheckRequest(
            key,
            file,
            options["symbol"],
            parameters,
            str(Path(candles).absolute()) if candles else "",
            options["seed"],
            options["call_seconds"],
            options["seconds"],
        )

    def _strategy(self, name: str) -> tuple[str, str]:
        """Its key and its file; a file that is left out is checked for what is wrong with it."""
        STRATEGIES.refresh()
        if name in STRATEGIES:
            own = STRATEGIES.file(name)
            return name, str(own.path) if own is not None else ""
        path = STRATEGIES.folder / f"{Path(name).stem}.py" if STRATEGIES.folder is not None else None
        if path is not None and path.is_file():
            return name, str(path)
        known = ", ".join(sorted(STRATEGIES))
        raise CommandError(f"there is no strategy {name}; known are {known}, and {STRATEGIES.folder} is where files go")

    def _tell(self, report: Report) -> None:
        settings = ", ".join(f"{name} {value}" for name, value in report.parameters.items())
        self.stdout.write(f"{report.strategy} on {report.symbol}: {settings}")
        if report.events:
            enough = "" if report.enough_warm_up is None else f" ({report.enough_warm_up} needed on this market)"
            self.stdout.write(
                f"{report.events} events, {report.signals} signals, warm-up {report.warm_up}{enough}, "
                f"{report.microseconds:g} µs an event"
            )
        for finding in report.findings:
            self.stdout.write(f"- {finding}")
        if not report.findings:
            note = "" if report.signals else ", but it never signalled: other parameters or bars may say more"
            self.stdout.write(f"Nothing found{note}.")
