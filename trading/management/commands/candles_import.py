from __future__ import annotations

import asyncio
import getpass
import json
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketdata.candles import selectors, services
from marketdata.candles.download import BinancePast, BybitPast, PastSource, past_blocks
from marketdata.candles.findings import REPAIR_HELP, ImportOptions, ImportRefused, Repair, Report, time_text
from marketdata.candles.series_key import FUNDING, VENUES, PriceOf, SeriesKey, interval_named
from marketdata.candles.staging import TIME_UNITS
from marketdata.candles.tables import FORMATS, PRICES, RATE, TIME, VOLUME, Block, TableForm
from marketdata.feeds.binance_addresses import binance_addresses
from marketdata.feeds.binance_rest import MARKETS, BinanceRest
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.protocol import VenueError
from trading.gateways.bybit import BybitEndpoints
from trading.runtime.configuration import ENVIRONMENTS
from trading.runtime.market_access import binance_gate, bybit_gate

REFUSED = 2
# Venues' own bars: what is missing there cannot be had elsewhere, and is told as a gap.
DOWNLOADED = ImportOptions(frozenset({Repair.ACCEPT_GAPS, Repair.ACCEPT_ZERO_VOLUME, Repair.DROP_UNFINISHED}))


class Command(BaseCommand):
    help = (
        "Bring past bars and funding rates into the archive: from files (CSV, gzipped or plain, and Parquet), from the "
        "exchange (--download), or from what engines stored while trading (--live). What is there already stays; "
        "importing again changes nothing. A file with anything wrong is refused whole, with its rows: exit code 2."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="*", type=Path, help="files of one line, each imported by itself")
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--download", action="store_true", help="fetch what is missing from the exchange")
        source.add_argument("--live", action="store_true", help="take over the bars that engines stored")
        parser.add_argument("--venue", default="bybit", help=f"{' or '.join(VENUES)} (files: any name)")
        parser.add_argument("--symbol", type=names, default=[], help="like BTCUSDT; of downloads several: A,B")
        parser.add_argument(
            "--interval", type=intervals, default=[], help="1, 5, 60, D, 1h, ... or funding; of downloads several: 1,D"
        )
        parser.add_argument("--market", choices=[each.value for each in PriceOf], default=PriceOf.LINEAR.value)
        parser.add_argument("--from", dest="start", type=moment, help="of downloads: the first day or moment, UTC")
        parser.add_argument("--to", dest="end", type=moment, help="of downloads: where it ends (default: now)")
        parser.add_argument("--json", action="store_true", help="print reports as JSON, one a line")
        self._file_arguments(parser)
        self._repair_arguments(parser)

    def _file_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=["auto", *FORMATS], default="auto")
        parser.add_argument(
            "--columns", type=columns, default={}, help="names in the file by ours: time=timestamp,open=o,volume=vol"
        )
        parser.add_argument("--delimiter", default=",", help="of CSV files (default: comma)")
        parser.add_argument(
            "--time-unit", choices=["auto", *TIME_UNITS], default="ms", help="of times that are numbers (default: ms)"
        )

    def _repair_arguments(self, parser: ArgumentParser) -> None:
        for repair in Repair:
            flag = f"--{repair.value.replace('_', '-')}"
            if repair is Repair.FILL_GAPS:
                parser.add_argument(flag, choices=["flat"], help=REPAIR_HELP[repair])
            else:
                parser.add_argument(flag, action="store_true", help=REPAIR_HELP[repair])
        parser.add_argument("--shift-hours", type=hours, default=Decimal(0), help="move all times by so many hours")
        parser.add_argument("--round-decimals", type=int, choices=range(19), help="round prices and volumes")
        parser.add_argument(
            "--most-zero-bars", type=int, default=1_440, help="bars in a row that may have no volume (default: 1440)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._actor, self._is_json = f"command line:{getpass.getuser()}", options["json"]
        try:
            if options["live"]:
                self._live(options)
            elif options["download"]:
                self._download(options)
            else:
                self._files(options)
        except ImportRefused as refusal:
            self._tell(refusal.report)
            raise CommandError(f"refused: {refusal}", returncode=REFUSED) from None
        except ValueError as error:
            raise CommandError(str(error)) from None

    def _tell(self, report: Report) -> None:
        self.stdout.write(json.dumps(report.as_json()) if self._is_json else "\n".join(report.lines()))

    def _live(self, options: dict[str, Any]) -> None:
        reports = services.live_bars_archive(
            symbols=options["symbol"], intervals=options["interval"], actor=self._actor
        )
        for report in reports:
            self._tell(report)
        if not reports:
            raise CommandError("no engine stored bars of that")

    def _files(self, options: dict[str, Any]) -> None:
        if not options["file"]:
            raise CommandError("name a file, or --download, or --live")
        if len(options["symbol"]) != 1 or len(options["interval"]) != 1:
            raise CommandError("say what is in the file: --symbol BTCUSDT --interval 15, with one name each")
        key = SeriesKey(options["venue"], options["symbol"][0], options["interval"][0], options["market"])
        form = TableForm(options["format"], options["columns"], options["delimiter"])
        chosen = ImportOptions(
            repairs=frozenset(repair for repair in Repair if options[repair.value]),
            time_unit=options["time_unit"],
            shift_hours=options["shift_hours"],
            round_decimals=options["round_decimals"],
            most_zero_bars=options["most_zero_bars"],
        )
        for path in options["file"]:
            try:
                with path.open("rb") as file:
                    self._tell(
                        services.file_import(
                            file, key=key, form=form, options=chosen, actor=self._actor, source=path.name
                        )
                    )
            except OSError as error:
                raise CommandError(f"{path} cannot be read: {error}") from None

    def _download(self, options: dict[str, Any]) -> None:
        if not options["symbol"] or not options["interval"] or options["start"] is None:
            raise CommandError("say what to fetch: --symbol BTCUSDT --interval 1 --from 2026-01-01")
        if options["venue"] not in VENUES:
            raise CommandError(f"venue {options['venue']!r}; expected one of {', '.join(VENUES)}")
        keys = [
            SeriesKey(options["venue"], symbol, interval, options["market"])
            for symbol in options["symbol"]
            for interval in options["interval"]
        ]
        with asyncio.Runner() as runner:
            rest, source = runner.run(opened(options["venue"], options["market"]))
            try:
                for key in keys:
                    self._fetch(runner, source, key, options["start"], options["end"])
            except VenueError as error:
                text = f"{error}. What was fetched is stored; the same command goes on from there."
                raise CommandError(text) from None
            finally:
                runner.run(rest.close())

    def _fetch(
        self, runner: asyncio.Runner, source: PastSource, key: SeriesKey, start_ms: int, end_ms: int | None
    ) -> None:
        """What of a line is missing. Rows are stored between requests, never while one is under way."""
        now_ms = time.time_ns() // 1_000_000
        end_ms = now_ms if end_ms is None else min(end_ms, now_ms)
        if not key.is_funding:
            # Whole bars, and only those that are over.
            start_ms, end_ms = -(-start_ms // key.step_ms) * key.step_ms, end_ms // key.step_ms * key.step_ms
        spans = selectors.missing_spans(key, start_ms, end_ms)
        name = f"{key.venue} {settings.EXCHANGE}" if settings.EXCHANGE == "simulator" else key.venue
        fetched = 0
        for first, last in spans:
            blocks = past_blocks(source, key, first, last)
            while (block := runner.run(following(blocks))) is not None:
                report = services.blocks_import(
                    [block], key=key, options=DOWNLOADED, actor=self._actor, source=f"download from {name}"
                )
                fetched += report.stored
                self._tell_progress(key, fetched, report)
        found = selectors.coverage(key)
        if found is None:
            raise VenueError(f"{key}: the venue has nothing between {time_text(start_ms)} and {time_text(end_ms)}")
        report = Report(str(key), f"download from {name}", rows=fetched, stored=fetched)
        report.first_ms, report.last_ms, report.gaps = found.first_ms, found.last_ms, found.gaps
        self._tell(report)

    def _tell_progress(self, key: SeriesKey, fetched: int, report: Report) -> None:
        if not self._is_json and report.first_ms is not None:
            self.stdout.write(f"{key}: {fetched} fetched, at {time_text(report.first_ms)}")


async def opened(venue: str, market: str) -> tuple[BybitPublicRest | BinanceRest, PastSource]:
    if venue == "bybit":
        url = BybitEndpoints.of_environment(ENVIRONMENTS[settings.EXCHANGE], settings.SIMULATOR_URL).rest
        bybit = BybitPublicRest(url, bybit_gate(url))
        return bybit, BybitPast(bybit)
    if market == PriceOf.INVERSE:
        raise CommandError("Binance's coin-margined contracts are not fetched; import a file of them")
    name = "spot" if market == PriceOf.SPOT else "usdm"
    url, _ = binance_addresses(name, settings.SIMULATOR_URL if settings.EXCHANGE == "simulator" else None)
    binance = BinanceRest(url, MARKETS[name], binance_gate(url))
    return binance, BinancePast(binance)


async def following(blocks: AsyncIterator[Block]) -> Block | None:
    return await anext(blocks, None)


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def intervals(text: str) -> list[str]:
    try:
        return [name if name == FUNDING else interval_named(name) for name in names(text)]
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def columns(text: str) -> dict[str, str]:
    ours = (TIME, *PRICES, VOLUME, RATE)
    pairs = dict(pair.partition("=")[::2] for pair in text.split(","))
    unknown = [name for name in pairs if name not in ours]
    if unknown or not all(pairs.values()):
        raise ArgumentTypeError(f"{text!r}; expected {'=NAME,'.join(ours)}=NAME, or some of these")
    return pairs


def hours(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or abs(found) > 24 or found * 3_600_000 % 1:
        raise ArgumentTypeError(f"{text!r} is no number of hours from -24 to 24")
    return found


def moment(text: str) -> int:
    """Milliseconds since 1970."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time: ISO 8601, like 2026-01-31 or 2026-01-31T12:00Z") from None
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return int(found.timestamp() * 1_000)
