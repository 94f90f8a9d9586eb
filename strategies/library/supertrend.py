"""SuperTrend: follow the trend when it flips; the line is the stop."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from marketdata.events import Candle
from strategies.base import ParameterSpec, QuietStrategy
from strategies.signals import Signal

INTERVALS = ("1", "5", "15", "30", "60", "240")


class SuperTrend(QuietStrategy):
    """Signals on the closed candle that flips the trend. The stop is the SuperTrend line, kept within a band of
    distances from the entry; the target is a multiple of that risk."""

    name: ClassVar[str] = "supertrend"
    title: ClassVar[str] = "SuperTrend"
    parameters: ClassVar[tuple[ParameterSpec, ...]] = (
        ParameterSpec("timeframe", "choice", "30", "candles it watches", "minutes", choices=INTERVALS),
        ParameterSpec("period", "int", 10, "bars of the average true range", "bars", 2, 200),
        ParameterSpec("multiplier", "float", 3.0, "distance of the bands", "ATR", 0.5, 20),
        ParameterSpec("reward_risk", "float", 2.0, "target distance over stop distance", "", 1.5, 20),
        ParameterSpec("min_stop_percent", "float", 0.1, "nearest stop", "% of price", 0.01, 10),
        ParameterSpec("max_stop_percent", "float", 3.0, "farthest stop", "% of price", 0.05, 50),
    )

    def __init__(self, symbol: str, parameters: Mapping[str, Any]) -> None:
        # Here, not above: numba takes a second to load, and only engines make strategies.
        from strategies.indicators import supertrend  # noqa: PLC0415

        self._indicator = supertrend
        self._symbol = symbol
        self._timeframe = str(parameters["timeframe"])
        self._period, self._multiplier = int(parameters["period"]), float(parameters["multiplier"])
        self._reward_risk = Decimal(str(parameters["reward_risk"]))
        self._nearest = Decimal(str(parameters["min_stop_percent"])) / 100
        self._farthest = Decimal(str(parameters["max_stop_percent"])) / 100
        self._state = supertrend.new_state()
        self._last_start_ms = -1

    @classmethod
    def create(cls, symbol: str, parameters: Mapping[str, Any]) -> SuperTrend:
        return cls(symbol, parameters)

    @property
    def timeframe(self) -> str:
        return self._timeframe

    @property
    def warm_up(self) -> int:
        # Wilder's average forgets its start slowly: after ten periods less than 0.01 % of it is left.
        return self._period * 10

    def on_candle(self, candle: Candle) -> Signal | None:
        if not candle.closed or candle.interval != self._timeframe or candle.start_ms <= self._last_start_ms:
            return None
        self._last_start_ms = candle.start_ms
        before = self._state[self._indicator.DIRECTION]
        line = self._indicator.supertrend_update(
            self._state, float(candle.high), float(candle.low), float(candle.close), self._period, self._multiplier
        )
        direction = self._state[self._indicator.DIRECTION]
        if before == 0 or direction == before:
            return None
        return self._signal(candle, int(direction), line)

    def _signal(self, candle: Candle, direction: int, line: float) -> Signal:
        entry = candle.close
        distance = abs(entry - Decimal(repr(line)))
        distance = min(max(distance, entry * self._nearest), entry * self._farthest)
        side = "Buy" if direction > 0 else "Sell"
        atr = float(self._state[self._indicator.ATR])
        strength = min(
            1.0,
            0.5 + abs(float(entry) - line) / (4.0 * self._multiplier * atr + 1e-12),
        )
        minutes = int(self._timeframe)
        return Signal(
            strategy=self.name,
            symbol=self._symbol,
            side=side,
            strength=strength,
            entry_price=entry,
            take_profit=entry + direction * distance * self._reward_risk,
            stop_loss=entry - direction * distance,
            reason=f"SuperTrend({self._period}, {self._multiplier:g}) on {self._timeframe} m flipped "
            f"{'up' if direction > 0 else 'down'}: close {entry} crossed the band, line now {line:.8g}",
            time_ns=(candle.start_ms + minutes * 60_000) * 1_000_000,
            metadata={"line": line, "atr": atr},
        )
