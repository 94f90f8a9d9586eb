"""Trend following: two averages cross, and the market has a direction and room left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from marketdata.events import Candle
from strategies.base import ParameterSpec
from strategies.candle_strategy import CandleKernel, CandleStrategy
from strategies.library.candle_parameters import MAX_STOP_PERCENT, MIN_STOP_PERCENT, REWARD_RISK, timeframe


class TrendFollowing(CandleStrategy):
    """Buys when the fast average is newly above the slow one, ADX says that there is a trend, and RSI that it is not
    overbought; sells the other way round. The stop is some average true ranges away."""

    name: ClassVar[str] = "momentum.trend_following"
    title: ClassVar[str] = "Trend following"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        timeframe("15"),
        ParameterSpec("ma_fast", "int", 9, "fast exponential average", "bars", 2, 20),
        ParameterSpec("ma_slow", "int", 21, "slow exponential average", "bars", 21, 200),
        ParameterSpec("rsi_period", "int", 14, "period of the RSI", "bars", 2, 50),
        ParameterSpec("overbought", "float", 70.0, "no buying from this RSI on", "RSI", 50, 100),
        ParameterSpec("oversold", "float", 30.0, "no selling from this RSI down", "RSI", 0, 50),
        ParameterSpec("adx_threshold", "float", 25.0, "least ADX: below it there is no trend", "ADX", 0, 100),
        ParameterSpec("adx_period", "int", 14, "period of the ADX", "bars", 2, 40),
        ParameterSpec("cross_bars", "int", 5, "how long a cross waits for the other conditions", "bars", 1, 50),
        ParameterSpec("atr_period", "int", 14, "period of the average true range", "bars", 2, 45),
        ParameterSpec("stop_atr", "float", 2.0, "distance of the stop", "ATR", 0.2, 20),
        REWARD_RISK,
        MIN_STOP_PERCENT,
        MAX_STOP_PERCENT,
    )
    notes: ClassVar[tuple[str, ...]] = ("fast", "slow", "rsi", "adx", "atr", "bars_since_cross")

    @classmethod
    def kernel(cls) -> CandleKernel:
        from strategies.kernels.trend_following import KERNEL  # noqa: PLC0415

        return KERNEL

    @property
    def warm_up(self) -> int:
        # After so many periods less than a millionth is left of where an average began: an exponential one keeps
        # (1 - 2 / (n + 1)) of it at each bar, Wilder's (1 - 1 / n), and ADX is Wilder's of Wilder's.
        settled = (7 * self._bars("ma_slow"), 14 * self._bars("rsi_period"), 18 * self._bars("adx_period"))
        return max(*settled, 14 * self._bars("atr_period")) + self._bars("cross_bars")

    def _bars(self, name: str) -> int:
        return int(self.settings[name])

    def reason(self, candle: Candle, side: str, notes: Mapping[str, float]) -> str:
        return (
            f"EMA({self.settings['ma_fast']}) {notes['fast']:.8g} crossed {'above' if side == 'Buy' else 'below'} "
            f"EMA({self.settings['ma_slow']}) {notes['slow']:.8g} {notes['bars_since_cross']:.0f} bars of "
            f"{self.timeframe} m ago, ADX {notes['adx']:.1f}, RSI {notes['rsi']:.1f}"
        )
