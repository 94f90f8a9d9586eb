"""One bar of one symbol after the other: funding, the orders that arrive, and the exits that its way meets.

A kernel looks for the next exit (trading/backtest/exit_watch.py). What does not fit it, bars on which the account could
be liquidated, and everything with ``every_bar`` is walked in Decimal, price by price.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain

from risk.exits import advance, exit_quantity, judge
from risk.exposure import ZERO
from trading.backtest.books import Books, Execution, Holding, Order
from trading.backtest.compiled_terms import CompiledUnfit
from trading.backtest.exit_watch import QUIET, REASONS, ExitWatch, Watched
from trading.backtest.exits import ahead, band, behind, next_stop, venue_exit
from trading.backtest.kernels.slots import Kind
from trading.backtest.liquidation import Liquidation
from trading.backtest.market_fills import MarketFills, rate_of
from trading.backtest.markets import NEVER, Market, seen
from trading.backtest.request import BacktestRequest

ONE = Decimal(1)
NS = 1_000_000
# A position is looked for so many bars ahead at once: most end before.
AHEAD = 4_096
AT_VENUE = (int(Kind.TAKE_PROFIT), int(Kind.STOP_LOSS))


class Walk:
    """``every_bar``: each bar of each symbol is walked, which must change nothing. Prices on a way are of a bar; steps
    are moments of the test."""

    def __init__(
        self, request: BacktestRequest, books: Books, markets: dict[str, Market], grid_ms: int, length_ms: int,
        *, every_bar: bool,
    ) -> None:  # fmt: skip
        from trading.backtest.kernels.bands import leaves_band  # noqa: PLC0415 numba: only who tests needs it

        self._leaves_band = leaves_band
        self._books, self._markets, self._by_rank = books, markets, list(markets.values())
        self._rules, self._every_bar = request.exit_rules, every_bar
        self._grid_ms, self._length = grid_ms, length_ms
        self._fills = MarketFills(request.costs)
        self._asks_volume = bool(request.costs.impact)
        self._fee = rate_of(request.costs.fee)
        self._liquidation = Liquidation(books, markets, request.costs.maintenance_margin)
        self._may_be_liquidated = False
        self._watches = {} if every_bar else self._made_watches()
        self._heap: list[tuple[int, int, int]] = []
        self._waiting = 0
        if every_bar:
            for market in self._by_rank:
                self.wake(market, market.bars.step(0))

    def _made_watches(self) -> dict[str, ExitWatch]:
        made = {}
        for symbol, market in self._markets.items():
            try:
                made[symbol] = ExitWatch(self._rules, market.bars, market.rules)
            except CompiledUnfit:
                continue
        return made

    # Which bars are walked, and when.

    @property
    def next_step(self) -> int:
        return self._heap[0][0] if self._heap else NEVER

    def wake(self, market: Market, step: int) -> None:
        market.wake = step
        if step < NEVER:
            heapq.heappush(self._heap, (step, market.rank, step))

    def open_step(self, step: int) -> None:
        """Bars that start now, symbol by symbol."""
        while self._heap and self._heap[0][0] == step:
            _, rank, wake = heapq.heappop(self._heap)
            market = self._by_rank[rank]
            if market.wake == wake:
                self._walk_bar(market, step)
                self._shake_others(market, step)

    def send(self, market: Market, step: int, order: Order) -> None:
        """An order reaches its market at the open of the first bar that starts at a step or later."""
        order.bar = market.bars.from_step(step)
        if order.bar < market.bars.length:
            market.orders.append(order)
            self._waiting += 1
            arrives = market.bars.step(order.bar)
            if arrives < market.wake:
                self.wake(market, arrives)

    def orders(self) -> list[Order]:
        """Those on their way, by symbol."""
        return [order for market in self._by_rank for order in market.orders] if self._waiting else []

    def drop_orders(self) -> None:
        self._waiting = 0
        for market in self._by_rank:
            market.orders.clear()

    def _shake_others(self, walked: Market, step: int) -> None:
        """Where equity could come near the maintenance margins, every bar of all positions is looked at."""
        holdings = self._books.holdings
        alone = len(holdings) == 1 and walked.symbol in holdings
        if not holdings or alone or self._liquidation.is_far():
            return
        for symbol in holdings:
            market = self._markets[symbol]
            index = market.bars.from_step(step if market.rank > walked.rank else step + 1)
            if index < market.bars.length and market.bars.step(index) < market.wake:
                self.wake(market, market.bars.step(index))

    def _rest(self, market: Market, index: int) -> None:
        """Find the next bar of a symbol that must be walked."""
        bars = market.bars
        if self._every_bar:
            self.wake(market, bars.step(index + 1) if index + 1 < bars.length else NEVER)
            return
        soonest = bars.length
        if market.orders:
            soonest = min(order.bar for order in market.orders)
        holding = self._books.holdings.get(market.symbol)
        if holding is not None:
            end = min(soonest, market.funding_bar(), index + 1 + AHEAD)
            watched = self._watched(market, holding, index + 1)
            if watched is not None and self._fears_nothing(market, holding, watched, index):
                soonest = self._watches[market.symbol].look_ahead(watched, end)
            else:
                self._release(market, holding, index + 1)
                bottom, top = self._band(market, holding, index)
                soonest = int(self._leaves_band(bars.high, bars.low, index + 1, end, bottom, top))
        self.wake(market, bars.step(soonest) if soonest < bars.length else NEVER)

    # A bar.

    def _walk_bar(self, market: Market, step: int) -> None:
        bars, books = market.bars, self._books
        index = bars.at(step)
        if index is None:
            self.wake(market, NEVER)
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
        holding = books.holdings.get(market.symbol)
        if holding is not None:
            self._walk(market, holding, index, step)
        market.price = None
        self._rest(market, index)

    def _fill_orders(self, market: Market, index: int, step: int) -> None:
        due = [order for order in market.orders if order.bar <= index]
        market.orders = [order for order in market.orders if order.bar > index]
        self._waiting -= len(due)
        opened = market.bars.open(index)
        for order in due:
            quantity = order.quantity
            if order.reduce_only:
                holding = self._books.holdings.get(order.symbol)
                held = holding.book.quantity if holding is not None and holding.side != order.side else ZERO
                quantity = min(quantity, held)
            if quantity > 0:
                self._execute(market, order.side, quantity, opened, index, step, order.strategy, order.why, order)

    def _walk(self, market: Market, holding: Holding, index: int, step: int) -> None:
        """Follow the price within a bar while there is a position."""
        bars = market.bars
        low, high = bars.range_of(index)
        self._may_be_liquidated = self._every_bar or self._liquidation.is_near(holding, low, high)
        watched = None if self._may_be_liquidated else self._watched(market, holding, index)
        if watched is None:
            self._release(market, holding, index)
            self._walk_exactly(market, index, step, 0, bars.open(index))
        else:
            self._walk_watched(market, holding, watched, index, step)

    # By the kernel.

    def _watched(self, market: Market, holding: Holding, bar: int) -> Watched | None:
        """A position as the kernel knows it, from the beginning of a bar on; None where it does not fit."""
        if holding.watched is None and holding.fits:
            watch = self._watches.get(market.symbol)
            holding.watched = watch.watch(holding, bar) if watch is not None else None
            holding.fits = holding.watched is not None
        return holding.watched

    def _release(self, market: Market, holding: Holding, bar: int) -> None:
        """Take a position back from the kernel, as it is at the beginning of a bar."""
        watched = holding.watched
        if watched is not None:
            watch = self._watches[market.symbol]
            watch.reach(watched, bar)
            holding.state, holding.watched = watch.exact(watched), None

    def _fears_nothing(self, market: Market, holding: Holding, watched: Watched, index: int) -> bool:
        """Whether the account cannot be liquidated before something is due."""
        price = self._watches[market.symbol].worst_price(watched)
        if price is None:
            price = 0.0 if holding.is_long else float(market.bars.close(index)) * 1_000.0
        self._books.fear(holding, self._liquidation.worst(holding, price))
        return self._liquidation.is_far()

    def _walk_watched(self, market: Market, holding: Holding, watched: Watched, index: int, step: int) -> None:
        watch, bars, symbol = self._watches[market.symbol], market.bars, market.symbol
        kind = watch.first_exit(watched, index)
        while kind != QUIET:
            price, leg = watch.price(watched), watch.leg(watched)
            market.path[:] = [float(each) for each in (*bars.way(index)[:leg], price)]
            market.price = price
            quantity = holding.book.quantity
            if kind == Kind.PARTIAL:
                position = holding.exposure(price)
                now = (self._grid_ms + step * self._length) * NS
                then, out = judge(self._rules, position, watch.exact(watched), price, now)
                quantity = exit_quantity(market.rules, quantity, ZERO, out.share) if out is not None else ZERO
                if quantity <= 0:
                    # Too little to be ordered now: what becomes of it is for Decimal to say.
                    holding.state, holding.watched, holding.fits = watch.exact(watched), None, False
                    self._walk_exactly(market, index, step, leg, price)
                    return
                watch.do_partial(watched, then.partials)
            elif kind not in AT_VENUE:
                quantity = exit_quantity(market.rules, quantity, ZERO, ONE)
            self._close(market, holding, quantity, price, index, step, REASONS[kind])
            if symbol not in self._books.holdings:
                return
            kind = watch.next_exit(watched, index)

    # In Decimal.

    def _walk_exactly(self, market: Market, index: int, step: int, leg: int, at: Decimal) -> None:
        """On from a price, which lies on one of the legs."""
        holdings, symbol = self._books.holdings, market.symbol
        self._look(market, at, index, step)
        for end in market.bars.way(index)[max(leg, 1) :]:
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
            return ahead(self._rules, holding)
        levels = behind(self._rules, holding)
        if self._may_be_liquidated:
            return chain(levels, [self._liquidation.price(market, holding, step)])
        return levels

    def _look(self, market: Market, price: Decimal, index: int, step: int) -> None:
        """Carry out all that is due at a price."""
        rules, symbol = self._rules, market.symbol
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

    def _liquidate(self, market: Market, step: int) -> bool:
        due = self._liquidation.due(market, step)
        if due is None:
            return False
        where, loser = due.market, due.holding
        self._close(where, loser, loser.book.quantity, due.price, due.bar, step, "liquidation")
        if where is not market:
            self._rest(where, due.bar)
        return True

    def _band(self, market: Market, holding: Holding, index: int) -> tuple[int, int]:
        """Between which prices nothing happens, in units of the bars' prices."""
        bars, book = market.bars, holding.book
        bottom, top = band(self._rules, holding, bars.close(index))
        self._books.fear(holding, self._liquidation.worst(holding, float(bottom if holding.is_long else top)))
        if len(self._books.holdings) == 1 and not self._liquidation.is_far():
            liquidation = book.liquidation_price(self._books.balance)
            if holding.is_long:
                bottom = max(bottom, liquidation)
            elif liquidation:
                top = min(top, liquidation)
        holding.quiet = bottom, top
        scale = bars.series.price_decimals
        return math.floor(bottom.scaleb(scale)), min(math.ceil(top.scaleb(scale)), NEVER)

    # Fills.

    def close_at_end(self, market: Market, holding: Holding, step: int) -> None:
        """At the last close."""
        index = market.bars.length - 1
        self._close(market, holding, holding.book.quantity, market.bars.close(index), index, step, "end")

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
        volume = bars.volume(index) if self._asks_volume else ZERO
        price = self._fills.price(side, there, market.tick, quantity, volume)
        holding = books.holdings.get(symbol)
        percents = None
        if holding is not None:
            if holding.side == side:
                # Its entry and its orders at the venue change.
                self._release(market, holding, index)
            elif quantity >= holding.book.quantity:
                percents = seen(market, holding, index, there)
        time_ms = self._grid_ms + step * self._length
        books.execute(
            Execution(symbol, side, quantity, price, self._fee, time_ms, step, index, strategy, why),
            leverage=order.leverage if order is not None else ONE,
            take_profit=order.take_profit if order is not None else None,
            stop_loss=order.stop_loss if order is not None else None,
            seen=percents,
        )
