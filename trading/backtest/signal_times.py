"""When strategies are told something, and what those say that decide in one kernel, found for blocks of bars."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import CandleSeries
from strategies.candle_strategy import ROW, CandleStrategy
from strategies.faults import Place, file_of, place_of, words_of
from trading.backtest.bars import candle_of, series_part
from trading.backtest.errors import StrategyStopped
from trading.pipeline import ENDS_A_CALL, RunningStrategy

BLOCK = 65_536
# So many bars are also decided one by one: a kernel that looks ahead in its arrays decides otherwise.
PROVED_BARS = 500


@dataclass(slots=True, eq=False)
class Told:
    """What strategies learn at the end of steps. One ``source``: the signals of one kernel, by bar and row, or all bars
    of a series, which are offered to whoever listens (``strategy`` None)."""

    symbol: str
    series: CandleSeries
    steps: NDArray[np.int64]
    bars: NDArray[np.int64]
    running: RunningStrategy | None = None
    strategy: CandleStrategy | None = None
    rows: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, ROW)))


def kernel_signals(running: RunningStrategy, strategy: CandleStrategy, series: CandleSeries) -> tuple[
    NDArray[np.int64], NDArray[np.float64]
]:  # fmt: skip
    """The bars at whose end the strategy signals, and the rows of its signals; those before it is warm are left out.

    Raises:
        StrategyStopped: it raised, or decides otherwise when it cannot see later bars.
    """
    symbol = series.symbol
    try:
        kernel = strategy.kernel()
        state = kernel.new_state(strategy.numbers)
        at, rows = np.zeros(BLOCK, dtype=np.int64), np.zeros((BLOCK, ROW))
        found_at, found_rows = [], []
        for first in range(0, len(series), BLOCK):
            part = series_part(series, first, min(first + BLOCK, len(series)))
            count = int(kernel.run(state, strategy.numbers, *_arrays(part), at, rows))
            found_at.append(at[:count] + first)
            found_rows.append(rows[:count].copy())
    except ENDS_A_CALL as error:
        raise stopped(running, symbol, error, type(strategy)) from error
    if not found_at:
        return at[:0], rows[:0]
    bars, values = np.concatenate(found_at), np.concatenate(found_rows)
    _prove(running, strategy, series, bars)
    warm = bars >= strategy.warm_up
    return bars[warm], values[warm]


def _arrays(part: CandleSeries) -> tuple[NDArray[np.generic], ...]:
    return (
        np.ascontiguousarray(part.start_ms),
        *(part.prices(each) for each in (part.open, part.high, part.low, part.close)),
        part.volumes(),
    )


def _prove(running: RunningStrategy, strategy: CandleStrategy, series: CandleSeries, bars: NDArray[np.int64]) -> None:
    """Decide the first bars one by one: there the future is not in memory yet."""
    kernel = strategy.kernel()
    state, row = kernel.new_state(strategy.numbers), np.zeros(ROW)
    last = min(PROVED_BARS, len(series))
    if len(bars) and bars[0] >= last:
        return
    arrays = _arrays(series_part(series, 0, last))
    alone = [
        index
        for index in range(last)
        if kernel.decide(state, strategy.numbers, *(each[index].item() for each in arrays), row)
    ]
    together = bars[bars < last].tolist()
    if alone != together:
        first = min(set(alone) ^ set(together))
        says = "signals" if first in set(together) else "does not signal"
        where = _line_of(type(strategy))
        raise StrategyStopped(
            running.name,
            series.symbol,
            f"its run() {says} at the bar of {candle_of(series, first).start_ms} ms, its decide() does the opposite: "
            f"one of them asks for the future, or they are not the same rule ({where})",
            where,
        )


def stopped(running: RunningStrategy, symbol: str, error: BaseException, kind: type) -> StrategyStopped:
    where = str(place_of(error, file_of(kind)))
    return StrategyStopped(running.name, symbol, f"{words_of(error)} ({where})", where)


def _line_of(kind: type) -> str:
    try:
        return str(Place(file_of(kind), inspect.getsourcelines(kind)[1]))
    except (OSError, TypeError):
        return kind.__module__
