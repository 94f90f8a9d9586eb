"""Groups of symbols that tend to fall together, with limits of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class GroupLimit:
    """What one level allows in a group, pending orders included. None is no limit; USD."""

    max_positions: int | None = None
    max_notional: Decimal | None = None


NO_GROUP_LIMIT = GroupLimit()


@dataclass(frozen=True, slots=True)
class SymbolGroup:
    """Its limits count one account's positions in the group, pending orders included. None is no limit; USD."""

    name: str
    symbols: frozenset[str]
    max_positions: int | None = None
    max_notional: Decimal | None = None


class SymbolGroups:
    """All groups, by symbol. A symbol may be in several."""

    def __init__(self, groups: Iterable[SymbolGroup] = ()) -> None:
        self._of: dict[str, tuple[SymbolGroup, ...]] = {}
        for group in groups:
            for symbol in group.symbols:
                self._of[symbol] = (*self._of.get(symbol, ()), group)

    def of(self, symbol: str) -> tuple[SymbolGroup, ...]:
        return self._of.get(symbol, ())

    def together(self, first: str, second: str) -> bool:
        """Whether some group holds both."""
        return any(second in group.symbols for group in self._of.get(first, ()))
