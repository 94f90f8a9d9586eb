"""What a detector says: a frozen value with the evidence, and a sentence that a trader can read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

from marketdata.engine.detectors.kinds import DetectionKind

# The sides of the book, by number, and the ends of a large level (marketdata.engine.detectors.large_levels).
SIDE_NAMES = ("bid", "ask")
ENDS = ("was withdrawn", "was filled", "was filled in part, the rest withdrawn", "was moved to another price")

# The evidence of each kind: names in the order of its record; those in _LOTS are in base coins, in _TICKS in prices.
EVIDENCE: Mapping[DetectionKind, tuple[str, ...]] = MappingProxyType(
    {
        DetectionKind.IMBALANCE: ("imbalance", "threshold", "bid_volume", "ask_volume", "seconds", "median_imbalance"),
        DetectionKind.VOLUME_CLUSTER: (
            "volume",
            "median_volume",
            "ratio",
            "threshold",
            "peak_volume",
            "seconds",
            "distance",
        ),
        DetectionKind.CLUSTER_GONE: (
            "volume",
            "median_volume",
            "ratio",
            "threshold",
            "peak_volume",
            "seconds",
            "distance",
        ),
        DetectionKind.HOT_SPOT: ("volume", "median_volume", "ratio", "threshold_volume", "trades", "flow_imbalance"),
        DetectionKind.SUPPORT: ("touches", "resting_density", "traded_density", "rebound", "seconds"),
        DetectionKind.RESISTANCE: ("touches", "resting_density", "traded_density", "rebound", "seconds"),
        DetectionKind.SPOOFING: (
            "volume",
            "size_ratio",
            "seconds",
            "filled_share",
            "nearest_ticks",
            "opposite_volume",
            "opposite_excess",
            "repeats",
        ),
        DetectionKind.LAYERING: (
            "volume",
            "size_ratio",
            "seconds",
            "filled_share",
            "nearest_ticks",
            "opposite_volume",
            "opposite_excess",
            "levels",
        ),
        DetectionKind.ABSORPTION: ("traded_volume", "shown_volume", "ratio", "trades", "seconds", "threshold_volume"),
        DetectionKind.LEVEL_LIFETIME: (
            "seconds",
            "median_seconds",
            "volume",
            "filled_share",
            "end",
            "distance_ticks",
            "nearest_ticks",
        ),
        DetectionKind.TOXICITY: ("vpin", "deviations", "threshold", "flow_imbalance", "seconds"),
        DetectionKind.EXPLOSION: ("move", "volume_ratio", "volume_per_second", "usual_volume_per_second", "seconds"),
    }
)
_LOTS = frozenset(
    {
        "volume",
        "median_volume",
        "peak_volume",
        "threshold_volume",
        "bid_volume",
        "ask_volume",
        "opposite_volume",
        "traded_volume",
        "shown_volume",
        "volume_per_second",
        "usual_volume_per_second",
    }
)
_TICKS = frozenset({"distance", "rebound"})


@dataclass(frozen=True, slots=True)
class Detection:
    """``side`` is the side of the book that the evidence stands on; for flows (HOT_SPOT, TOXICITY, EXPLOSION) "bid"
    means that buyers press, "ask" that sellers do. Times are the venue's, in ms since 1970. ``score`` is from 0 to 1:
    how far beyond its thresholds, not a probability."""

    symbol: str
    kind: DetectionKind
    side: str
    low: Decimal
    high: Decimal
    begin_ms: int
    detected_ms: int
    score: float
    evidence: Mapping[str, float]
    reason: str


def evidence_of(kind: DetectionKind, values: list[float], tick_size: float, lot_size: float) -> dict[str, float]:
    """The named numbers of a record's evidence, quantities in base coins and distances in prices."""
    named = {}
    for name, value in zip(EVIDENCE[kind], values, strict=False):
        named[name] = value * (lot_size if name in _LOTS else tick_size if name in _TICKS else 1.0)
    return named


def plain_evidence(evidence: Mapping[str, float]) -> dict[str, float | None]:
    """To six digits, as JSON can say it: None for what is no finite number."""
    return {name: float(f"{value:.6g}") if math.isfinite(value) else None for name, value in evidence.items()}


def reason_of(kind: DetectionKind, side: str, low: Decimal, high: Decimal, evidence: Mapping[str, float]) -> str:
    return _SENTENCES[kind](side, f"{low:f}" if low == high else f"{low:f} to {high:f}", evidence)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _imbalance(side: str, where: str, e: Mapping[str, float]) -> str:
    return (
        f"{side}s outweigh: {_amount(e['bid_volume'])} bid against {_amount(e['ask_volume'])} asked; the mean imbalance"
        f" of {e['imbalance']:+.2f} has been beyond this symbol's {e['threshold']:+.2f} for {e['seconds']:.1f} s"
    )


def _cluster(side: str, where: str, e: Mapping[str, float]) -> str:
    return (
        f"{_amount(e['volume'])} rest on the {side} side at {where}, {e['ratio']:.1f} times the median zone, since"
        f" {e['seconds']:.0f} s"
    )


def _gone(side: str, where: str, e: Mapping[str, float]) -> str:
    return (
        f"the {side} cluster at {where} is gone: {_amount(e['volume'])} left of {_amount(e['peak_volume'])} after"
        f" {e['seconds']:.0f} s"
    )


def _hot_spot(side: str, where: str, e: Mapping[str, float]) -> str:
    return (
        f"trading concentrates at {where}: {_amount(e['volume'])} in {e['trades']:.0f} trades, {e['ratio']:.1f} times"
        f" what is usual in one zone"
    )


def _support(side: str, where: str, e: Mapping[str, float]) -> str:
    name = "support" if side == "bid" else "resistance"
    return (
        f"{name} at {where}: the price turned there {e['touches']:.0f} times within {e['seconds']:.0f} s; volume"
        f" resting {e['resting_density']:.1f} times and traded {e['traded_density']:.1f} times as dense as elsewhere"
    )


def _spoofing(side: str, where: str, e: Mapping[str, float]) -> str:
    other = "ask" if side == "bid" else "bid"
    return (
        f"a {side} of {_amount(e['volume'])} at {where}, {e['size_ratio']:.1f} times a large level, was withdrawn after"
        f" {e['seconds']:.1f} s, never nearer than {e['nearest_ticks']:.0f} ticks to the best, while"
        f" {_amount(e['opposite_volume'])} traded at the {other}"
    )


def _layering(side: str, where: str, e: Mapping[str, float]) -> str:
    other = "ask" if side == "bid" else "bid"
    return (
        f"{e['levels']:.0f} {side} levels from {where} with {_amount(e['volume'])} were placed and withdrawn together"
        f" within {e['seconds']:.1f} s while {_amount(e['opposite_volume'])} traded at the {other}"
    )


def _absorption(side: str, where: str, e: Mapping[str, float]) -> str:
    return (
        f"the {side} at {where} took {_amount(e['traded_volume'])} in {e['trades']:.0f} trades over"
        f" {e['seconds']:.1f} s, {e['ratio']:.1f} times what it showed, and holds"
    )


def _lifetime(side: str, where: str, e: Mapping[str, float]) -> str:
    return f"a large {side} of {_amount(e['volume'])} at {where} {ENDS[int(e['end'])]} after {e['seconds']:.1f} s"


def _toxicity(side: str, where: str, e: Mapping[str, float]) -> str:
    who = "buyers" if side == "bid" else "sellers"
    return (
        f"the flow is toxic: {who} press, {e['flow_imbalance']:+.0%} of the volume of {e['seconds']:.0f} s (VPIN"
        f" {e['vpin']:.2f}), {e['deviations']:.1f} deviations from chance"
    )


def _explosion(side: str, where: str, e: Mapping[str, float]) -> str:
    return (
        f"the price moved {100 * e['move']:+.1f} % within {e['seconds']:.0f} s on {e['volume_ratio']:.1f} times the"
        f" usual volume"
    )


_SENTENCES: Mapping[DetectionKind, Callable[[str, str, Mapping[str, float]], str]] = MappingProxyType(
    {
        DetectionKind.IMBALANCE: _imbalance,
        DetectionKind.VOLUME_CLUSTER: _cluster,
        DetectionKind.CLUSTER_GONE: _gone,
        DetectionKind.HOT_SPOT: _hot_spot,
        DetectionKind.SUPPORT: _support,
        DetectionKind.RESISTANCE: _support,
        DetectionKind.SPOOFING: _spoofing,
        DetectionKind.LAYERING: _layering,
        DetectionKind.ABSORPTION: _absorption,
        DetectionKind.LEVEL_LIFETIME: _lifetime,
        DetectionKind.TOXICITY: _toxicity,
        DetectionKind.EXPLOSION: _explosion,
    }
)
