"""The backtester over recordings: what was heard, message by message, through the production pipeline; what was
ordered, through the recorded book (docs/backtest.md).

Two times go along together: the exchange's, by which the replay of each market moves and fills, and that of what was
heard, a little later, by which strategies are told and decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count
from typing import Any

import numpy as np

from marketdata.candles.series import DAY_MS, FundingSeries
from marketdata.events import Candle, Trade
from marketdata.feeds.recorded import RecordedFrame
from marketdata.instruments import InstrumentRules
from risk.exits import Exit, ExitState, advance, exit_quantity, judge
from risk.exposure import ZERO
from risk.intents import OrderIntent
from risk.reversal import indicators_against
from strategies.call_watch import CallWatch
from strategies.registry import STRATEGIES
from trading.backtest.bars import candle_of
from trading.backtest.books import ACCOUNT, Books, Execution, Holding
from trading.backtest.errors import BacktestCancelled, BacktestError
from trading.backtest.exits import venue_exit
from trading.backtest.feed import Feed
from trading.backtest.hearing import Hearing
from trading.backtest.loss_limits import LossLimits
from trading.backtest.market_fills import rate_of
from trading.backtest.markets import NEVER
from trading.backtest.outcomes import CALL_SECONDS, noted
from trading.backtest.preparation import (
    Candles,
    code_version,
    configuration,
    digests,
    limited_strategies,
    watches_books,
)
from trading.backtest.replayed_market import FORCES, TIME, WATCHED, Executed, Force, ReplayedMarket, SentOrder
from trading.backtest.request import BacktestRequest, Source
from trading.backtest.result import BacktestResult, BacktestSignal
from trading.backtest.telling import refuse_faults
from trading.backtest.trade_bars import series_of_bars
from trading.pipeline import Outcome, Pipeline, PipelineResult
from trading.runtime.market_frames import SymbolMarket

NS, SECOND_NS = 1_000_000, 1_000_000_000
DAY_NS = DAY_MS * NS
HUNDRED = 100.0
ONE = Decimal(1)
# Lines between two looks at whether to give up.
LOOK_EVERY = 2_048
# An exit that changed nothing is ordered again after a second, then after two, and so on (as the position guard does).
FIRST_WAIT_NS, LAST_WAIT_NS = SECOND_NS, 30 * SECOND_NS
# So often in a row a position is closed without getting smaller before it is left alone until the next price.
MOST_TRIES = 8


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording to test on. ``lines`` begins anew with each call: everything that was received, in that order;
    ``feeds``: what the exchange told of each symbol; ``names``: digests of its files by name; ``rules`` of all symbols
    that are followed: those of the test, and the one whose book features compare with."""

    lines: Callable[[], Iterator[RecordedFrame | Trade]]
    feeds: Mapping[str, Feed]
    names: tuple[tuple[str, str], ...]
    rules: Mapping[str, InstrumentRules]


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """``candles``: the bars of the request's interval that its trades made, by symbol and interval."""

    result: BacktestResult
    candles: Candles


def run_recorded(
    request: BacktestRequest,
    recorded: Recorded,
    candles: Candles,
    funding: Mapping[str, FundingSeries],
    progress: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> RecordedResult:
    """Run the request's strategies over a recording. ``candles``: bars before it, to warm strategies up; ``funding``:
    rates where the recording's tickers tell none.

    Raises:
        BacktestError: something that is asked for is missing or cannot be tested.
        StrategyStopped: a strategy failed; with its file and line.
        BacktestCancelled: ``stop`` said so.
    """
    if request.source is Source.CANDLES:
        raise BacktestError(f"source is {request.source}; recordings are tested as {Source.BOOKS} or {Source.TRADES}")
    with CallWatch(CALL_SECONDS) as watch:
        run = _Run(request, recorded, candles, funding, watch.call)
        return run.go(progress or (lambda share: None), stop or (lambda: False))


class _Run:
    def __init__(
        self,
        request: BacktestRequest,
        recorded: Recorded,
        candles: Candles,
        funding: Mapping[str, FundingSeries],
        call: Callable[..., Any],
    ) -> None:
        self._request, self._recorded, self._funding = request, recorded, funding
        self._with_books = request.source is Source.BOOKS
        self._start_ns, self._end_ns = request.start_ms * NS, request.end_ms * NS
        self._fees = {False: rate_of(request.costs.fee), True: rate_of(request.costs.maker_fee)}
        self._latency_ns = request.costs.latency_ms * NS
        self._exit_rules, self._balance = request.exit_rules, request.balance
        self._markets: dict[str, ReplayedMarket] = {}
        for symbol in request.symbols:
            if symbol not in recorded.rules:
                raise BacktestError(f"there are no instrument rules of {symbol}; import its listing first")
            if symbol not in recorded.feeds or not len(recorded.feeds[symbol]):
                raise BacktestError(f"{symbol} is not in the recording; there are {_named(recorded.feeds)}")
            self._markets[symbol] = ReplayedMarket(recorded.feeds[symbol], recorded.rules[symbol], request.costs)
        self._late_ns = max(each.clock_ns for each in recorded.feeds.values())
        self._books = Books(request.balance, request.costs.maintenance_margin)
        self._losses = LossLimits(request.limits, request.balance, 0)
        self._limited = limited_strategies(request)
        self._traces = count(1)
        self._now_ns = 0
        self._pipeline = Pipeline(
            lambda: f"{next(self._traces):08x}",
            book_proven=self._proven,
            may_act=lambda symbol: self._now_ns >= self._start_ns,
            book_side=lambda symbol, side: self._hearing.plane.book_side(symbol, side),
            book_features=lambda symbol: self._hearing.plane.features(symbol),
            call=call,
        )
        rules = {symbol: recorded.rules[symbol] for symbol in request.symbols}
        self._pipeline.configure(configuration(request, rules, STRATEGIES))
        refuse_faults(self._pipeline.take_faults())
        for running, _, strategy in self._pipeline.instances():
            if not self._with_books and watches_books(strategy):
                raise BacktestError(f"{running.name} watches books; trades tell it nothing")
        self._warm(candles)
        frames = {(symbol, each.timeframe) for _, symbol, each in self._pipeline.instances() if each.timeframe}
        kept = frozenset((symbol, request.interval) for symbol in request.symbols)
        self._hearing = Hearing(
            recorded.rules.values(),
            on_book=self._on_book,
            on_trade=self._on_trade,
            on_candle=self._on_candle,
            on_price=self._on_price,
            bars=sorted(frames | kept),
            kept=kept,
            with_books=self._with_books,
        )
        self._data = tuple(sorted((*recorded.names, *digests({}, {}, request))))
        self._signals: list[BacktestSignal] = []
        self._points: list[tuple[int, float, float]] = []
        # Equity and what is exposed; None where that has changed since the last second.
        self._worth: tuple[float, float] | None = None
        self._next_second_ns, self._funding_due_ms = 0, NEVER
        self._is_changed = True

    def _proven(self, symbol: str) -> bool:
        # Trades show no book that could be wrong.
        return not self._with_books or self._hearing.plane.proven(symbol)

    def _warm(self, candles: Candles) -> None:
        """By bars before the first that the recording shows whole, as an engine is by those of the venue."""
        began_ms = min(feed.start_ns for feed in self._recorded.feeds.values()) // NS
        for (symbol, interval), bars in self._pipeline.cold().items():
            series = candles.get((symbol, interval))
            if series is None:
                continue
            end = int(np.searchsorted(series.start_ms, -(-began_ms // series.interval_ms) * series.interval_ms))
            self._pipeline.warm(candle_of(series, index) for index in range(max(0, end - bars), end))
        refuse_faults(self._pipeline.take_faults())

    # The way through time.

    def go(self, progress: Callable[[float], None], stop: Callable[[], bool]) -> RecordedResult:
        lines, is_over = 0, False
        for line in self._recorded.lines():
            now_ns = line.receive_ns + self._late_ns
            if now_ns >= self._end_ns:
                is_over = True
                break
            lines += 1
            if lines % LOOK_EVERY == 0:
                if stop():
                    raise BacktestCancelled
                progress(self._share(now_ns))
            self._go_on(now_ns)
            self._hearing.take(line)
            for tell in self._hearing.news():
                tell()
        if is_over:
            self._go_on(self._end_ns)
        return self._finished(progress, lines)

    def _share(self, now_ns: int) -> float:
        first = min(feed.start_ns for feed in self._recorded.feeds.values())
        last = min(max(feed.end_ns for feed in self._recorded.feeds.values()), self._end_ns)
        return min(1.0, max(0.0, (now_ns - first) / max(1, last - first)))

    def _go_on(self, now_ns: int) -> None:
        """Everything that happens at the exchange before this is heard. Clocks never go back."""
        now_ns = max(now_ns, self._now_ns)
        while self._next_second_ns <= now_ns:
            self._second(now_ns)
        if now_ns // NS >= self._funding_due_ms:
            self._pay_funding(now_ns)
        self._exchange_until(now_ns)
        self._now_ns = now_ns

    def _exchange_until(self, now_ns: int) -> None:
        for market in self._markets.values():
            if market.is_busy:
                self._market_until(market, now_ns)

    def _market_until(self, market: ReplayedMarket, now_ns: int) -> None:
        while True:
            why = market.until(now_ns)
            self._book(market, market.executed())
            if why & WATCHED:
                self._trigger(market)
            if not why & TIME:
                continue
            while (order := market.arrived()) is not None:
                self._arrive(market, order)
            if market.time_ns >= now_ns:
                return

    def _second(self, now_ns: int) -> None:
        """The end of a second: a point of the curve."""
        at_ns = self._next_second_ns
        if not at_ns:
            self._next_second_ns = (now_ns // SECOND_NS + 1) * SECOND_NS
            self._losses.day = now_ns // DAY_NS
            return
        self._exchange_until(at_ns)
        self._next_second_ns += SECOND_NS
        if at_ns // DAY_NS > self._losses.day:
            self._losses.begin_day(at_ns // DAY_NS, self._equity())
            self._is_changed = True
        if self._request.costs.funding:
            self._funding_due_ms = min(self._next_funding(each)[0] for each in self._markets.values())
        if self._worth is None:
            equity = self._equity()
            self._worth = float(equity), float(self._exposed())
            if self._losses.note(equity):
                self._stop_trading()
        if self._start_ns < at_ns <= self._end_ns:
            self._points.append((at_ns // NS, *self._worth))

    # Orders at the exchange.

    def _arrive(self, market: ReplayedMarket, order: SentOrder) -> None:
        if order.reduce_only:
            holding = self._books.holdings.get(order.symbol)
            held = holding.book.quantity if holding is not None and holding.side != order.side else ZERO
            order.quantity = min(order.quantity, held)
        self._is_changed = True
        if order.quantity > 0:
            self._book(market, market.place(order))

    def _trigger(self, market: ReplayedMarket) -> None:
        """The last price met a take-profit or stop-loss, which becomes a market order there and then."""
        holding, price = self._books.holdings.get(market.symbol), market.last_price
        if holding is None or price is None:
            return
        why = venue_exit(holding, price)
        if why is not None:
            self._note_price(market, price)
            self._close_now(market, holding, why)
        market.watch(self._books.holdings.get(market.symbol))

    def _close_now(self, market: ReplayedMarket, holding: Holding, why: str) -> None:
        """A market order that the exchange itself carries out at once."""
        side, book = "Sell" if holding.is_long else "Buy", holding.book
        order = SentOrder(
            market.symbol, side, book.quantity, True, holding.strategy, why, 0, book.leverage, book.entry_price
        )
        self._book(market, market.place(order))

    def _book(self, market: ReplayedMarket, executed: Iterable[Executed]) -> None:
        for done in executed:
            self._execute(market, done)

    def _execute(self, market: ReplayedMarket, done: Executed) -> None:
        books, order = self._books, done.order
        before = books.holdings.get(market.symbol)
        self._note_price(market, done.price)
        seen = None
        if before is not None and before.side != order.side and done.quantity >= before.book.quantity:
            seen = _seen(market, before)
        books.execute(
            Execution(
                market.symbol, order.side, done.quantity, done.price, self._fees[done.is_maker], done.time_ns // NS,
                0, 0, order.strategy, order.why, done.is_maker,
            ),
            leverage=order.leverage,
            take_profit=order.take_profit,
            stop_loss=order.stop_loss,
            seen=seen,
        )  # fmt: skip
        holding = books.holdings.get(market.symbol)
        if holding is not before:
            market.highest = market.lowest = done.price
            if holding is not None and market.reversal_ns:
                holding.state = replace(holding.state, reversal_ns=market.reversal_ns)
        market.exit_again_ns = 0
        market.watch(holding)
        self._is_changed, self._worth = True, None

    def _note_price(self, market: ReplayedMarket, price: Decimal) -> None:
        market.highest, market.lowest = max(market.highest, price), min(market.lowest, price)

    # What is heard.

    def _on_price(self, symbol: str, price: Decimal) -> None:
        """A mark price has changed."""
        self._pipeline.update_reference_price(symbol, price, self._now_ns)
        market = self._markets.get(symbol)
        if market is None:
            return
        market.mark = price
        holding = self._books.holdings.get(symbol)
        if holding is None:
            return
        self._is_changed, self._worth = True, None
        self._note_price(market, price)
        self._liquidate()
        if self._losses.note(self._equity()):
            self._stop_trading()
        holding = self._books.holdings.get(symbol)
        if holding is not None and not self._losses.halted:
            self._judge_exit(market, holding, price)

    def _on_book(self, heard: SymbolMarket) -> None:
        price = heard.reference_price
        if price is not None:
            self._pipeline.update_reference_price(heard.symbol, price)
        if not self._pipeline.listens(heard.symbol):
            return
        view = heard.book.view()
        if price is None:
            self._on_other_price(heard.symbol, (view.best_bid + view.best_ask) / 2)
        self._refresh()
        self._act(self._pipeline.on_book(view))

    def _on_trade(self, trade: Trade) -> None:
        heard = self._hearing.plane.markets[trade.symbol]
        if heard.reference_price is None:
            self._on_other_price(trade.symbol, trade.price)
        if self._pipeline.listens(trade.symbol):
            self._refresh()
            self._act(self._pipeline.on_trade(trade))

    def _on_other_price(self, symbol: str, price: Decimal) -> None:
        """Without a ticker nobody tells a mark price: then the last trade counts, or the middle of the book."""
        market = self._markets.get(symbol)
        if market is not None and market.mark != price:
            self._on_price(symbol, price)

    def _on_candle(self, candle: Candle) -> None:
        if self._pipeline.listens(candle.symbol):
            self._refresh()
            self._act(self._pipeline.on_candle(candle))

    def _refresh(self) -> None:
        """Tell the pipeline what is at stake, if that is not what it knows."""
        if not self._is_changed:
            return
        self._is_changed = False
        orders = (order for market in self._markets.values() for order in market.orders())
        prices = {symbol: self._price(symbol) for symbol in self._books.holdings}
        losses = self._losses
        self._pipeline.update_exposure(
            ACCOUNT,
            self._books.exposure(
                prices, orders, day_start=losses.day_start, peak=losses.peak, strategies=self._limited,
                midnight_ms=losses.day * DAY_MS,
            ),
        )  # fmt: skip

    def _act(self, outcomes: list[Outcome]) -> None:
        refuse_faults(outcomes)
        for outcome in outcomes:
            if isinstance(outcome, PipelineResult):
                self._take(outcome)

    def _take(self, outcome: PipelineResult) -> None:
        """Note a signal, and send the order that became of it."""
        row = noted(outcome, self._losses.halted)
        self._signals.append(row)
        self._is_changed = True
        if row.outcome == "approved" and outcome.intent is not None:
            self._send_intent(outcome.intent, outcome.signal.entry_price)

    def _send_intent(self, intent: OrderIntent, entry_price: Decimal) -> None:
        reference = self._pipeline.reference_price(intent.symbol) or entry_price
        self._send(SentOrder(
            intent.symbol, intent.side, intent.quantity, intent.reduce_only, intent.strategy, "signal", 0,
            intent.leverage, reference, intent.take_profit, intent.stop_loss,
            price=intent.price, force=FORCES.get(intent.time_in_force, Force.IOC),
        ))  # fmt: skip

    def _send(self, order: SentOrder) -> None:
        market = self._markets[order.symbol]
        if not market.is_busy:
            # Nothing of ours was there until now: it is where the market was.
            self._market_until(market, self._now_ns)
        market.send(order, self._now_ns + self._latency_ns)
        self._is_changed = True

    # Exit rules, as the position guard asks them live.

    def _judge_exit(self, market: ReplayedMarket, holding: Holding, price: Decimal) -> None:
        rules, position = self._exit_rules, holding.exposure(price)
        against = 0
        if rules.reversal and (features := self._hearing.plane.features(market.symbol)) is not None:
            against = indicators_against(holding.side, features)
        then, out = judge(rules, position, holding.state, price, self._now_ns, against)
        if out is not None and not self._exit(market, holding, out, then):
            then = advance(rules, position, holding.state, price)
        holding.state = then

    def _exit(self, market: ReplayedMarket, holding: Holding, out: Exit, done: ExitState) -> bool:
        """Order what an exit rule says, if that was not just done; whether it was ordered now."""
        if self._now_ns < market.exit_again_ns:
            return False
        side, book = "Sell" if holding.is_long else "Buy", holding.book
        taken = sum((each.quantity for each in market.orders() if each.side == side and each.reduce_only), ZERO)
        quantity = exit_quantity(market.rules, book.quantity, taken, out.share)
        if quantity <= 0:
            return False
        market.exit_wait_ns = min(market.exit_wait_ns * 2, LAST_WAIT_NS) if market.exit_again_ns else FIRST_WAIT_NS
        market.exit_again_ns = self._now_ns + market.exit_wait_ns
        market.reversal_ns = done.reversal_ns
        self._send(SentOrder(
            market.symbol, side, quantity, True, holding.strategy, str(out.kind), 0, book.leverage, book.entry_price
        ))  # fmt: skip
        return True

    # Liquidation, losses, funding.

    def _liquidate(self) -> None:
        """Close the positions that lose most until the account can bear what it holds."""
        for _ in range(MOST_TRIES * (len(self._books.holdings) + 1)):
            prices = {symbol: self._price(symbol) for symbol in self._books.holdings}
            self._books.mark(prices)
            held = list(self._books.holdings.values())
            if not held or self._books.equity(prices) > sum((each.book.maintenance_margin for each in held), ZERO):
                return
            loser = min(held, key=lambda each: (each.book.unrealised, each.symbol))
            market = self._markets[loser.symbol]
            self._market_until(market, self._now_ns)
            self._close_now(market, loser, "liquidation")

    def _stop_trading(self) -> None:
        for market in self._markets.values():
            market.cancel_all()
        for symbol, holding in self._books.holdings.items():
            side, book = "Sell" if holding.is_long else "Buy", holding.book
            self._send(SentOrder(
                symbol, side, book.quantity, True, holding.strategy, "kill_switch", 0, book.leverage, book.entry_price
            ))  # fmt: skip

    def _next_funding(self, market: ReplayedMarket) -> tuple[int, Decimal]:
        """When funding is paid next, and the rate, as far as that is known now."""
        if not self._request.costs.funding:
            return NEVER, ZERO
        ticker = self._hearing.plane.markets[market.symbol].ticker
        if ticker.next_funding_ms is not None:
            if ticker.next_funding_ms > market.funded_ms and ticker.funding_rate is not None:
                return ticker.next_funding_ms, ticker.funding_rate
            return NEVER, ZERO
        series = self._funding.get(market.symbol)
        if series is not None:
            since = max(market.funded_ms, self._next_second_ns // NS - 2_000)
            index = int(np.searchsorted(series.time_ms, since, side="right"))
            if index < len(series.time_ms):
                return int(series.time_ms[index]), rate_of(float(series.rate[index]))
        return NEVER, ZERO

    def _pay_funding(self, now_ns: int) -> None:
        for market in self._markets.values():
            due_ms, rate = self._next_funding(market)
            if due_ms > now_ns // NS:
                continue
            if market.is_busy:
                self._market_until(market, due_ms * NS)
            market.funded_ms = due_ms
            holding = self._books.holdings.get(market.symbol)
            if holding is not None:
                self._books.pay_funding(holding, self._price(market.symbol), rate_of(rate), 0)
                self._is_changed, self._worth = True, None
        self._funding_due_ms = min((self._next_funding(each)[0] for each in self._markets.values()), default=NEVER)

    # What it is worth.

    def _price(self, symbol: str) -> Decimal:
        market = self._markets[symbol]
        return market.mark or self._books.holdings[symbol].book.entry_price

    def _equity(self) -> Decimal:
        return self._books.equity({symbol: self._price(symbol) for symbol in self._books.holdings})

    def _exposed(self) -> Decimal:
        return sum((each.book.quantity * self._price(name) for name, each in self._books.holdings.items()), ZERO)

    # The end.

    def _close_rest(self, market: ReplayedMarket) -> None:
        """What the book has nobody for any more goes at the last price that was heard."""
        holding = self._books.holdings.get(market.symbol)
        if holding is not None:
            side, book = "Sell" if holding.is_long else "Buy", holding.book
            order = SentOrder(
                market.symbol, side, book.quantity, True, holding.strategy, "end", 0, book.leverage, book.entry_price
            )
            self._execute(
                market, Executed(order, market.time_ns, self._price(market.symbol), book.quantity, is_maker=False)
            )

    def _finished(self, progress: Callable[[float], None], lines: int) -> RecordedResult:
        for market in self._markets.values():
            self._market_until(market, self._now_ns)
            market.cancel_all()
            holding = self._books.holdings.get(market.symbol)
            if holding is not None:
                self._close_now(market, holding, "end")
                self._close_rest(market)
        progress(1.0)
        end_ms = max([self._now_ns // NS, *(fill.time_ms for fill in self._books.fills)])
        points = [*self._points, (end_ms, float(self._books.balance), 0.0)]
        if len(points) > 1 and points[-2][0] >= end_ms:
            del points[-2]
        times, equity, exposed = zip(*points, strict=True)
        bars = self._hearing.bars
        interval = self._request.interval
        result = BacktestResult(
            signals=tuple(self._signals),
            fills=tuple(sorted(self._books.fills, key=lambda fill: fill.time_ms)),
            trades=tuple(sorted(self._books.trades, key=lambda trade: trade.closed_ms)),
            equity_ms=np.array(times, dtype=np.int64),
            equity=np.array(equity, dtype=np.float64),
            exposed=np.array(exposed, dtype=np.float64),
            balance=self._books.balance,
            events=lines,
            data=self._data,
            code=code_version(),
        )
        made = {
            (symbol, interval): series_of_bars(self._request.venue, bars[symbol, interval])
            for symbol in self._markets
            if (symbol, interval) in bars
        }
        return RecordedResult(result, made)


def _named(feeds: Mapping[str, Feed]) -> str:
    return ", ".join(sorted(feeds)) or "none"


def _seen(market: ReplayedMarket, holding: Holding) -> tuple[float, float]:
    """How far the price went for and against a position, percent of its entry."""
    entry = float(holding.book.entry_price)
    up, down = (float(market.highest) - entry) / entry * HUNDRED, (float(market.lowest) - entry) / entry * HUNDRED
    return (up, down) if holding.is_long else (0.0 - down, 0.0 - up)
