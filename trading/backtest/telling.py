"""What strategies are told and when: the bars of their timeframes, or the signals that their kernels find in those."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import CandleSeries, interval_ms
from strategies.base import Strategy
from strategies.candle_strategy import CandleStrategy
from trading.backtest.bars import candle_of, longer
from trading.backtest.errors import BacktestError, StrategyStopped
from trading.backtest.preparation import Candles
from trading.backtest.signal_times import Told, kernel_signals, stopped
from trading.pipeline import ENDS_A_CALL, Outcome, Pipeline, RunningStrategy, StrategyFault


class Telling:
    """``series``: the bars that prices move by, of each symbol, from before the test on; ``steps`` of ``length_ms`` are
    the moments of the test. ``call`` asks a strategy, watched."""

    def __init__(
        self, pipeline: Pipeline, candles: Candles, series: dict[str, CandleSeries], grid_ms: int, length_ms: int,
        steps: int, call: Callable[..., Any],
    ) -> None:  # fmt: skip
        self._pipeline, self._candles, self._series, self._call = pipeline, candles, series, call
        self._grid_ms, self._length, self._steps = grid_ms, length_ms, steps

    def everything(self, *, every_bar: bool) -> list[Told]:
        """All that strategies will learn; what is before the test warms them up."""
        of_symbol: dict[str, list[tuple[RunningStrategy, Strategy]]] = {}
        for running, symbol, strategy in self._pipeline.instances():
            if strategy.timeframe is None:
                raise BacktestError(f"{running.name} watches books or trades; candles tell it nothing")
            of_symbol.setdefault(symbol, []).append((running, strategy))
        told: list[Told] = []
        for symbol, many in of_symbol.items():
            frames = sorted({str(each.timeframe) for _, each in many}, key=interval_ms)
            series = {frame: self._bars_of(symbol, frame) for frame in frames}
            kernels = [(running, each) for running, each in many if _decides_in_kernel(each)]
            if every_bar or len(kernels) < len(many):
                told += [self._all_bars(series[frame]) for frame in frames]
                continue
            for running, strategy in kernels:
                bars, rows = kernel_signals(running, strategy, series[strategy.timeframe])
                steps = self._end_steps(series[strategy.timeframe], bars)
                counts = (steps >= 0) & (steps < self._steps)
                told.append(
                    Told(
                        symbol, series[strategy.timeframe], steps[counts], bars[counts], running, strategy, rows[counts]
                    )
                )
        return told

    def _all_bars(self, series: CandleSeries) -> Told:
        steps = self._end_steps(series, np.arange(len(series)))
        for index in np.flatnonzero(steps < 0).tolist():
            refuse_faults(self._pipeline.on_candle(candle_of(series, index)))
        bars = np.flatnonzero((steps >= 0) & (steps < self._steps))
        return Told(series.symbol, series, steps[bars], bars)

    def _end_steps(self, series: CandleSeries, bars: NDArray[np.int64]) -> NDArray[np.int64]:
        """The steps at whose ends some bars of a series are known."""
        return (series.start_ms[bars] + series.interval_ms - self._grid_ms) // self._length - 1

    def _bars_of(self, symbol: str, frame: str) -> CandleSeries:
        given = self._candles.get((symbol, frame))
        if given is not None:
            return given
        try:
            return longer(self._series[symbol], frame)
        except ValueError as error:
            raise BacktestError(f"{symbol}: {error}") from None

    def ask(self, told: Told, place: int) -> list[Outcome]:
        """What becomes of one of the things that are told."""
        candle = candle_of(told.series, told.bars.item(place))
        if told.strategy is None or told.running is None:
            return self._pipeline.on_candle(candle)
        try:
            signal = self._call((told.running, told.symbol), told.strategy.signal, candle, told.rows[place])
        except ENDS_A_CALL as error:
            raise stopped(told.running, told.symbol, error, type(told.strategy)) from error
        return [self._pipeline.on_signal(told.running, signal)]


def refuse_faults(outcomes: Iterable[Outcome]) -> None:
    """Raises StrategyStopped for the first strategy that failed."""
    for outcome in outcomes:
        if isinstance(outcome, StrategyFault):
            raise StrategyStopped(outcome.running.name, outcome.symbol, outcome.error, outcome.where)


def _decides_in_kernel(strategy: Strategy) -> TypeGuard[CandleStrategy]:
    return isinstance(strategy, CandleStrategy) and type(strategy).on_candle is CandleStrategy.on_candle
