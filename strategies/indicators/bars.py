"""What every indicator of whole bars asks first."""

from __future__ import annotations

import math

from strategies.compiled import inner


@inner
def is_bar(high: float, low: float, close: float) -> bool:
    """Whether there can be such a bar."""
    return math.isfinite(high) and math.isfinite(low) and math.isfinite(close) and low <= close <= high


@inner
def true_range(high: float, low: float, previous_close: float) -> float:
    """How far the price went since the previous close, in quote coin."""
    return max(high - low, abs(high - previous_close), abs(low - previous_close))
