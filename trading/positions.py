"""Position arithmetic, one-way mode, exact in Decimal: what one fill does, and what a position is worth."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

ZERO = Decimal(0)
HUNDRED = Decimal(100)
# The entry price is a quotient: kept to more digits than any tick has, so that re-adding it loses nothing visible.
ENTRY_DIGITS = Decimal("1e-18")


class PositionEvent(StrEnum):
    OPENED = "opened"
    INCREASED = "increased"
    REDUCED = "reduced"
    CLOSED = "closed"
    FLIPPED = "flipped"


@dataclass(frozen=True, slots=True)
class FillValues:
    side: str
    quantity: Decimal
    price: Decimal

    def __post_init__(self) -> None:
        if self.side not in ("Buy", "Sell") or self.quantity <= 0 or self.price <= 0:
            raise ValueError(f"not a fill: {self.side} {self.quantity} at {self.price}")


@dataclass(frozen=True, slots=True)
class PositionState:
    """``quantity`` is never negative; ``side`` is empty when it is zero. ``entry_price`` in quote coin."""

    side: str
    quantity: Decimal
    entry_price: Decimal

    @classmethod
    def flat(cls) -> PositionState:
        return cls("", ZERO, ZERO)


@dataclass(frozen=True, slots=True)
class FillResult:
    state: PositionState
    realised_pnl: Decimal
    event: PositionEvent


def apply_fill(state: PositionState, fill: FillValues) -> FillResult:
    """The position after one fill, and the PnL it realised (before fees, in quote coin).

    A fill larger than an opposite position closes it and opens the rest the other way, at the fill's price.
    """
    if state.quantity == 0:
        return FillResult(PositionState(fill.side, fill.quantity, fill.price), ZERO, PositionEvent.OPENED)
    if state.side == fill.side:
        quantity = state.quantity + fill.quantity
        cost = state.entry_price * state.quantity + fill.price * fill.quantity
        entry = (cost / quantity).quantize(ENTRY_DIGITS)
        return FillResult(PositionState(state.side, quantity, entry), ZERO, PositionEvent.INCREASED)
    closing = min(state.quantity, fill.quantity)
    realised = pnl(state.side, closing, state.entry_price, fill.price)
    left = state.quantity - fill.quantity
    if left > 0:
        return FillResult(PositionState(state.side, left, state.entry_price), realised, PositionEvent.REDUCED)
    if left == 0:
        return FillResult(PositionState.flat(), realised, PositionEvent.CLOSED)
    return FillResult(PositionState(fill.side, -left, fill.price), realised, PositionEvent.FLIPPED)


def pnl(side: str, quantity: Decimal, entry_price: Decimal, price: Decimal) -> Decimal:
    """Profit at a price, before fees: long (price - entry) * quantity, short (entry - price) * quantity."""
    difference = price - entry_price if side == "Buy" else entry_price - price
    return difference * quantity


def trade_fee(price: Decimal, quantity: Decimal, rate: Decimal) -> Decimal:
    """What a venue takes for a trade, in quote coin; below zero: what it gives."""
    return price * quantity * rate


def funding_payment(side: str, quantity: Decimal, price: Decimal, rate: Decimal) -> Decimal:
    """What a position pays, in quote coin, and below zero what it receives: longs pay the rate on their worth."""
    payment = quantity * price * rate
    return payment if side == "Buy" else -payment


def margin(quantity: Decimal, entry_price: Decimal, leverage: Decimal) -> Decimal:
    """What the position ties up: entry value over leverage."""
    return quantity * entry_price / leverage if leverage > 0 else quantity * entry_price


def percent_on_margin(profit: Decimal, quantity: Decimal, entry_price: Decimal, leverage: Decimal) -> Decimal:
    """Profit as a percentage of the entry value, times the leverage; zero for a flat position."""
    value = quantity * entry_price
    return profit / value * HUNDRED * leverage if value > 0 else ZERO
