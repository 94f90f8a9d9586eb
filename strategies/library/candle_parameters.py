"""Parameters that strategies of candles share."""

from __future__ import annotations

from strategies.base import ParameterSpec
from strategies.candle_strategy import INTERVALS

REWARD_RISK = ParameterSpec("reward_risk", "float", 2.0, "target distance over stop distance", "", 1.5, 20)
LEAST_REWARD_RISK = ParameterSpec(
    "reward_risk", "float", 1.5, "least target distance over stop distance; with less there is no signal", "", 1.5, 20
)
MIN_STOP_PERCENT = ParameterSpec("min_stop_percent", "float", 0.1, "nearest stop", "% of price", 0.01, 10)
MAX_STOP_PERCENT = ParameterSpec("max_stop_percent", "float", 3.0, "farthest stop", "% of price", 0.05, 50)


def timeframe(default: str) -> ParameterSpec:
    return ParameterSpec("timeframe", "choice", default, "candles it watches", "minutes", choices=INTERVALS)
