"""What a run begins with: its bars, funding and configuration, and the names of all that its result depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np

from marketdata.candles.series import CandleSeries, FundingSeries
from marketdata.instruments import InstrumentRules
from risk.limits import Limits, combined
from risk.policies import Policies
from strategies.base import ParameterError, QuietStrategy, Strategy, parse_parameters
from strategies.registry import STRATEGIES
from trading.backtest.books import ACCOUNT
from trading.backtest.errors import BacktestError
from trading.backtest.market_fills import rate_of
from trading.backtest.request import BacktestRequest, StrategyRun
from trading.pipeline import PipelineConfiguration, RunningStrategy

Candles = Mapping[tuple[str, str], CandleSeries]
SIZINGS = ("percent", "fixed_usd", "minimum")
# What results depend on, besides the strategies of the user.
CODE = (
    "marketdata/candles", "marketdata/engine", "marketdata/feeds", "marketdata/instruments.py", "risk", "strategies",
    "trading/backtest", "trading/pipeline.py", "trading/positions.py", "trading/runtime/market_plane.py",
    "trading/runtime/venue_books.py", "trading/simulator/book_kernels.py", "trading/simulator/positions.py",
)  # fmt: skip


def series_of(candles: Candles, symbol: str, interval: str) -> CandleSeries:
    found = candles.get((symbol, interval))
    if found is None:
        have = ", ".join(f"{name} {each}" for name, each in candles) or "none"
        raise BacktestError(f"there are no bars of {symbol} {interval}; there are {have}")
    return found


def funding_bars(series: CandleSeries, funding: FundingSeries | None) -> list[tuple[int, Decimal]]:
    """Which bar pays which rate at its open."""
    if funding is None:
        return []
    first = int(np.searchsorted(funding.time_ms, int(series.start_ms[0])))
    bars = np.searchsorted(series.start_ms, funding.time_ms[first:])
    rates = funding.rate[first:]
    return [(bar, rate_of(rate)) for bar, rate in zip(bars.tolist(), rates.tolist(), strict=True) if bar < len(series)]


def digests(
    candles: Candles, funding: Mapping[str, FundingSeries], request: BacktestRequest
) -> tuple[tuple[str, str], ...]:
    symbols = set(request.symbols)
    found = [(f"{name} {interval}", each.digest()) for (name, interval), each in candles.items() if name in symbols]
    if request.costs.funding:
        found += [(f"{name} funding", _funding_digest(each)) for name, each in funding.items() if name in symbols]
    files = {run.strategy: STRATEGIES.code(run.strategy) for run in request.strategies}
    found += [(f"strategy {key}", digest) for key, digest in files.items() if digest]
    return tuple(sorted(found))


def _funding_digest(series: FundingSeries) -> str:
    digest = hashlib.sha256(f"{series.venue}/{series.symbol}/".encode())
    digest.update(np.ascontiguousarray(series.time_ms).astype("<i8", copy=False).tobytes())
    digest.update(np.ascontiguousarray(series.rate).astype("<f8", copy=False).tobytes())
    return digest.hexdigest()


def watches_books(strategy: Strategy) -> bool:
    """Whether it would hear nothing where there are only trades."""
    return strategy.timeframe is None and type(strategy).on_book is not QuietStrategy.on_book


def configuration(
    request: BacktestRequest, rules: Mapping[str, InstrumentRules], known: Mapping[str, type[Strategy]]
) -> PipelineConfiguration:
    if any(level == "strategy" for level, _ in request.limits.other_levels):
        raise BacktestError("limits of a strategy are each strategy's own; give them with it")
    return PipelineConfiguration(
        strategies=tuple(
            _running(number, run, request, known) for number, run in enumerate(request.strategies, start=1)
        ),
        rules=rules,
        groups=request.groups,
        policies=Policies(exits=request.exit_rules, combining=request.combine),
    )


def _running(
    number: int, run: StrategyRun, request: BacktestRequest, known: Mapping[str, type[Strategy]]
) -> RunningStrategy:
    kind = known.get(run.strategy)
    if kind is None:
        raise BacktestError(f"there is no strategy {run.strategy!r}; there are {', '.join(sorted(known))}")
    try:
        parameters = parse_parameters(kind.parameters, run.parameters)
    except ParameterError as error:
        raise BacktestError(f"{run.strategy}: {error}") from None
    if run.sizing_mode not in SIZINGS:
        raise BacktestError(f"sizing_mode is {run.sizing_mode!r}; expected one of {', '.join(SIZINGS)}")
    return RunningStrategy(
        config_id=number,
        version=1,
        account_id=ACCOUNT,
        name=run.name or run.strategy,
        strategy=run.strategy,
        symbols=run.symbols,
        parameters=parameters,
        sizing_mode=run.sizing_mode,
        sizing_value=run.sizing_value,
        leverage=run.leverage,
        allow_reversal=run.allow_reversal,
        limits=_limits_of(run, request),
        size_by_confidence=run.size_by_confidence,
        adaptive_leverage=run.adaptive_leverage,
    )


def _limits_of(run: StrategyRun, request: BacktestRequest) -> Limits:
    if run.limits is None:
        return request.limits
    return combined(request.limits, **dict(request.limits.other_levels), strategy=run.limits)


@cache
def code_version() -> str:
    """A name for the code that decides, sizes, fills and books: of all its files."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for part in CODE:
        place = root / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def limited_strategies(request: BacktestRequest) -> list[str]:
    """The names of those with limits of their own on what is counted over all of their positions and orders."""
    return [
        run.name or run.strategy for run in request.strategies if run.limits is not None and run.limits.counts_together
    ]
