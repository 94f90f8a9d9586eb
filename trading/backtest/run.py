"""The full backtester over candles: the production pipeline and exit rules, step by step through what was.

Python looks only at moments where something can happen. In between nothing is met: kernels find the signals of whole
blocks of bars, and for each position the next bar that leaves the band in which nothing of it is due. With
``every_bar`` everything is looked at, which must change nothing.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import DAY_MS, MINUTE_MS, CandleSeries, FundingSeries, interval_ms
from marketdata.instruments import InstrumentRules
from risk.exits import advance, exit_quantity, judge
from risk.exposure import ZERO
from risk.level_checks import loss_percent
from risk.policies import Policies
from risk.returns import WINDOW
from strategies.base import ParameterError, Strategy, parse_parameters
from strategies.call_watch import CallWatch
from strategies.candle_strategy import CandleStrategy
from strategies.registry import STRATEGIES
from trading.backtest.bars import Bars, candle_of, longer
from trading.backtest.books import ACCOUNT, Books, Execution, Holding, Order
from trading.backtest.errors import BacktestCancelled, BacktestError, StrategyStopped
from trading.backtest.exits import ahead, band, behind, next_stop, venue_exit
from trading.backtest.market_fills import MarketFills, rate_of
from trading.backtest.request import BacktestRequest, Source, StrategyRun
from trading.backtest.result import BacktestResult, BacktestSignal
from trading.backtest.signal_times import Told, kernel_signals, stopped
from trading.pipeline import (
    ENDS_A_CALL,
    Outcome,
    Pipeline,
    PipelineConfiguration,
    PipelineResult,
    RunningStrategy,
    StrategyFault,
)

Candles = Mapping[tuple[str, str], CandleSeries]
NEVER = 2**62
SIZINGS = ("percent", "fixed_usd", "minimum")
ONE, HUNDRED = Decimal(1), Decimal(100)
# What is only estimated in floats is looked at exactly from so far away.
MARGIN_OF_FLOATS = 1e-6
SLACK = 1.0 + 1e-9
# What results depend on, besides the strategies of the user.
CODE = (
    "marketdata/candles", "marketdata/instruments.py", "risk", "strategies",
    "trading/backtest", "trading/pipeline.py", "trading/positions.py", "trading/simulator/positions.py",
)  # fmt: skip
# A position is looked for so many bars ahead at once: most end before.
AHEAD = 4_096
LOOK_EVERY = 512
# A strategy that takes longer for one call has lost its way. Machine code cannot be ended from outside.
CALL_SECONDS = 10.0
NS = 1_000_000
KILL_SWITCH = "the kill switch stopped trading: {}"


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


class _Market:
    """One symbol: its bars, what is on its way there, and when Python must look next."""

    def __init__(
        self, rank: int, series: CandleSeries, grid_ms: int, rules: InstrumentRules, funding: list[tuple[int, Decimal]]
    ) -> None:
        self.rank, self.symbol, self.rules, self.tick = rank, series.symbol, rules, rules.tick_size
        self.bars = Bars(series, grid_ms)
        self.orders: list[Order] = []
        self.funding, self.next_funding = funding, 0
        self.wake = NEVER
        self.told_until = -1
        # The price within a bar that is walked now, and the way that it came.
        self.price: Decimal | None = None
        self.path: list[float] = []

    def move(self, price: Decimal) -> Decimal:
        self.price = price
        self.path.append(float(price))
        return price

    def funding_bar(self) -> int:
        return self.funding[self.next_funding][0] if self.next_funding < len(self.funding) else NEVER


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
        series = {symbol: _series(candles, symbol, request.interval) for symbol in request.symbols}
        tested = {name: each.between(request.start_ms, request.end_ms) for name, each in series.items()}
        for name, each in tested.items():
            if not len(each):
                raise BacktestError(f"{name} has no bar between {request.start_ms} and {request.end_ms} ms")
            if name not in rules:
                raise BacktestError(f"there are no instrument rules of {name}; import its listing first")
        self._grid_ms = min(int(each.start_ms[0]) for each in tested.values())
        self._steps = (max(int(each.start_ms[-1]) for each in tested.values()) - self._grid_ms) // self._length + 1
        self._markets = {
            name: _Market(
                rank, tested[name], self._grid_ms, rules[name],
                _funding_bars(tested[name], funding.get(name)) if request.costs.funding else [],
            )
            for rank, name in enumerate(request.symbols)
        }  # fmt: skip
        self._by_rank = list(self._markets.values())
        self._books = Books(request.balance, request.costs.maintenance_margin)
        self._data = _digests(candles, funding, request)
        self._series = {**series}
        self._candles = candles
        self._traces = count(1)
        self._begun = False
        self._call = call
        self._pipeline = Pipeline(lambda: f"{next(self._traces):08x}", may_act=lambda symbol: self._begun, call=call)
        self._pipeline.configure(_configuration(request, rules))
        self._refuse_faults(self._pipeline.take_faults())
        self._signals: list[BacktestSignal] = []
        self._heap: list[tuple[int, int, int]] = []
        self._limits = request.limits
        self._wants_returns = request.limits.max_correlated_positions is not None or any(
            each.adaptive_leverage for each in request.strategies
        )
        self._watches_losses = (
            request.limits.max_daily_loss_percent is not None or request.limits.max_drawdown_percent is not None
        )
        self._day = (self._grid_ms) // DAY_MS
        self._day_start = self._peak = request.balance
        self._watched = 0
        self._halted_day, self._halted = -1, ""
        self._step = 0
        self._may_be_liquidated = False

    # The way through time.

    def go(self, progress: Callable[[float], None], stop: Callable[[], bool]) -> BacktestResult:
        told = self._told()
        steps, sources, places = _in_order(told, self._by_rank, self._midnights())
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
            if self._watches_losses and self._watch_losses(min(next_step, self._steps)):
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

    def _wake(self, market: _Market, step: int) -> None:
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

    def _shake_others(self, walked: _Market, step: int) -> None:
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
        return balance + sum(each.worst for each in self._books.holdings.values()) > abs(balance) * MARGIN_OF_FLOATS

    # One bar of one symbol.

    def _walk_bar(self, market: _Market, step: int) -> None:
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

    def _fill_orders(self, market: _Market, index: int, step: int) -> None:
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

    def _walk(self, market: _Market, index: int, step: int) -> None:
        """Follow the price within a bar while there is a position."""
        holdings, symbol = self._books.holdings, market.symbol
        points = market.bars.way(index)
        at = points[0]
        self._may_be_liquidated = self._near_liquidation(market, holdings[symbol], min(points), max(points))
        self._look(market, at, index, step)
        for end in points[1:]:
            while (holding := holdings.get(symbol)) is not None:
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

    def _levels(self, market: _Market, holding: Holding, step: int, *, against: bool) -> Iterator[Decimal]:
        if not against:
            return ahead(self._exit_rules, holding)
        levels = behind(self._exit_rules, holding)
        if self._may_be_liquidated:
            return chain(levels, [self._liquidation_price(market, holding, step)])
        return levels

    def _look(self, market: _Market, price: Decimal, index: int, step: int) -> None:
        """Carry out all that is due at a price."""
        rules, symbol = self._exit_rules, market.symbol
        now = (self._grid_ms + step * self._length) * NS
        while (holding := self._books.holdings.get(symbol)) is not None:
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
        self, market: _Market, holding: Holding, quantity: Decimal, price: Decimal, index: int, step: int, why: str
    ) -> None:
        side = "Sell" if holding.is_long else "Buy"
        self._execute(market, side, quantity, price, index, step, holding.strategy, why, None)

    def _execute(
        self,
        market: _Market,
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
        seen = None
        if holding is not None and holding.side != side and quantity >= holding.book.quantity:
            seen = _seen(market, holding, index, there)
        time_ms = self._grid_ms + step * self._length
        books.execute(
            Execution(symbol, side, quantity, price, self._fee, time_ms, step, index, strategy, why),
            leverage=order.leverage if order is not None else ONE,
            take_profit=order.take_profit if order is not None else None,
            stop_loss=order.stop_loss if order is not None else None,
            seen=seen,
        )

    # Liquidation.

    def _near_liquidation(self, market: _Market, holding: Holding, low: Decimal, high: Decimal) -> bool:
        """Whether the account could be liquidated within a bar; by more than what floats could be wrong."""
        if self._every_bar:
            return True
        others = sum(each.worst for each in self._books.holdings.values() if each is not holding)
        here = self._worst(holding, float(low if holding.is_long else high))
        balance = float(self._books.balance)
        return balance + others + here <= abs(balance) * MARGIN_OF_FLOATS

    def _worst(self, holding: Holding, price: float) -> float:
        book = holding.book
        quantity, entry = float(book.quantity), float(book.entry_price)
        gained = quantity * (price - entry) if holding.is_long else quantity * (entry - price)
        return gained - self._maintenance * quantity * price

    def _liquidation_price(self, market: _Market, holding: Holding, step: int) -> Decimal:
        cushion, prices = self._books.balance, self._prices_within(step, market)
        for symbol, other in self._books.holdings.items():
            if other is not holding:
                other.book.mark_price = prices[symbol]
                cushion += other.book.unrealised - other.book.maintenance_margin
        return holding.book.liquidation_price(cushion)

    def _liquidate(self, market: _Market, step: int) -> bool:
        """Close the position that loses most, if the account cannot bear what it holds."""
        books, prices = self._books, self._prices_within(step, market)
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

    def _prices_within(self, step: int, walked: _Market) -> dict[str, Decimal]:
        """What is known while a bar is walked: bars of symbols before it are over, those after it have not begun."""
        prices = {}
        for symbol in self._books.holdings:
            market = self._markets[symbol]
            if market is walked and market.price is not None:
                prices[symbol] = market.price
            else:
                bars = market.bars
                prices[symbol] = bars.close(bars.until(step if market.rank < walked.rank else step - 1))
        return prices

    # Until when nothing happens.

    def _rest(self, market: _Market, index: int) -> None:
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

    def _band(self, market: _Market, holding: Holding, index: int) -> tuple[int, int]:
        """In units of the bars' prices."""
        bars, book = market.bars, holding.book
        bottom, top = band(self._exit_rules, holding, bars.close(index))
        holding.worst = self._worst(holding, float(bottom if holding.is_long else top))
        if len(self._books.holdings) == 1 and not self._far_from_liquidation():
            liquidation = book.liquidation_price(self._books.balance)
            if holding.is_long:
                bottom = max(bottom, liquidation)
            elif liquidation:
                top = min(top, liquidation)
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
        if now_ms // DAY_MS > self._day:
            self._day = now_ms // DAY_MS
            self._day_start = self._books.equity(self._prices(step))
        if self._watches_losses:
            self._watch_losses(step + 1)
        if not items:
            return
        for symbol in dict.fromkeys(told.symbol for told, _ in items):
            self._tell_price(symbol, step)
        self._pipeline.update_exposure(
            ACCOUNT,
            self._books.exposure(
                self._prices(step),
                (order for market in self._by_rank for order in market.orders),
                day_start=self._day_start,
                peak=self._peak,
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
        verdict, words = _words(outcome)
        if self._halted and verdict == "approved":
            verdict, words = "denied", KILL_SWITCH.format(self._halted)
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

    def _send(self, market: _Market, step: int, order: Order) -> None:
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
            for each in {symbol, *self._books.holdings}:
                self._tell_returns(self._markets[each], step)
        self._pipeline.update_reference_price(symbol, bars.close(last))

    def _tell_returns(self, market: _Market, step: int) -> None:
        """The minutes that correlations and volatilities look at, those that were not told yet."""
        bars = market.bars
        last = bars.until(step)
        window = WINDOW * MINUTE_MS // self._length + 3
        for index in range(max(market.told_until + 1, last - window), last + 1):
            time_ms = self._grid_ms + (bars.step(index) + 1) * self._length
            self._pipeline.update_reference_price(market.symbol, bars.close(index), time_ms * NS)
        market.told_until = last

    def _prices(self, step: int) -> dict[str, Decimal]:
        """The last closes of what is held, at the end of a step."""
        prices = {}
        for symbol in self._books.holdings:
            bars = self._markets[symbol].bars
            prices[symbol] = bars.close(bars.until(step))
        return prices

    def _watch_losses(self, until: int) -> bool:
        """Look at what the account was worth at the ends of steps before ``until``; True where it lost too much and
        its positions are being closed."""
        first, self._watched = self._watched, max(until, self._watched)
        if self._halted and self._day > self._halted_day:
            self._halted = ""
        if first >= until or self._halted:
            return False
        worth = self._worth(first, until)
        limits = self._limits
        highest = np.maximum.accumulate(np.maximum(worth, float(self._peak)))
        low = np.zeros(len(worth), dtype=bool)
        if limits.max_daily_loss_percent is not None:
            low |= worth <= float(self._day_start * (HUNDRED - limits.max_daily_loss_percent) / HUNDRED) * SLACK
        if limits.max_drawdown_percent is not None:
            low |= worth <= highest * float((HUNDRED - limits.max_drawdown_percent) / HUNDRED) * SLACK
        suspects = [*np.flatnonzero(low).tolist(), len(worth)]
        seen = 0
        for suspect in suspects:
            part = worth[seen : suspect + 1]
            if len(part):
                best = seen + int(part.argmax())
                self._peak = max(self._peak, self._books.equity(self._prices(first + best)))
            seen = suspect + 1
            if suspect < len(worth) and (why := self._lost(first + suspect)):
                self._stop_trading(first + suspect, why)
                self._watched = first + suspect + 1
                return True
        return False

    def _worth(self, first: int, until: int) -> NDArray[np.float64]:
        worth = np.full(until - first, float(self._books.balance))
        for symbol, holding in self._books.holdings.items():
            signed = float(holding.book.quantity) * (1.0 if holding.is_long else -1.0)
            worth += signed * (self._markets[symbol].bars.closes(first, until) - float(holding.book.entry_price))
        return worth

    def _lost(self, step: int) -> str:
        equity = self._books.equity(self._prices(step))
        daily, drawdown = self._limits.max_daily_loss_percent, self._limits.max_drawdown_percent
        if drawdown is not None and (lost := loss_percent(self._peak, equity)) >= drawdown:
            self._halted_day = NEVER
            return f"{lost:.2f} % below the peak of equity; max_drawdown_percent is {drawdown:f}"
        if daily is not None and (lost := loss_percent(self._day_start, equity)) >= daily:
            self._halted_day = self._day
            return f"{lost:.2f} % lost since midnight (UTC); max_daily_loss_percent is {daily:f}"
        return ""

    def _stop_trading(self, step: int, why: str) -> None:
        self._halted = why
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
        times, equity, exposed = self._curve()
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

    def _curve(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """What the account was worth at the end of each bar, made of what it held when."""
        books = self._books
        balance = np.full(self._steps + 1, np.nan)
        balance[0] = float(self._request.balance)
        if books.balances:
            at, values = zip(*books.balances, strict=True)
            # Of several at one step the last counts.
            balance[list(at)] = [float(each) for each in values]
        known = np.flatnonzero(~np.isnan(balance))
        equity = np.repeat(balance[known], np.diff(np.append(known, self._steps + 1)))
        last, equity = equity[-1], equity[:-1].copy()
        exposed = np.zeros(self._steps)
        for stretch in books.stretches:
            end = min(stretch.end, self._steps)
            closes = self._markets[stretch.symbol].bars.closes(stretch.first, end)
            equity[stretch.first : end] += stretch.signed_quantity * (closes - stretch.entry_price)
            exposed[stretch.first : end] += abs(stretch.signed_quantity) * closes
        equity[-1] = last
        some = np.zeros(self._steps, dtype=bool)
        for market in self._by_rank:
            some[market.bars.steps] = True
        times = self._grid_ms + (np.flatnonzero(some) + 1) * self._length
        return times.astype(np.int64), equity[some], exposed[some]


def _seen(market: _Market, holding: Holding, index: int, there: Decimal) -> tuple[float, float]:
    """How far the price went for and against a position that ends now, percent of its entry."""
    bars, first = market.bars, holding.opened_bar
    within = market.price is not None
    prices = [float(there), *(market.path if within else ())]
    end = index if within else index + 1
    if end > first:
        scale = 10.0**bars.series.price_decimals
        prices += [int(bars.high[first:end].max()) / scale, int(bars.low[first:end].min()) / scale]
    entry = float(holding.book.entry_price)
    up, down = (max(prices) - entry) / entry * 100.0, (min(prices) - entry) / entry * 100.0
    return (up, down) if holding.is_long else (-down, -up)


def _decides_in_kernel(strategy: Strategy) -> TypeGuard[CandleStrategy]:
    return isinstance(strategy, CandleStrategy) and type(strategy).on_candle is CandleStrategy.on_candle


def _words(result: PipelineResult) -> tuple[str, str]:
    if not result.verdict.executed:
        return "vetoed", result.verdict.reason
    if result.approved:
        return "approved", result.signal.reason
    refusals = result.decision.refusals if result.decision is not None else ()
    return "denied", "; ".join(each.message for each in refusals)


def _in_order(told: list[Told], markets: list[_Market], midnights: NDArray[np.int64]) -> tuple[
    list[int], list[int], list[int]
]:  # fmt: skip
    """Every moment at which something is told: its step, which of ``told`` (-1: only a new day begins), and which of
    its bars. By time, symbol, timeframe, and the order of the strategies."""
    rank = {market.symbol: market.rank for market in markets}
    columns = [np.column_stack([midnights, *(np.full(len(midnights), each) for each in (-1, 0, -1, 0))])]
    for number, each in enumerate(told):
        size = len(each.steps)
        columns.append(
            np.column_stack([
                each.steps,
                np.full(size, rank[each.symbol]),
                np.full(size, each.series.interval_ms),
                np.full(size, number),
                np.arange(size),
            ])
        )  # fmt: skip
    table = np.concatenate(columns).astype(np.int64)
    table = table[np.lexsort((table[:, 3], table[:, 2], table[:, 1], table[:, 0]))]
    return table[:, 0].tolist(), table[:, 3].tolist(), table[:, 4].tolist()


def _series(candles: Candles, symbol: str, interval: str) -> CandleSeries:
    found = candles.get((symbol, interval))
    if found is None:
        have = ", ".join(f"{name} {each}" for name, each in candles) or "none"
        raise BacktestError(f"there are no bars of {symbol} {interval}; there are {have}")
    return found


def _funding_bars(series: CandleSeries, funding: FundingSeries | None) -> list[tuple[int, Decimal]]:
    """Which bar pays which rate at its open."""
    if funding is None:
        return []
    first = int(np.searchsorted(funding.time_ms, int(series.start_ms[0])))
    bars = np.searchsorted(series.start_ms, funding.time_ms[first:])
    rates = funding.rate[first:]
    return [(bar, rate_of(rate)) for bar, rate in zip(bars.tolist(), rates.tolist(), strict=True) if bar < len(series)]


def _digests(
    candles: Candles, funding: Mapping[str, FundingSeries], request: BacktestRequest
) -> tuple[tuple[str, str], ...]:
    symbols = set(request.symbols)
    found = [(f"{name} {interval}", each.digest()) for (name, interval), each in candles.items() if name in symbols]
    if request.costs.funding:
        found += [(f"{name} funding", _funding_digest(each)) for name, each in funding.items() if name in symbols]
    return tuple(sorted(found))


def _funding_digest(series: FundingSeries) -> str:
    digest = hashlib.sha256(f"{series.venue}/{series.symbol}/".encode())
    digest.update(np.ascontiguousarray(series.time_ms).astype("<i8", copy=False).tobytes())
    digest.update(np.ascontiguousarray(series.rate).astype("<f8", copy=False).tobytes())
    return digest.hexdigest()


def _configuration(request: BacktestRequest, rules: Mapping[str, InstrumentRules]) -> PipelineConfiguration:
    if any(level == "strategy" for level, _ in request.limits.other_levels):
        raise BacktestError("limits of a strategy count what others of its account hold; give them as the account's")
    return PipelineConfiguration(
        strategies=tuple(_running(number, run, request) for number, run in enumerate(request.strategies, start=1)),
        rules=rules,
        groups=request.groups,
        policies=Policies(exits=request.exit_rules),
    )


def _running(number: int, run: StrategyRun, request: BacktestRequest) -> RunningStrategy:
    kind = STRATEGIES.get(run.strategy)
    if kind is None:
        raise BacktestError(f"there is no strategy {run.strategy!r}; there are {', '.join(sorted(STRATEGIES))}")
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
        limits=request.limits,
        size_by_confidence=run.size_by_confidence,
        adaptive_leverage=run.adaptive_leverage,
    )


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
