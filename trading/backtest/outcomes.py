"""What became of a signal, in a backtest's words."""

from __future__ import annotations

from trading.backtest.result import BacktestSignal
from trading.pipeline import PipelineResult

# A strategy that takes longer for one call has lost its way. Machine code cannot be ended from outside.
CALL_SECONDS = 10.0
NS = 1_000_000


def noted(result: PipelineResult, halted: str) -> BacktestSignal:
    """A signal as it is kept. ``halted``: why nothing opens any more, empty while trading goes on."""
    signal = result.signal
    outcome, words = _words_of(result)
    if halted and outcome == "approved":
        outcome, words = "denied", f"the kill switch stopped trading: {halted}"
    return BacktestSignal(
        signal.time_ns // NS, signal.symbol, result.running.name, signal.side, signal.strength, signal.entry_price,
        signal.take_profit, signal.stop_loss, outcome, words,
    )  # fmt: skip


def _words_of(result: PipelineResult) -> tuple[str, str]:
    """The outcome (approved, vetoed or denied) and why."""
    if not result.verdict.executed:
        return "vetoed", result.verdict.reason
    if result.approved:
        return "approved", result.signal.reason
    refusals = result.decision.refusals if result.decision is not None else ()
    return "denied", "; ".join(each.message for each in refusals)
