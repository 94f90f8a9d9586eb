"""A backtest's request in the integers that kernels reckon with, and why some requests cannot be put so."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import CandleSeries, interval_ms
from marketdata.instruments import InstrumentRules
from risk.exits import MOST_STEPS, ExitRules
from risk.leverage import allowed_leverage
from risk.limits import NAMES, Limits
from strategies.candle_strategy import CandleStrategy
from strategies.registry import STRATEGIES
from trading.backtest.errors import BacktestError
from trading.backtest.kernels.slots import Ask, Sizing
from trading.backtest.market_fills import IMPACT_DECIMALS, rate_of
from trading.backtest.request import BacktestRequest, Source, StrategyRun

Ints = NDArray[np.int64]
LEVEL_DECIMALS, BILLION = 10, 10**9
LARGEST_LEVEL, LARGEST_ONE = 2**59, 2**59
# Kernels look for what is due so often at one price.
MOST_PARTIALS = 32
# Limits that one strategy with one position cannot break: any value, or from 1 on.
HARMLESS = frozenset({"max_leverage", "max_correlation", "price_collar_percent"})
HARMLESS_FROM_ONE = frozenset(
    {"max_positions", "max_positions_per_symbol", "max_correlated_positions", "max_open_orders"}
)


class CompiledUnfit(BacktestError):
    """The data or its figures do not fit the compiled path; the full path takes them."""


def compiled_reason(request: BacktestRequest) -> str:
    """Why a request cannot take the compiled path, in words; empty where it can."""
    if request.source is not Source.CANDLES:
        return f"{request.source} are tested by the full path; the compiled one takes candles"
    if len(request.strategies) != 1 or len(request.strategies[0].symbols) != 1:
        return "several strategies or symbols share one account; the compiled path takes one of each"
    run = request.strategies[0]
    strategy = STRATEGIES.get(run.strategy)
    if strategy is None or not issubclass(strategy, CandleStrategy):
        return f"{run.strategy} does not decide in a compiled kernel"
    if run.adaptive_leverage:
        return "adaptive leverage needs the returns of minutes, which only the full path keeps"
    if request.costs.latency_ms >= interval_ms(request.interval):
        return f"a latency of {request.costs.latency_ms} ms is longer than a bar"
    if request.costs.fee < 0:
        return "a fee below 0 is only paid by the full path"
    if len(request.exit_rules.partial_exits) > MOST_PARTIALS:
        return f"there are more than {MOST_PARTIALS} partial exits"
    return _limit_reason(request.limits, request, run)


def _limit_reason(limits: Limits, request: BacktestRequest, run: StrategyRun) -> str:
    grouped = limits.group_limits or request.groups.of(run.symbols[0])
    if not limits.trading_enabled or limits.other_levels or grouped or run.limits is not None:
        return "limits of groups or of several levels are only judged by the full path"
    for name in NAMES:
        value = getattr(limits, name)
        if value is None or name in HARMLESS or (name in HARMLESS_FROM_ONE and value >= 1):
            continue
        return f"the limit {name} is only judged by the full path"
    return ""


class Grid(NamedTuple):
    """``price`` and ``quantity``: how many decimals units of them have."""

    price: int
    quantity: int

    @property
    def money(self) -> int:
        return self.price + self.quantity

    def price_units(self, value: Decimal) -> int:
        return whole(value, self.price)

    def quantity_units(self, value: Decimal) -> int:
        return whole(value, self.quantity)


def grid_of(series: CandleSeries, rules: InstrumentRules) -> Grid:
    price = max(series.price_decimals, decimals_of(rules.tick_size))
    quantity = max(decimals_of(each) for each in (rules.lot_size, rules.min_quantity, rules.max_market_quantity))
    notional = decimals_of(rules.min_notional)
    grid = Grid(price, max(quantity, notional - price))
    if price > LEVEL_DECIMALS:
        raise CompiledUnfit(f"{series.symbol} has prices of {price} decimals; at most {LEVEL_DECIMALS} are compiled")
    return grid


def decimals_of(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def whole(value: Decimal, decimals: int) -> int:
    """In units of so many decimals.

    Raises:
        CompiledUnfit: it is no whole number of them.
    """
    units = value.scaleb(decimals)
    number = int(units)
    if number != units:
        raise CompiledUnfit(f"{value:f} has more than {decimals} decimals")
    return number


@dataclass(frozen=True, slots=True)
class Terms:
    """A request in the integers of kernels. ``ask``, ``partials``, ``take_shares``, ``take_ones``, ``stop_steps`` as in
    trading/backtest/kernels/position.py."""

    grid: Grid
    ask: Ints
    partials: Ints
    take_shares: Ints
    take_ones: Ints
    stop_steps: Ints
    impact: float
    balance: tuple[int, int]

    @property
    def arrays(self) -> tuple[Any, ...]:
        return self.ask, self.partials, self.take_shares, self.take_ones, self.stop_steps, self.impact


def terms_of(request: BacktestRequest, series: CandleSeries, rules: InstrumentRules) -> Terms:
    """Raises CompiledUnfit where a figure has too many digits."""
    run, costs, exits = request.strategies[0], request.costs, request.exit_rules
    grid = grid_of(series, rules)
    ask = _prices(grid, rules)
    tick = int(ask[Ask.TICK])
    ask[Ask.LOT] = grid.quantity_units(rules.lot_size)
    ask[Ask.MIN_QUANTITY] = grid.quantity_units(rules.min_quantity)
    ask[Ask.MAX_QUANTITY] = grid.quantity_units(rules.max_market_quantity)
    ask[Ask.MIN_NOTIONAL] = whole(rules.min_notional, grid.money)
    ask[Ask.MONEY_ONE] = 10**grid.money
    aside = costs.spread / 2 + costs.slippage
    cost_decimals = IMPACT_DECIMALS if costs.impact else decimals_of(aside)
    ask[Ask.COST], ask[Ask.COST_ONE] = whole(aside, cost_decimals), 10**cost_decimals
    _check("spread and slippage", 2 * tick * 10**cost_decimals)
    ask[Ask.FEE] = whole(rate_of(costs.fee), 9)
    margin = Fraction(costs.maintenance_margin)
    ask[Ask.MAINTENANCE], ask[Ask.MAINTENANCE_ONE] = margin.numerator, margin.denominator
    _size(ask, grid, run, request.limits, rules)
    ask[Ask.REVERSAL], ask[Ask.BY_CONFIDENCE] = run.allow_reversal, run.size_by_confidence
    partials, shares, ones, steps = _exits(ask, exits)
    balance = whole(request.balance, grid.money + 9)
    return Terms(grid, ask, partials, shares, ones, steps, float(costs.impact), divmod(balance, BILLION))


def exit_terms(exits: ExitRules, series: CandleSeries, rules: InstrumentRules) -> tuple[Grid, tuple[Ints, ...]]:
    """What ends positions of one symbol: ``ask``, ``partials``, ``take_shares``, ``take_ones`` and ``stop_steps``,
    as those of :class:`Terms`. Raises CompiledUnfit where a figure has too many digits."""
    grid = grid_of(series, rules)
    ask = _prices(grid, rules)
    largest = int(series.high.max()) * 10 ** (grid.price - series.price_decimals)
    _check("a price", largest * int(ask[Ask.LEVEL_SCALE]))
    return grid, (ask, *_exits(ask, exits))


def _prices(grid: Grid, rules: InstrumentRules) -> Ints:
    ask = np.zeros(len(Ask), dtype=np.int64)
    tick, scale = grid.price_units(rules.tick_size), 10 ** (LEVEL_DECIMALS - grid.price)
    _check("the tick", tick * scale)
    ask[Ask.TICK], ask[Ask.LEVEL_SCALE], ask[Ask.TICK_LEVEL] = tick, scale, tick * scale
    return ask


def _size(ask: Ints, grid: Grid, run: StrategyRun, limits: Limits, rules: InstrumentRules) -> None:
    leverage = Fraction(allowed_leverage(run.leverage, limits.max_leverage, rules.max_leverage))
    ask[Ask.LEVERAGE], ask[Ask.LEVERAGE_ONE] = leverage.numerator, leverage.denominator
    if run.sizing_mode not in {"percent", "fixed_usd", "minimum"}:
        raise BacktestError(f"sizing mode is {run.sizing_mode!r}; expected percent, fixed_usd or minimum")
    ask[Ask.SIZING] = Sizing[run.sizing_mode.upper()]
    size = Fraction(run.sizing_value) * leverage
    if ask[Ask.SIZING] == Sizing.PERCENT:
        size /= 100
    _check("the size", size.numerator * BILLION)
    _check("the size", size.denominator * 10**9)
    ask[Ask.SIZE], ask[Ask.SIZE_ONE] = size.numerator, size.denominator


def _exits(ask: Ints, exits: ExitRules) -> tuple[Ints, Ints, Ints, Ints]:
    """Percents as whole numbers of one small unit."""
    percents = [
        exits.min_profit_percent,
        exits.max_loss_percent,
        exits.take_profit_activation_percent,
        exits.take_profit_step_percent,
        exits.trailing_stop_activation_percent,
        *(each for step in exits.trailing_stop_distances for each in step),
        *(profit for profit, _ in exits.partial_exits),
    ]
    decimals = max(decimals_of(each) for each in percents)
    _check("the percents of exit rules", 100 * 10**decimals)
    least, loss, take_from, step, stop_from, *_ = (whole(each, decimals) for each in percents)
    ask[Ask.EXITS], ask[Ask.PERCENT_ONE] = exits.enabled, 100 * 10**decimals
    ask[Ask.MIN_PROFIT], ask[Ask.MAX_LOSS] = least, loss
    ask[Ask.TRAILING_TAKE], ask[Ask.TAKE_FROM], ask[Ask.TAKE_STEP] = exits.trailing_take_profit, take_from, step
    ask[Ask.TRAILING_STOP], ask[Ask.STOP_FROM] = exits.trailing_stop, stop_from
    shares = _distances(exits.take_profit_step_percent, exits.take_profit_acceleration)
    steps = [whole(each, decimals) for pair in exits.trailing_stop_distances for each in pair]
    partials = [max(whole(profit, decimals), least) for profit, _ in exits.partial_exits]
    made = (partials, [each.numerator for each in shares], [each.denominator for each in shares], steps)
    partials_, shares_, ones, steps_ = (np.array(each, dtype=np.int64) for each in made)
    return partials_, shares_, ones, steps_


@lru_cache
def _distances(step: Decimal, acceleration: Decimal) -> tuple[Fraction, ...]:
    """How far the trailing take-profit stays behind after so many steps, shares of the entry price."""
    exact = [Fraction(step) / 100 / Fraction(acceleration) ** steps for steps in range(MOST_STEPS + 1)]
    # Finer than the tenth decimal of any price, to which levels are rounded.
    return tuple(each if each.denominator < LARGEST_ONE else each.limit_denominator(LARGEST_ONE) for each in exact)


def _check(what: str, value: int) -> None:
    if abs(value) >= LARGEST_ONE:
        raise CompiledUnfit(f"{what} has too many digits for the compiled path")
