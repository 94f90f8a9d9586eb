"""What the report of a run shows at once, as JSON: figures, months, curves of a drawable size, how trades ended."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from marketdata.candles.series import CandleSeries
from trading.backtest.request import BacktestRequest
from trading.backtest.result import BacktestResult
from trading.backtest.result_packing import as_json, pack_equity, pack_rows
from trading.backtest.statistics import (
    drawdowns,
    grouped,
    monthly_table,
    refusals,
    statistics_of,
    thinned,
    with_start,
)
from trading.backtest.trade_order import PERCENTILES, trade_order

CURVE_POINTS = 1_500
PRICE_BARS = 1_500
BAR = ("open", "high", "low", "close")
Candles = Mapping[tuple[str, str], CandleSeries]


@dataclass(frozen=True, slots=True)
class Report:
    """What is kept of a run. ``summary``: what its page shows at once; ``parts``: number and packed rows by kind."""

    summary: dict[str, Any]
    parts: Mapping[str, tuple[int, bytes]]
    data: dict[str, str]
    code: str
    events: int


def report_of(result: BacktestResult, request: BacktestRequest, candles: Candles) -> Report:
    """``candles``: what it was tested on, by symbol and interval."""
    series = tested(candles, request)
    prices = [overview(each) for each in series]
    return Report(
        summary={**summary_of(result, request), "coverage": [coverage(each, request) for each in series]},
        parts={
            "signals": (len(result.signals), pack_rows(result.signals)),
            "fills": (len(result.fills), pack_rows(result.fills)),
            "trades": (len(result.trades), pack_rows(result.trades)),
            "equity": (len(result.equity), pack_equity(result)),
            "prices": (len(prices), zlib.compress(orjson.dumps(prices))),
        },
        data=dict(result.data),
        code=result.code,
        events=result.events,
    )


def summary_of(result: BacktestResult, request: BacktestRequest) -> dict[str, Any]:
    """Plain JSON: ``statistics``, ``months``, ``curve`` (time_ms, equity, drawdown), ``by_symbol``, ``by_strategy``,
    ``by_side``, ``by_end``, ``refusals`` and ``trade_order``."""
    times, equity = with_start(result, request.start_ms)
    kept = thinned(times, equity, CURVE_POINTS)
    drawn = trade_order(result.trades, float(request.balance), request.seed)
    found = {
        "statistics": statistics_of(result, request.start_ms, request.end_ms),
        "months": monthly_table(times, equity),
        "curve": {"time_ms": times[kept], "equity": equity[kept], "drawdown": drawdowns(equity)[kept]},
        "by_symbol": grouped(result.trades, lambda trade: trade.symbol),
        "by_strategy": grouped(result.trades, lambda trade: trade.strategy),
        "by_side": grouped(result.trades, lambda trade: "long" if trade.side == "Buy" else "short"),
        "by_end": grouped(result.trades, lambda trade: trade.why),
        "refusals": [
            {"outcome": outcome, "words": words, "count": count} for outcome, words, count in refusals(result)
        ],
        "trade_order": None if drawn is None else {"percentiles": PERCENTILES, **asdict(drawn)},
    }
    plain: dict[str, Any] = as_json(found)
    return plain


def overview(series: CandleSeries, most: int = PRICE_BARS) -> dict[str, Any]:
    """The bars to draw of a long series: of equal stretches their first open, highest, lowest and last close."""
    length = len(series)
    step = -(-length // most) if length else 1
    first = np.arange(0, length, step)
    if not length:
        return {"symbol": series.symbol, "interval_ms": series.interval_ms, **{name: [] for name in ("time_ms", *BAR)}}
    last = np.append(first[1:], length) - 1
    return {
        "symbol": series.symbol,
        "interval_ms": series.interval_ms * step,
        "time_ms": series.start_ms[first].tolist(),
        "open": _prices(series, series.open[first]),
        "high": _prices(series, np.maximum.reduceat(series.high, first)),
        "low": _prices(series, np.minimum.reduceat(series.low, first)),
        "close": _prices(series, series.close[last]),
    }


def _prices(series: CandleSeries, units: NDArray[np.int64]) -> list[float]:
    prices: list[float] = series.prices(units).tolist()
    return prices


def tested(candles: Candles, request: BacktestRequest) -> list[CandleSeries]:
    """For each symbol the bars that prices moved by, without those before the start that only warm strategies up."""
    of_interval = [series for (_, interval), series in sorted(candles.items()) if interval == request.interval]
    return [series.between(request.start_ms, request.end_ms) for series in of_interval]


def coverage(series: CandleSeries, request: BacktestRequest) -> dict[str, Any]:
    """How many bars there were of how many there could be, and the first's and the last's start."""
    ends = {"first_ms": int(series.start_ms[0]), "last_ms": int(series.start_ms[-1])} if len(series) else {}
    expected = (request.end_ms - request.start_ms) // series.interval_ms
    return {"symbol": series.symbol, "interval": series.interval, "bars": len(series), "expected": expected, **ends}
