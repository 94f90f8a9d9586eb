"""Order-book imbalance: resting quantity leans to one side long enough, and the spread is small."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from marketdata.engine.feature_table import feature_index
from marketdata.events import BookView
from strategies.base import ParameterSpec, QuietStrategy
from strategies.signals import Signal

DEPTHS = ("1", "5", "10", "25")


class OrderBookImbalance(QuietStrategy):
    """Buys when the bid share of the best levels stays above the threshold, sells when the ask share does.

    The feature ``imbalance_N`` is (bids - asks) / (bids + asks), -1 to 1; the share is (1 + imbalance) / 2. Times are
    the venue's, from the messages themselves.
    """

    name: ClassVar[str] = "scalping.imbalance"
    title: ClassVar[str] = "Order-book imbalance"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        ParameterSpec("levels", "choice", "5", "levels a side that are summed", "levels", choices=DEPTHS),
        ParameterSpec("threshold", "float", 0.7, "share of the resting quantity on one side", "", 0.5, 0.99),
        ParameterSpec("hold_ms", "int", 500, "how long the share must stay above", "ms", 0, 60_000),
        ParameterSpec("cooldown_s", "float", 60.0, "pause after a signal", "s", 0, 86_400),
        ParameterSpec("max_spread_percent", "float", 0.05, "widest spread", "% of price", 0.0001, 5),
        ParameterSpec("stop_percent", "float", 0.2, "distance of the stop", "% of price", 0.01, 10),
        ParameterSpec("reward_risk", "float", 1.6, "target distance over stop distance", "", 1.5, 20),
    )

    def __init__(self, symbol: str, parameters: Mapping[str, Any]) -> None:
        self._symbol = symbol
        self._levels = str(parameters["levels"])
        self._feature = feature_index(f"imbalance_{self._levels}")
        self._threshold = float(parameters["threshold"])
        self._hold_ns = int(parameters["hold_ms"]) * 1_000_000
        self._cooldown_ns = int(float(parameters["cooldown_s"]) * 1_000_000_000)
        self._max_spread = float(parameters["max_spread_percent"]) / 100
        self._stop = Decimal(str(parameters["stop_percent"])) / 100
        self._reward_risk = Decimal(str(parameters["reward_risk"]))
        self._leaning = 0
        self._since_ns = 0
        self._quiet_until_ns = 0

    @classmethod
    def create(cls, symbol: str, parameters: Mapping[str, Any]) -> OrderBookImbalance:
        return cls(symbol, parameters)

    def on_book(self, view: BookView) -> Signal | None:
        imbalance = float(view.features[self._feature])
        share = (1.0 + abs(imbalance)) / 2.0
        leaning = 0 if share < self._threshold else (1 if imbalance > 0 else -1)
        if leaning != self._leaning:
            self._leaning, self._since_ns = leaning, view.venue_ns
        held_ns = view.venue_ns - self._since_ns
        if leaning == 0 or held_ns < self._hold_ns or view.venue_ns < self._quiet_until_ns:
            return None
        spread = float((view.best_ask - view.best_bid) / view.best_bid)
        if spread > self._max_spread:
            return None
        self._quiet_until_ns = view.venue_ns + self._cooldown_ns
        return self._signal(view, leaning, share, held_ns)

    def _signal(self, view: BookView, leaning: int, share: float, held_ns: int) -> Signal:
        entry = view.best_ask if leaning > 0 else view.best_bid
        distance = entry * self._stop
        word = "bid" if leaning > 0 else "ask"
        return Signal(
            strategy=self.name,
            symbol=self._symbol,
            side="Buy" if leaning > 0 else "Sell",
            strength=min(1.0, (share - self._threshold) / max(1e-9, 1.0 - self._threshold)),
            entry_price=entry,
            take_profit=entry + leaning * distance * self._reward_risk,
            stop_loss=entry - leaning * distance,
            reason=f"{word} share {share:.2f} of {self._levels} levels for {held_ns // 1_000_000} ms, "
            f"threshold {self._threshold:.2f}",
            time_ns=view.venue_ns,
            metadata={"share": share, "held_ms": held_ns / 1e6},
        )
