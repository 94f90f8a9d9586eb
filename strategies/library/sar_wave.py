"""SAR wave: in a flat market, the Parabolic SAR turns the way that the Elliott wave under way goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from marketdata.events import Candle
from strategies.base import ParameterSpec
from strategies.candle_strategy import CandleKernel, CandleStrategy
from strategies.library.candle_parameters import LEAST_REWARD_RISK, MAX_STOP_PERCENT, MIN_STOP_PERCENT, timeframe

LEVELS = (0.236, 0.382, 0.5, 0.618, 0.786)


class SarWave(CandleStrategy):
    """Acts only where the market is flat. The target is a Fibonacci extension of the first wave, the stop the SAR."""

    name: ClassVar[str] = "sar_wave"
    title: ClassVar[str] = "SAR wave"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        timeframe("15"),
        ParameterSpec("af_start", "float", 0.02, "acceleration that the SAR begins with", "", 0.005, 0.2),
        ParameterSpec("af_step", "float", 0.02, "what each new extreme adds to it", "", 0.001, 0.2),
        ParameterSpec("af_max", "float", 0.2, "largest acceleration", "", 0.01, 1),
        ParameterSpec("min_flat_strength", "float", 0.6, "how flat the market must be at least", "", 0, 1),
        ParameterSpec("min_wave_confidence", "float", 0.7, "how sure the wave count must be at least", "", 0, 1),
        *(
            ParameterSpec(f"fibonacci_{number}", "float", level, "a retracement that wave 2 or 4 may have", "", 0.1, 1)
            for number, level in enumerate(LEVELS, start=1)
        ),
        ParameterSpec("fibonacci_tolerance", "float", 0.05, "how near to one of them is near enough", "", 0, 0.5),
        ParameterSpec("flat_period", "int", 14, "period of the flat market's indicators and of the ATR", "bars", 5, 30),
        ParameterSpec("flat_lookback", "int", 100, "bars that the bands' width is compared with", "bars", 20, 400),
        ParameterSpec("swing_atr", "float", 2.0, "how far the price comes back when a wave ends", "ATR", 0.5, 5),
        LEAST_REWARD_RISK,
        MIN_STOP_PERCENT,
        MAX_STOP_PERCENT,
    )
    notes: ClassVar[tuple[str, ...]] = ("wave", "wave_confidence", "flat_strength", "sar")

    @classmethod
    def kernel(cls) -> CandleKernel:
        from strategies.kernels.sar_wave import KERNEL  # noqa: PLC0415

        return KERNEL

    @property
    def warm_up(self) -> int:
        # What each part needs to forget its start: Wilder's averages 18 periods, the widths their window, the zigzag
        # nine turns (the larger its swings, the longer, as the square), the SAR a turn or two (a slow one is late).
        period, swing = int(self.settings["flat_period"]), float(self.settings["swing_atr"])
        turns, turned = math.ceil(30 * swing**2), math.ceil(4 / float(self.settings["af_start"]))
        return max(18 * period, period + int(self.settings["flat_lookback"]), turns, turned)

    def reason(self, candle: Candle, side: str, notes: Mapping[str, float]) -> str:
        return (
            f"SAR on {self.timeframe} m turned {'up' if side == 'Buy' else 'down'} to {notes['sar']:.8g} in wave "
            f"{notes['wave']:.0f} (confidence {notes['wave_confidence']:.2f}) of a flat market (strength "
            f"{notes['flat_strength']:.2f}), close {candle.close}"
        )
