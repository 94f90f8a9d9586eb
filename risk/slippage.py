"""What a market order would fill at in the book as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class BookSide:
    """The side of a book that a market order takes: levels of (ticks, lots) from the best on, and the book's middle."""

    levels: Sequence[tuple[int, int]]
    tick_size: Decimal
    lot_size: Decimal
    mid_price: Decimal


@dataclass(frozen=True, slots=True)
class FillEstimate:
    """``slippage_percent``: how far the average price is from the middle. ``missing``: what the known book does not
    hold of the quantity, base coin."""

    average_price: Decimal
    slippage_percent: Decimal
    missing: Decimal


Quotes = Sequence[tuple[Decimal, Decimal]]


def side_of_quotes(side: str, bids: Quotes, asks: Quotes, tick_size: Decimal, lot_size: Decimal) -> BookSide | None:
    """The side that a market order of ``side`` takes, of prices and quantities from the best on; None where one side
    is empty."""
    if not bids or not asks:
        return None
    levels = [
        (int(price / tick_size), int(quantity / lot_size)) for price, quantity in (asks if side == "Buy" else bids)
    ]
    return BookSide(levels, tick_size, lot_size, (bids[0][0] + asks[0][0]) / 2)


def estimate_fill(side: BookSide, quantity: Decimal) -> FillEstimate | None:
    """Walk the levels for a quantity in base coin; None when there is no book to walk."""
    wanted = -int(-quantity // side.lot_size)
    if not side.levels or side.mid_price <= 0 or wanted <= 0:
        return None
    left, cost = wanted, 0
    for ticks, lots in side.levels:
        taken = min(lots, left)
        cost += ticks * taken
        left -= taken
        if not left:
            break
    average = Decimal(cost) / (wanted - left) * side.tick_size
    slippage = abs(average - side.mid_price) / side.mid_price * HUNDRED
    return FillEstimate(average, slippage, left * side.lot_size)
