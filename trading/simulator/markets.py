"""One instrument while it trades: its rules, its book, its prices."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from marketdata.instruments import InstrumentRules, rules_from_bybit
from trading.simulator.book import MatchingBook
from trading.simulator.instruments import Grids

ZERO = Decimal(0)


@dataclass(slots=True)
class Market:
    """``sequence`` rises with everything that happens here; ``direction`` is Bybit's word for the last price change."""

    rules: InstrumentRules
    listing: dict[str, Any]
    grids: Grids
    book: MatchingBook = field(default_factory=MatchingBook)
    last_price: Decimal = ZERO
    mark_price: Decimal = ZERO
    index_price: Decimal = ZERO
    sequence: int = 0
    direction: str = "ZeroPlusTick"

    @property
    def symbol(self) -> str:
        return self.rules.symbol

    def traded(self, tick: int) -> None:
        """A trade happened at this price."""
        price = self.grids.prices.value(tick)
        if price > self.last_price:
            self.direction = "PlusTick"
        elif price < self.last_price:
            self.direction = "MinusTick"
        elif not self.direction.startswith("Zero"):
            self.direction = f"Zero{self.direction}"
        self.last_price = price


@dataclass(frozen=True, slots=True)
class PublicTrade:
    """``side`` is the taker's; ``direction`` one of PlusTick, ZeroPlusTick, MinusTick, ZeroMinusTick."""

    symbol: str
    tick: int
    lots: int
    side: str
    time_ms: int
    trade_id: str
    sequence: int
    direction: str


def market_of(listing: dict[str, Any]) -> Market:
    """A market from a row of ``instruments-info``."""
    rules = rules_from_bybit(listing, "linear")
    return Market(rules, listing, Grids.of(rules.tick_size, rules.lot_size))
