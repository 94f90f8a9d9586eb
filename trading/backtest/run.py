"""The full backtester over candles: the production pipeline and exit rules, step by step through what was.

Python looks only at moments where something can happen. In between nothing is met: kernels find the signals of whole
blocks of bars, and for each position the next bar that leaves the band in which nothing of it is due. With
``every_bar`` everything is looked at, which must change nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import chain, count
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import DAY_MS, MINUTE_MS, CandleSeries, FundingSeries, interval_ms
from marketdata.instruments import InstrumentRules
from risk.exits import advance, exit_quantity, judge
from risk.exposure import ZERO
from risk.returns import WINDOW
from strategies.base import Strategy
from strategies.call_watch import CallWatch
from strategies.candle_strategy import CandleStrategy
from strategies.registry import STRATEGIES
from trading.backtest.bars import candle_of, longer
from trading.backtest.books import ACCOUNT, Books, Execution, Holding, Order
from trading.backtest.curve import curve
from trading.backtest.errors import BacktestCancelled, BacktestError, StrategyStopped
from trading.backtest.exits import ahead, band, behind, next_stop, venue_exit
from trading.backtest.losses import LossWatch
from trading.backtest.market_fills import MarketFills, rate_of
from trading.backtest.markets import NEVER, Market, seen
from trading.backtest.outcomes import CALL_SECONDS, KILL_SWITCH, words_of
from trading.backtest.preparation import Candles, code_version, configuration, digests, funding_bars, series_of
from trading.backtest.request import BacktestRequest, Source
from trading.backtest.result import BacktestResult, BacktestSignal
from trading.backtest.signal_times import Told, in_order, kernel_signals, stopped
from trading.pipeline import (
    ENDS_A_CALL,
    Outcome,
    Pipeline,
    PipelineResult,
    RunningStrategy,
    StrategyFault,
)

ONE = Decimal(1)
# What is only estimated in floats is looked at exactly from so far away.
MARGIN_OF_FLOATS = 1e-6
# A position is looked for so many bars ahead at once: most end before.
AHEAD = 4_096
LOOK_EVERY = 512
NS = 1_000_000


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
        from trading.backtest.kernels.bands import leaves_band  # noqa: PLC0415 numba: only who tests needs it

        self._leaves_band = leaves_band
        self._request, self._every_bar = request, every_bar
        self._length = interval_ms(request.interval)
        self._costs, self._exit_rules = request.costs, request.exit_rules
        self._fills = MarketFills(request.costs)
        self._fee = rate_of(request.costs.fee)
        self._maintenance = float(request.costs.maintenance_margin)
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
        self._series = {**series}
        self._candles = candles
        self._traces = count(1)
        self._begun = False
        self._call = call
        self._pipeline = Pipeline(lambda: f"{next(self._traces):08x}", may_act=lambda symbol: self._begun, call=call)
        self._pipeline.configure(configuration(request, rules, STRATEGIES))
        self._refuse_faults(self._pipeline.take_faults())
        self._signals: list[BacktestSignal] = []
        self._heap: list[tuple[int, int, int]] = []
        self._limits = request.limits
        self._wants_returns = request.limits.max_correlated_positions is not None or any(
            each.adaptive_leverage for each in request.strategies
        )
        self._losses = LossWatch(request.limits, request.balance, self._books, self._markets, self._grid_ms // DAY_MS)
        self._step = 0
        self._may_be_liquidated = False

    # The way through time.

    def go(self, progress: Callable[[float], None], stop: Callable[[], bool]) -> BacktestResult:
        told = self._told()
        steps, sources, places = in_order(told, {each.symbol: each.rank for each in self._by_rank}, self._midnights())
        position, moments = 0, len(steps)
        if self._every_bar:
            for market in self._by_rank:
                self._wake(market, market.bars.step(0))
        rounds = 0
        while True:
            rounds += 1
            if rounds % LOOK_EVERY == 0:
                if stop():
                    raise BacktestCancelled
                progress(self._step / self._steps)
            opening = self._heap[0][0] if self._heap else NEVER
            ending = steps[position] if position < moments else NEVER
            next_step = min(opening, ending)
            if self._lost_too_much(min(next_step, self._steps)):
                continue
            if next_step >= self._steps:
                break
            self._step = next_step
            if opening <= ending:
                self._open_step(next_step)
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

    def _wake(self, market: Market, step: int) -> None:
        market.wake = step
        if step < NEVER:
            heapq.heappush(self._heap, (step, market.rank, step))

    def _open_step(self, step: int) -> None:
        """Bars that start now, symbol by symbol."""
        while self._heap and self._heap[0][0] == step:
            _, rank, wake = heapq.heappop(self._heap)
            market = self._by_rank[rank]
            if market.wake == wake:
                self._walk_bar(market, step)
                self._shake_others(market, step)

    def _shake_others(self, walked: Market, step: int) -> None:
        """Where equity could come near the maintenance margins, every bar of all positions is looked at."""
        holdings = self._books.holdings
        alone = len(holdings) == 1 and walked.symbol in holdings
        if not holdings or alone or self._far_from_liquidation():
            return
        for symbol in holdings:
            market = self._markets[symbol]
            index = market.bars.from_step(step if market.rank > walked.rank else step + 1)
            if index < market.bars.length and market.bars.step(index) < market.wake:
                self._wake(market, market.bars.step(index))

    def _far_from_liquidation(self) -> bool:
        balance = float(self._books.balance)
        return balance + self._books.worst > abs(balance) * MARGIN_OF_FLOATS

    # One bar of one symbol.

    def _walk_bar(self, market: Market, step: int) -> None:
        bars, books = market.bars, self._books
        index = bars.at(step)
        if index is None:
            self._wake(market, NEVER)
            return
        opened = bars.open(index)
        while market.funding_bar() <= index:
            bar, rate = market.funding[market.next_funding]
            market.next_funding += 1
            holding = books.holdings.get(market.symbol)
            if holding is not None and bar == index:
                books.pay_funding(holding, opened, rate, step)
        market.path.clear()
        market.move(opened)
        if market.orders:
            self._fill_orders(market, index, step)
        if market.symbol in books.holdings:
            self._walk(market, index, step)
        market.price = None
        self._rest(market, index)

    def _fill_orders(self, market: Market, index: int, step: int) -> None:
        due = [order for order in market.orders if order.bar <= index]
        market.orders = [order for order in market.orders if order.bar > index]
        opened = market.bars.open(index)
        for order in due:
            quantity = order.quantity
            if order.reduce_only:
                holding = self._books.holdings.get(order.symbol)
                held = holding.book.quantity if holding is not None and holding.side != order.side else ZERO
                quantity = min(quantity, held)
            if quantity > 0:
                self._execute(market, order.side, quantity, opened, index, step, order.strategy, order.why, order)

    def _walk(self, market: Market, index: int, step: int) -> None:
        """Follow the price within a bar while there is a position."""
        holdings, symbol = self._books.holdings, market.symbol
        points = market.bars.way(index)
        at = points[0]
        self._may_be_liquidated = self._near_liquidation(market, holdings[symbol], min(points), max(points))
        self._look(market, at, index, step)
        for end in points[1:]:
            while (holding := holdings.get(symbol)) is not None and not self._is_quiet(holding, end):
                against = (end < at) == holding.is_long
                toward = next_stop(self._levels(market, holding, step, against=against), at, end, market.tick)
                if toward is None:
                    break
                at = market.move(toward)
                self._look(market, at, index, step)
            if symbol not in holdings:
                return
            if at != end:
                at = market.move(end)
                self._look(market, at, index, step)

    def _is_quiet(self, holding: Holding, price: Decimal) -> bool:
        quiet = holding.quiet
        return quiet is not None and not self._may_be_liquidated and quiet[0] < price < quiet[1]

    def _levels(self, market: Market, holding: Holding, step: int, *, against: bool) -> Iterator[Decimal]:
        if not against:
            return ahead(self._exit_rules, holding)
        levels = behind(self._exit_rules, holding)
        if self._may_be_liquidated:
            return chain(levels, [self._liquidation_price(market, holding, step)])
        return levels

    def _look(self, market: Market, price: Decimal, index: int, step: int) -> None:
        """Carry out all that is due at a price."""
        rules, symbol = self._exit_rules, market.symbol
        now = (self._grid_ms + step * self._length) * NS
        while (holding := self._books.holdings.get(symbol)) is not None:
            if self._is_quiet(holding, price):
                return
            holding.quiet = None
            why = venue_exit(holding, price)
            if why is not None:
                self._close(market, holding, holding.book.quantity, price, index, step, why)
                continue
            if self._may_be_liquidated and self._liquidate(market, step):
                continue
            position = holding.exposure(price)
            then, out = judge(rules, position, holding.state, price, now)
            if out is None:
                holding.state = then
                return
            quantity = exit_quantity(market.rules, position.quantity, ZERO, out.share)
            if quantity <= 0:
                holding.state = advance(rules, position, holding.state, price)
                return
            holding.state = then
            self._close(market, holding, quantity, price, index, step, str(out.kind))

    def _close(
        self, market: Market, holding: Holding, quantity: Decimal, price: Decimal, index: int, step: int, why: str
    ) -> None:
        side = "Sell" if holding.is_long else "Buy"
        self._execute(market, side, quantity, price, index, step, holding.strategy, why, None)

    def _execute(
        self,
        market: Market,
        side: str,
        quantity: Decimal,
        there: Decimal,
        index: int,
        step: int,
        strategy: str,
        why: str,
        order: Order | None,
    ) -> None:
        bars, books, symbol = market.bars, self._books, market.symbol
        price = self._fills.price(side, there, market.tick, quantity, bars.volume(index))
        holding = books.holdings.get(symbol)
        percents = None
        if holding is not None and holding.side != side and quantity >= holding.book.quantity:
            percents = seen(market, holding, index, there)
        time_ms = self._grid_ms + step * self._length
        books.execute(
            Execution(symbol, side, quantity, price, self._fee, time_ms, step, index, strategy, why),
            leverage=order.leverage if order is not None else ONE,
            take_profit=order.take_profit if order is not None else None,
            stop_loss=order.stop_loss if order is not None else None,
            seen=percents,
        )

    # Liquidation.

    def _near_liquidation(self, market: Market, holding: Holding, low: Decimal, high: Decimal) -> bool:
        """Whether the account could be liquidated within a bar; by more than what floats could be wrong."""
        if self._every_bar:
            return True
        others = self._books.worst - holding.worst
        here = self._worst(holding, float(low if holding.is_long else high))
        balance = float(self._books.balance)
        return balance + others + here <= abs(balance) * MARGIN_OF_FLOATS

    def _worst(self, holding: Holding, price: float) -> float:
        book = holding.book
        quantity, entry = float(book.quantity), float(book.entry_price)
        gained = quantity * (price - entry) if holding.is_long else quantity * (entry - price)
        return gained - self._maintenance * quantity * price

    def _liquidation_price(self, market: Market, holding: Holding, step: int) -> Decimal:
        cushion, prices = self._books.balance, self._prices_within(step, market)
        for symbol, other in self._books.holdings.items():
            if other is not holding:
                other.book.mark_price = prices[symbol]
                cushion += other.book.unrealised - other.book.maintenance_margin
        return holding.book.liquidation_price(cushion)

    def _liquidate(self, market: Market, step: int) -> bool:
        """Close the position that loses most, if the account cannot bear what it holds."""
        books, prices = self._books, self._prices_within(step, market)
        books.mark(prices)
        equity = books.equity(prices)
        held = list(books.holdings.values())
        if equity > sum((each.book.maintenance_margin for each in held), ZERO):
            return False
        loser = min(held, key=lambda each: (each.book.unrealised, each.symbol))
        where = self._markets[loser.symbol]
        if where is market:
            index = where.bars.until(step)
        else:
            index = where.bars.until(step if where.rank < market.rank else step - 1)
        self._close(where, loser, loser.book.quantity, prices[loser.symbol], index, step, "liquidation")
        if where is not market:
            self._rest(where, index)
        return True

    def _prices_within(self, step: int, walked: Market) -> dict[str, Decimal]:
        """What is known while a bar is walked: bars of symbols before it are over, those after it have not begun."""
        prices = {}
        for symbol in self._books.holdings:
            market = self._markets[symbol]
            if market is walked and market.price is not None:
                prices[symbol] = market.price
            else:
                prices[symbol] = market.bars.last_close(step if market.rank < walked.rank else step - 1)
        return prices

    # Until when nothing happens.

    def _rest(self, market: Market, index: int) -> None:
        """Find the next bar of a symbol that must be walked."""
        bars = market.bars
        if self._every_bar:
            self._wake(market, bars.step(index + 1) if index + 1 < bars.length else NEVER)
            return
        soonest = min((order.bar for order in market.orders), default=bars.length)
        holding = self._books.holdings.get(market.symbol)
        if holding is not None:
            soonest = min(soonest, market.funding_bar())
            bottom, top = self._band(market, holding, index)
            end = min(soonest, index + 1 + AHEAD)
            soonest = int(self._leaves_band(bars.high, bars.low, index + 1, end, bottom, top))
        self._wake(market, bars.step(soonest) if soonest < bars.length else NEVER)

    def _band(self, market: Market, holding: Holding, index: int) -> tuple[int, int]:
        """In units of the bars' prices."""
        bars, book = market.bars, holding.book
        bottom, top = band(self._exit_rules, holding, bars.close(index))
        self._books.fear(holding, self._worst(holding, float(bottom if holding.is_long else top)))
        if len(self._books.holdings) == 1 and not self._far_from_liquidation():
            liquidation = book.liquidation_price(self._books.balance)
            if holding.is_long:
                bottom = max(bottom, liquidation)
            elif liquidation:
                top = min(top, liquidation)
        holding.quiet = bottom, top
        scale = bars.series.price_decimals
        return math.floor(bottom.scaleb(scale)), min(math.ceil(top.scaleb(scale)), NEVER)

    # Ends of bars: what strategies are told, and what the account has lost.

    def _told(self) -> list[Told]:
        """Everything that strategies will learn; what is before the test warms them up."""
        of_symbol: dict[str, list[tuple[RunningStrategy, Strategy]]] = {}
        for running, symbol, strategy in self._pipeline.instances():
            if strategy.timeframe is None:
                raise BacktestError(f"{running.name} watches books or trades; candles tell it nothing")
            of_symbol.setdefault(symbol, []).append((running, strategy))
        told: list[Told] = []
        for symbol, many in of_symbol.items():
            frames = sorted({str(each.timeframe) for _, each in many}, key=interval_ms)
            series = {frame: self._bars_of(symbol, frame) for frame in frames}
            kernels = [(running, each) for running, each in many if _decides_in_kernel(each)]
            if self._every_bar or len(kernels) < len(many):
                told += [self._all_bars(series[frame]) for frame in frames]
                continue
            for running, strategy in kernels:
                bars, rows = kernel_signals(running, strategy, series[strategy.timeframe])
                steps = self._end_steps(series[strategy.timeframe])[bars]
                counts = (steps >= 0) & (steps < self._steps)
                told.append(
                    Told(
                        symbol, series[strategy.timeframe], steps[counts], bars[counts], running, strategy, rows[counts]
                    )
                )
        self._begun = True
        return told

    def _all_bars(self, series: CandleSeries) -> Told:
        steps = self._end_steps(series)
        for index in np.flatnonzero(steps < 0).tolist():
            self._refuse_faults(self._pipeline.on_candle(candle_of(series, index)))
        bars = np.flatnonzero((steps >= 0) & (steps < self._steps))
        return Told(series.symbol, series, steps[bars], bars)

    def _end_steps(self, series: CandleSeries) -> NDArray[np.int64]:
        """The steps at whose ends the bars of a series are known."""
        return (series.start_ms + series.interval_ms - self._grid_ms) // self._length - 1

    def _bars_of(self, symbol: str, frame: str) -> CandleSeries:
        given = self._candles.get((symbol, frame))
        if given is not None:
            return given
        try:
            return longer(self._series[symbol], frame)
        except ValueError as error:
            raise BacktestError(f"{symbol}: {error}") from None

    def _end_step(self, step: int, items: list[tuple[Told, int]]) -> None:
        now_ms = self._grid_ms + (step + 1) * self._length
        self._losses.begin_day(now_ms // DAY_MS, step)
        self._lost_too_much(step + 1)
        if not items:
            return
        for symbol in dict.fromkeys(told.symbol for told, _ in items):
            self._tell_price(symbol, step)
        self._pipeline.update_exposure(
            ACCOUNT,
            self._books.exposure(
                self._losses.prices(step),
                (order for market in self._by_rank for order in market.orders),
                day_start=self._losses.day_start,
                peak=self._losses.peak,
            ),
        )
        for told, place in items:
            for outcome in self._ask(told, place):
                self._take(outcome, step)

    def _ask(self, told: Told, place: int) -> list[Outcome]:
        candle = candle_of(told.series, int(told.bars[place]))
        if told.strategy is None or told.running is None:
            return self._pipeline.on_candle(candle)
        try:
            signal = self._call((told.running, told.symbol), told.strategy.signal, candle, told.rows[place])
        except ENDS_A_CALL as error:
            raise stopped(told.running, told.symbol, error, type(told.strategy)) from error
        return [self._pipeline.on_signal(told.running, signal)]

    def _refuse_faults(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, StrategyFault):
                raise StrategyStopped(outcome.running.name, outcome.symbol, outcome.error, outcome.where)

    def _take(self, outcome: Outcome, step: int) -> None:
        """Note a signal, and send the order that became of it."""
        self._refuse_faults([outcome])
        if not isinstance(outcome, PipelineResult):
            return
        signal, intent = outcome.signal, outcome.intent
        verdict, words = words_of(outcome)
        if self._losses.halted and verdict == "approved":
            verdict, words = "denied", KILL_SWITCH.format(self._losses.halted)
        self._signals.append(
            BacktestSignal(
                signal.time_ns // NS, signal.symbol, outcome.running.name, signal.side, signal.strength,
                signal.entry_price, signal.take_profit, signal.stop_loss, verdict, words,
            )
        )  # fmt: skip
        if verdict == "approved" and intent is not None:
            market = self._markets[signal.symbol]
            self._send(market, step + 1 + self._latency, Order(
                intent.symbol, intent.side, intent.quantity, intent.reduce_only, intent.strategy, "signal", 0,
                intent.leverage, self._pipeline.reference_price(intent.symbol) or signal.entry_price,
                intent.take_profit, intent.stop_loss,
            ))  # fmt: skip

    def _send(self, market: Market, step: int, order: Order) -> None:
        order.bar = market.bars.from_step(step)
        if order.bar < market.bars.length:
            market.orders.append(order)
            arrives = market.bars.step(order.bar)
            if arrives < market.wake:
                self._wake(market, arrives)

    def _tell_price(self, symbol: str, step: int) -> None:
        market = self._markets[symbol]
        bars = market.bars
        last = bars.until(step)
        if last < 0:
            return
        if self._wants_returns:
            waited_for = (each.symbol for each in self._by_rank if each.orders)
            for name in dict.fromkeys([symbol, *self._books.holdings, *waited_for]):
                self._tell_returns(self._markets[name], step)
        self._pipeline.update_reference_price(symbol, bars.close(last))

    def _tell_returns(self, market: Market, step: int) -> None:
        """The minutes that correlations and volatilities look at, those that were not told yet."""
        bars = market.bars
        last = bars.until(step)
        window = WINDOW * MINUTE_MS // self._length + 3
        for index in range(max(market.told_until + 1, last - window), last + 1):
            time_ms = self._grid_ms + (bars.step(index) + 1) * self._length
            self._pipeline.update_reference_price(market.symbol, bars.close(index), time_ms * NS)
        market.told_until = last

    def _lost_too_much(self, until: int) -> bool:
        """Look at what the account was worth at the ends of steps before ``until``; True where it lost too much and its
        positions are being closed."""
        step = self._losses.first_loss(until)
        if step is not None:
            self._stop_trading(step)
        return step is not None

    def _stop_trading(self, step: int) -> None:
        for market in self._by_rank:
            market.orders.clear()
        for symbol, holding in self._books.holdings.items():
            market, book = self._markets[symbol], holding.book
            side = "Sell" if holding.is_long else "Buy"
            self._send(market, step + 1, Order(
                symbol, side, book.quantity, True, holding.strategy, "kill_switch", 0, book.leverage, book.entry_price,
            ))  # fmt: skip

    # The end.

    def _finished(self, progress: Callable[[float], None]) -> BacktestResult:
        for market in self._by_rank:
            holding = self._books.holdings.get(market.symbol)
            if holding is not None:
                index = market.bars.length - 1
                price = market.bars.close(index)
                self._close(market, holding, holding.book.quantity, price, index, self._steps, "end")
        progress(1.0)
        times, equity, exposed = curve(
            self._books,
            {market.symbol: market.bars for market in self._by_rank},
            self._request.balance,
            self._steps,
            self._grid_ms,
            self._length,
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


def _decides_in_kernel(strategy: Strategy) -> TypeGuard[CandleStrategy]:
    return isinstance(strategy, CandleStrategy) and type(strategy).on_candle is CandleStrategy.on_candle
