"""Recorded events replayed through the simulator's matching book, with own orders that keep a place in its queues."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from marketdata.engine.compiled import without_dispatch
from trading.backtest.errors import BacktestError
from trading.backtest.feed import Feed
from trading.backtest.kernels import replay as kernels
from trading.backtest.kernels.replay_slots import (
    STATUS_BASE,
    Asked,
    Force,
    Order,
    Place,
    Report,
    Request,
    Status,
    Watched,
    Why,
)

__all__ = [
    "ANY",
    "NOTHING",
    "BookSide",
    "Fill",
    "Force",
    "OrderEnd",
    "OrderState",
    "Replay",
    "Status",
    "Watched",
    "Why",
]

_advance, _submit, _change = map(without_dispatch, (kernels.advance, kernels.submit, kernels.change))
FIRST_ROWS = 256
# Of one book: more ticks than any market has between its first and its last level.
WIDEST = 2**27
_WHY = tuple(Why(flags) for flags in range(2 * Why.FULL))
_NOW, _REPORTS, _BEST, _BASE = int(Place.NOW), int(Place.REPORTS), int(Place.BEST), int(Place.BASE)
_MADE, _STOPS_AT = int(Place.MADE), int(Place.STOPS_AT)
# Nothing stops but the time.
NOTHING, ANY = Why(0), Why.FILLED | Why.ENDED | Why.WATCHED
_FULL, _ID = int(Why.FULL), int(Order.ID)
_RESTS = int(Status.RESTS)
ZERO = Decimal(0)
SIGNS = {"Buy": 1, "Sell": -1}
NAMES = {1: "Buy", -1: "Sell"}


class Fill(NamedTuple):
    """A part of an own order that traded. ``time_ns`` is the exchange's, ``known_ns`` when its owner hears of it;
    ``left`` are the lots of the order that are still open."""

    time_ns: int
    known_ns: int
    order_id: int
    side: str
    tick: int
    lots: int
    is_maker: bool
    left: int


class OrderEnd(NamedTuple):
    """An own order ended without being filled whole."""

    time_ns: int
    known_ns: int
    order_id: int
    status: Status
    left: int


class OrderState(NamedTuple):
    """An order as the exchange has it. ``ahead``: lots of others that trade before it at its price; 0 unless it
    rests."""

    order_id: int
    side: str
    force: Force
    tick: int
    lots: int
    left: int
    status: Status
    ahead: int


class BookSide:
    """One side of the book as it is now at the exchange, without own orders. Prices are ticks, quantities lots."""

    def __init__(self, index: int, at: NDArray[np.int64], lots: NDArray[np.int64], blocks: NDArray[np.int64]) -> None:
        self._index, self._sign = index, 1 - 2 * index
        self._at, self._lots, self._blocks = at, lots, blocks
        # One number of it costs a third of the time that the array takes.
        self._places = at.data
        self._rows = np.empty((16, 2), dtype=np.int64)

    @property
    def best(self) -> int | None:
        """The best tick of others; None where nobody stands. Of a feed of trades: what is made of the last one."""
        if self._places[_MADE]:
            return int(kernels.made_touch(self._at, self._index)) or None
        best = self._places[_BEST + self._index]
        return None if best < 0 else self._sign * (self._places[_BASE + self._index] + best)

    def __len__(self) -> int:
        """How many levels of others."""
        return int(self._at[Place.LEVELS + self._index])

    def top(self, count: int) -> dict[int, int]:
        """The best levels of others: tick to lots, best first."""
        if count > len(self._rows):
            self._rows = np.empty((count, 2), dtype=np.int64)
        written = int(kernels.levels(self._at, self._lots, self._blocks, self._index, self._rows[:count]))
        return dict(self._rows[:written].tolist())

    def lots_at(self, tick: int) -> int:
        """Of others at a tick."""
        index = self._sign * tick - int(self._at[Place.BASE + self._index])
        return int(self._lots[self._index, index]) if 0 <= index < self._lots.shape[1] else 0


class Replay:
    """One feed, from its first event on, as fast as the machine can.

    Times are the exchange's. ``entry_ns`` passes from asking to the exchange, ``response_ns`` back (``known_ns`` of
    what is reported); both are constant. What the market did at an instant comes before requests that arrive then.

    How orders meet it: an order queues behind everything that rests at its price. Recorded trades eat from the front of
    the queue at their price and go through own orders at better ones; background that goes away goes from the back. An
    order that takes walks the levels; what it took is gone until the feed speaks of that level again. Own orders that
    the book comes to cross trade at their own price. Own orders trade with each other where they meet.

    Trades alone (``feed.has_book`` False) show no book, so one is made of the last trade: bid and ask are
    ``spread / 2`` (a fraction of the price) below and above it, rounded outwards to the tick. What takes trades whole,
    ``slippage`` further on, but not beyond its limit. An order that rests fills whole when a trade goes through its
    price, and at its price once ``queue_lots``, which are taken to stand before it, have traded there.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        entry_ns: int = 0,
        response_ns: int = 0,
        spread: Decimal = ZERO,
        slippage: Decimal = ZERO,
        queue_lots: int = 0,
    ) -> None:
        """
        Raises:
            BacktestError: prices that are too far from each other for one market.
        """
        self.feed = feed
        self.entry_ns, self.response_ns = entry_ns, response_ns
        self._at = at = np.zeros(Place.PLACES, dtype=np.int64)
        at[Place.NEXT_ORDER] = 1
        at[Place.WATCH_LOW], at[Place.WATCH_HIGH] = -kernels.FAR, kernels.FAR
        at[Place.NOW] = feed.start_ns - 1
        at[Place.BEST : Place.BEST + 2] = -1
        if not feed.has_book:
            at[Place.MADE], at[Place.ASSUMED] = 1, queue_lots
            at[Place.HALF_SPREAD] = int(spread / 2 * kernels.BILLION)
            at[Place.ASIDE] = int((spread / 2 + slippage) * kernels.BILLION)
        lowest, highest = feed.reach
        if highest - lowest >= WIDEST:
            raise BacktestError(f"{feed.symbol}: prices from tick {lowest} to {highest}; expected those of one market")
        at[Place.BASE], at[Place.BASE + 1] = lowest, -highest
        width = highest - lowest + 1
        self._orders = np.zeros((FIRST_ROWS, len(Order)), dtype=np.int64)
        self._requests = np.zeros((FIRST_ROWS, len(Request)), dtype=np.int64)
        self._reports = np.zeros((FIRST_ROWS, len(Report)), dtype=np.int64)
        self._own = np.zeros((2, FIRST_ROWS), dtype=np.int64)
        # Memory that is never touched, between far levels, is never taken.
        lots, stamps = np.zeros((2, width), dtype=np.int64), np.zeros((2, width), dtype=np.int64)
        blocks = np.zeros((2, (width >> kernels.BLOCK_BITS) + 1), dtype=np.int64)
        self._book = lots, blocks, stamps
        self.bids, self.asks = (BookSide(side, at, lots, blocks) for side in (kernels.BIDS, kernels.ASKS))
        self._places = at.data
        self._given = feed.events, *self.tables
        self._fills: list[Fill] = []
        self._ends: list[OrderEnd] = []

    # Time.

    @property
    def time_ns(self) -> int:
        """Everything up to then has happened, unless the last stop was within that instant."""
        return self._places[_NOW]

    def advance(self, until_ns: int, stop_at: Why = ANY) -> Why:
        """Go on until everything up to that time has happened, an own order was filled (even in part) or ended without
        being filled, or a watched price was met; call it again to go on from there. A time that has passed does nothing
        but carry out what is due. ``stop_at``: of these reasons; the others are only told."""
        self._places[_STOPS_AT], told = int(stop_at) | _FULL, 0
        while True:
            told |= int(_advance(*self._given, until_ns))
            if self._places[_REPORTS]:
                self._take_reports()
            if told < _FULL:
                return _WHY[told]
            self._grow()
            told -= _FULL
            if told & int(stop_at):
                return _WHY[told]

    def watch(self, low: int | None, high: int | None, by: Watched = Watched.LAST) -> None:
        """Stop once at the first event after which a price is at or below ``low`` or at or above ``high`` (ticks; None:
        not). A stop takes the watch away; a new one replaces the old."""
        self._at[Place.WATCH_LOW] = -kernels.FAR if low is None else low
        self._at[Place.WATCH_HIGH] = kernels.FAR if high is None else high
        self._at[Place.WATCH_BY] = by

    # Orders.

    def submit(
        self,
        side: str,
        lots: int,
        tick: int | None = None,
        force: Force = Force.GTC,
        *,
        at_ns: int | None = None,
    ) -> int:
        """Send an order; its id. Without a tick it is a market order: it takes what there is, and what it does not get
        ends. It arrives ``entry_ns`` from now, or at ``at_ns`` (not before now).

        Raises:
            ValueError: a side, quantity, price or time that cannot be.
        """
        if side not in SIGNS or lots <= 0 or (tick is not None and tick <= 0):
            raise ValueError(f"an order of {lots} lots, side {side!r}, tick {tick}: expected Buy or Sell, above 0")
        sign = SIGNS[side]
        if tick is None:
            force, tick = (Force.FOK if force is Force.FOK else Force.IOC), sign * kernels.FAR
        time_ns = self._arrival(at_ns)
        while True:
            order_id = int(_submit(self._at, self._orders, self._requests, time_ns, sign, int(force), tick, lots))
            if order_id >= 0:
                return order_id
            self._grow()

    def cancel(self, order_id: int, *, at_ns: int | None = None) -> None:
        """Ask for an order's end; nothing happens where it is over when that arrives.

        Raises:
            KeyError: no such order.
        """
        self._change(Asked.CANCEL, order_id, 0, 0, at_ns)

    def amend(self, order_id: int, lots: int, tick: int, *, at_ns: int | None = None) -> None:
        """Ask for another quantity (with what is filled) or price; only a smaller quantity at the same price keeps the
        place in the queue. Nothing happens where the order is over then, or as much is filled.

        Raises:
            KeyError: no such order.
            ValueError: a quantity or price that cannot be.
        """
        if lots <= 0 or tick <= 0:
            raise ValueError(f"{lots} lots at tick {tick}: expected numbers above 0")
        self._change(Asked.AMEND, order_id, tick, lots, at_ns)

    def order(self, order_id: int) -> OrderState:
        """An order as it is at the exchange now. Those that are over may be forgotten after some hundreds of others.

        Raises:
            KeyError: no such order, or forgotten.
        """
        row = self._row(order_id)
        _, sign, force, tick, lots, left, status, ahead = self._orders[row].tolist()
        return OrderState(
            order_id,
            NAMES[sign],
            Force(force),
            tick,
            lots,
            left,
            Status(status),
            ahead if status == Status.RESTS else 0,
        )

    @property
    def open_orders(self) -> list[int]:
        """The ids of orders that rest or are on their way, the oldest first."""
        is_open = (self._orders[:, Order.ID] > 0) & (self._orders[:, Order.STATUS] <= Status.RESTS)
        return sorted(self._orders[is_open, Order.ID].tolist())

    def take_fills(self) -> list[Fill]:
        """Fills since the last call, in the order of time. Of one order at one price and instant they are one."""
        taken, self._fills = self._fills, []
        return taken

    def take_ends(self) -> list[OrderEnd]:
        """Orders that ended without being filled whole since the last call."""
        taken, self._ends = self._ends, []
        return taken

    # The market: ``bids`` and ``asks``.

    @property
    def last_tick(self) -> int | None:
        """Of the last trade."""
        return int(self._at[Place.LAST_TICK]) or None

    # Inside.

    @property
    def tables(self) -> kernels.Tables:
        """For strategies that are compiled with the replay: see ``kernels.move``. Whoever moves it there takes the
        reports from there (and sets their number to 0), and may find no room."""
        return kernels.Tables(self._at, self._orders, self._requests, self._reports, self._own, *self._book)

    def make_room(self, reports: int) -> None:
        """For so many reports between two stops, at least."""
        while len(self._reports) < reports:
            self._reports = _longer(self._reports)
        self._given = self.feed.events, *self.tables

    def _arrival(self, at_ns: int | None) -> int:
        now = self.time_ns
        if at_ns is None:
            return now + self.entry_ns
        if at_ns < now:
            raise ValueError(f"it would arrive at {at_ns}, but it is {now}: expected a time from now on")
        return at_ns

    def _row(self, order_id: int) -> int:
        row = order_id % len(self._orders)
        if order_id <= 0 or self._orders.item(row, _ID) != order_id:
            raise KeyError(f"no order {order_id}")
        return row

    def _change(self, what: Asked, order_id: int, tick: int, lots: int, at_ns: int | None) -> None:
        self._row(order_id)
        time_ns = self._arrival(at_ns)
        while not _change(self._at, self._orders, self._requests, time_ns, int(what), order_id, tick, lots):
            self._grow()

    def _take_reports(self) -> None:
        count = self._places[_REPORTS]
        for time_ns, order_id, what, sign, tick, lots, left in self._reports[:count].tolist():
            known_ns = time_ns + self.response_ns
            if what < STATUS_BASE:
                self._fills.append(
                    Fill(time_ns, known_ns, order_id, NAMES[sign], tick, lots, what == kernels.MAKER, left)
                )
            elif what != STATUS_BASE + _RESTS:
                self._ends.append(OrderEnd(time_ns, known_ns, order_id, Status(what - STATUS_BASE), left))
        self._places[_REPORTS] = 0

    def _grow(self) -> None:
        """Twice the room wherever it may be short."""
        at = self._at
        own, levels = int(at[Place.OWN : Place.OWN + 2].sum()), max(len(self.bids), len(self.asks))
        if at[Place.OWN : Place.OWN + 2].max() >= self._own.shape[1]:
            self._own = np.hstack((self._own, np.zeros_like(self._own)))
        while len(self._reports) < 2 * own + levels + kernels.ROOM:
            self._reports = _longer(self._reports)
        if at[Place.REQUESTS_FROM] == 0 and at[Place.REQUESTS_END] == len(self._requests):
            self._requests = _longer(self._requests)
        oldest = self._orders[at[Place.NEXT_ORDER] % len(self._orders)]
        if oldest[Order.ID] > 0 and oldest[Order.STATUS] <= Status.RESTS:
            self._grow_orders()
        self._given = self.feed.events, *self.tables

    def _grow_orders(self) -> None:
        """A longer ring: each row has another place, and the queues name it."""
        old, self._orders = self._orders, np.zeros((2 * len(self._orders), len(Order)), dtype=np.int64)
        known = old[old[:, Order.ID] > 0]
        self._orders[known[:, Order.ID] % len(self._orders)] = known
        for side in (kernels.BIDS, kernels.ASKS):
            count = int(self._at[Place.OWN + side])
            self._own[side, :count] = old[self._own[side, :count], Order.ID] % len(self._orders)


def crossings(feed: Feed) -> NDArray[np.int64]:
    """The rows (ends of messages) after which the best bid is at or above the best ask."""
    found = np.zeros(len(feed), dtype=np.int64)
    count = int(kernels.crossed(feed.events, *Replay(feed).tables, found))
    return found[:count]


def _longer(table: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.vstack((table, np.zeros_like(table)))
