"""The full backtester over candles: the production pipeline and exit rules, step by step through what was.

Python looks only at moments where something can happen. In between nothing is met: kernels find the signals of whole
blocks of bars, and for each position the next price at which something of it is due. With ``every_bar`` everything is
looked at, which must change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import DAY_MS, FundingSeries, interval_ms
from marketdata.instruments import InstrumentRules
from strategies.call_watch import CallWatch
from strategies.registry import STRATEGIES
from trading.backtest.bar_returns import BarReturns
from trading.backtest.books import ACCOUNT, Books, Order
from trading.backtest.curve import curve
from trading.backtest.errors import BacktestCancelled, BacktestError
from trading.backtest.losses import LossWatch
from trading.backtest.markets import NEVER, Market
from trading.backtest.outcomes import CALL_SECONDS, noted
from trading.backtest.preparation import (
    Candles,
    code_version,
    configuration,
    digests,
    funding_bars,
    limited_strategies,
    series_of,
)
from trading.backtest.request import BacktestRequest, Source
from trading.backtest.result import BacktestResult, BacktestSignal
from trading.backtest.signal_times import Told, in_order
from trading.backtest.telling import Telling, refuse_faults
from trading.backtest.walk import Walk
from trading.pipeline import Outcome, Pipeline, PipelineResult

LOOK_EVERY = 512


def run_backtest(
    request: BacktestRequest,
    candles: Candles,
    funding: Mapping[str, FundingSeries],
    rules: Mapping[str, InstrumentRules],
    progress: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
    *,
    every_bar: bool = False,
) -> BacktestResult:
    """Run the request's strategies over candles. ``candles`` by symbol and interval: those of the request's interval
    for every symbol, longer ones where they shall not be made of those; they may begin before the test, to warm
    strategies up. ``progress`` is told the share that is done, ``stop`` is asked whether to give up.

    Raises:
        BacktestError: something that is asked for is missing or cannot be tested.
        StrategyStopped: a strategy failed; with its file and line.
        BacktestCancelled: ``stop`` said so.
    """
    if request.source is not Source.CANDLES:
        raise BacktestError(f"source is {request.source}; candles can only be tested as {Source.CANDLES}")
    with CallWatch(CALL_SECONDS) as watch:
        run = _Run(request, candles, funding, rules, watch.call, every_bar=every_bar)
        return run.go(progress or (lambda share: None), stop or (lambda: False))


class _Run:
    def __init__(
        self,
        request: BacktestRequest,
        candles: Candles,
        funding: Mapping[str, FundingSeries],
        rules: Mapping[str, InstrumentRules],
        call: Callable[..., Any],
        *,
        every_bar: bool,
    ) -> None:
        self._request, self._every_bar = request, every_bar
        self._length = interval_ms(request.interval)
        self._latency = request.costs.latency_ms // self._length
        series = {symbol: series_of(candles, symbol, request.interval) for symbol in request.symbols}
        tested = {name: each.between(request.start_ms, request.end_ms) for name, each in series.items()}
        for name, each in tested.items():
            if not len(each):
                raise BacktestError(f"{name} has no bar between {request.start_ms} and {request.end_ms} ms")
            if name not in rules:
                raise BacktestError(f"there are no instrument rules of {name}; import its listing first")
        self._grid_ms = min(int(each.start_ms[0]) for each in tested.values())
        self._steps = (max(int(each.start_ms[-1]) for each in tested.values()) - self._grid_ms) // self._length + 1
        self._markets = {
            name: Market(
                rank, tested[name], self._grid_ms, rules[name],
                funding_bars(tested[name], funding.get(name)) if request.costs.funding else [],
            )
            for rank, name in enumerate(request.symbols)
        }  # fmt: skip
        self._by_rank = list(self._markets.values())
        self._books = Books(request.balance, request.costs.maintenance_margin)
        self._data = digests(candles, funding, request)
        self._traces = count(1)
        self._begun = False
        self._returns = BarReturns({each.symbol: each.bars for each in self._by_rank}, self._length)
        self._pipeline = Pipeline(
            lambda: f"{next(self._traces):08x}", may_act=lambda symbol: self._begun, call=call, returns=self._returns
        )
        self._pipeline.configure(configuration(request, rules, STRATEGIES))
        refuse_faults(self._pipeline.take_faults())
        self._telling = Telling(self._pipeline, candles, series, self._grid_ms, self._length, self._steps, call)
        self._signals: list[BacktestSignal] = []
        self._limited = limited_strategies(request)
        levels = [request.limits, *(run.limits for run in request.strategies if run.limits is not None)]
        self._wants_returns = any(each.max_correlated_positions is not None for each in levels) or any(
            each.adaptive_leverage for each in request.strategies
        )
        self._losses = LossWatch(request.limits, request.balance, self._books, self._markets, self._grid_ms // DAY_MS)
        self._walk = Walk(request, self._books, self._markets, self._grid_ms, self._length, every_bar=every_bar)
        self._step = 0

    # The way through time.

    def go(self, progress: Callable[[float], None], stop: Callable[[], bool]) -> BacktestResult:
        # Signals of one moment are combined by the pipeline, and weighted by every bar.
        told = self._telling.everything(every_bar=self._every_bar or self._request.combine)
        self._begun = True
        steps, sources, places = in_order(told, {each.symbol: each.rank for each in self._by_rank}, self._midnights())
        position, moments = 0, len(steps)
        rounds = 0
        while True:
            rounds += 1
            if rounds % LOOK_EVERY == 0:
                if stop():
                    raise BacktestCancelled
                progress(self._step / self._steps)
            opening = self._walk.next_step
            ending = steps[position] if position < moments else NEVER
            next_step = min(opening, ending)
            if self._lost_too_much(min(next_step, self._steps)):
                continue
            if next_step >= self._steps:
                break
            self._step = next_step
            if opening <= ending:
                self._walk.open_step(next_step)
                continue
            first = position
            while position < moments and steps[position] == ending:
                position += 1
            here = zip(sources[first:position], places[first:position], strict=True)
            self._end_step(ending, [(told[source], place) for source, place in here if source >= 0])
        return self._finished(progress)

    def _midnights(self) -> NDArray[np.int64]:
        """The steps whose ends begin a day."""
        first = -(-(self._grid_ms + self._length) // DAY_MS) * DAY_MS
        last = self._grid_ms + self._steps * self._length
        return (np.arange(first, last + 1, DAY_MS) - self._grid_ms) // self._length - 1

    # Ends of bars: what strategies are told, and what the account has lost.

    def _end_step(self, step: int, items: list[tuple[Told, int]]) -> None:
        now_ms = self._grid_ms + (step + 1) * self._length
        self._losses.begin_day(now_ms // DAY_MS, step)
        self._lost_too_much(step + 1)
        if not items:
            return
        signalling = dict.fromkeys(told.symbol for told, _ in items)
        for symbol in signalling:
            bars = self._markets[symbol].bars
            last = bars.until(step)
            if last >= 0:
                self._pipeline.update_reference_price(symbol, bars.close(last))
        orders = self._walk.orders()
        if self._wants_returns:
            self._returns.tell([*signalling, *self._books.holdings, *(each.symbol for each in orders)], now_ms)
        prices = self._losses.prices(step)
        exposure = self._books.exposure(
            prices, orders, day_start=self._losses.day_start, peak=self._losses.peak, strategies=self._limited,
            midnight_ms=self._losses.day * DAY_MS,
        )  # fmt: skip
        self._pipeline.update_exposure(ACCOUNT, exposure)
        for told, place in items:
            for outcome in self._telling.ask(told, place):
                self._take(outcome, step)

    def _take(self, outcome: Outcome, step: int) -> None:
        """Note a signal, and send the order that became of it."""
        refuse_faults([outcome])
        if not isinstance(outcome, PipelineResult):
            return
        signal, intent = outcome.signal, outcome.intent
        row = noted(outcome, self._losses.halted)
        self._signals.append(row)
        if row.outcome == "approved" and intent is not None:
            market = self._markets[signal.symbol]
            self._walk.send(market, step + 1 + self._latency, Order(
                intent.symbol, intent.side, intent.quantity, intent.reduce_only, intent.strategy, "signal", 0,
                intent.leverage, self._pipeline.reference_price(intent.symbol) or signal.entry_price,
                intent.take_profit, intent.stop_loss,
            ))  # fmt: skip

    def _lost_too_much(self, until: int) -> bool:
        """Look at what the account was worth at the ends of steps before ``until``; True where it lost too much and its
        positions are being closed."""
        step = self._losses.first_loss(until)
        if step is not None:
            self._stop_trading(step)
        return step is not None

    def _stop_trading(self, step: int) -> None:
        self._walk.drop_orders()
        for symbol, holding in self._books.holdings.items():
            market, book = self._markets[symbol], holding.book
            side = "Sell" if holding.is_long else "Buy"
            self._walk.send(market, step + 1, Order(
                symbol, side, book.quantity, True, holding.strategy, "kill_switch", 0, book.leverage, book.entry_price,
            ))  # fmt: skip

    # The end.

    def _finished(self, progress: Callable[[float], None]) -> BacktestResult:
        for market in self._by_rank:
            holding = self._books.holdings.get(market.symbol)
            if holding is not None:
                self._walk.close_at_end(market, holding, self._steps)
        progress(1.0)
        bars = {market.symbol: market.bars for market in self._by_rank}
        times, equity, exposed = curve(
            self._books, bars, self._request.balance, self._steps, self._grid_ms, self._length
        )
        return BacktestResult(
            signals=tuple(self._signals),
            fills=tuple(self._books.fills),
            trades=tuple(self._books.trades),
            equity_ms=times,
            equity=equity,
            exposed=exposed,
            balance=self._books.balance,
            events=sum(market.bars.length for market in self._by_rank),
            data=self._data,
            code=code_version(),
        )
