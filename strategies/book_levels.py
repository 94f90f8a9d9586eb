"""What single price levels do, followed through the views and trades of one book: attacked levels that hold, and
clusters of resting volume that are eaten. All from the messages themselves, so a replay sees what the live run saw.

Prices are floats in quote coin, quantities in base coin, times the venue's in nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from marketdata.engine.feature_table import feature_index
from marketdata.events import BookView, Trade

BID, ASK = 1, -1
# Two prices are one when they are nearer than any venue's tick.
SAME_PRICE = 1e-8
# How long trades may come after the book that shows them.
SETTLE_NS = 1_000_000_000
# An attack that pauses for so long, or a cluster that is not the largest level for so long, is forgotten.
PAUSE_NS = 5_000_000_000
FORGOTTEN_NS = 30_000_000_000


@dataclass(slots=True)
class AttackedLevel:
    """The level at the best price that takers last hit. ``shown`` is the most that was seen to rest there meanwhile."""

    price: float
    begun_ns: int
    hit_ns: int
    shown: float
    traded: float = 0.0
    enough_ns: int = 0


class Attacks:
    """One side's best level under attack: :meth:`held` tells of one that took ``ratio`` times what it showed, and at
    least ``share`` of the best 50 levels' volume (a large player's hand), and is the best one still, ``hold_ns`` after
    that."""

    def __init__(self, side: int, share: float, hold_ns: int) -> None:
        self._side, self._share, self._hold_ns = side, share, hold_ns
        self._taker = "Sell" if side == BID else "Buy"
        name = "bid" if side == BID else "ask"
        self._first, self._depth = feature_index(f"depth_{name}_1"), feature_index(f"depth_{name}_50")
        self._level: AttackedLevel | None = None
        # What rested at the best price before it was hit.
        self._best, self._resting = 0.0, 0.0

    def take(self, trade: Trade) -> None:
        if trade.side != self._taker:
            return
        price = float(trade.price)
        level = self._level
        if level is None or not _same(price, level.price):
            shown = self._resting if _same(price, self._best) else 0.0
            level = self._level = AttackedLevel(price, trade.venue_ns, trade.venue_ns, shown)
        level.traded += float(trade.quantity)
        level.hit_ns = trade.venue_ns

    def held(self, view: BookView, ratio: float) -> AttackedLevel | None:
        """The level that holds, told once."""
        best = float(view.best_bid if self._side == BID else view.best_ask)
        self._best, self._resting = best, float(view.features[self._first])
        level = self._level
        if level is None:
            return None
        is_best = _same(best, level.price)
        broken = (best - level.price) * self._side < 0 and not is_best
        if (broken and view.venue_ns > level.hit_ns) or view.venue_ns - level.hit_ns > PAUSE_NS + self._hold_ns:
            self._level = None
            return None
        if not is_best:
            return None
        level.shown = max(level.shown, self._resting)
        large = level.traded >= self._share * float(view.features[self._depth])
        if not large or level.traded < ratio * level.shown:
            level.enough_ns = 0
            return None
        level.enough_ns = level.enough_ns or view.venue_ns
        if view.venue_ns - level.enough_ns < self._hold_ns:
            return None
        self._level = None
        return level


@dataclass(slots=True)
class Cluster:
    """The largest of one side's best 50 levels. ``volume`` is the most that rested there, ``eaten`` what takers bought
    (or sold) at its price since it was first seen."""

    price: float
    begun_ns: int
    seen_ns: int
    volume: float
    eaten: float = 0.0
    passed_ns: int = 0

    @property
    def eaten_share(self) -> float:
        return self.eaten / self.volume


class Clusters:
    """One side's cluster: :meth:`broken` tells of one that held at least ``share`` of the best 50 levels' volume for
    ``hold_ns``, and which the price has passed after takers ate at least ``eaten`` of it. One that was withdrawn is
    none."""

    def __init__(self, side: int, share: float, hold_ns: int) -> None:
        self._side, self._share, self._hold_ns = side, share, hold_ns
        self._taker = "Sell" if side == BID else "Buy"
        name = "bid" if side == BID else "ask"
        self._distance, self._part = feature_index(f"wall_distance_{name}"), feature_index(f"wall_share_{name}")
        self._depth = feature_index(f"depth_{name}_50")
        self._cluster: Cluster | None = None

    def take(self, trade: Trade) -> None:
        cluster = self._cluster
        if cluster is not None and trade.side == self._taker and _same(float(trade.price), cluster.price):
            cluster.eaten += float(trade.quantity)

    def broken(self, view: BookView, eaten: float) -> Cluster | None:
        """The cluster that the price broke through, told once."""
        self._look(view)
        cluster = self._cluster
        if cluster is None:
            return None
        # Passed: the other side's best price is there or beyond.
        other = float(view.best_ask if self._side == BID else view.best_bid)
        if (cluster.price - other) * self._side < -SAME_PRICE * cluster.price:
            cluster.passed_ns = 0
            if view.venue_ns - cluster.seen_ns > FORGOTTEN_NS:
                self._cluster = None
            return None
        cluster.passed_ns = cluster.passed_ns or view.venue_ns
        is_told = cluster.eaten_share >= eaten and cluster.seen_ns - cluster.begun_ns >= self._hold_ns
        if is_told or view.venue_ns - cluster.passed_ns > SETTLE_NS:
            self._cluster = None
        return cluster if is_told else None

    def _look(self, view: BookView) -> None:
        """The largest level now: the cluster that is followed, another one, or none that counts."""
        part = float(view.features[self._part])
        if not part >= self._share:
            return
        price = level_price(view, self._side, float(view.features[self._distance]))
        volume = part * float(view.features[self._depth])
        cluster = self._cluster
        if cluster is not None and _same(price, cluster.price):
            cluster.seen_ns, cluster.volume = view.venue_ns, max(cluster.volume, volume)
        elif cluster is None or (
            not cluster.passed_ns and (volume > cluster.volume or view.venue_ns - cluster.seen_ns > PAUSE_NS)
        ):
            self._cluster = Cluster(price, view.venue_ns, view.venue_ns, volume)


def level_price(view: BookView, side: int, distance_bp: float) -> float:
    """The price of a level so many basis points behind the best of its side."""
    return float(view.best_bid if side == BID else view.best_ask) * (1 - side * distance_bp / 10_000)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= SAME_PRICE * other
