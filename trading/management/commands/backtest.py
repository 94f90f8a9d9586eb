from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketdata.candles.findings import REPAIR_HELP, ImportOptions, ImportRefused, Repair
from marketdata.candles.series import CandleSeries
from marketdata.candles.series_key import SeriesKey
from marketdata.candles.services import file_series
from marketdata.candles.tables import TableForm
from marketdata.instruments import InstrumentError, InstrumentRules, rules_from_bybit
from marketdata.selectors import instrument_rules
from strategies.models import StrategyConfig
from strategies.registry import STRATEGIES
from strategies.selectors import config_named, configs_beside, signals_of
from trading.backtest.comparison import compare_signals, told
from trading.backtest.errors import BacktestError
from trading.backtest.recording_lines import span_of
from trading.backtest.report import summary_of
from trading.backtest.request import BacktestRequest, Source
from trading.backtest.request_json import (
    EARLIEST,
    FieldError,
    RequestInvalid,
    costs_of,
    iso,
    moment,
    request_from_json,
    request_to_json,
)
from trading.backtest.result import BacktestResult
from trading.backtest.result_packing import as_json
from trading.runtime.backtest_data import BacktestData, DataMissing, load_data
from trading.runtime.live_comparison import as_tested, compare_with_live
from trading.services.comparisons import configured

DIFFERENT, INVALID = 1, 2
REPAIRS = (Repair.ACCEPT_GAPS, Repair.ACCEPT_ZERO_VOLUME, Repair.DROP_UNFINISHED)
SHOWN = (
    ("net_profit", "net profit, USDT", "{:.2f}"),
    ("total_return", "total return", "{:.2%}"),
    ("annualised_return", "annualised return", "{:.2%}"),
    ("sharpe", "Sharpe", "{:.2f}"),
    ("sortino", "Sortino", "{:.2f}"),
    ("calmar", "Calmar", "{:.2f}"),
    ("max_drawdown", "deepest drawdown", "{:.2%}"),
    ("trades", "trades", "{}"),
    ("win_rate", "win rate", "{:.2%}"),
    ("profit_factor", "profit factor", "{:.2f}"),
    ("expectancy", "expectancy, USDT a trade", "{:.2f}"),
    ("exposure", "time in the market", "{:.2%}"),
    ("fees", "fees, USDT", "{:.2f}"),
    ("funding", "funding, USDT", "{:.2f}"),
    ("signals", "signals", "{}"),
    ("denied", "signals denied", "{}"),
)


class Command(BaseCommand):
    help = (
        "Run a strategy on what was: bars of the archive, or of files (--bars). The rules are in docs/backtest.md. "
        "Prints the figures; --output writes everything as JSON. Exit code 2: what is asked cannot be tested."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--request", type=Path, help="everything that is asked, as JSON (as the API takes it)")
        parser.add_argument("--strategy", help="its key, like supertrend")
        parser.add_argument("--symbols", help="like BTCUSDT,ETHUSDT")
        parser.add_argument("--from", dest="start", help="the first day or moment, UTC")
        parser.add_argument("--to", dest="end", help="the day or moment after the last")
        parser.add_argument("--source", choices=[str(each) for each in Source], help="default candles")
        parser.add_argument(
            "--recording", type=Path, metavar="FILE",
            help="of source books or trades: the file; without --from and --to all of it is tested",
        )  # fmt: skip
        parser.add_argument("--interval", help="of the bars that prices move by (default 1: minutes)")
        parser.add_argument("--venue", help="bybit or binance (default bybit)")
        parser.add_argument("--balance", help="USDT at the start (default 10000)")
        parser.add_argument("--leverage", help="default 10")
        parser.add_argument(
            "--combine", action="store_true",
            help="signals of several strategies on a symbol become one, as for an account whose policy says so; with "
            "--compare all enabled strategies of its account are tested together",
        )  # fmt: skip
        parser.add_argument("--sizing", help="percent:1, fixed_usd:100 or minimum (default percent:1)")
        for name, words in (
            ("parameter", "of the strategy, like period=10"),
            ("cost", "like fee=0.00055 or slippage=0.0002"),
            ("limit", "of the account, like max_positions=5; none is no limit"),
            ("strategy-limit", "of the strategy's own level, like max_daily_loss_percent=2"),
            ("exit-rule", "like max_loss_percent=2 or enabled=false"),
        ):
            parser.add_argument(f"--{name}", action="append", default=[], metavar="NAME=VALUE", help=words)
        parser.add_argument(
            "--bars", action="append", default=[], metavar="SYMBOL=FILE",
            help="bars of a CSV or Parquet file instead of the archive's (columns as candles_import reads them)",
        )  # fmt: skip
        parser.add_argument(
            "--instruments",
            type=Path,
            help="Bybit's instruments-info as JSON, for symbols not listed here",
        )
        for repair in REPAIRS:
            parser.add_argument(f"--{repair.value.replace('_', '-')}", action="store_true", help=REPAIR_HELP[repair])
        parser.add_argument(
            "--compare", type=int, metavar="ID",
            help="of a strategy's configuration: test what engines ran of it from --from to --to (default: ever, now), "
            "or an engine's --recording, and hold its signals against those on record; 1: they differ",
        )  # fmt: skip
        parser.add_argument("--output", type=Path, help="write request, figures, signals, fills, trades and curve here")

    def handle(self, *args: Any, **options: Any) -> None:
        otherwise = options["bars"] or options["recording"] is not None or options["combine"]
        if options["compare"] is not None and not otherwise:
            self._compare_with_live(options)
            return
        try:
            request = request_from_json(asked(options), {key: kind.parameters for key, kind in STRATEGIES.items()})
            result = self._result(request, options)
        except RequestInvalid as invalid:
            words = "\n".join(f"{each.field} {each.value}: {each.rule}" for each in invalid.violations)
            raise CommandError(words, returncode=INVALID) from None
        except (BacktestError, DataMissing) as error:
            raise CommandError(str(error), returncode=INVALID) from None
        self._show(result, request, options["output"])
        if options["compare"] is not None:
            self._compare(result, request, options["compare"])

    def _compare_with_live(self, options: dict[str, Any]) -> None:
        """Stretch by stretch, each from the bar on with which its engine began."""
        config = configuration(options["compare"])
        costs = {name: switched(value) for name, value in pairs(options["cost"], "--cost")}
        try:
            start, end = (
                moment(options[name]) if options[name] else default
                for name, default in (("start", EARLIEST), ("end", datetime.now(UTC) + timedelta(days=1)))
            )
            found = compare_with_live(config, start, end, costs_of(costs))
        except (DataMissing, FieldError, RequestInvalid) as error:
            raise CommandError(str(error), returncode=INVALID) from None
        for line in found.lines():
            self.stdout.write(line)
        if options["output"] is not None:
            options["output"].write_text(json.dumps(found.as_json()) + "\n")
            self.stdout.write(f"written to {options['output']}")
        if found.is_true is None:
            raise CommandError("nothing could be compared", returncode=INVALID)
        if not found.is_true:
            raise CommandError("live and test differ", returncode=DIFFERENT)

    def _result(self, request: BacktestRequest, options: dict[str, Any]) -> BacktestResult:
        # Here, not above: numba takes a second to load, and a request that is refused needs none of it.
        if request.source is Source.CANDLES:
            data = self._data(request, options)
            run = importlib.import_module("trading.backtest.run")
            found: BacktestResult = run.run_backtest(
                request, data.candles, data.funding, data.rules, progress=self._tell
            )
            return found
        if options["bars"]:
            raise CommandError("--bars is for source candles", returncode=INVALID)
        recorded = importlib.import_module("trading.runtime.recorded_data")
        listed = listed_rules(options["instruments"])
        data = recorded.load_recorded(request, options["recording"], listed)
        run = importlib.import_module("trading.backtest.recorded_run")
        of_recording: BacktestResult = run.run_recorded(
            request, data.recorded, data.candles, data.funding, progress=self._tell
        ).result
        return of_recording

    def _compare(self, result: BacktestResult, request: BacktestRequest, config_id: int) -> None:
        span = (datetime.fromtimestamp(each / 1_000, UTC) for each in (request.start_ms, request.end_ms))
        rows = signals_of(configuration(config_id), *span)
        name = configuration(config_id).name
        signals = [each for each in result.signals if each.strategy == name]
        found = compare_signals([as_tested(row, name) for row in rows], signals)
        for line in told(found):
            self.stdout.write(line)
        if not found.is_true:
            raise CommandError(f"{len(found.differences)} differences", returncode=DIFFERENT)

    def _tell(self, share: float) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r{share:.0%}", ending="\n" if share == 1.0 else "")

    def _data(self, request: BacktestRequest, options: dict[str, Any]) -> BacktestData:
        files = dict(pairs(options["bars"], "--bars"))
        strange = sorted(set(files) - set(request.symbols))
        if strange:
            raise CommandError(f"--bars {', '.join(strange)}: not among the symbols", returncode=INVALID)
        listed = listed_rules(options["instruments"])
        if not files:
            return load_data(request)
        if missing := sorted(set(request.symbols) - set(files)):
            raise CommandError(f"--bars is missing for {', '.join(missing)}", returncode=INVALID)
        repairs = frozenset(repair for repair in REPAIRS if options[repair.value])
        candles = {
            (symbol, request.interval): bars_of(Path(path), symbol, request, ImportOptions(repairs))
            for symbol, path in files.items()
        }
        unlisted = [symbol for symbol in request.symbols if symbol not in listed]
        stored = load_rules(unlisted)
        return BacktestData(candles, {}, {**listed, **stored})

    def _show(self, result: BacktestResult, request: BacktestRequest, output: Path | None) -> None:
        summary = summary_of(result, request)
        figures = summary["statistics"]
        for name, words, form in SHOWN:
            value = figures.get(name)
            number = float(value) if isinstance(value, str) else value
            self.stdout.write(f"{words:28}{'-' if number is None else form.format(number)}")
        self.stdout.write(f"{'balance at the end, USDT':28}{result.balance:.2f}")
        if output is not None:
            whole = {
                "request": request_to_json(request),
                "summary": summary,
                "signals": as_json(result.signals),
                "fills": as_json(result.fills),
                "trades": as_json(result.trades),
                "equity": {"time_ms": result.equity_ms.tolist(), "equity": result.equity.tolist()},
                "balance": f"{result.balance:f}",
                "data": dict(result.data),
                "code": result.code,
            }
            output.write_text(json.dumps(whole) + "\n")
            self.stdout.write(f"written to {output}")


def asked(options: dict[str, Any]) -> dict[str, Any]:
    """What the command line asks for, as the API takes it."""
    if options["request"] is not None:
        try:
            found = json.loads(options["request"].read_text())
        except (OSError, ValueError) as error:
            raise CommandError(f"{options['request']} cannot be read: {error}", returncode=INVALID) from None
        if not isinstance(found, dict):
            raise CommandError(f"{options['request']}: expected a JSON object", returncode=INVALID)
        return {**found, "combine": True} if options["combine"] else found
    said = ("start", "end", "source", "interval", "venue", "balance", "combine")
    plain = {name: options[name] for name in said if options[name]}
    if options["recording"] is not None:
        plain |= recording_asked(options["recording"], plain) | {"accept_gaps": options["accept_gaps"]}
    parts = {
        "costs": {name: switched(value) for name, value in pairs(options["cost"], "--cost")},
        "limits": {name: switched(value) for name, value in pairs(options["limit"], "--limit")},
        "exit_rules": {name: switched(value) for name, value in pairs(options["exit_rule"], "--exit-rule")},
    }
    if options["compare"] is not None:
        compared = configuration(options["compare"])
        together = configs_beside(compared) if options["combine"] else [compared]
        asked = [configured(each) for each in together]
        if limits := own_limits(options):
            asked = [each | {"limits": limits} if each["name"] == compared.name else each for each in asked]
        return {"strategies": asked, **plain, **parts}
    if not options["strategy"] or not options["symbols"]:
        raise CommandError("say --strategy and --symbols, or --request", returncode=INVALID)
    mode, _, value = (options["sizing"] or "percent:1").partition(":")
    strategy: dict[str, Any] = {
        "strategy": options["strategy"],
        "symbols": options["symbols"].split(","),
        "parameters": dict(pairs(options["parameter"], "--parameter")),
        "sizing_mode": mode,
        **({"sizing_value": value} if value else {}),
        **({"leverage": options["leverage"]} if options["leverage"] else {}),
        **({"limits": limits} if (limits := own_limits(options)) else {}),
    }
    return {"strategies": [strategy], **plain, **parts}


def own_limits(options: dict[str, Any]) -> dict[str, Any]:
    return {name: switched(value) for name, value in pairs(options["strategy_limit"], "--strategy-limit")}


def recording_asked(path: Path, said: dict[str, Any]) -> dict[str, Any]:
    """The recording's name; its beginning and end where no others are said."""
    if not path.is_file():
        raise CommandError(f"--recording {path}: there is no such file", returncode=INVALID)
    if "start" in said and "end" in said:
        return {"recording": path.name}
    try:
        first_ns, last_ns = span_of(path)
    except BacktestError as error:
        raise CommandError(str(error), returncode=INVALID) from None
    span = {"start": iso(first_ns // 1_000_000), "end": iso(last_ns // 1_000_000 + 1)}
    return {"recording": path.name, **{name: said.get(name, value) for name, value in span.items()}}


def configuration(config_id: int) -> StrategyConfig:
    found = config_named(config_id)
    if found is None:
        raise CommandError(f"there is no strategy configuration {config_id}", returncode=INVALID)
    return found


def pairs(given: Sequence[str], option: str) -> list[tuple[str, str]]:
    found = []
    for each in given:
        name, separator, value = each.partition("=")
        if not separator or not name:
            raise CommandError(f"{option} {each!r}; expected NAME=VALUE", returncode=INVALID)
        found.append((name, value))
    return found


def switched(value: str) -> str | bool | None:
    known: dict[str, bool | None] = {"true": True, "false": False, "none": None}
    return known.get(value.lower(), value)


def bars_of(path: Path, symbol: str, request: BacktestRequest, options: ImportOptions) -> CandleSeries:
    try:
        with path.open("rb") as file:
            key = SeriesKey(request.venue, symbol, request.interval)
            return file_series(file, key=key, form=TableForm(), options=options)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error}", returncode=INVALID) from None
    except ImportRefused as refusal:
        lines = "\n".join(refusal.report.lines())
        raise CommandError(f"{path}:\n{lines}", returncode=INVALID) from None


def listed_rules(path: Path | None) -> dict[str, InstrumentRules]:
    if path is None:
        return {}
    try:
        rows = json.loads(path.read_text())["result"]["list"]
        found = [rules_from_bybit(row, "linear") for row in rows]
    except (OSError, ValueError, KeyError, TypeError, InstrumentError) as error:
        raise CommandError(f"{path} is no answer of instruments-info: {error}", returncode=INVALID) from None
    return {each.symbol: each for each in found}


def load_rules(symbols: Sequence[str]) -> dict[str, InstrumentRules]:

    found = {symbol: instrument_rules(symbol) for symbol in symbols}
    unknown = sorted(symbol for symbol, rules in found.items() if rules is None)
    if unknown:
        words = f"{', '.join(unknown)}: not listed here; give --instruments, or start an engine once"
        raise CommandError(words, returncode=INVALID)
    return {symbol: rules for symbol, rules in found.items() if rules is not None}
