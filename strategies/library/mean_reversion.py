"""Mean reversion: a price stretched far from its mean turns back towards it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from marketdata.events import Candle
from strategies.base import ParameterSpec
from strategies.candle_strategy import CandleKernel, CandleStrategy
from strategies.library.candle_parameters import LEAST_REWARD_RISK, MAX_STOP_PERCENT, MIN_STOP_PERCENT, timeframe


class MeanReversion(CandleStrategy):
    """Buys when a close is back inside the Bollinger bands after one that was too far below the mean, sells the other
    way round. The target is the mean, the stop behind the farthest price of the stretch."""

    name: ClassVar[str] = "momentum.mean_reversion"
    title: ClassVar[str] = "Mean reversion"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        timeframe("60"),
        ParameterSpec("bollinger_period", "int", 20, "bars of the mean and the deviation", "bars", 5, 200),
        ParameterSpec("bollinger_deviations", "float", 2.0, "width of the bands", "standard deviations", 0.5, 5),
        ParameterSpec("zscore", "float", 2.5, "how far is too far from the mean", "standard deviations", 0.5, 6),
        ParameterSpec(
            "min_volatility", "float", 0.01, "least width of the bands", "of price, as a fraction", 0.0001, 0.5
        ),
        ParameterSpec("reentry_bars", "int", 5, "how soon after the last stretched bar it comes back", "bars", 1, 50),
        LEAST_REWARD_RISK,
        MIN_STOP_PERCENT,
        MAX_STOP_PERCENT,
    )
    notes: ClassVar[tuple[str, ...]] = ("mean", "zscore", "stretch", "width")

    @classmethod
    def kernel(cls) -> CandleKernel:
        from strategies.kernels.mean_reversion import KERNEL  # noqa: PLC0415

        return KERNEL

    @property
    def warm_up(self) -> int:
        # A stretch is remembered from its first bar, and lasts rarely longer than a few times the wait for its end.
        return int(self.settings["bollinger_period"]) + 6 * int(self.settings["reentry_bars"])

    def reason(self, candle: Candle, side: str, notes: Mapping[str, float]) -> str:
        return (
            f"close {candle.close} back inside the bands, {notes['zscore']:.2f} deviations from the mean "
            f"{notes['mean']:.8g} of {self.settings['bollinger_period']} bars of {self.timeframe} m, after "
            f"{notes['stretch']:.2f}; the bands are {100 * notes['width']:.2f} % of the price wide"
        )
