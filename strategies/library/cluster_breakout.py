"""Cluster breakout: takers eat the largest level of a side, and the price goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marketdata.events import BookView, Trade
from strategies.base import ParameterSpec
from strategies.book_levels import ASK, BID, Clusters
from strategies.scalper import SCALPING, Scalper
from strategies.signals import Signal


class ClusterBreakout(Scalper):
    """Buys when a cluster of asks was eaten and the price is through it, sells when a cluster of bids was. The broken
    cluster is where the stop stands. One that was withdrawn instead of eaten is no reason."""

    name: ClassVar[str] = "scalping.cluster_breakout"
    title: ClassVar[str] = "Cluster breakout"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        ParameterSpec("cluster_share", "float", 0.15, "the level's share of the best 50 of its side", "", 0.02, 1),
        ParameterSpec("cluster_s", "float", 3.0, "how long it must have stood", "s", 0, 3_600),
        ParameterSpec("eaten", "float", 0.5, "share of it that takers must have traded", "", 0.05, 1),
        *SCALPING,
    )

    def __init__(self, symbol: str, parameters: Mapping[str, Any]) -> None:
        super().__init__(symbol, parameters)
        share, hold_ns = float(parameters["cluster_share"]), int(float(parameters["cluster_s"]) * 1_000_000_000)
        self._clusters = {side: Clusters(side, share, hold_ns) for side in (ASK, BID)}
        self._eaten = float(parameters["eaten"])

    @classmethod
    def create(cls, symbol: str, parameters: Mapping[str, Any]) -> ClusterBreakout:
        return cls(symbol, parameters)

    def on_trade(self, trade: Trade) -> None:
        for clusters in self._clusters.values():
            clusters.take(trade)

    def on_book(self, view: BookView) -> Signal | None:
        # In a volatile market more of a cluster must be eaten: levels there are thin, and passed by chance.
        needed = 1.0 - (1.0 - self._eaten) / self.unrest(view)
        broken = [(side, cluster) for side in (ASK, BID) if (cluster := self._clusters[side].broken(view, needed))]
        if len(broken) != 1 or self.is_resting(view):
            return None
        side, cluster = broken[0]
        word, taker = ("asks", "buyers") if side == ASK else ("bids", "sellers")
        return self.signal(
            view,
            -side,
            cluster.price,
            0.5 + 0.5 * min(1.0, cluster.eaten_share),
            f"{taker} ate {cluster.eaten:.6g} of the {cluster.volume:.6g} {word} at {cluster.price:.10g}, "
            f"{(cluster.seen_ns - cluster.begun_ns) / 1e9:.1f} s old, and the price is through",
            cluster_price=cluster.price,
            cluster_volume=cluster.volume,
            eaten=cluster.eaten,
        )
