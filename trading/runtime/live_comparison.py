"""What a configuration signalled live or on paper, held against tests of the same bars: each stretch in which an engine
ran it is tested from the very bar on with which that engine warmed it up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from marketdata.candles.selectors import candle_series
from marketdata.candles.series import CandleSeries, interval_ms
from marketdata.selectors import instrument_rules
from risk.limits import Limits
from risk.selectors import limits_for, policies, symbol_groups
from strategies.models import Signal, StrategyConfig, StrategySpan
from strategies.registry import STRATEGIES
from strategies.selectors import signals_of, spans_of
from trading.backtest.comparison import Comparison, compare_signals, told
from trading.backtest.errors import BacktestError
from trading.backtest.request import BacktestRequest, Costs
from trading.backtest.request_json import as_ms, iso
from trading.backtest.result import BacktestSignal
from trading.backtest.stretches import Span, Stretch, stretches
from trading.runtime.backtest_data import DataMissing
from trading.services.comparisons import worth_at

MINUTE = "1"
VENUE = "bybit"
# So many differences of a stretch are told one by one.
MOST_DIFFERENCES = 1_000
OUTSIDE = (
    "no record says from which bars on an engine ran the strategy then; it is not compared. Engines keep such "
    "records of strategies of closed candles; strategies of the book are compared over what an engine recorded"
)


@dataclass(frozen=True, slots=True)
class StretchReport:
    """One version of the configuration from ``begun`` to ``until``; ``why`` it could not be compared, "" where it was.
    ``missing`` bars: how many the archive lacks of those that the engine could have been told, by symbol."""

    version: int
    symbols: tuple[str, ...]
    first_bar_ms: int
    begun_ms: int
    until_ms: int
    why: str = ""
    missing: Mapping[str, int] = field(default_factory=dict)
    found: Comparison | None = None


@dataclass(frozen=True, slots=True)
class LiveComparison:
    """``outside``: signals on record of which no stretch is known; they are not compared."""

    stretches: tuple[StretchReport, ...]
    outside: tuple[BacktestSignal, ...]
    notes: tuple[str, ...]

    def count(self, name: str) -> int:
        """Of all stretches that were compared: recorded, tested, same, only_recorded, only_tested, different or
        judged_otherwise."""
        return sum(getattr(each.found, name) for each in self.stretches if each.found is not None)

    @property
    def is_true(self) -> bool | None:
        """Whether every signal was found again; None where none could be compared."""
        compared = [each.found for each in self.stretches if each.found is not None]
        return all(each.is_true for each in compared) if compared else None

    def lines(self) -> Iterator[str]:
        """All of it, in lines of words."""
        for each in self.stretches:
            symbols, span = ", ".join(each.symbols), f"{iso(each.begun_ms)} to {iso(each.until_ms)}"
            yield f"version {each.version} on {symbols}, {span}, warmed up from {iso(each.first_bar_ms)} on"
            for symbol, count in each.missing.items():
                yield f"  the archive lacks {count} bars of {symbol} in that time"
            words = told(each.found) if each.found is not None else [f"not compared: {each.why}"]
            yield from (f"  {line}" for line in words)
        yield from self.notes
        names = ("recorded", "same", "only_recorded", "only_tested", "different", "judged_otherwise")
        counts = ", ".join(f"{self.count(name)} {name.replace('_', ' ')}" for name in names)
        yield f"in all {len(self.stretches)} stretches: {counts}"

    def as_json(self) -> dict[str, Any]:
        names = ("recorded", "tested", "same", "only_recorded", "only_tested", "different", "judged_otherwise")
        return {
            "is_true": self.is_true,
            **{name: self.count(name) for name in names},
            "outside": len(self.outside),
            "notes": list(self.notes),
            "stretches": [_stretch_json(each) for each in self.stretches],
        }


def compare_with_live(
    config: StrategyConfig, start: datetime, end: datetime, costs: Costs | None = None
) -> LiveComparison:
    """All that the configuration signalled from ``start`` to ``end``, version by version.

    Raises:
        DataMissing: there are no bars to test on.
    """
    STRATEGIES.refresh()
    recorded = [as_tested(row, config.name) for row in signals_of(config, start, end)]
    spans = _spans(config, start, end, recorded)
    known = stretches(spans)
    reports = tuple(_compared(config, each, recorded, costs or Costs()) for each in known)
    outside = tuple(each for each in recorded if not any(one.holds(each.symbol, each.time_ms) for one in known))
    return LiveComparison(reports, outside, tuple(_notes(config, outside)))


def as_tested(row: Signal, name: str) -> BacktestSignal:
    """A signal that was recorded, as a backtest tells its own."""
    outcome = "approved" if row.outcome == Signal.Outcome.ORDERED else str(row.outcome)
    words = "; ".join(str(each.get("message", "")) for each in row.refusals) or str(row.verdict.get("reason", ""))
    return BacktestSignal(
        round(row.signalled_at.timestamp() * 1_000), row.symbol, name, row.side, row.strength, row.entry_price,
        row.take_profit, row.stop_loss, outcome, row.reason if outcome == "approved" else words or row.reason,
    )  # fmt: skip


def _spans(config: StrategyConfig, start: datetime, end: datetime, recorded: list[BacktestSignal]) -> Iterator[Span]:
    """As far as they are in the time asked for. An engine that was killed may have written its last signals, and not
    how far it had come: its span then reaches to these."""
    rows = _joined(spans_of(config, start, end).order_by("symbol", "begun", "-until"))
    for number, row in enumerate(rows):
        following = rows[number + 1] if number + 1 < len(rows) and rows[number + 1].symbol == row.symbol else None
        latest_ms = as_ms(following.begun if following is not None else end)
        signals = (each.time_ms for each in recorded if each.symbol == row.symbol and each.time_ms <= latest_ms)
        until_ms = min(max(as_ms(row.until), *signals, 0), as_ms(end))
        yield _span(row, max(as_ms(row.begun), as_ms(start)), until_ms)


def _joined(rows: Iterable[StrategySpan]) -> list[StrategySpan]:
    """Those of one history that touch or overlap are one: an engine may have written it in parts."""
    found: list[StrategySpan] = []
    for row in rows:
        last = found[-1] if found else None
        if last is not None and _history(last) == _history(row) and row.begun <= last.until:
            last.until = max(last.until, row.until)
        else:
            found.append(row)
    return found


def _history(row: StrategySpan) -> tuple[Any, ...]:
    return row.symbol, row.interval, row.version, row.code, row.engine, row.first_bar


def _span(row: StrategySpan, begun_ms: int, until_ms: int) -> Span:
    # Of part of a bar nothing can be said.
    length = interval_ms(row.interval)
    begun_ms, until_ms = -(-begun_ms // length) * length, until_ms // length * length
    first_ms = as_ms(row.first_bar)
    return Span(row.version, row.code, row.settings, row.symbol, row.interval, first_ms, begun_ms, until_ms)


def _compared(config: StrategyConfig, stretch: Stretch, recorded: list[BacktestSignal], costs: Costs) -> StretchReport:
    first = stretch.first
    report = StretchReport(
        version=first.version,
        symbols=tuple(sorted(each.symbol for each in stretch.spans)),
        first_bar_ms=min(each.first_ms for each in stretch.spans),
        begun_ms=stretch.start_ms,
        until_ms=stretch.end_ms,
    )
    strategy = str(first.settings["strategy"])
    if strategy not in STRATEGIES:
        return replace(report, why=f"there is no strategy {strategy} any more")
    if STRATEGIES.code(strategy) != first.code:
        return replace(report, why="the strategy's file is another one now than the one that ran")
    theirs = [each for each in recorded if stretch.holds(each.symbol, each.time_ms)]
    candles, missing = _bars(stretch)
    report = replace(report, missing=missing)
    try:
        tested = _tested(config, stretch, candles, costs)
    except BacktestError as error:
        return replace(report, why=str(error))
    return replace(report, found=compare_signals(theirs, tested))


def _bars(stretch: Stretch) -> tuple[dict[tuple[str, str], CandleSeries], dict[str, int]]:
    """For each symbol the bars that its strategy was told, and minutes for prices to move by, where the archive has
    them all."""
    candles, missing = {}, {}
    minutes = {}
    for span in stretch.spans:
        series = candle_series(VENUE, span.symbol, span.interval, span.first_ms, span.until_ms)
        expected = (span.until_ms - span.first_ms) // series.interval_ms
        if not len(series.between(span.begun_ms, span.until_ms)):
            raise DataMissing(
                f"there are no {span.interval} bars of {span.symbol} from {iso(span.begun_ms)} to "
                f"{iso(span.until_ms)}; import them first (manage.py candles_import --download or --live)"
            )
        candles[span.symbol, span.interval] = series
        if len(series) < expected:
            missing[span.symbol] = expected - len(series)
        if span.interval != MINUTE:
            finer = candle_series(VENUE, span.symbol, MINUTE, span.begun_ms, span.until_ms)
            if len(finer) == (span.until_ms - span.begun_ms) // finer.interval_ms:
                minutes[span.symbol, MINUTE] = finer
    if len(minutes) == len(stretch.spans):
        candles |= minutes
    return candles, missing


def _tested(
    config: StrategyConfig, stretch: Stretch, candles: dict[tuple[str, str], CandleSeries], costs: Costs
) -> list[BacktestSignal]:
    # Here, not above: numba takes a second to load, and who only asks for a comparison needs none of it.
    from trading.backtest.run import run_backtest  # noqa: PLC0415

    request = account_request(config, stretch, costs)
    interval = MINUTE if (stretch.first.symbol, MINUTE) in candles else stretch.first.interval
    rules = {symbol: instrument_rules(symbol) for symbol in request.symbols}
    unknown = [symbol for symbol, found in rules.items() if found is None]
    if unknown:
        raise BacktestError(f"{', '.join(unknown)}: no instrument that this deployment lists any more")
    known = {symbol: found for symbol, found in rules.items() if found is not None}
    result = run_backtest(replace(request, interval=interval), candles, {}, known)
    name = config.name
    return [replace(each, strategy=name) for each in result.signals if stretch.holds(each.symbol, each.time_ms)]


def account_request(config: StrategyConfig, stretch: Stretch, costs: Costs) -> BacktestRequest:
    """The test of a stretch on the account as it is now: its limits, groups and exit rules, and what it was worth."""
    account = config.account
    limits = limits_for(account, config)
    # Orders of others, which limits of a user or of the platform count too, are not in the test.
    own: Limits = replace(limits, trading_enabled=True, other_levels=())
    balance = worth_at(config, datetime.fromtimestamp(stretch.start_ms / 1_000, UTC))
    plain = BacktestRequest((stretch.run(),), stretch.start_ms, stretch.end_ms)
    return replace(
        plain,
        balance=plain.balance if balance is None else balance,
        costs=costs,
        limits=own,
        exit_rules=policies().exit_rules(account.pk),
        groups=symbol_groups(),
    )


def _notes(config: StrategyConfig, outside: tuple[BacktestSignal, ...]) -> Iterator[str]:
    if outside:
        yield f"{len(outside)} signals: {OUTSIDE}"
    if policies().combines(config.account_id):
        yield (
            "the account combines its strategies' signals: of several at one moment one is carried out, with the "
            "strength of all, which a test of one strategy does not know"
        )


def _stretch_json(report: StretchReport) -> dict[str, Any]:
    found = report.found
    plain = {
        "version": report.version,
        "symbols": list(report.symbols),
        "first_bar": iso(report.first_bar_ms),
        "begun": iso(report.begun_ms),
        "until": iso(report.until_ms),
        "why": report.why,
        "missing": dict(report.missing),
    }
    if found is None:
        return {**plain, "compared": False}
    counts = {name: value for name, value in asdict(found).items() if name != "differences"}
    told = [{**asdict(each), "time": iso(each.time_ms)} for each in found.differences[:MOST_DIFFERENCES]]
    return {**plain, "compared": True, "is_true": found.is_true, **counts, "differences": told}
