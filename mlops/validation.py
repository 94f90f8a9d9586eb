"""How sure we are of a signal: a verdict before risk is even asked. No error ever executes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from strategies.signals import Signal


@dataclass(frozen=True, slots=True)
class Verdict:
    """``confidence`` is 0 to 1, or None when no model judged; ``model`` names who did, with its version."""

    executed: bool
    confidence: float | None
    model: str
    reason: str


class Validator(Protocol):
    def judge(self, signal: Signal, features: NDArray[np.float64] | None) -> Verdict: ...


def held_to(signal: Signal, verdict: Verdict) -> Verdict:
    """A signal may ask for a model: with ``min_probability`` in its metadata (0 to 1) it is vetoed unless one judged it
    with at least that confidence.

    Raises:
        ValueError: what it asks for is no number.
    """
    asked = signal.metadata.get("min_probability")
    if asked is None or not verdict.executed:
        return verdict
    least = float(asked)
    if verdict.confidence is not None and verdict.confidence >= least:
        return verdict
    found = "no model judged it" if verdict.confidence is None else f"its confidence is {verdict.confidence:.2f}"
    reason = f"{signal.strategy} asks for a model's confidence of at least {least:.2f}; {found}"
    return replace(verdict, executed=False, reason=reason)


class PassThroughValidator:
    """Lets every signal through and says that no model judged it: the desk's choice until a model is promoted."""

    verdict = Verdict(True, None, "none", "no model is promoted for this strategy; passed unjudged")

    def judge(self, signal: Signal, features: NDArray[np.float64] | None) -> Verdict:
        return self.verdict
