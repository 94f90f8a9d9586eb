"""Whether a run that was recorded, live or on paper, and its backtest decided the same: signal for signal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trading.backtest.result import BacktestSignal

COMPARED = ("side", "strength", "entry_price", "take_profit", "stop_loss", "outcome")


@dataclass(frozen=True, slots=True)
class SignalDifference:
    """``field`` is ``signal`` where one of the two has none; values as texts."""

    time_ms: int
    symbol: str
    strategy: str
    field: str
    recorded: str
    tested: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """``same``: signals that both made, and that became the same."""

    recorded: int
    tested: int
    same: int
    differences: tuple[SignalDifference, ...]


def compare_signals(recorded: Iterable[BacktestSignal], tested: Iterable[BacktestSignal]) -> Comparison:
    """Signals of one time, symbol and strategy are held against each other; words for people are not."""
    ours, theirs = ({(each.time_ms, each.symbol, each.strategy): each for each in many} for many in (recorded, tested))
    differences: list[SignalDifference] = []
    same = 0
    for key in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(key), theirs.get(key)
        if one is None or other is None:
            differences.append(SignalDifference(*key, "signal", _text(one), _text(other)))
            continue
        found = [
            SignalDifference(*key, name, str(getattr(one, name)), str(getattr(other, name)))
            for name in COMPARED
            if getattr(one, name) != getattr(other, name)
        ]
        same += not found
        differences += found
    return Comparison(len(ours), len(theirs), same, tuple(differences))


def _text(signal: BacktestSignal | None) -> str:
    return "none" if signal is None else f"{signal.side} at {signal.entry_price:f}, {signal.outcome}"
