"""A price-time order book in integer ticks and lots, where our users' orders and the background flow rest together.

A level is a queue: each entry is one user's order or an anonymous block of background quantity. Takers eat from the
front; background that goes away goes from the back, so a resting order keeps its place.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Entry:
    """``order`` is None for background quantity."""

    lots: int
    order: Any = None


@dataclass(slots=True)
class Level:
    entries: list[Entry] = field(default_factory=list)
    lots: int = 0
    background: int = 0


class Side:
    """One side's levels; ``sign`` is -1 for bids and 1 for asks, so that the best level has the lowest key."""

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.levels: dict[int, Level] = {}
        self._keys: list[int] = []

    @property
    def best(self) -> int | None:
        """The best tick."""
        return self._keys[0] * self.sign if self._keys else None

    def ticks(self) -> Iterator[int]:
        """All ticks, best first."""
        return (key * self.sign for key in self._keys)

    def top(self, count: int) -> dict[int, int]:
        """The best ``count`` levels: tick to lots, best first."""
        levels, sign = self.levels, self.sign
        return {key * sign: levels[key * sign].lots for key in self._keys[:count]}

    def set_background(self, tick: int, lots: int) -> None:
        """Make the background quantity of a level so many lots, and let every user's order keep its place."""
        level = self.levels.get(tick)
        if level is None:
            if lots:
                self._add(tick, Entry(lots))
            return
        change = lots - level.background
        if change > 0:
            if level.entries[-1].order is None:
                level.entries[-1].lots += change
            else:
                level.entries.append(Entry(change))
        else:
            self._withdraw(level, -change)
        level.lots += change
        level.background = lots
        if level.lots == 0:
            self._drop(tick)

    def rest(self, tick: int, lots: int, order: Any) -> Entry:
        """Queue a user's order behind everything that rests at its tick."""
        entry = Entry(lots, order)
        level = self.levels.get(tick)
        if level is None:
            self._add(tick, entry)
        else:
            level.entries.append(entry)
            level.lots += lots
        return entry

    def cancel(self, tick: int, entry: Entry) -> None:
        level = self.levels[tick]
        level.entries.remove(entry)
        level.lots -= entry.lots
        if level.lots == 0:
            self._drop(tick)

    def available(self, limit_tick: int | None) -> int:
        """Lots within a limit (worse for us side of it excluded); None is no limit."""
        total = 0
        for key in self._keys:
            if limit_tick is not None and key > limit_tick * self.sign:
                break
            total += self.levels[key * self.sign].lots
        return total

    def front(self, limit_tick: int | None) -> tuple[int, Entry] | None:
        """Who trades next with a taker: the best tick within the limit, and the entry that stands there longest."""
        if not self._keys:
            return None
        key = self._keys[0]
        if limit_tick is not None and key > limit_tick * self.sign:
            return None
        tick = key * self.sign
        return tick, self.levels[tick].entries[0]

    def eat(self, lots: int) -> None:
        """Take so many lots, at most all of it, from the entry that :meth:`front` shows."""
        tick = self._keys[0] * self.sign
        level = self.levels[tick]
        entry = level.entries[0]
        self._reduce(tick, level, entry, lots)

    def shrink(self, tick: int, entry: Entry, lots: int) -> None:
        """Take lots out of any entry; its place in the queue stays."""
        self._reduce(tick, self.levels[tick], entry, lots)

    def _reduce(self, tick: int, level: Level, entry: Entry, lots: int) -> None:
        entry.lots -= lots
        level.lots -= lots
        if entry.order is None:
            level.background -= lots
        if entry.lots == 0:
            level.entries.remove(entry)
        if level.lots == 0:
            self._drop(tick)

    def _withdraw(self, level: Level, lots: int) -> None:
        for entry in reversed(level.entries):
            if lots == 0:
                break
            if entry.order is None:
                gone = min(lots, entry.lots)
                entry.lots -= gone
                lots -= gone
        level.entries = [entry for entry in level.entries if entry.lots]

    def _add(self, tick: int, entry: Entry) -> None:
        background = entry.lots if entry.order is None else 0
        self.levels[tick] = Level([entry], entry.lots, background)
        insort(self._keys, tick * self.sign)

    def _drop(self, tick: int) -> None:
        del self.levels[tick]
        del self._keys[bisect_left(self._keys, tick * self.sign)]


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
