"""Many parameter sets of one candle strategy over the same bars, on all cores: figures only, no trades are kept."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from itertools import chain, product
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import DAY_MS, CandleSeries, FundingSeries
from marketdata.instruments import InstrumentRules
from strategies.base import parse_parameters
from strategies.candle_strategy import CandleStrategy
from strategies.registry import STRATEGIES
from trading.backtest.compiled import NO_BARS, NO_ROWS, Account, Market, Told, signals_of
from trading.backtest.compiled_terms import CompiledUnfit, compiled_reason
from trading.backtest.kernels.slots import At, Seen
from trading.backtest.request import BacktestRequest

Floats = NDArray[np.float64]
DAYS_A_YEAR = 365
# Larger than of a single run: threads call Python less often.
BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class SweptSet:
    """What one parameter set came to. ``pnl`` in USDT, net; ``max_drawdown`` a fraction of the peak, of equity at the
    ends of bars; ``sharpe`` of daily (UTC) returns, times the root of 365, None where it is not defined."""

    parameters: Mapping[str, Any]
    trades: int
    pnl: Decimal
    sharpe: float | None
    max_drawdown: float


def grid_sets(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values, the last parameter the fastest."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def sweep(
    request: BacktestRequest,
    sets: Sequence[Mapping[str, Any]],
    candles: Mapping[tuple[str, str], CandleSeries],
    funding: Mapping[str, FundingSeries],
    rules: Mapping[str, InstrumentRules],
    threads: int = 0,
) -> list[SweptSet]:
    """Test the request once for each parameter set, which replaces what the request says of its parameters; in the
    order of the sets. Memory does not grow with them. ``threads`` 0: as many as there are cores.

    Raises:
        CompiledUnfit: the full path must take it, and why.
        ParameterError: a set outside its ranges.
    """
    if reason := compiled_reason(request):
        raise CompiledUnfit(reason)
    (symbol,), (run,) = request.symbols, request.strategies
    kind = STRATEGIES[run.strategy]
    if not issubclass(kind, CandleStrategy):
        raise CompiledUnfit(compiled_reason(request))
    market = Market.of(request, candles, funding.get(symbol), rules)
    parsed = [parse_parameters(kind.parameters, {**run.parameters, **each}) for each in sets]
    strategies = [kind.create(symbol, each) for each in parsed]
    # What all of them are told, made once.
    frames = {each.timeframe for each in strategies}
    tellers = {frame: Told.of(frame, market, candles).all_at_once(BLOCK) for frame in frames}
    figures = import_module("trading.backtest.kernels.figures")  # numba: only who tests needs it
    count = threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(count) as pool:
        found = pool.map(lambda each: _figures(request, market, tellers[each.timeframe], each, figures), strategies)
        return [_swept(each, seen, balance, request) for each, (seen, balance) in zip(parsed, found, strict=True)]


def _figures(
    request: BacktestRequest, market: Market, told: Told, strategy: CandleStrategy, figures: ModuleType
) -> tuple[Floats, Decimal]:
    series, bars = market.series, len(market.series)
    account = Account(request, market, np.empty(min(BLOCK, bars)))
    seen = np.zeros(len(Seen))
    seen[[Seen.PEAK, Seen.TROUGH, Seen.DAY_BEFORE, Seen.LAST]] = float(request.balance)
    seen[Seen.DAY_END] = (int(series.start_ms[0]) // DAY_MS + 1) * DAY_MS
    begun = 0
    for at, rows, until in chain(signals_of(strategy, market, told), [(NO_BARS, NO_ROWS, bars)]):
        while begun < until:
            end = min(begun + BLOCK, until)
            if end < bars:
                account.go(at, rows, end)
            else:
                account.finish(at, rows)
            figures.look(account.equity[: end - begun], series.start_ms[begun:end], series.interval_ms, seen)
            figures.count_trades(account.filled, seen)
            begun = account.base = end
            account.state[At.FILLS] = 0
    figures.end_day(seen, seen[Seen.LAST])
    return seen, account.balance


def _swept(parameters: Mapping[str, Any], seen: Floats, balance: Decimal, request: BacktestRequest) -> SweptSet:
    days = seen[Seen.DAYS]
    deviation = math.sqrt(seen[Seen.SQUARES] / (days - 1)) if days > 1 else 0.0
    sharpe = float(seen[Seen.MEAN] / deviation * math.sqrt(DAYS_A_YEAR)) if deviation > 1e-12 else None
    return SweptSet(parameters, int(seen[Seen.TRADES]), balance - request.balance, sharpe, float(seen[Seen.DRAWDOWN]))
