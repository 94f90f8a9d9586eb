"""The compiled path: one candle strategy on one symbol, signals and account in kernels, to the last digit what the full
path (trading/backtest/run.py) gives. It takes milliseconds for a year of minutes, so that many can be tried."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import CandleSeries, FundingSeries
from marketdata.instruments import InstrumentRules
from risk.exits import ExitState, exit_quantity, judge
from risk.exposure import ZERO, PositionExposure
from risk.sizing import size_position
from strategies.base import parse_parameters
from strategies.candle_strategy import ROW, CandleStrategy, Slot
from strategies.registry import STRATEGIES
from trading.backtest.bars import longer
from trading.backtest.compiled_result import Words, fills_of, trades_of
from trading.backtest.compiled_terms import BILLION, CompiledUnfit, Terms, compiled_reason, terms_of
from trading.backtest.errors import BacktestError
from trading.backtest.kernels.slots import Ask, At, Filled, Question, Status
from trading.backtest.market_fills import rate_of
from trading.backtest.request import BacktestRequest
from trading.backtest.result import BacktestResult, BacktestTrade

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# So many bars at once: what is made of them stays in a core's cache.
BLOCK = 16_384
FILLS = 4_096
LARGEST_PRICE_LEVEL = 2**59
NO_BARS, NO_ROWS, NOTHING = np.zeros(0, dtype=np.int64), np.zeros((0, ROW)), np.zeros(0)
_ANSWERED = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)


@dataclass(frozen=True, slots=True)
class CompiledRun:
    """What a run found, as arrays: ``fills`` by ``Filled``, in the units of the market's grid; ``signals``: at the ends
    of which bars, with the ``rows`` that their kernel wrote and their ``outcomes`` (``Outcome``, quantity)."""

    request: BacktestRequest
    market: Market
    fills: Ints
    signals: Ints
    rows: Floats
    outcomes: Ints
    balance: Decimal

    def curve(self) -> tuple[Floats, Floats]:
        """Equity and the worth of what is held at each bar's end, USDT: the account is gone through once more."""
        equity, exposed = np.empty(len(self.market.series)), np.empty(len(self.market.series))
        account = Account(self.request, self.market, equity, exposed)
        account.finish(self.signals, self.rows)
        return equity, exposed

    @property
    def trades(self) -> tuple[BacktestTrade, ...]:
        return tuple(trades_of(self.fills, self._words))

    def result(self) -> BacktestResult:
        """As the full path tells it, without the signals and the digests of its data."""
        series, words, (equity, exposed) = self.market.series, self._words, self.curve()
        return BacktestResult(
            signals=(),
            fills=tuple(fills_of(self.fills, words)),
            trades=self.trades,
            equity_ms=series.start_ms + series.interval_ms,
            equity=equity,
            exposed=exposed,
            balance=self.balance,
            events=len(series),
            data=(),
            code="",
        )

    @property
    def _words(self) -> Words:
        (run,), series, grid = self.request.strategies, self.market.series, self.market.terms.grid
        name = run.name or run.strategy
        return Words(series.symbol, name, grid.price, grid.quantity, series.start_ms, series.interval_ms)


def run_compiled(
    request: BacktestRequest,
    candles: Mapping[tuple[str, str], CandleSeries],
    funding: Mapping[str, FundingSeries],
    rules: Mapping[str, InstrumentRules],
) -> CompiledRun:
    """As trading.backtest.run.run_backtest, for requests that ``compiled_reason`` has nothing to say about.

    Raises:
        CompiledUnfit: the full path must take it, and why.
        BacktestError: something that is asked for is missing or cannot be tested.
    """
    if reason := compiled_reason(request):
        raise CompiledUnfit(reason)
    (symbol,) = request.symbols
    market = Market.of(request, candles, funding.get(symbol), rules)
    strategy = STRATEGIES[request.strategies[0].strategy]
    if not issubclass(strategy, CandleStrategy):
        raise CompiledUnfit(compiled_reason(request))
    parameters = parse_parameters(strategy.parameters, request.strategies[0].parameters)
    account = Account(request, market)
    bars, kept, outcomes = [NO_BARS], [NO_ROWS], [account.outcomes[:0]]
    made = strategy.create(symbol, parameters)
    for at, rows, until in signals_of(made, market, Told.of(made.timeframe, market, candles)):
        account.go(at, rows, until)
        bars.append(at.copy())
        kept.append(rows.copy())
        outcomes.append(account.outcomes[: len(at)].copy())
    account.finish()
    at, rows = np.concatenate(bars), np.concatenate(kept)
    return CompiledRun(request, market, account.filled, at, rows, np.concatenate(outcomes), account.balance)


@dataclass(frozen=True, slots=True)
class Market:
    """One symbol as kernels see it. ``whole`` begins before ``series``, which is tested: at its bar ``offset``. Prices
    in the grid's units; ``floats``: all of ``whole`` as strategies are told it; ``volume`` of the tested bars, where
    the impact asks for it."""

    whole: CandleSeries
    series: CandleSeries
    offset: int
    rules: InstrumentRules
    terms: Terms
    prices: tuple[Ints, ...]
    volume: Floats
    funding_bars: Ints
    funding_rates: Ints

    @classmethod
    def of(
        cls,
        request: BacktestRequest,
        candles: Mapping[tuple[str, str], CandleSeries],
        funding: FundingSeries | None,
        rules: Mapping[str, InstrumentRules],
    ) -> Market:
        (symbol,) = request.symbols
        if (symbol, request.interval) not in candles:
            raise BacktestError(f"there are no bars of {symbol} of interval {request.interval}")
        if symbol not in rules:
            raise BacktestError(f"there are no instrument rules of {symbol}; import its listing first")
        every = candles[symbol, request.interval]
        whole = every.between(int(every.start_ms[0]) if len(every) else 0, request.end_ms)
        series = whole.between(request.start_ms, request.end_ms)
        if not len(series):
            raise BacktestError(f"{symbol} has no bar between {request.start_ms} and {request.end_ms} ms")
        terms = terms_of(request, series, rules[symbol])
        factor = 10 ** (terms.grid.price - series.price_decimals)
        prices = tuple(_units(each, factor) for each in (series.open, series.high, series.low, series.close))
        if int(prices[1].max()) * int(terms.ask[Ask.LEVEL_SCALE]) > LARGEST_PRICE_LEVEL:
            raise CompiledUnfit(f"the prices of {symbol} have too many digits for the compiled path")
        bars, rates = _funding(series, funding) if request.costs.funding else ([], [])
        return cls(
            whole,
            series,
            len(whole) - len(series),
            rules[symbol],
            terms,
            prices,
            series.volumes() if request.costs.impact else np.zeros(0),
            np.array(bars, dtype=np.int64),
            np.array(rates, dtype=np.int64),
        )


def _units(prices: Ints, factor: int) -> Ints:
    return np.ascontiguousarray(prices if factor == 1 else prices * factor, dtype=np.int64)


def _funding(series: CandleSeries, funding: FundingSeries | None) -> tuple[list[int], list[int]]:
    """At the open of which bars it is paid, and the rates in billionths."""
    if funding is None:
        return [], []
    first, last = np.searchsorted(funding.time_ms, [series.start_ms[0], series.start_ms[-1] + 1])
    bars = np.searchsorted(series.start_ms, funding.time_ms[first:last])
    rates = [int(rate_of(float(rate)).scaleb(9)) for rate in funding.rate[first:last]]
    return [int(bar) for bar in bars], rates


def signals_of(strategy: CandleStrategy, market: Market, told: Told) -> Iterator[tuple[Ints, Floats, int]]:
    """Block by block the tested bars at whose ends the strategy signals, and the rows of its signals: views that the
    next block overwrites; and the bar from which on later blocks have theirs."""
    whole, series, kernel = market.whole, told.series, strategy.kernel()
    same = series.interval == whole.interval
    state, size = kernel.new_state(strategy.numbers), min(told.block, len(series))
    at, rows = np.zeros(size, dtype=np.int64), np.zeros((size, ROW))
    for first in range(0, len(series), told.block):
        end = min(first + told.block, len(series))
        count = int(kernel.run(state, strategy.numbers, *told.part(first, end), at, rows))
        at[:count] += first
        cold = int(np.searchsorted(at[:count], strategy.warm_up))
        bars = at[cold:count]
        if not same:
            # Known at their end, which may be in a gap; what ends after the test is never known.
            ends = series.start_ms[bars] + series.interval_ms
            known = int(np.searchsorted(ends, whole.start_ms[-1] + whole.interval_ms, side="right"))
            bars = np.searchsorted(whole.start_ms, ends[:known]) - 1
            end = int(np.searchsorted(whole.start_ms, series.start_ms[end - 1] + series.interval_ms))
        early = int(np.searchsorted(bars, market.offset))
        until = max(end - market.offset, 0)
        yield bars[early:] - market.offset, rows[cold + early : cold + len(bars)], until


class Told:
    """Bars as a strategy's kernel takes them, a block at a time in the same places."""

    def __init__(self, series: CandleSeries, block: int = BLOCK) -> None:
        from trading.backtest.kernels.simulation import as_floats  # noqa: PLC0415 numba: only who tests needs it

        self._as_floats, self._start_ms = as_floats, np.ascontiguousarray(series.start_ms)
        self.series, self.block, self._kept = series, block, False
        bars = (series.open, series.high, series.low, series.close, series.volume)
        self._units = tuple(np.ascontiguousarray(each) for each in bars)
        self._ones = 10.0**series.price_decimals, 10.0**series.volume_decimals
        self._floats = tuple(np.empty(min(block, len(series))) for _ in bars)

    @classmethod
    def of(cls, timeframe: str, market: Market, candles: Mapping[tuple[str, str], CandleSeries]) -> Told:
        """Those of the timeframe that are given, or made of the market's."""
        whole = market.whole
        if timeframe == whole.interval:
            return cls(whole)
        return cls(candles.get((whole.symbol, timeframe)) or longer(whole, timeframe))

    def all_at_once(self, block: int) -> Told:
        """The same for many readers: all bars are made now."""
        made = Told(self.series, len(self.series))
        made.part(0, len(self.series))
        made.block, made._kept = block, True
        return made

    def part(self, first: int, end: int) -> tuple[NDArray[Any], ...]:
        if self._kept:
            return (self._start_ms[first:end], *(each[first:end] for each in self._floats))
        floats = tuple(each[: end - first] for each in self._floats)
        self._as_floats(*(each[first:end] for each in self._units), *self._ones, *floats)
        return (self._start_ms[first:end], *floats)


class Account:
    """One account in a kernel's arrays. ``equity`` and ``exposed``, where they are wanted, have a place for each tested
    bar, or, with ``base`` moved along, for those of a block."""

    def __init__(
        self, request: BacktestRequest, market: Market, equity: Floats = NOTHING, exposed: Floats = NOTHING
    ) -> None:
        from trading.backtest.kernels.simulation import close_out, simulate  # noqa: PLC0415 numba: only who tests needs it

        self._simulate, self._close_out = simulate, close_out
        self.request, self.market, self.terms = request, market, market.terms
        self.equity, self.exposed, self.base = equity, exposed, 0
        self.state = np.zeros(len(At), dtype=np.int64)
        self.state[At.CASH], self.state[At.CASH_BILLIONTHS] = self.terms.balance
        self.fills = np.zeros((FILLS, len(Filled)), dtype=np.int64)
        self.outcomes = np.zeros((BLOCK, 2), dtype=np.int64)
        self._rows = NO_ROWS
        self._failed: Exception | None = None
        ask = self.terms.ask.copy()
        if len(self.terms.partials) or request.strategies[0].size_by_confidence:
            self._callback = _ANSWERED(self._answer)
            ask[Ask.CALLBACK] = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        self._given = (ask, *self.terms.arrays[1:], float(10**self.terms.grid.quantity), market.volume)

    @property
    def filled(self) -> Ints:
        return self.fills[: self.state[At.FILLS]]

    def go(self, at: Ints, rows: Floats, end: int) -> None:
        """On to before the bar ``end``; ``at`` and ``rows``: all signals until there, and perhaps others."""
        self._rows, market = rows, self.market
        if len(at) > len(self.outcomes):
            self.outcomes = np.zeros((len(at), 2), dtype=np.int64)
        while True:
            status = self._simulate(
                *self._given, market.funding_bars, market.funding_rates, *market.prices, end, at, rows, len(at),
                self.state, self.outcomes, self.fills, self.base, self.equity, self.exposed,
            )  # fmt: skip
            if self._failed is not None:
                raise self._failed
            if status == Status.DONE:
                return
            if status == Status.FILLS_ARE_FULL:
                self.fills = np.concatenate([self.fills, np.zeros_like(self.fills)])
                continue
            bar = int(self.state[At.BAR])
            if status == Status.BAD_SIGNAL:
                raise CompiledUnfit(f"the signal at bar {bar} contradicts itself; the full path says how")
            raise CompiledUnfit(f"worths at bar {bar} have too many digits for the compiled path")

    def finish(self, at: Ints = NO_BARS, rows: Floats = NO_ROWS) -> None:
        """The rest of the bars with these signals, and the end of what is held."""
        last = len(self.market.series) - 1
        self.go(at, rows, last + 1)
        self._close_out(*self._given, self.state, self.fills, last, self.market.prices[3][last])
        if len(self.equity):
            self.equity[last - self.base] = float(self.balance)

    def _answer(self, question: int, price: int, number: int, _: int) -> None:
        """What Decimal rounds in a way of its own, a kernel asks."""
        try:
            asked = self._quantity if question == Question.QUANTITY else self._partial
            exact = asked(Decimal(price).scaleb(-self.terms.grid.price), number)
            self.state[At.ANSWER] = int(exact.scaleb(self.terms.grid.quantity))
        except Exception as error:  # nothing may go through a kernel: it is raised when it has returned
            self._failed, self.state[At.ANSWER] = error, 0

    def _quantity(self, price: Decimal, number: int) -> Decimal:
        run, ask = self.request.strategies[0], self.terms.ask
        return size_position(
            run.sizing_mode,
            run.sizing_value,
            equity=self.balance + self._unrealised(price),
            leverage=Decimal(int(ask[Ask.LEVERAGE])) / int(ask[Ask.LEVERAGE_ONE]),
            price=price,
            rules=self.market.rules,
            confidence=float(self._rows[number, Slot.STRENGTH]),
        )

    def _partial(self, price: Decimal, _: int) -> Decimal:
        rules = replace(self.request.exit_rules, trailing_take_profit=False, trailing_stop=False, reversal=False)
        side = "Buy" if self.state[At.SIDE] > 0 else "Sell"
        held, entry = self._held, self._entry
        position = PositionExposure(side, held, entry, price, Decimal(1))
        done = ExitState(best_price=entry, partials=int(self.state[At.PARTIALS]))
        out = judge(rules, position, done, price, 0)[1]
        return exit_quantity(self.market.rules, held, ZERO, out.share) if out is not None else ZERO

    @property
    def balance(self) -> Decimal:
        units = int(self.state[At.CASH]) * BILLION + int(self.state[At.CASH_BILLIONTHS])
        return Decimal(units).scaleb(-self.terms.grid.money - 9)

    @property
    def _held(self) -> Decimal:
        return Decimal(int(self.state[At.QUANTITY])).scaleb(-self.terms.grid.quantity)

    @property
    def _entry(self) -> Decimal:
        return Decimal(int(self.state[At.ENTRY])).scaleb(-self.terms.grid.price)

    def _unrealised(self, price: Decimal) -> Decimal:
        return (price - self._entry) * self._held * int(self.state[At.SIDE])
