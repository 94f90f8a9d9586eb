"""How much leverage: what a strategy wants, or what the symbol's volatility allows."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

ONE = Decimal(1)
LOW, MEDIUM, HIGH = Decimal(20), Decimal(10), Decimal(5)


@dataclass(frozen=True, slots=True)
class LeverageRules:
    """Volatilities in percent per day. Up to ``low_volatility_percent`` a symbol is calm, from
    ``high_volatility_percent`` on it is wild.

    Raises:
        ValueError: thresholds that are not 0 < low < high; leverages that are not 1 to 50.
    """

    low_volatility_percent: Decimal = Decimal(2)
    high_volatility_percent: Decimal = Decimal(5)
    low: Decimal = LOW
    medium: Decimal = MEDIUM
    high: Decimal = HIGH

    def __post_init__(self) -> None:
        if not 0 < self.low_volatility_percent < self.high_volatility_percent:
            raise ValueError(
                f"low_volatility_percent is {self.low_volatility_percent:f}; "
                f"expected above 0 and below high_volatility_percent {self.high_volatility_percent:f}"
            )
        for name in ("low", "medium", "high"):
            if not 1 <= getattr(self, name) <= 50:
                raise ValueError(f"leverage_{name} is {getattr(self, name):f}; expected 1 to 50")

    def leverage(self, volatility_percent: float | None) -> Decimal:
        """For a volatility in percent per day. One that is not known yet counts as high: a fresh start must not trade
        with the most leverage."""
        if volatility_percent is None or volatility_percent >= self.high_volatility_percent:
            return self.high
        return self.low if volatility_percent <= self.low_volatility_percent else self.medium


def allowed_leverage(wanted: Decimal, *limits: Decimal | None) -> Decimal:
    """What is wanted, as far as every limit allows it; at least 1."""
    for limit in limits:
        if limit is not None and limit < wanted:
            wanted = limit
    return max(wanted, ONE)
