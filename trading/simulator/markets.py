"""One instrument while it trades: its rules, its book, its prices."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from marketdata.instruments import InstrumentRules, rules_from_bybit
from trading.simulator.book import MatchingBook
from trading.simulator.instruments import Grids
from trading.simulator.orders import ZERO

# Taker and maker, as fractions of a trade's value; an account without VIP level pays these.
FEES = {"linear": (Decimal("0.00055"), Decimal("0.0002")), "spot": (Decimal("0.001"), Decimal("0.001"))}


@dataclass(slots=True)
class Market:
    """``category`` is linear or spot. ``price_band`` is how far from the mark price a limit order may buy above or sell
    below, as a fraction; ``maker_fee`` is below zero where makers are paid."""

    rules: InstrumentRules
    listing: dict[str, Any]
    grids: Grids
    category: str = "linear"
    price_band: Decimal = Decimal("0.05")
    taker_fee: Decimal = FEES["linear"][0]
    maker_fee: Decimal = FEES["linear"][1]
    book: MatchingBook = field(default_factory=MatchingBook)
    last_price: Decimal = ZERO
    mark_price: Decimal = ZERO
    index_price: Decimal = ZERO
    funding_rate: Decimal = Decimal("0.0001")
    sequence: int = 0

    @property
    def symbol(self) -> str:
        return self.rules.symbol

    def price_by(self, name: str) -> Decimal:
        """The price that a trigger watches: LastPrice, MarkPrice or IndexPrice."""
        if name == "MarkPrice":
            return self.mark_price
        return self.index_price if name == "IndexPrice" else self.last_price

    def price_limits(self) -> tuple[str, str]:
        """The highest price to buy and the lowest to sell at, around the mark price; a spot market's is the last."""
        mark = self.mark_price or self.last_price
        index = self.index_price or mark
        parameters = self.listing.get("riskParameters", {})
        near = Decimal(parameters.get("priceLimitRatioX") or self.price_band)
        far = Decimal(parameters.get("priceLimitRatioY") or 2 * self.price_band)
        highest = min(max(index, mark * (1 + near)), mark * (1 + far))
        lowest = max(min(index, mark * (1 - near)), mark * (1 - far))
        return self._on_grid(highest, ROUND_FLOOR), self._on_grid(lowest, ROUND_CEILING)

    def _on_grid(self, price: Decimal, rounding: str) -> str:
        tick = self.rules.tick_size
        return self.grids.prices.text(int((price / tick).to_integral_value(rounding)))


@dataclass(frozen=True, slots=True)
class PublicTrade:
    symbol: str
    price: Decimal
    quantity: Decimal
    side: str
    time_ms: int
    trade_id: str
    sequence: int
    category: str = "linear"


@dataclass(frozen=True, slots=True)
class Liquidation:
    """``side`` is Buy when a long position was liquidated, as the ``allLiquidation`` topic has it."""

    symbol: str
    side: str
    quantity: Decimal
    bankruptcy_price: Decimal
    time_ms: int


def market_of(listing: dict[str, Any], category: str = "linear") -> Market:
    """A market from a row of ``instruments-info``."""
    rules = rules_from_bybit(listing, category)
    ratio = listing.get("riskParameters", {}).get("priceLimitRatioX") or "0.05"
    grids = Grids.of(rules.tick_size, rules.lot_size)
    return Market(rules, listing, grids, category, Decimal(str(ratio)), *FEES[category])
