"""Order-book scalper: a leaning book that the model believes in, a broken cluster, or a level that a large player
holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marketdata.engine.feature_table import feature_index
from marketdata.events import BookView, Trade
from strategies.base import ParameterSpec
from strategies.book_levels import ASK, BID, Attacks, Clusters
from strategies.scalper import SCALPING, Scalper
from strategies.signals import Signal

DEPTHS = ("5", "10", "25", "50")


class OrderBookScalper(Scalper):
    """The first of three reasons to enter, in this order:

    1. absorption: takers hit the best level with more than it ever showed, and it holds: a large player is there;
    2. a cluster of the other side was eaten and the price is through it;
    3. the imbalance (bids - asks) / (bids + asks) of the best levels leans one way for ``hold_ms``. This one asks for a
       model: its signals carry ``min_probability``, and are vetoed without a confidence as high.

    All thresholds rise with the volatility of the last minute over that of the last five. Strength is how far beyond
    its threshold the reason is, so that sizing by confidence follows it. The stop stands behind the level absorbed, the
    cluster broken, or the largest level of one's own side.
    """

    name: ClassVar[str] = "scalping.orderbook"
    title: ClassVar[str] = "Order-book scalper"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        ParameterSpec("levels", "choice", "10", "levels a side that are summed", "levels", choices=DEPTHS),
        ParameterSpec("imbalance", "float", 0.7, "least imbalance, -1 to 1, either way", "", 0.1, 0.99),
        ParameterSpec("hold_ms", "int", 300, "how long it must lean", "ms", 0, 60_000),
        ParameterSpec("min_probability", "float", 0.8, "least confidence of the model in it", "", 0.5, 0.99),
        ParameterSpec("absorption_ratio", "float", 3.0, "traded at a level over the most it showed", "", 1, 1_000),
        ParameterSpec("absorption_share", "float", 0.1, "and over the volume of the best 50 levels", "", 0, 10),
        ParameterSpec("absorption_hold_ms", "int", 1_000, "how long the level must hold after that", "ms", 0, 60_000),
        ParameterSpec("cluster_share", "float", 0.15, "a cluster's share of the best 50 levels", "", 0.02, 1),
        ParameterSpec("cluster_s", "float", 3.0, "how long it must have stood", "s", 0, 3_600),
        ParameterSpec("eaten", "float", 0.5, "share of it that takers must have traded", "", 0.05, 1),
        *SCALPING,
    )

    def __init__(self, symbol: str, parameters: Mapping[str, Any]) -> None:
        super().__init__(symbol, parameters)
        self._levels = str(parameters["levels"])
        self._feature = feature_index(f"imbalance_{self._levels}")
        self._imbalance = float(parameters["imbalance"])
        self._hold_ns = int(parameters["hold_ms"]) * 1_000_000
        self._min_probability = float(parameters["min_probability"])
        self._ratio, self._eaten = float(parameters["absorption_ratio"]), float(parameters["eaten"])
        share, hold_ns = float(parameters["absorption_share"]), int(parameters["absorption_hold_ms"]) * 1_000_000
        self._attacks = {side: Attacks(side, share, hold_ns) for side in (BID, ASK)}
        share, hold_ns = float(parameters["cluster_share"]), int(float(parameters["cluster_s"]) * 1_000_000_000)
        self._clusters = {side: Clusters(side, share, hold_ns) for side in (BID, ASK)}
        self._leaning, self._since_ns = 0, 0

    @classmethod
    def create(cls, symbol: str, parameters: Mapping[str, Any]) -> OrderBookScalper:
        return cls(symbol, parameters)

    def on_trade(self, trade: Trade) -> None:
        for side in (BID, ASK):
            self._attacks[side].take(trade)
            self._clusters[side].take(trade)

    def on_book(self, view: BookView) -> Signal | None:
        unrest = self.unrest(view)
        # All are told of every view, also while resting: what they know must not have holes.
        reasons = (self._absorbed(view, unrest), self._broken(view, unrest), self._leans(view, unrest))
        if self.is_resting(view):
            return None
        told = next((reason for reason in reasons if reason is not None), None)
        return None if told is None else self.signal(view, **told)

    def _absorbed(self, view: BookView, unrest: float) -> dict[str, Any] | None:
        ratio = self._ratio * unrest
        held = [(side, level) for side in (BID, ASK) if (level := self._attacks[side].held(view, ratio))]
        if len(held) != 1:
            return None
        side, level = held[0]
        times = level.traded / level.shown if level.shown > 0 else ratio
        return {
            "direction": side,
            "level": level.price,
            "strength": 0.5 + 0.5 * min(1.0, times / ratio - 1.0),
            "reason": f"the {'bid' if side == BID else 'ask'} at {level.price:.10g} took {level.traded:.6g}, "
            f"{times:.1f} times what it showed, and holds; at least {ratio:.1f} times are asked for",
            "absorbed": level.traded,
            "shown": level.shown,
        }

    def _broken(self, view: BookView, unrest: float) -> dict[str, Any] | None:
        needed = 1.0 - (1.0 - self._eaten) / unrest
        broken = [(side, cluster) for side in (BID, ASK) if (cluster := self._clusters[side].broken(view, needed))]
        if len(broken) != 1:
            return None
        side, cluster = broken[0]
        return {
            "direction": -side,
            "level": cluster.price,
            "strength": 0.5 + 0.5 * min(1.0, cluster.eaten_share),
            "reason": f"{cluster.eaten_share:.0%} of the {'bids' if side == BID else 'asks'} at {cluster.price:.10g} "
            f"was eaten, and the price is through; at least {needed:.0%} is asked for",
            "cluster_volume": cluster.volume,
            "eaten": cluster.eaten,
        }

    def _leans(self, view: BookView, unrest: float) -> dict[str, Any] | None:
        threshold = 1.0 - (1.0 - self._imbalance) / unrest
        imbalance = float(view.features[self._feature])
        leaning = 0 if not abs(imbalance) > threshold else (1 if imbalance > 0 else -1)
        if leaning != self._leaning:
            self._leaning, self._since_ns = leaning, view.venue_ns
        if leaning == 0 or view.venue_ns - self._since_ns < self._hold_ns:
            return None
        return {
            "direction": leaning,
            "level": self.wall(view, leaning),
            "strength": 0.5 + 0.5 * (abs(imbalance) - threshold) / (1.0 - threshold),
            "reason": f"imbalance {imbalance:+.2f} of {self._levels} levels for {self._hold_ns // 1_000_000} ms and "
            f"more, threshold {threshold:.2f}; asks for a model's confidence of {self._min_probability:.2f}",
            "imbalance": imbalance,
            "min_probability": self._min_probability,
        }
