"""How long an order takes: frame received -> order committed -> request sent -> answered, for the newest orders."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class LatencyWindow:
    """Keeps the newest ``size`` measurements of one stage, in milliseconds."""

    def __init__(self, size: int = 1_000) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, nanoseconds: int) -> None:
        self._values.append(nanoseconds / 1e6)

    def summary(self) -> dict[str, float | int]:
        """Count, median and 99th percentile (nearest rank)."""
        ordered = sorted(self._values)
        if not ordered:
            return {"count": 0}
        return {
            "count": len(ordered),
            "p50_ms": round(percentile(ordered, 0.50), 3),
            "p99_ms": round(percentile(ordered, 0.99), 3),
        }


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile of an ascending sequence."""
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]
