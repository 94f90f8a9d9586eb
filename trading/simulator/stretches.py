"""What one market traded in many steps at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading.simulator.exchange import Exchange
from trading.simulator.markets import Market, PublicTrade


@dataclass(frozen=True, slots=True)
class Stretch:
    """``rows`` are trades, oldest first (trades x 4: time in ms, 1 for a buying taker or -1, tick, lots), ``sequences``
    their numbers in the market; ``last_sequence`` is the market's number at the end."""

    exchange: Exchange
    market: Market
    rows: NDArray[np.int64]
    sequences: NDArray[np.int64]
    last_sequence: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ticks(self) -> NDArray[np.int64]:
        return self.rows[:, 2]

    @property
    def lots(self) -> NDArray[np.int64]:
        return self.rows[:, 3]

    def trades(self, newest: int | None = None) -> list[PublicTrade]:
        """All of them or so many of the newest, oldest first."""
        first = 0 if newest is None else max(0, len(self.rows) - newest)
        return [
            self.exchange.trade_of(self.market, "Buy" if direction > 0 else "Sell", tick, lots, time_ms, sequence)
            for (time_ms, direction, tick, lots), sequence in zip(
                self.rows[first:].tolist(), self.sequences[first:].tolist(), strict=True
            )
        ]
