"""Strategies of candles over recorded bars, through the full backtester: all figures, and one trade of them."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from benchmarks.strategy_pages.chart import LINES, Bars, Line, Panel, ShownTrade, chart
from marketdata.candles.series import CandleSeries, FundingSeries, interval_ms
from marketdata.instruments import InstrumentRules, rules_from_bybit
from strategies.base import parse_parameters
from strategies.candle_strategy import CandleStrategy
from strategies.indicators.adx import adx_series
from strategies.indicators.bollinger import bollinger_series
from strategies.indicators.donchian import donchian_series
from strategies.indicators.ema import ema_series
from strategies.indicators.flat_market import flat_market_series
from strategies.indicators.parabolic_sar import parabolic_sar_series
from strategies.indicators.rsi import rsi_series
from strategies.indicators.supertrend import new_state, supertrend_update
from strategies.indicators.volume_profile import volume_profile_series
from strategies.indicators.zigzag import zigzag_series
from strategies.indicators.zscore import zscore_series
from strategies.library import STRATEGIES
from trading.backtest.bars import longer
from trading.backtest.request import BacktestRequest
from trading.backtest.request_json import request_from_json
from trading.backtest.result import BacktestResult, BacktestSignal, BacktestTrade
from trading.backtest.run import run_backtest
from trading.backtest.statistics import Statistics, statistics_of

DATA = Path(os.environ.get("MARKET_DATA_DIR") or Path(__file__).resolve().parents[3] / "shared" / "data")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "WIFUSDT")
# What prices move by: where, and the first and the day after the last day. Each leaves a week before it to warm up.
QUARTERS = {
    "BTCUSDT": ("candles-bybit/BTCUSDT", "2024-01-01", "2025-09-01"),
    "ETHUSDT": ("candles-bybit/ETHUSDT", "2024-01-01", "2025-09-01"),
    "WIFUSDT": ("candles-bybit/WIFUSDT", "2024-02-01", "2025-09-01"),
}
FIVES = {
    "BTCUSDT": ("candles-bybit-5m/BTCUSDT_linear", "2025-04-18", "2025-08-10"),
    "ETHUSDT": ("candles-bybit-5m/ETHUSDT_linear", "2025-04-18", "2025-08-10"),
    "WIFUSDT": ("candles-bybit/WIFUSDT", "2025-01-08", "2025-09-01"),
}
KEYS = (
    "momentum.breakout", "momentum.trend_following", "momentum.mean_reversion",
    "sar_wave", "supertrend", "volume_profile",
)  # fmt: skip
ENDS = {
    "signal": "an opposite signal", "take_profit": "take-profit", "stop_loss": "stop-loss",
    "max_loss": "the largest loss", "trailing_take_profit": "trailing take-profit", "trailing_stop": "trailing stop",
    "partial": "partial exits",
}  # fmt: skip
# The trade on the chart lasts so many bars of the strategy, so that there is something to see.
SHORTEST, LONGEST = 3, 60
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Run:
    """One strategy on one symbol. ``free``: the same without fee, slippage and funding. ``hold``: what the account
    gains where as much as a trade holds is bought at the start and sold at the end."""

    request: BacktestRequest
    result: BacktestResult
    free: BacktestResult
    statistics: Statistics
    hold: float

    @property
    def symbol(self) -> str:
        return self.request.symbols[0]


def runs_of(key: str) -> list[Run]:
    return [_run(key, symbol) for symbol in SYMBOLS]


def _run(key: str, symbol: str) -> Run:
    prefix, start, end = _source(key)[symbol]
    minutes = _minutes(key)
    asked = {
        "strategies": [{"strategy": key, "symbols": [symbol]}],
        "start": start,
        "end": end,
        "interval": minutes,
    }
    specs = {name: kind.parameters for name, kind in STRATEGIES.items()}
    request = request_from_json(asked, specs)
    free = request_from_json({**asked, "costs": {"fee": 0, "maker_fee": 0, "slippage": 0, "funding": False}}, specs)
    series, funding, rules = bars(prefix, symbol, minutes), rates(prefix, symbol), listing()[symbol]
    found = [
        run_backtest(each, {(symbol, minutes): series}, {symbol: funding}, {symbol: rules}) for each in (request, free)
    ]
    figures = statistics_of(found[0], request.start_ms, request.end_ms)
    tested = series.between(request.start_ms, request.end_ms)
    first, last = float(tested.price(tested.open[0])), float(tested.price(tested.close[-1]))
    return Run(request, *found, figures, _hold(request, first, last))


def _hold(request: BacktestRequest, first: float, last: float) -> float:
    run, costs = request.strategies[0], request.costs
    share = float(run.sizing_value * run.leverage) / 100.0
    cost = float(costs.fee + costs.slippage)
    return share * (last / first * (1.0 - cost) - 1.0 - cost)


def _source(key: str) -> Mapping[str, tuple[str, str, str]]:
    return FIVES if _timeframe(key) == "5" else QUARTERS


def _minutes(key: str) -> str:
    return "5" if _timeframe(key) == "5" else "15"


def _timeframe(key: str) -> str:
    return str(parse_parameters(STRATEGIES[key].parameters, {})["timeframe"])


@cache
def bars(prefix: str, symbol: str, minutes: str) -> CandleSeries:
    with gzip.open(DATA / f"{prefix}_{minutes}m.csv.gz", "rt") as lines:
        rows = [line.rstrip("\n").split(",") for line in lines][1:]
    columns = list(zip(*rows, strict=True))
    price = max(_decimals(text) for column in columns[1:5] for text in column)
    volume = max(_decimals(text) for text in columns[5])
    units = [_units(column, price) for column in columns[1:5]]
    starts = np.array(columns[0], dtype=np.int64)
    return CandleSeries("bybit", symbol, minutes, price, volume, starts, *units, _units(columns[5], volume))


def _decimals(text: str) -> int:
    return len(text.partition(".")[2].rstrip("0"))


def _units(column: Sequence[str], decimals: int) -> NDArray[np.int64]:
    return np.array([int(Decimal(text).scaleb(decimals)) for text in column], dtype=np.int64)


@cache
def rates(prefix: str, symbol: str) -> FundingSeries:
    table = np.loadtxt(DATA / f"{prefix}_funding.csv.gz", delimiter=",", skiprows=1, ndmin=2)
    return FundingSeries("bybit", symbol, table[:, 0].astype(np.int64), table[:, 1].copy())


@cache
def listing() -> Mapping[str, InstrumentRules]:
    """What Bybit lists of its linear contracts, as it was recorded."""
    (path,) = (DATA / "bybit-v5-session").glob("*.zst")
    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        for line in io.TextIOWrapper(stream, "utf-8"):
            frame = json.loads(line)
            if frame["t"] == "http" and "category=linear" in frame["url"]:
                rows = json.loads(frame["data"])["result"]["list"]
                return {row["symbol"]: rules_from_bybit(row, "linear") for row in rows if row["symbol"] in SYMBOLS}
    raise SystemExit(f"{path} has no answer of instruments-info")


def net_percent(trade: BacktestTrade) -> float:
    """Of what was held, costs included."""
    return float(trade.pnl / (trade.entry_price * trade.quantity)) * 100.0


def median_trade(key: str, runs: Sequence[Run]) -> tuple[Run, BacktestTrade, float]:
    """The trade that ended nearest to the median of all, of those that last long enough to be seen; and that median."""
    trades = [(run, trade) for run in runs for trade in run.result.trades]
    middle = float(np.median([net_percent(trade) for _, trade in trades]))
    length = interval_ms(_timeframe(key))
    shown = [each for each in trades if SHORTEST <= (each[1].closed_ms - each[1].opened_ms) / length <= LONGEST]
    run, trade = min(shown, key=lambda each: (abs(net_percent(each[1]) - middle), each[1].opened_ms))
    return run, trade, middle


def drawn(key: str, run: Run, trade: BacktestTrade) -> str:
    """The chart of a trade as SVG."""
    prefix, _, _ = _source(key)[run.symbol]
    moved = bars(prefix, run.symbol, run.request.interval)
    told = longer(moved, _timeframe(key))
    signal = _signal_of(run, trade)
    length = told.interval_ms
    held = (trade.closed_ms - trade.opened_ms) // length
    before, after = max(30, LOOKED_BACK.get(key, 0)), max(8, min(20, held // 2))
    first = int(np.searchsorted(told.start_ms, signal.time_ms - before * length))
    last = int(np.searchsorted(told.start_ms, trade.closed_ms + after * length))
    strategy = STRATEGIES[key].create(run.symbol, parse_parameters(STRATEGIES[key].parameters, {}))
    assert isinstance(strategy, CandleStrategy)
    lines, panels = SHOWN[key](told, strategy.settings)
    seen = Bars(length, *(each[first:last] for each in (told.start_ms, *_prices(told))))
    shown = ShownTrade(
        trade.side, signal.time_ms, trade.opened_ms, float(trade.entry_price),
        trade.closed_ms + moved.interval_ms // 2, float(trade.exit_price),
        float(signal.stop_loss), float(signal.take_profit), ENDS.get(trade.why, trade.why),
    )  # fmt: skip
    words = "Long" if trade.side == "Buy" else "Short"
    about = (
        f"{words} {trade.quantity:f} at {trade.entry_price:f}, ended by {shown.why} at {trade.exit_price:f}: "
        f"{net_percent(trade):+.2f} % of its worth, {trade.pnl:+.2f} USDT after fees {trade.fees:.2f} and funding "
        f"{trade.funding:+.2f}"
    )
    decimals = -int(listing()[run.symbol].tick_size.normalize().as_tuple().exponent)
    title = f"{STRATEGIES[key].title}: Bybit {run.symbol}, {_timeframe(key)} min, {_day(trade.opened_ms)}"
    cut = [_cut(line, first, last) for line in lines]
    below = [Panel(each.title, [_cut(line, first, last) for line in each.lines], each.levels) for each in panels]
    return chart(title, about.replace(" -", " −"), shown, bars=seen, lines=cut, panels=below, decimals=max(0, decimals))


def _day(ms: int) -> str:
    return str(np.datetime64(ms, "ms").astype("datetime64[D]"))


def _signal_of(run: Run, trade: BacktestTrade) -> BacktestSignal:
    known = [each for each in run.result.signals if each.outcome == "approved" and each.time_ms <= trade.opened_ms]
    return known[-1]


def _cut(line: Line, first: int, last: int) -> Line:
    return Line(line.name, line.color, line.times_ms[first:last], line.values[first:last], line.style)


def _prices(series: CandleSeries) -> tuple[Floats, Floats, Floats, Floats]:
    return tuple(
        np.ascontiguousarray(series.prices(each)) for each in (series.open, series.high, series.low, series.close)
    )  # type: ignore[return-value]


Drawn = tuple[list[Line], list[Panel]]
Settings = Mapping[str, Any]


class _Of:
    """Lines over a series: values of a bar are drawn at its end, when they are known."""

    def __init__(self, series: CandleSeries) -> None:
        self.open, self.high, self.low, self.close = _prices(series)
        self.volume = np.ascontiguousarray(series.volumes())
        self.ends = series.start_ms + series.interval_ms

    def line(self, name: str, color: int, values: Floats, style: str = "line") -> Line:
        return Line(name, LINES[color], self.ends, values, style)


def _breakout(series: CandleSeries, numbers: Settings) -> Drawn:
    of, share = _Of(series), numbers["price_threshold"]
    _, upper, lower = donchian_series(of.high, of.low, numbers["lookback"])
    # The level that a bar breaks is that of the bars before it.
    upper, lower = (np.concatenate([[np.nan], each[:-1]]) for each in (upper, lower))
    mean = np.convolve(of.volume, np.ones(numbers["lookback"]) / numbers["lookback"])[: len(of.volume)]
    ratio = of.volume / np.concatenate([[np.nan], mean[:-1]])
    name = f"{numbers['lookback']} bars before"
    return [
        of.line(f"resistance, highest of the {name}", 0, upper),
        of.line("close needed to buy", 0, upper * (1 + share), "dashed"),
        of.line("support, lowest", 1, lower),
        of.line("close needed to sell", 1, lower * (1 - share), "dashed"),
    ], [
        Panel(
            "volume over its mean",
            [of.line("volume over its mean", 2, ratio)],
            [(numbers["volume_multiplier"], f"{numbers['volume_multiplier']:g} x needed")],
        )
    ]


def _mean_reversion(series: CandleSeries, numbers: Settings) -> Drawn:
    of, period = _Of(series), numbers["bollinger_period"]
    middle, upper, lower = bollinger_series(of.close, period, numbers["bollinger_deviations"])
    limit = numbers["zscore"]
    return [
        of.line(f"mean of {period} closes", 0, middle),
        of.line(f"bands, {numbers['bollinger_deviations']:g} deviations", 1, upper),
        Line("", LINES[1], of.ends, lower),
    ], [
        Panel(
            "z-score of the close",
            [of.line("z-score", 2, zscore_series(of.close, period))],
            [(limit, f"+{limit:g} stretched"), (-limit, f"−{limit:g} stretched")],
        )
    ]


def _trend_following(series: CandleSeries, numbers: Settings) -> Drawn:
    of = _Of(series)
    fast, slow = (ema_series(of.close, numbers[name]) for name in ("ma_fast", "ma_slow"))
    adx = adx_series(of.high, of.low, of.close, numbers["adx_period"])
    rsi = rsi_series(of.close, numbers["rsi_period"])
    return [
        of.line(f"EMA {numbers['ma_fast']}", 0, fast),
        of.line(f"EMA {numbers['ma_slow']}", 1, slow),
    ], [
        Panel("ADX", [of.line("ADX", 2, adx)], [(numbers["adx_threshold"], f"{numbers['adx_threshold']:g} needed")]),
        Panel(
            "RSI",
            [of.line("RSI", 3, rsi)],
            [
                (numbers["overbought"], f"{numbers['overbought']:g} overbought"),
                (numbers["oversold"], f"{numbers['oversold']:g} oversold"),
            ],
        ),
    ]


def _sar_wave(series: CandleSeries, numbers: Settings) -> Drawn:
    of = _Of(series)
    sar = parabolic_sar_series(of.high, of.low, numbers["af_start"], numbers["af_step"], numbers["af_max"])
    turns = zigzag_series(of.high, of.low, of.close, 0.0, numbers["swing_atr"], numbers["flat_period"])[0]
    flat = flat_market_series(of.high, of.low, of.close, numbers["flat_period"], numbers["flat_lookback"])
    turns[1:][np.diff(turns) != 0] = np.nan
    least = numbers["min_flat_strength"]
    return [
        of.line("Parabolic SAR", 0, sar, "dots"),
        of.line("last turn of the swings, once it is known", 2, turns, "dashed"),
    ], [Panel("strength of the flat market", [of.line("flat strength", 1, flat)], [(least, f"{least:g} needed")])]


def _supertrend(series: CandleSeries, numbers: Settings) -> Drawn:
    of, state = _Of(series), new_state()
    line = np.array([
        supertrend_update(state, high, low, close, numbers["period"], numbers["multiplier"])
        for high, low, close in zip(of.high, of.low, of.close, strict=True)
    ])  # fmt: skip
    below, above = np.where(line <= of.close, line, np.nan), np.where(line > of.close, line, np.nan)
    return [of.line("SuperTrend, trend up", 0, below), of.line("SuperTrend, trend down", 2, above)], []


def _volume_profile(series: CandleSeries, numbers: Settings) -> Drawn:
    of = _Of(series)
    share = numbers["value_area"] / 100.0
    poc, top, bottom, strength = volume_profile_series(
        of.high, of.low, of.close, of.volume, numbers["lookback"], numbers["rows"], share
    )
    least = numbers["poc_strength"]
    return [
        of.line("point of control", 0, poc),
        of.line(f"value area, {numbers['value_area']:g} % of the volume of {numbers['lookback']} bars", 1, top),
        Line("", LINES[1], of.ends, bottom),
    ], [
        Panel(
            "point of control over the mean level",
            [of.line("strength of the point of control", 2, strength)],
            [(least, f"{least:g} x needed")],
        )
    ]


SHOWN: Mapping[str, Callable[[CandleSeries, Settings], Drawn]] = {
    "momentum.breakout": _breakout,
    "momentum.mean_reversion": _mean_reversion,
    "momentum.trend_following": _trend_following,
    "sar_wave": _sar_wave,
    "supertrend": _supertrend,
    "volume_profile": _volume_profile,
}
# How many bars before the signal its rule looks at, where they are to be seen.
LOOKED_BACK = {"momentum.breakout": 60, "sar_wave": 60, "volume_profile": 45, "momentum.mean_reversion": 35}
