"""Volume profile: the price leaves the area where most was traded, is not accepted outside, and comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from marketdata.events import Candle
from strategies.base import ParameterSpec
from strategies.candle_strategy import CandleKernel, CandleStrategy
from strategies.library.candle_parameters import LEAST_REWARD_RISK, MAX_STOP_PERCENT, MIN_STOP_PERCENT, timeframe


class VolumeProfile(CandleStrategy):
    """Buys a close back inside the value area from below, sells one from above. The target is the point of control, or
    the far edge of the area; the stop is behind the farthest price outside."""

    name: ClassVar[str] = "volume_profile"
    title: ClassVar[str] = "Volume profile"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        timeframe("60"),
        ParameterSpec("lookback", "int", 100, "bars of the profile", "bars", 20, 500),
        ParameterSpec("rows", "int", 50, "levels that the range is cut into", "levels", 10, 200),
        ParameterSpec("value_area", "float", 70.0, "share of the volume in the value area", "%", 10, 95),
        ParameterSpec(
            "poc_strength", "float", 1.5, "least volume at the point of control", "x mean volume of a level", 1, 20
        ),
        ParameterSpec("excursion_bars", "int", 10, "longest stay outside that is a rejection", "bars", 1, 100),
        LEAST_REWARD_RISK,
        MIN_STOP_PERCENT,
        MAX_STOP_PERCENT,
    )
    notes: ClassVar[tuple[str, ...]] = ("poc", "value_low", "value_high", "poc_strength", "bars_outside")

    @classmethod
    def kernel(cls) -> CandleKernel:
        from strategies.kernels.volume_profile import KERNEL  # noqa: PLC0415

        return KERNEL

    @property
    def warm_up(self) -> int:
        return int(self.settings["lookback"]) + int(self.settings["excursion_bars"]) + 1

    def reason(self, candle: Candle, side: str, notes: Mapping[str, float]) -> str:
        return (
            f"close {candle.close} back inside the value area {notes['value_low']:.8g} to {notes['value_high']:.8g} "
            f"after {notes['bars_outside']:.0f} bars of {self.timeframe} m {'below' if side == 'Buy' else 'above'} it; "
            f"point of control {notes['poc']:.8g}, {notes['poc_strength']:.1f} x the mean level"
        )
