"""Numbered public trades of one market: one by one, per taker and price, and summed per minute."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from trading.simulator.instruments import Grids
from trading.simulator.intervals import MINUTE_MS
from trading.simulator.markets import PublicTrade

KEPT_TRADES = 1_000
KEPT_MINUTES = 2 * 1_440


@dataclass(frozen=True, slots=True)
class NumberedTrade:
    """``aggregate_id`` is shared by the trades of one taker at one price."""

    trade_id: int
    aggregate_id: int
    tick: int
    lots: int
    time_ms: int
    buyer_is_maker: bool


@dataclass(frozen=True, slots=True)
class AggregateTrade:
    aggregate_id: int
    first_id: int
    last_id: int
    tick: int
    lots: int
    time_ms: int
    buyer_is_maker: bool


@dataclass(slots=True)
class Tally:
    """Sums of some minutes. ``bought`` in lots and ``bought_value`` in ticks x lots are what takers bought;
    ``complete`` is False where trades before the first one kept are missing."""

    first_id: int = -1
    last_id: int = -1
    trades: int = 0
    bought: int = 0
    bought_value: int = 0
    complete: bool = True


class Tape:
    """The newest trades, and the minutes since this tape began; ``last_id`` is that of the newest."""

    def __init__(self, grids: Grids, now_ms: int) -> None:
        self._grids = grids
        self._trades: deque[NumberedTrade] = deque(maxlen=KEPT_TRADES)
        # Ids go on rising over restarts: nothing trades a thousand times a second.
        self.last_id = self._last_aggregate = self._began_id = now_ms
        self._began_minute = now_ms // MINUTE_MS
        self._last_taker: tuple[int, int, str] | None = None
        self._minutes: dict[int, Tally] = {}
        self._first_minute = now_ms // MINUTE_MS + 1

    def add(self, trades: Iterable[PublicTrade]) -> list[NumberedTrade]:
        """Number trades of this market, oldest first."""
        added = [self._numbered(trade) for trade in trades]
        self._trades.extend(added)
        for trade in added:
            self._count(trade)
        return added

    def newest(self, limit: int) -> list[NumberedTrade]:
        """Oldest first."""
        return list(self._trades)[-limit:]

    def aggregates(self) -> list[AggregateTrade]:
        """All that are kept whole, oldest first."""
        found = aggregated(self._trades)
        return found[1:] if len(self._trades) == KEPT_TRADES else found

    def tally(self, start_ms: int, end_ms: int) -> Tally:
        """The sums from ``start_ms`` to before ``end_ms``, both on whole minutes."""
        first = start_ms // MINUTE_MS
        total = Tally(complete=first >= self._first_minute)
        newest = next(reversed(self._minutes), 0)
        for minute in range(max(first, self._first_minute), min(end_ms // MINUTE_MS, newest + 1)):
            part = self._minutes.get(minute)
            if part is not None:
                total.first_id = part.first_id if total.first_id < 0 else total.first_id
                total.last_id = part.last_id
                total.trades += part.trades
                total.bought += part.bought
                total.bought_value += part.bought_value
        return total

    def first_id_since(self, start_ms: int) -> int:
        """The id of the first trade from a minute on; before this tape began there was one a minute."""
        minute = start_ms // MINUTE_MS
        if minute < self._began_minute:
            return self._began_id - (self._began_minute - minute) + 1
        first = self.tally(minute * MINUTE_MS, (minute + KEPT_MINUTES) * MINUTE_MS).first_id
        return first if first >= 0 else self.last_id

    def _numbered(self, trade: PublicTrade) -> NumberedTrade:
        tick = self._grids.prices.units(f"{trade.price:f}")
        taker = (trade.sequence, tick, trade.side)
        if taker != self._last_taker:
            self._last_taker = taker
            self._last_aggregate += 1
        self.last_id += 1
        lots = self._grids.quantities.units(f"{trade.quantity:f}")
        return NumberedTrade(self.last_id, self._last_aggregate, tick, lots, trade.time_ms, trade.side == "Sell")

    def _count(self, trade: NumberedTrade) -> None:
        minute = trade.time_ms // MINUTE_MS
        tally = self._minutes.get(minute)
        if tally is None:
            tally = self._minutes[minute] = Tally(first_id=trade.trade_id)
            if len(self._minutes) > KEPT_MINUTES:
                self._first_minute = next(iter(self._minutes)) + 1
                del self._minutes[self._first_minute - 1]
        tally.last_id = trade.trade_id
        tally.trades += 1
        if not trade.buyer_is_maker:
            tally.bought += trade.lots
            tally.bought_value += trade.tick * trade.lots


def aggregated(trades: Iterable[NumberedTrade]) -> list[AggregateTrade]:
    """Trades of one taker at one price as one."""
    return [_joined(list(group)) for _, group in groupby(trades, key=lambda trade: trade.aggregate_id)]


def _joined(trades: Sequence[NumberedTrade]) -> AggregateTrade:
    first = trades[0]
    return AggregateTrade(
        first.aggregate_id,
        first.trade_id,
        trades[-1].trade_id,
        first.tick,
        sum(trade.lots for trade in trades),
        first.time_ms,
        first.buyer_is_maker,
    )
