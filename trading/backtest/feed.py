"""Recorded market events as one table, and what may be wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trading.backtest.errors import BacktestError
from trading.backtest.kernels.replay_slots import Event, EventKind
from trading.simulator.instruments import Grids

__all__ = ["COLUMNS", "Event", "EventKind", "Feed"]

COLUMNS = len(Event)


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """``events``: int64, C order, shape (rows, COLUMNS); columns are ``Event``, kinds ``EventKind``, sides 1 (bids, a
    buyer took) and -1, prices in ticks and quantities in lots of ``grids``, times in nanoseconds UTC. In order of
    exchange time; rows of one book message stand together, have one time and end with an ``END``. ``has_book`` is False
    where there are only trades."""

    symbol: str
    grids: Grids
    events: NDArray[np.int64]
    has_book: bool = True
    # So far the recorder's clock was behind the exchange's at least; times of receipt have been put forward by it.
    clock_ns: int = 0
    # The lowest and the highest tick of levels and trades; reckoned where it is not given.
    reach: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        """
        Raises:
            BacktestError: not such a table, or a price below one tick.
        """
        events = self.events
        if events.dtype != np.int64 or not events.flags.c_contiguous or events.shape[1:] != (COLUMNS,):
            raise BacktestError(
                f"{self.symbol}: a feed of {events.dtype}, {events.shape}; expected int64, C order, rows"
            )
        if self.reach != (0, 0):
            return
        ticks = events[events[:, Event.KIND] <= EventKind.TRADE, Event.TICK]
        lowest, highest = (int(ticks.min()), int(ticks.max())) if len(ticks) else (1, 1)
        if lowest <= 0:
            raise BacktestError(f"{self.symbol}: a price of {lowest} ticks; expected prices above 0")
        object.__setattr__(self, "reach", (lowest, highest))

    def __len__(self) -> int:
        return len(self.events)

    @property
    def start_ns(self) -> int:
        """Of the first event; 0 where there is none."""
        return int(self.events[0, Event.TIME]) if len(self.events) else 0

    @property
    def end_ns(self) -> int:
        """Of the last event; 0 where there is none."""
        return int(self.events[-1, Event.TIME]) if len(self.events) else 0

    def as_received(self) -> Feed:
        """The same as it was heard here: times are those of receipt, and so is the order. Replayed without orders, it
        is the book that a strategy knows, while the exchange's is ahead."""
        events = self.events[np.argsort(self.events[:, Event.RECEIVED], kind="stable")]
        events[:, Event.TIME] = events[:, Event.RECEIVED]
        return replace(self, events=events)
