"""A signal: what one strategy would like to do, and why. It knows nothing of accounts, sizes or orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

MINIMUM_REWARD_RISK = Decimal("1.5")


class SignalError(ValueError):
    """A signal that contradicts itself; the message says how."""


@dataclass(frozen=True, slots=True)
class Signal:
    """``strength`` is 0 to 1; ``time_ns`` is the venue's time of the data it was made from.

    Raises:
        SignalError: take-profit or stop-loss on the wrong side of the entry, a reward below 1.5 times the risk
            (spec: a signal is valid only from there), or a strength outside 0 to 1.
    """

    strategy: str
    symbol: str
    side: str
    strength: float
    entry_price: Decimal
    take_profit: Decimal
    stop_loss: Decimal
    reason: str
    time_ns: int
    metadata: Mapping[str, float | str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.side not in ("Buy", "Sell"):
            raise SignalError(f"side is {self.side!r}; expected Buy or Sell")
        if not 0.0 <= self.strength <= 1.0:
            raise SignalError(f"strength is {self.strength}; expected 0 to 1")
        if self.entry_price <= 0 or self.stop_loss <= 0 or self.take_profit <= 0:
            raise SignalError("entry, take-profit and stop-loss must be above 0")
        risk, reward = self.risk, self.reward
        if risk <= 0 or reward <= 0:
            raise SignalError(
                f"{self.side} at {self.entry_price} with take-profit {self.take_profit} and stop-loss "
                f"{self.stop_loss}: one of them is on the wrong side"
            )
        if reward < risk * MINIMUM_REWARD_RISK:
            raise SignalError(f"reward {reward} is under {MINIMUM_REWARD_RISK} times the risk {risk}")

    @property
    def direction(self) -> int:
        return 1 if self.side == "Buy" else -1

    @property
    def reward(self) -> Decimal:
        """Distance from entry to take-profit, in quote coin; negative when it is on the wrong side."""
        return (self.take_profit - self.entry_price) * self.direction

    @property
    def risk(self) -> Decimal:
        """Distance from entry to stop-loss, in quote coin; negative when it is on the wrong side."""
        return (self.entry_price - self.stop_loss) * self.direction
