"""What a backtest is run on: bars and funding of the archive, the rules of its instruments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from marketdata.candles.series import CandleSeries, FundingSeries
from marketdata.instruments import InstrumentRules
from marketdata.selectors import instrument_rules
from trading.backtest.request import BacktestRequest
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
    selectors = import_module("marketdata.candles.selectors")
    span = (request.start_ms, request.end_ms)
    candles = {
        (symbol, request.interval): selectors.candle_series(request.venue, symbol, request.interval, *span)
        for symbol in request.symbols
    }
    for (symbol, interval), series in candles.items():
        if not len(series):
            raise DataMissing(
                f"there are no {interval} bars of {symbol} at {request.venue} from {iso(span[0])} to {iso(span[1])}; "
                "import them first (manage.py candles_import, or POST /api/v1/candles/import)"
            )
    funding = {symbol: selectors.funding_series(request.venue, symbol, *span) for symbol in request.symbols}
    rules = {symbol: instrument_rules(symbol) for symbol in request.symbols}
    unknown = [symbol for symbol, found in rules.items() if found is None]
    if unknown:
        raise DataMissing(f"{', '.join(unknown)}: no instrument that this deployment lists any more")
    return BacktestData(candles, funding, {symbol: found for symbol, found in rules.items() if found is not None})
