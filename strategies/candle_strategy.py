"""Strategies of closed candles that decide in one compiled kernel: bar by bar live and on paper, over whole arrays in
backtests. There is one definition, so both decide the same."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from marketdata.events import Candle
from strategies.base import ParameterSpec, QuietStrategy
from strategies.signals import Signal

INTERVALS = ("1", "3", "5", "15", "30", "60", "120", "240")
# Of what kernels say in floats, so much is kept: finer than any venue's tick, and exact as an int64.
PRICE_DECIMALS = 10


class Slot(IntEnum):
    """What a kernel writes into the row of a signal, in this order; the strategy's own ``notes`` follow from ``NOTES``
    on."""

    DIRECTION = 0  # 1 to buy, -1 to sell
    STRENGTH = 1  # 0 to 1
    TAKE_PROFIT = 2  # quote coin
    STOP_LOSS = 3  # quote coin
    NOTES = 4


ROW = 12


@dataclass(frozen=True, slots=True)
class CandleKernel:
    """The compiled half of a strategy.

    ``decide(state, numbers, start_ms, open, high, low, close, volume, row) -> bool``: take one closed bar; True with
    ``row`` (float64, ROW) filled where it signals. ``state`` is float64 of ``state_size(numbers)``, zeros at the start;
    ``numbers`` are the parameters in the order of their specs, choices as their place among the choices.

    ``run(state, numbers, start_ms, open, high, low, close, volume, at, rows) -> int``: the same over arrays, oldest
    first; for each signal the bar's index goes into ``at`` and its row into ``rows``; how many there are.
    """

    decide: Callable[..., bool]
    run: Callable[..., int]
    state_size: Callable[[NDArray[np.float64]], int]

    def new_state(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros(self.state_size(numbers))


def exact(price: float) -> Decimal:
    """A kernel's price as money. Compiled backtests round to the same grid in integers."""
    return Decimal(round(float(price) * 10.0**PRICE_DECIMALS)).scaleb(-PRICE_DECIMALS).normalize()


def numbers_of(specs: Sequence[ParameterSpec], parameters: Mapping[str, Any]) -> NDArray[np.float64]:
    """Typed parameters as a kernel reads them: float64, in the order of the specs."""
    return np.array(
        [
            spec.choices.index(str(parameters[spec.name])) if spec.kind == "choice" else float(parameters[spec.name])
            for spec in specs
        ],
        dtype=np.float64,
    )


class CandleStrategy(QuietStrategy):
    """What is left for a strategy to say: its parameters (``timeframe`` among them), its kernel, how long it warms up,
    and its reasons in words."""

    name: ClassVar[str]
    title: ClassVar[str]
    parameters: ClassVar[tuple[ParameterSpec, ...]]
    notes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, symbol: str, parameters: Mapping[str, Any]) -> None:
        self.symbol, self.settings = symbol, dict(parameters)
        self._kernel = self.kernel()
        self.numbers = numbers_of(self.parameters, parameters)
        self._state = self._kernel.new_state(self.numbers)
        self._row = np.zeros(ROW)
        self._timeframe = str(parameters["timeframe"])
        self._last_start_ms = -1

    @classmethod
    def create(cls, symbol: str, parameters: Mapping[str, Any]) -> CandleStrategy:
        return cls(symbol, parameters)

    @classmethod
    @abstractmethod
    def kernel(cls) -> CandleKernel:
        """Imported when it is first asked for: numba takes a second to load, and only engines and workers need it."""

    @abstractmethod
    def reason(self, candle: Candle, side: str, notes: Mapping[str, float]) -> str:
        """Why, in words for people."""

    @property
    def timeframe(self) -> str:
        return self._timeframe

    def on_candle(self, candle: Candle) -> Signal | None:
        """An open candle, one of another symbol or interval, and one that was seen before are no news."""
        if not candle.closed or candle.symbol != self.symbol or candle.interval != self._timeframe:
            return None
        if candle.start_ms <= self._last_start_ms:
            return None
        self._last_start_ms = candle.start_ms
        decided = self._kernel.decide(
            self._state,
            self.numbers,
            candle.start_ms,
            float(candle.open),
            float(candle.high),
            float(candle.low),
            float(candle.close),
            float(candle.volume),
            self._row,
        )
        return self.signal(candle, self._row) if decided else None

    def signal(self, candle: Candle, row: NDArray[np.float64]) -> Signal:
        """What a row says, at the close of its candle."""
        direction, strength, take_profit, stop_loss, *values = row.tolist()
        side = "Buy" if direction > 0 else "Sell"
        notes = dict(zip(self.notes, values, strict=False))
        return Signal(
            strategy=self.name,
            symbol=self.symbol,
            side=side,
            strength=strength,
            entry_price=candle.close,
            take_profit=exact(take_profit),
            stop_loss=exact(stop_loss),
            reason=self.reason(candle, side, notes),
            time_ns=(candle.start_ms + int(self._timeframe) * 60_000) * 1_000_000,
            metadata=notes,
        )
