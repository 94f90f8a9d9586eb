"""One symbol of a recording at the exchange: the replay of its market, our orders on their way and at rest there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from marketdata.instruments import InstrumentRules
from trading.backtest.books import Holding, Order
from trading.backtest.feed import Feed
from trading.backtest.markets import NEVER
from trading.backtest.replay import Fill, Force, Replay, Why
from trading.backtest.request import Costs

FORCES = {"GTC": Force.GTC, "IOC": Force.IOC, "FOK": Force.FOK, "PostOnly": Force.POST_ONLY}
ZERO = Decimal(0)
WATCHED, TIME = int(Why.WATCHED), int(Why.TIME)


@dataclass(slots=True, eq=False)
class SentOrder(Order):
    """``quantity`` is what may still fill. ``price`` None: a market order. ``order_id``: the replay's, 0 on the way."""

    price: Decimal | None = None
    force: Force = Force.IOC
    arrives_ns: int = 0
    order_id: int = 0


@dataclass(slots=True, eq=False)
class Executed:
    """A part of an order that traded."""

    order: SentOrder
    time_ns: int
    price: Decimal
    quantity: Decimal
    is_maker: bool


class ReplayedMarket:
    """:meth:`until` goes on to the next thing that must be looked at. ``mark``: the newest price that was heard, by
    which the account is valued. ``highest`` and ``lowest``: of what the position that is open has seen."""

    def __init__(self, feed: Feed, rules: InstrumentRules, costs: Costs) -> None:
        self.symbol, self.rules = feed.symbol, rules
        self.replay = Replay(feed, spread=costs.spread, slippage=costs.slippage)
        self._price, self._quantity = feed.grids.prices, feed.grids.quantities
        self._underway: list[SentOrder] = []
        self._working: dict[int, SentOrder] = {}
        self._watched = False
        self.mark: Decimal | None = None
        self.highest = self.lowest = ZERO
        self.funded_ms = 0
        self.reversal_ns = 0
        # An exit that was asked for is asked for again only after this; how long the next wait is.
        self.exit_again_ns, self.exit_wait_ns = 0, 0

    @property
    def is_busy(self) -> bool:
        """Whether something could happen to us there."""
        return self._watched or bool(self._underway) or bool(self._working)

    @property
    def time_ns(self) -> int:
        return self.replay.time_ns

    @property
    def last_price(self) -> Decimal | None:
        """Of the last trade at the exchange."""
        tick = self.replay.last_tick
        return None if tick is None else self._price.value(tick)

    def orders(self) -> Iterator[SentOrder]:
        """Those that are on their way or rest, the oldest first."""
        yield from self._working.values()
        yield from self._underway

    # Orders.

    def send(self, order: SentOrder, arrives_ns: int) -> None:
        order.arrives_ns = arrives_ns
        self._underway.append(order)
        self._underway.sort(key=lambda each: each.arrives_ns)

    def cancel_all(self) -> None:
        """At once: those on their way never arrive."""
        self._underway.clear()
        for order_id in self._working:
            self.replay.cancel(order_id, at_ns=self.replay.time_ns)
        self.replay.advance(self.replay.time_ns)
        self._working.clear()

    def watch(self, holding: Holding | None) -> None:
        """Take-profit and stop-loss of what is held, which the exchange looks at by the last price."""
        low = high = None
        if holding is not None:
            take, stop = holding.take_profit, holding.stop_loss
            above, below = (take, stop) if holding.is_long else (stop, take)
            low, high = self._at_or_below(below), self._at_or_above(above)
        self._watched = low is not None or high is not None
        self.replay.watch(low, high)

    def _at_or_below(self, price: Decimal | None) -> int | None:
        return None if price is None else int(price // self._price.step)

    def _at_or_above(self, price: Decimal | None) -> int | None:
        return None if price is None else -int(-price // self._price.step)

    # Time.

    def until(self, time_ns: int) -> int:
        """Go on to a time, or to the first order of ours that arrives, is filled or ends, or the first price that is
        watched: why it stopped, as ``Why`` (an int, which is cheap to ask). The orders that arrive then are given by
        :meth:`arrived`."""
        soonest = self._underway[0].arrives_ns if self._underway else NEVER
        why = int(self.replay.advance(min(time_ns, max(soonest, self.replay.time_ns))))
        if why & WATCHED:
            self._watched = False
        return why

    def arrived(self) -> SentOrder | None:
        """The next order that is at the exchange by now, taken off its way."""
        if self._underway and self._underway[0].arrives_ns <= self.replay.time_ns:
            return self._underway.pop(0)
        return None

    def place(self, order: SentOrder) -> list[Executed]:
        """Carry an order out at the exchange now, as far as that goes at once; a limit order may rest then."""
        lots = int(order.quantity / self._quantity.step)
        tick = None if order.price is None else int(order.price / self._price.step)
        order.order_id = self.replay.submit(order.side, lots, tick, order.force, at_ns=self.replay.time_ns)
        self._working[order.order_id] = order
        self.replay.advance(self.replay.time_ns)
        return self.executed()

    def executed(self) -> list[Executed]:
        """What traded since the last call; orders that are over are forgotten."""
        done = [self._executed(fill) for fill in self.replay.take_fills()]
        for end in self.replay.take_ends():
            self._working.pop(end.order_id, None)
        return done

    def _executed(self, fill: Fill) -> Executed:
        order = self._working[fill.order_id]
        quantity = self._quantity.value(fill.lots)
        order.quantity -= quantity
        if not fill.left:
            del self._working[fill.order_id]
        return Executed(order, fill.time_ns, self._price.value(fill.tick), quantity, fill.is_maker)
