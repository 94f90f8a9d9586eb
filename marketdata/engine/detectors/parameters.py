"""What the detectors can be told: one value a symbol, each with its unit, its range and where its default comes from.

"Measured" names what was counted on the recorded Bybit session. Every other default is chosen, for the reason given,
and was tried on simulated markets and scenarios with other seeds than those that docs/detectors.md reports.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields


def _parameter(default: float, unit: str, low: float, high: float, reason: str) -> float:
    """A field with its description."""
    value: float = field(default=default, metadata={"unit": unit, "low": low, "high": high, "reason": reason})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorParameters:
    """Thresholds of all detectors.

    Raises:
        ValueError: a value outside its range; the message names the parameter.
    """

    memory_s: float = _parameter(
        300.0,
        "s",
        10.0,
        86_400.0,
        "time constant of every distribution; as long as the engine's longest feature window",
    )
    warm_up_s: float = _parameter(
        10.0,
        "s",
        0.0,
        3_600.0,
        "nothing is judged by a distribution that is younger; chosen: a hundred messages of a 100 ms stream",
    )

    # Large levels, and what becomes of them.
    large_quantile: float = _parameter(
        0.98, "1", 0.5, 0.9999, "of the sizes of the best 50 levels; above it lies what a ladder shows as a wall"
    )
    large_factor: float = _parameter(
        2.0,
        "1",
        0.1,
        100.0,
        "how far beyond it large begins; measured: of 42 BTCUSDT orders beyond it in 42 s none was twice it",
    )
    notable_share: float = _parameter(
        0.4, "1", 0.05, 1.0, "the part of a large level that is followed at all; layers are smaller than one wall"
    )
    near_share: float = _parameter(
        0.001,
        "1",
        0.0001,
        1.0,
        "how far from the best, as a part of the price, or 100 ticks: only the near ones move it",
    )
    ended_share: float = _parameter(
        0.3, "1", 0.0, 0.9, "a level has ended when no more than this part of what was added is left"
    )
    settle_ms: float = _parameter(
        1_000.0, "ms", 0.0, 60_000.0, "how long trades may come after the book that shows them; chosen"
    )
    lifetime_least_ms: float = _parameter(
        1_000.0, "ms", 0.0, 3_600_000.0, "shorter lives of large levels are no news: quotes that follow the price"
    )

    # Spoofing and layering.
    spoof_life_least_ms: float = _parameter(
        250.0,
        "ms",
        0.0,
        60_000.0,
        "shortest life; chosen: two messages of a 100 ms stream, what makers replace is younger",
    )
    spoof_life_ms: float = _parameter(
        15_000.0, "ms", 100.0, 3_600_000.0, "longest life; chosen: what stands longer has taken a real risk"
    )
    spoof_fill: float = _parameter(
        0.1, "1", 0.0, 0.9, "the most that may have been traded of it: it is not meant to be"
    )
    spoof_distance_ticks: float = _parameter(
        2.0, "ticks", 1.0, 100_000.0, "nearest place behind the best; what is at the best may be hit at any time"
    )
    spoof_opposite_share: float = _parameter(
        0.04, "1", 0.0, 10.0, "least volume traded on the other side while it stood, as a part of its size"
    )
    spoof_opposite_excess: float = _parameter(
        3.0, "1", 0.0, 1_000.0, "the same, as a multiple of what that time usually trades, and traded just before"
    )
    spoof_opposite_most: float = _parameter(
        1.0, "1", 0.01, 1_000.0, "most of it, as a part of its size: a lure is larger than what it is there for"
    )
    spoof_rank: float = _parameter(
        30.0, "levels", 1.0, 50.0, "most levels before it: deeper ones are hardly seen by those whom it should lure"
    )
    spoof_score: float = _parameter(
        0.6, "1", 0.0, 1.0, "least score of one level: what is just beyond every threshold is chance"
    )
    spoof_lure: float = _parameter(
        1.5, "1", 0.0, 1_000.0, "the same, as a multiple of what was traded on its own side: who flees is being hit"
    )
    layers: float = _parameter(3.0, "levels", 2.0, 16.0, "fewest levels of a ladder; chosen: two are common by chance")
    layering_placed_ms: float = _parameter(2_500.0, "ms", 1.0, 60_000.0, "they were placed within this time")
    layering_pulled_ms: float = _parameter(800.0, "ms", 1.0, 60_000.0, "and pulled within this time, below settle_ms")

    # Absorption.
    absorption_ratio: float = _parameter(
        3.0, "1", 1.0, 1_000.0, "traded at the level, as a multiple of the most that it ever showed meanwhile"
    )
    absorption_quantile: float = _parameter(
        0.9, "1", 0.0, 0.9999, "and more than this quantile of what the symbol's levels take before they are left alone"
    )
    absorption_hold_ms: float = _parameter(1_000.0, "ms", 0.0, 600_000.0, "how long the level must hold after that")
    absorption_gap_ms: float = _parameter(
        5_000.0, "ms", 10.0, 600_000.0, "a level that is not hit for so long is not attacked any more"
    )

    # Imbalance.
    imbalance_levels: float = _parameter(10.0, "levels", 1.0, 50.0, "levels a side that are compared")
    imbalance_mean_ms: float = _parameter(
        500.0, "ms", 1.0, 60_000.0, "time constant of the mean that is judged; five messages of a 100 ms stream"
    )
    imbalance_quantile: float = _parameter(
        0.98, "1", 0.5, 0.9999, "beyond this quantile of the symbol's own imbalance, on either side"
    )
    imbalance_least: float = _parameter(0.4, "1", 0.0, 1.0, "but never less: 0.4 is seven to three")
    imbalance_hold_ms: float = _parameter(1_000.0, "ms", 0.0, 600_000.0, "how long it must last")

    # Flow toxicity.
    toxicity_least: float = _parameter(
        0.5, "1", 0.0, 1.0, "lowest VPIN of a toxic regime: three quarters of the volume on one side of each bucket"
    )
    toxicity_warm_up_s: float = _parameter(
        60.0, "s", 0.0, 3_600.0, "no bucket begins before: the first ones would be a fiftieth of hardly anything"
    )
    toxicity_deviations: float = _parameter(
        4.5, "1", 0.0, 7.0, "buckets that lean one way, in deviations of buckets that lean at random; at most 7.07"
    )

    # Explosion.
    explosion_move: float = _parameter(
        0.03, "1", 0.0001, 10.0, "price move within the window: the product's definition"
    )
    explosion_volume: float = _parameter(
        3.0, "1", 0.0, 1_000.0, "volume of the window over the mean of the time before: the product's definition"
    )
    explosion_window_s: float = _parameter(60.0, "s", 1.0, 120.0, "the window; one bar of the shortest candles")
    explosion_before_s: float = _parameter(300.0, "s", 10.0, 380.0, "the time before it that is the average")
    explosion_check_ms: float = _parameter(
        100.0, "ms", 1.0, 60_000.0, "how often it is looked at: the product's definition"
    )

    # Clusters and hot spots.
    cluster_ratio: float = _parameter(4.0, "1", 1.0, 1_000.0, "volume of a zone over the median zone of its side")
    cluster_quantile: float = _parameter(
        0.98, "1", 0.5, 0.9999, "and beyond this quantile of the symbol's own zones: heavy tails are usual"
    )
    cluster_seconds: float = _parameter(
        3.0, "s", 1.0, 3_600.0, "how long it must last; flickering walls are no cluster"
    )
    hot_spot_ratio: float = _parameter(
        3.0, "1", 1.0, 1_000.0, "volume traded in a zone over the median of traded zones"
    )
    hot_spot_quantile: float = _parameter(0.98, "1", 0.5, 0.9999, "and beyond this quantile of them")
    hot_spot_trades: float = _parameter(5.0, "trades", 1.0, 100_000.0, "one large trade is no hot spot")

    # Support and resistance.
    support_touches: float = _parameter(
        2.0, "turns", 2.0, 100.0, "turns of the price at the same place; the usual rule"
    )
    support_rebound: float = _parameter(
        8.0, "1", 1.0, 1_000.0, "a turn is a move back by so many deviations of one second's change of price"
    )
    support_width: float = _parameter(0.35, "1", 0.01, 1.0, "half the width of a place, as a part of that move")
    support_density: float = _parameter(
        1.5, "1", 0.0, 1_000.0, "volume in it over the volume elsewhere, resting or traded, tick for tick"
    )
    support_memory_s: float = _parameter(900.0, "s", 10.0, 86_400.0, "how long a turn is remembered")

    def __post_init__(self) -> None:
        for each in fields(self):
            value, low, high = getattr(self, each.name), each.metadata["low"], each.metadata["high"]
            if not low <= value <= high:
                unit = "" if each.metadata["unit"] == "1" else f" {each.metadata['unit']}"
                raise ValueError(f"{each.name} is {value}; expected {low:g} to {high:g}{unit}")
        if self.layering_pulled_ms > self.settle_ms:
            raise ValueError(f"layering_pulled_ms is {self.layering_pulled_ms:g}; expected at most settle_ms")

    def values(self) -> list[float]:
        """In the order of :data:`NAMES`."""
        return [float(getattr(self, name)) for name in NAMES]


NAMES = tuple(each.name for each in fields(DetectorParameters))


def parameters_from_text(text: str) -> DetectorParameters:
    """The defaults, changed by ``name=value`` pairs that are separated by commas.

    Raises:
        ValueError: an unknown name, no number, or a value outside its range; the message names it.
    """
    changes: dict[str, float] = {}
    for pair in (each.strip() for each in text.split(",")):
        if not pair:
            continue
        name, _, value = (part.strip() for part in pair.partition("="))
        if name not in NAMES:
            raise ValueError(f"{name} is no threshold of a detector; they are {', '.join(NAMES)}")
        try:
            changes[name] = float(value)
        except ValueError:
            raise ValueError(f"{name} is {value!r}; expected a number") from None
    return DetectorParameters(**changes)
