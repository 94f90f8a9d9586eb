"""What a backtest over a recording is run on: the recording, the listings of its symbols, bars that warm up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from marketdata.candles.selectors import candle_series, funding_series
from marketdata.candles.series import MINUTE_MS, CandleSeries, FundingSeries, interval_ms
from marketdata.instruments import InstrumentRules
from marketdata.selectors import instrument_rules
from strategies.registry import STRATEGIES
from trading.backtest.bars import longer
from trading.backtest.recorded_run import Recorded
from trading.backtest.recording_lines import symbols_of
from trading.backtest.recordings import listed_in, recorded_of
from trading.backtest.request import BacktestRequest, Source
from trading.runtime.backtest_data import warm_up_of
from trading.runtime.market_plane import REFERENCE_SYMBOL


@dataclass(frozen=True, slots=True)
class RecordedData:
    recorded: Recorded
    candles: Mapping[tuple[str, str], CandleSeries]
    funding: Mapping[str, FundingSeries]


def load_recorded(
    request: BacktestRequest, path: Path, listed: Mapping[str, InstrumentRules] | None = None
) -> RecordedData:
    """Read a recording. Listings are those given, else the recording's own, else those of this deployment.

    Raises:
        BacktestError: it cannot be read, does not hold what is asked for, or a symbol has no listing.
    """
    STRATEGIES.refresh()
    rules = {**listed_in(path), **(listed or {})}
    others = {REFERENCE_SYMBOL} & set(symbols_of(path))
    for symbol in {*request.symbols, *others} - rules.keys():
        found = instrument_rules(symbol)
        if found is not None:
            rules[symbol] = found
    recorded = recorded_of(request, path, rules)
    began_ms = min(feed.start_ns for feed in recorded.feeds.values()) // 1_000_000
    # Of books the tickers tell it, as they do live.
    paid = _funding(request) if request.costs.funding and request.source is Source.TRADES else {}
    return RecordedData(recorded, _warm_up(request, began_ms), paid)


def _warm_up(request: BacktestRequest, began_ms: int) -> dict[tuple[str, str], CandleSeries]:
    """Bars of the archive up to the recording, as many as the strategies want."""
    found: dict[tuple[str, str], CandleSeries] = {}
    for run in request.strategies:
        frame, bars = warm_up_of(run)
        if frame is None or not bars:
            continue
        first_ms = began_ms - (bars + 1) * interval_ms(frame)
        for symbol in run.symbols:
            series = candle_series(request.venue, symbol, frame, first_ms, began_ms + interval_ms(frame))
            if not len(series):
                minutes = candle_series(request.venue, symbol, "1", first_ms, began_ms + MINUTE_MS)
                series = longer(minutes, frame)
            known = found.get((symbol, frame))
            if known is None or len(series) > len(known):
                found[symbol, frame] = series
    return found


def _funding(request: BacktestRequest) -> dict[str, FundingSeries]:
    span = (request.start_ms, request.end_ms)
    return {symbol: funding_series(request.venue, symbol, *span) for symbol in request.symbols}
