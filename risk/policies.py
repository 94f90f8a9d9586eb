"""How positions end and how much leverage they get, as one value for all accounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from risk.exits import ExitRules
from risk.leverage import LeverageRules


@dataclass(frozen=True, slots=True)
class Policies:
    """``exits``, ``leverage`` and ``combining`` (whether signals of several strategies become one,
    ``strategies.weights``) hold for accounts that have none of their own."""

    exits: ExitRules = field(default_factory=ExitRules)
    leverage: LeverageRules = field(default_factory=LeverageRules)
    exits_of: Mapping[int, ExitRules] = field(default_factory=lambda: MappingProxyType({}))
    leverage_of: Mapping[int, LeverageRules] = field(default_factory=lambda: MappingProxyType({}))
    combining: bool = False
    combining_of: Mapping[int, bool] = field(default_factory=lambda: MappingProxyType({}))

    def exit_rules(self, account_id: int) -> ExitRules:
        return self.exits_of.get(account_id, self.exits)

    def leverage_rules(self, account_id: int) -> LeverageRules:
        return self.leverage_of.get(account_id, self.leverage)

    def combines(self, account_id: int) -> bool:
        return self.combining_of.get(account_id, self.combining)
