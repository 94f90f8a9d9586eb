"""Breakout: a level that held several times gives way, on more volume than usual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from marketdata.events import Candle
from strategies.base import ParameterSpec
from strategies.candle_strategy import CandleKernel, CandleStrategy
from strategies.library.candle_parameters import MAX_STOP_PERCENT, MIN_STOP_PERCENT, REWARD_RISK, timeframe


class Breakout(CandleStrategy):
    """Buys a close above the highest high of the bars before it, sells one below their lowest low. The stop is behind
    the broken level."""

    name: ClassVar[str] = "momentum.breakout"
    title: ClassVar[str] = "Breakout"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        timeframe("5"),
        ParameterSpec("resistance_strength", "int", 3, "how often the level was touched before", "touches", 1, 20),
        ParameterSpec("volume_multiplier", "float", 1.5, "least volume of the breaking bar", "x mean volume", 0.1, 20),
        ParameterSpec(
            "price_threshold",
            "float",
            0.002,
            "how far beyond the level it closes, and how near to it a touch comes",
            "of price, as a fraction",
            0,
            0.1,
        ),
        ParameterSpec("lookback", "int", 100, "bars that make the level and the mean volume", "bars", 10, 500),
        REWARD_RISK,
        MIN_STOP_PERCENT,
        MAX_STOP_PERCENT,
    )
    notes: ClassVar[tuple[str, ...]] = ("level", "touches", "volume_ratio")

    @classmethod
    def kernel(cls) -> CandleKernel:
        from strategies.kernels.breakout import KERNEL  # noqa: PLC0415

        return KERNEL

    @property
    def warm_up(self) -> int:
        return int(self.settings["lookback"])

    def reason(self, candle: Candle, side: str, notes: Mapping[str, float]) -> str:
        level, beyond = ("resistance", "above") if side == "Buy" else ("support", "below")
        return (
            f"close {candle.close} {beyond} the {level} {notes['level']:.8g} of {self.settings['lookback']} bars of "
            f"{self.timeframe} m, touched {notes['touches']:.0f} times, on {notes['volume_ratio']:.1f} x mean volume"
        )
