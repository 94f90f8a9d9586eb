"""SuperTrend: follow the trend when it flips; the line is the stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from marketdata.events import Candle
from strategies.base import ParameterSpec
from strategies.candle_strategy import CandleKernel, CandleStrategy
from strategies.library.candle_parameters import MAX_STOP_PERCENT, MIN_STOP_PERCENT, REWARD_RISK, timeframe


class SuperTrend(CandleStrategy):
    """Signals on the closed candle that flips the trend. The stop is the SuperTrend line, kept within a band of
    distances from the entry; the target is a multiple of that risk."""

    name: ClassVar[str] = "supertrend"
    title: ClassVar[str] = "SuperTrend"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        timeframe("30"),
        ParameterSpec("period", "int", 10, "bars of the average true range", "bars", 2, 200),
        ParameterSpec("multiplier", "float", 3.0, "distance of the bands", "ATR", 0.5, 20),
        REWARD_RISK,
        MIN_STOP_PERCENT,
        MAX_STOP_PERCENT,
    )
    notes: ClassVar[tuple[str, ...]] = ("line", "atr")

    @classmethod
    def kernel(cls) -> CandleKernel:
        from strategies.kernels.supertrend import KERNEL  # noqa: PLC0415

        return KERNEL

    @property
    def warm_up(self) -> int:
        # After 14 periods a millionth of where Wilder's average began is left. The bands forget where they began when
        # the price has crossed both, which takes the longer (as the square) the farther they are apart.
        return 14 * int(self.settings["period"]) + min(600, math.ceil(6 * float(self.settings["multiplier"]) ** 2))

    def reason(self, candle: Candle, side: str, notes: Mapping[str, float]) -> str:
        return (
            f"SuperTrend({self.settings['period']}, {self.settings['multiplier']:g}) on {self.timeframe} m flipped "
            f"{'up' if side == 'Buy' else 'down'}: close {candle.close} crossed the band, line now {notes['line']:.8g}"
        )
