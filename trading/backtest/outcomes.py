"""What became of a signal, in a backtest's words."""

from __future__ import annotations

from trading.pipeline import PipelineResult

# A strategy that takes longer for one call has lost its way. Machine code cannot be ended from outside.
CALL_SECONDS = 10.0
KILL_SWITCH = "the kill switch stopped trading: {}"


def words_of(result: PipelineResult) -> tuple[str, str]:
    """The outcome (approved, vetoed or denied) and why."""
    if not result.verdict.executed:
        return "vetoed", result.verdict.reason
    if result.approved:
        return "approved", result.signal.reason
    refusals = result.decision.refusals if result.decision is not None else ()
    return "denied", "; ".join(each.message for each in refusals)
