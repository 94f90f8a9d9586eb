"""Files as users write them."""

from __future__ import annotations

import textwrap
from pathlib import Path

GOOD = """
from decimal import Decimal

from strategies.base import ParameterSpec, QuietStrategy
from strategies.signals import Signal


class Mine(QuietStrategy):
    name = "own.mine"
    title = "Mine"
    parameters = (
        ParameterSpec("timeframe", "choice", "1", "candles it watches", "minutes", choices=("1", "5")),
        ParameterSpec("bars", "int", 3, "bars that rise before it buys", "bars", 1, 50),
    )

    def __init__(self, symbol, parameters):
        self.symbol, self.bars, self.last, self.risen, self.heard_ms = symbol, parameters["bars"], None, 0, -1
        self._timeframe = parameters["timeframe"]

    @classmethod
    def create(cls, symbol, parameters):
        return cls(symbol, parameters)

    @property
    def timeframe(self):
        return self._timeframe

    @property
    def warm_up(self):
        return self.bars + 2

    def on_candle(self, candle):
        if not candle.closed or candle.interval != self._timeframe or candle.start_ms <= self.heard_ms:
            return None
        self.heard_ms = candle.start_ms
        last, self.last = self.last, candle.close
        self.risen = self.risen + 1 if last is not None and candle.close > last else 0
        if self.risen != self.bars:
            return None
        stop = candle.close * Decimal("0.01")
        return Signal(
            strategy=self.name, symbol=self.symbol, side="Buy", strength=0.5, entry_price=candle.close,
            take_profit=candle.close + 2 * stop, stop_loss=candle.close - stop, reason=f"{self.bars} bars rose",
            time_ns=(candle.start_ms + int(self._timeframe) * 60_000) * 1_000_000,
        )
"""


def written(folder: Path, name: str, *changes: tuple[str, str], source: str = GOOD) -> Path:
    """A file with the good strategy, each ``(old, new)`` replaced in it."""
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(source))
    return path


def line_of(path: Path, text: str) -> int:
    """Where a line with the text is, counted from 1."""
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)
