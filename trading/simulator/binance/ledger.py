"""Numbered level changes of one book, collected for as many speeds as somebody listens to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from trading.simulator.book import MatchingBook

MOST_LEVELS = 5_000

Levels = dict[int, int]


@dataclass(slots=True)
class Changes:
    """Levels that changed after change number ``begin`` up to number ``end``: tick to lots, 0 for a level that went."""

    begin: int
    end: int
    bids: Levels = field(default_factory=dict)
    asks: Levels = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.bids or self.asks)


class BookLedger:
    """``count`` numbers every level change seen so far; ``bids`` and ``asks`` are the book after that change, best
    first. Nothing is compared before somebody asks: see :meth:`refresh`."""

    def __init__(self, book: MatchingBook) -> None:
        self._book = book
        self._windows: dict[int, Changes] = {}
        self.count = 0
        self.bids, self.asks = self._levels()

    def refresh(self) -> None:
        """Catch up with the book: every level that differs from before counts as one change."""
        bids, asks = self._levels()
        changed_bids, changed_asks = _differences(self.bids, bids), _differences(self.asks, asks)
        self.count += len(changed_bids) + len(changed_asks)
        self.bids, self.asks = bids, asks
        for window in self._windows.values():
            window.bids.update(changed_bids)
            window.asks.update(changed_asks)
            window.end = self.count

    def pass_unseen(self) -> None:
        """Number one change that was undone before anybody could see it.

        Real books have many. Without any, every REST snapshot would fall exactly between two messages, and a client
        that waits for a message around its snapshot, as Binance's guide words it, would wait for ever.
        """
        self.count += 1
        for window in self._windows.values():
            window.end = self.count

    def open(self, speed_ms: int) -> None:
        """Begin to collect for one speed, from the book as it is now."""
        if speed_ms not in self._windows:
            self.refresh()
            self._windows[speed_ms] = Changes(self.count, self.count)

    def close(self, speed_ms: int) -> None:
        self._windows.pop(speed_ms, None)

    def collected(self, speed_ms: int) -> Changes | None:
        """What one speed collected since it was cut last, or None where no level changed."""
        return self._windows.get(speed_ms) or None

    def cut(self, speeds_ms: Iterable[int]) -> None:
        """Begin anew with those of these speeds that had something to tell."""
        for speed_ms in speeds_ms:
            if self._windows.get(speed_ms):
                self._windows[speed_ms] = Changes(self.count, self.count)

    def lose(self) -> int:
        """Forget what was collected, on purpose, so that clients see a gap; returns how many speeds it hit."""
        self.refresh()
        self.count += 1
        self._windows = {speed: Changes(self.count, self.count) for speed in self._windows}
        return len(self._windows)

    def _levels(self) -> tuple[Levels, Levels]:
        return self._book.bids.top(MOST_LEVELS), self._book.asks.top(MOST_LEVELS)


def _differences(before: Levels, after: Levels) -> Levels:
    differences = {tick: lots for tick, lots in after.items() if before.get(tick) != lots}
    differences.update((tick, 0) for tick in before.keys() - after.keys())
    return differences
