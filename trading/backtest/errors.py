"""Why a backtest did not come to its end."""

from __future__ import annotations


class BacktestError(ValueError):
    """What was asked cannot be tested: what was wrong, and what was expected."""


class StrategyStopped(BacktestError):
    """A strategy raised, took too long, or knew the future. ``where`` is its file and line, which ``reason`` ends with
    (in brackets)."""

    def __init__(self, strategy: str, symbol: str, reason: str, where: str) -> None:
        super().__init__(f"{strategy} on {symbol} was stopped: {reason}")
        self.strategy, self.symbol, self.reason, self.where = strategy, symbol, reason, where


class BacktestCancelled(Exception):
    """Whoever asked for it does not want it any more."""
