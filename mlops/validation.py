"""How sure we are of a signal: a verdict before risk is even asked. No error ever executes."""

from __future__ import annotations

from dataclasses import dataclass
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


class PassThroughValidator:
    """Lets every signal through and says that no model judged it: the desk's choice until a model is promoted."""

    def judge(self, signal: Signal, features: NDArray[np.float64] | None) -> Verdict:
        return Verdict(True, None, "none", "no model is promoted for this strategy; passed unjudged")
