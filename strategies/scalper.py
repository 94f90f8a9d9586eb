"""What strategies of the book have in common: when they rest, how volatility moves their thresholds, and signals whose
stop stands behind a level of the book."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from marketdata.engine.feature_table import feature_index
from marketdata.events import BookView
from strategies.base import ParameterSpec, QuietStrategy
from strategies.book_levels import BID, level_price
from strategies.candle_strategy import exact
from strategies.signals import Signal

# A minute twice as volatile as the five around it changes thresholds as much as one ever does.
MOST_VOLATILE = 2.0
# How far behind its level a stop stands, in spreads.
BEHIND_A_LEVEL = 2.0

SCALPING: tuple[ParameterSpec, ...] = (
    ParameterSpec("cooldown_s", "float", 60.0, "pause after a signal", "s", 0, 86_400),
    ParameterSpec("max_spread_percent", "float", 0.05, "widest spread", "% of price", 0.0001, 5),
    ParameterSpec("min_stop_percent", "float", 0.05, "nearest stop in a calm market", "% of price", 0.01, 10),
    ParameterSpec("max_stop_percent", "float", 0.5, "farthest stop", "% of price", 0.02, 20),
    ParameterSpec("reward_risk", "float", 1.6, "target distance over stop distance", "", 1.5, 20),
)


class Scalper(QuietStrategy):
    """Reads every view and trade of one book. Times are the venue's, from the messages themselves."""

    name: ClassVar[str]

    def __init__(self, symbol: str, parameters: Mapping[str, Any]) -> None:
        self._symbol = symbol
        self._cooldown_ns = int(float(parameters["cooldown_s"]) * 1_000_000_000)
        self._max_spread = float(parameters["max_spread_percent"]) / 100
        self._nearest = float(parameters["min_stop_percent"]) / 100
        self._farthest = Decimal(str(parameters["max_stop_percent"])) / 100
        self._reward_risk = Decimal(str(parameters["reward_risk"]))
        self._quiet_until_ns = 0
        self._minute, self._minutes = feature_index("volatility_60s"), feature_index("volatility_300s")
        self._spread = feature_index("spread_relative")
        self._walls = {1: feature_index("wall_distance_bid"), -1: feature_index("wall_distance_ask")}

    def is_resting(self, view: BookView) -> bool:
        """After a signal, or while the spread is too wide."""
        return view.venue_ns < self._quiet_until_ns or not view.features[self._spread] <= self._max_spread

    def unrest(self, view: BookView) -> float:
        """1 in a calm market, up to ``MOST_VOLATILE`` where the last minute is more volatile than the last five."""
        minutes = float(view.features[self._minutes])
        ratio = float(view.features[self._minute]) / minutes if minutes > 0 else 1.0
        return min(MOST_VOLATILE, max(1.0, ratio)) if ratio == ratio else 1.0

    def wall(self, view: BookView, direction: int) -> float:
        """The price of the largest level behind which a position of that direction is safe."""
        return level_price(view, direction, float(view.features[self._walls[direction]]))

    def signal(
        self, view: BookView, direction: int, level: float, strength: float, reason: str, **metadata: float
    ) -> Signal:
        """Enter at the best price that can be had, with a stop behind ``level`` (a price). In a volatile market the
        nearest stop is farther away."""
        self._quiet_until_ns = view.venue_ns + self._cooldown_ns
        entry = view.best_ask if direction == BID else view.best_bid
        price = float(entry)
        behind = (price - level) * direction + BEHIND_A_LEVEL * float(view.best_ask - view.best_bid)
        nearest = price * self._nearest * self.unrest(view)
        distance = exact(max(behind if behind == behind else 0.0, nearest))
        distance = min(distance, entry * self._farthest)
        return Signal(
            strategy=self.name,
            symbol=self._symbol,
            side="Buy" if direction == BID else "Sell",
            strength=min(1.0, max(0.0, strength)),
            entry_price=entry,
            take_profit=entry + direction * distance * self._reward_risk,
            stop_loss=entry - direction * distance,
            reason=reason,
            time_ns=view.venue_ns,
            metadata=metadata,
        )
