"""A price-time order book in integer ticks and lots, where our users' orders and the background flow rest together.

A level is a queue: each entry is one user's order or an anonymous block of background quantity. Takers eat from the
front; background that goes away goes from the back, so a resting order keeps its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trading.simulator import book_kernels as kernels

FIRST_CAPACITY = 1_024
# Rows that one call of a kernel may use up; the arrays grow before they could run out.
RESERVE = 8
FARTHEST = 2**62
MATCHES = 512


class Front(NamedTuple):
    """The entry that a taker meets next. ``order`` is None for background; ``handle`` names the entry."""

    tick: int
    lots: int
    order: Any
    handle: int


class Side:
    """One side's levels; ``sign`` is -1 for bids and 1 for asks. ``state`` is what every kernel begins with."""

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self._orders: dict[int, Any] = {}
        self._matches = np.empty((MATCHES, 2), dtype=np.int64)
        self.state = _empty_state(FIRST_CAPACITY)
        self._meta = self.state[5]
        self._rows = np.empty((FIRST_CAPACITY, 2), dtype=np.int64)

    def __len__(self) -> int:
        return int(self._meta[kernels.LEVELS])

    @property
    def best(self) -> int | None:
        """The best tick."""
        count = self._meta[kernels.LEVELS]
        return -self.sign * int(self.state[0][count - 1]) if count else None

    @property
    def worst(self) -> int | None:
        return -self.sign * int(self.state[0][0]) if len(self) else None

    @property
    def users(self) -> int:
        """How many users' orders rest here."""
        return len(self._orders)

    def ticks(self) -> Iterator[int]:
        """All ticks, best first."""
        return (-self.sign * int(key) for key in self.state[0][: len(self)][::-1])

    def best_levels(self, count: int, rows: NDArray[np.int64]) -> int:
        """Write the best levels into ``rows`` (key, lots; key is minus sign times the tick); how many there are."""
        keys, slots, levels = self.state[:3]
        return int(kernels.top(keys, slots, levels, len(self), count, rows))

    def top(self, count: int) -> dict[int, int]:
        """The best ``count`` levels: tick to lots, best first."""
        if count > len(self._rows):
            self._rows = np.empty((count, 2), dtype=np.int64)
        written, sign = self.best_levels(count, self._rows), self.sign
        return {-sign * key: lots for key, lots in self._rows[:written].tolist()}

    def lots_at(self, tick: int) -> int:
        slot = self._slot(tick)
        return 0 if slot is None else int(self.state[2][slot, kernels.LOTS])

    def background_at(self, tick: int) -> int:
        slot = self._slot(tick)
        return 0 if slot is None else int(self.state[2][slot, kernels.BACKGROUND])

    def queue(self, tick: int) -> list[Front]:
        """Everything that rests at a tick, the first to trade first."""
        slot, queue = self._slot(tick), []
        row = kernels.NONE if slot is None else int(self.state[2][slot, kernels.HEAD])
        while row != kernels.NONE:
            queue.append(self._front(tick, row))
            row = int(self.state[3][row, kernels.NEXT])
        return queue

    def user_ticks(self) -> list[int]:
        """The ticks where users' orders rest, best first."""
        return sorted({order.tick for order in self._orders.values()}, reverse=self.sign < 0)

    def set_background(self, tick: int, lots: int) -> None:
        """Make the background quantity of a level so many lots, and let every user's order keep its place."""
        self.reserve(RESERVE)
        kernels.set_background(*self.state, -self.sign * tick, lots)

    def replace_background(self, levels: Mapping[int, int]) -> None:
        """Make these ticks and lots all the background there is; at levels that stay, orders keep their places."""
        for tick in [each for each in self.ticks() if each not in levels]:
            self.set_background(tick, 0)
        for tick, lots in levels.items():
            self.set_background(tick, lots)

    def rest(self, tick: int, lots: int, order: Any) -> int:
        """Queue a user's order behind everything that rests at its tick; the handle of its entry."""
        self.reserve(RESERVE)
        handle = int(kernels.append_entry(*self.state, -self.sign * tick, lots, 1))
        self._orders[handle] = order
        return handle

    def cancel(self, tick: int, handle: int) -> None:
        self.shrink(tick, handle, int(self.state[3][handle, kernels.ENTRY_LOTS]))

    def shrink(self, tick: int, handle: int, lots: int) -> None:
        """Take lots out of an entry; its place in the queue stays."""
        if lots == self.state[3][handle, kernels.ENTRY_LOTS]:
            self._orders.pop(handle, None)
        kernels.reduce_entry(*self.state, -self.sign * tick, handle, lots)

    def available(self, limit_tick: int | None) -> int:
        """Lots within a limit; None is no limit."""
        keys, slots, levels = self.state[:3]
        return int(kernels.available(keys, slots, levels, len(self), self._limit(limit_tick)))

    def front(self, limit_tick: int | None) -> Front | None:
        """Who trades next with a taker: the entry that stands longest at the best tick, if that is within the limit."""
        count = int(self._meta[kernels.LEVELS])
        if not count:
            return None
        key = int(self.state[0][count - 1])
        if limit_tick is not None and key < -self.sign * limit_tick:
            return None
        row = int(self.state[2][self.state[1][count - 1], kernels.HEAD])
        return self._front(-self.sign * key, row)

    def take_background(self, lots: int, limit_tick: int | None) -> list[list[int]]:
        """Match so many lots with background that stands in front; stops at a user's entry. Rows of tick, lots."""
        found = kernels.take(*self.state, lots, self._limit(limit_tick), self._matches)
        return [[-self.sign * key, traded] for key, traded in self._matches[:found].tolist()]

    def _front(self, tick: int, row: int) -> Front:
        lots = int(self.state[3][row, kernels.ENTRY_LOTS])
        return Front(tick, lots, self._orders.get(row), row)

    def _limit(self, limit_tick: int | None) -> int:
        return -FARTHEST if limit_tick is None else -self.sign * limit_tick

    def _slot(self, tick: int) -> int | None:
        keys, count, key = self.state[0], len(self), -self.sign * tick
        index = int(kernels.find(keys, count, key))
        return int(self.state[1][index]) if index < count and keys[index] == key else None

    def reserve(self, rows: int) -> None:
        """Make room for so many more levels and entries; ``state`` may be another one afterwards."""
        while self._meta[kernels.FREE_LEVELS] < rows or self._meta[kernels.FREE_ENTRIES] < rows:
            self._grow()

    def _grow(self) -> None:
        """Twice the room; rows keep their numbers."""
        old = self.state
        capacity = 2 * len(old[0])
        state = _empty_state(capacity)
        for new_part, old_part in zip(state[:4], old[:4], strict=True):
            new_part[: len(old_part)] = old_part
        free, meta = state[4], state[5]
        meta[:] = old[5]
        added = np.arange(len(old[0]), capacity)
        for row, column in ((0, kernels.FREE_LEVELS), (1, kernels.FREE_ENTRIES)):
            known = int(meta[column])
            free[row, :known] = old[4][row, :known]
            free[row, known : known + len(added)] = added[::-1]
            meta[column] = known + len(added)
        self.state, self._meta = state, meta


State = tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
]


def _empty_state(capacity: int) -> State:
    """The arguments that every kernel of a side begins with, with room for so many levels and entries."""
    free = np.empty((2, capacity), dtype=np.int64)
    free[:] = np.arange(capacity)[::-1]
    meta = np.array([0, capacity, capacity, 0], dtype=np.int64)
    keys, slots = np.zeros(capacity, dtype=np.int64), np.zeros(capacity, dtype=np.int64)
    return keys, slots, np.zeros((capacity, 4), dtype=np.int64), np.zeros((capacity, 6), dtype=np.int64), free, meta


class MatchingBook:
    """Both sides of one instrument."""

    def __init__(self) -> None:
        self.bids, self.asks = Side(-1), Side(1)
        self.changed = True

    def side(self, name: str) -> Side:
        """The side on which a Buy or a Sell rests."""
        return self.bids if name == "Buy" else self.asks

    def opposite(self, name: str) -> Side:
        """The side that a Buy or a Sell takes from."""
        return self.asks if name == "Buy" else self.bids

    def process(self, orders: NDArray[np.int64]) -> int:
        """A batch of anonymous orders at once (see :func:`book_kernels.process_orders`); the lots that traded."""
        self.bids.reserve(len(orders) + RESERVE)
        self.asks.reserve(len(orders) + RESERVE)
        rows = np.full(len(orders), kernels.NONE)
        self.changed = True
        return int(kernels.process_orders(*self.bids.state, *self.asks.state, orders, rows, self.bids._matches))
