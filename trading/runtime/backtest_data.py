"""What a backtest is run on: bars and funding of the archive, the rules of its instruments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from marketdata.candles.selectors import candle_series, funding_series
from marketdata.candles.series import DAY_MS, CandleSeries, FundingSeries, interval_ms
from marketdata.instruments import InstrumentRules
from marketdata.selectors import instrument_rules
from strategies.registry import STRATEGIES
from strategies.weights import SAMPLES
from trading.backtest.request import BacktestRequest, StrategyRun
from trading.backtest.request_json import iso


class DataMissing(Exception):
    """There is nothing to test on: what is missing, and what to do."""


@dataclass(frozen=True, slots=True)
class BacktestData:
    candles: Mapping[tuple[str, str], CandleSeries]
    funding: Mapping[str, FundingSeries]
    rules: Mapping[str, InstrumentRules]


def load_data(request: BacktestRequest) -> BacktestData:
    """
    Raises:
        DataMissing: a symbol without a single bar in the time asked for, or without rules.
    """
    STRATEGIES.refresh()
    span = (request.start_ms, request.end_ms)
    first_ms = request.start_ms - warm_up_ms(request)
    candles = {
        (symbol, request.interval): candle_series(request.venue, symbol, request.interval, first_ms, request.end_ms)
        for symbol in request.symbols
    }
    for (symbol, interval), series in candles.items():
        if not len(series.between(*span)):
            raise DataMissing(
                f"there are no {interval} bars of {symbol} at {request.venue} from {iso(span[0])} to {iso(span[1])}; "
                "import them first (manage.py candles_import)"
            )
    funding = {symbol: funding_series(request.venue, symbol, *span) for symbol in request.symbols}
    rules = {symbol: instrument_rules(symbol) for symbol in request.symbols}
    unknown = [symbol for symbol, found in rules.items() if found is None]
    if unknown:
        raise DataMissing(f"{', '.join(unknown)}: no instrument that this deployment lists any more")
    return BacktestData(candles, funding, {symbol: found for symbol, found in rules.items() if found is not None})


def warm_up_of(run: StrategyRun) -> tuple[str | None, int]:
    """The timeframe that a strategy listens to (None: to none), and how many bars of it warm it up."""
    strategy = STRATEGIES[run.strategy].create(run.symbols[0], run.parameters)
    return strategy.timeframe, strategy.warm_up


def warm_up_ms(request: BacktestRequest) -> int:
    """How much before the start strategies want to have seen, so that they decide from the start on."""
    longest = 0
    for run in request.strategies:
        timeframe, bars = warm_up_of(run)
        if timeframe is not None:
            needed = max(bars, SAMPLES) if request.combine else bars
            longest = max(longest, needed * interval_ms(timeframe))
    # Whole days: then bars of every timeframe begin with their own first.
    return -(-longest // DAY_MS) * DAY_MS
