"""What a venue tells us about our own business, in our words: values that gateways make and services apply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any


class ReportRefused(ValueError):
    """A report that contradicts what we know, or can not be: what was wrong, what was expected. It changes nothing."""


class Submission(StrEnum):
    """What is known after a request to place, change or cancel was sent. A timeout is UNKNOWN, never REJECTED."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"  # the venue said no: nothing exists
    THROTTLED = "throttled"  # refused before it was looked at: nothing exists, may be sent again
    UNKNOWN = "unknown"  # no answer, or one that proves nothing
    DUPLICATE = "duplicate"  # the id is taken: proof that an order with it exists or existed
    CLOSED = "closed"  # (cancel and amend only) the venue has no open order with this id
    NOT_SENT = "not_sent"  # refused on our side before a byte left


@dataclass(frozen=True, slots=True)
class SubmissionResult:
    outcome: Submission
    venue_order_id: str = ""
    code: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class OrderReport:
    """One order as the venue sees it. Quantities in base coin, prices in quote coin, times in ms since 1970.

    ``is_exit``: the venue made it, for the take-profit, stop-loss or trailing stop of a position. ``trigger_price``: it
    waits for that price; None for one that does not wait.
    """

    venue_order_id: str
    client_order_id: str
    symbol: str
    side: str
    order_type: str
    time_in_force: str
    status: str
    quantity: Decimal
    price: Decimal
    filled_quantity: Decimal
    average_price: Decimal | None
    reduce_only: bool
    reject_reason: str
    cancel_type: str
    created_ms: int
    updated_ms: int
    is_exit: bool = False
    trigger_price: Decimal | None = None
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def closes_whole(self) -> bool:
        """Whether it has no quantity of its own: it closes what the position is when its price comes."""
        return self.quantity == 0


@dataclass(frozen=True, slots=True)
class FillReport:
    """One execution of ours. ``fee`` is positive when we pay."""

    execution_id: str
    execution_type: str
    venue_order_id: str
    client_order_id: str
    symbol: str
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    is_maker: bool
    executed_ms: int
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PositionReport:
    """One position as the venue sees it; ``side`` is empty and ``quantity`` zero when flat. ``position_index`` is 0 in
    one-way mode, 1 and 2 for the long and the short side in hedge mode."""

    symbol: str
    side: str
    quantity: Decimal
    entry_price: Decimal
    leverage: Decimal
    mark_price: Decimal | None
    liquidation_price: Decimal | None
    take_profit: Decimal | None
    stop_loss: Decimal | None
    updated_ms: int
    position_index: int = 0


@dataclass(frozen=True, slots=True)
class WalletReport:
    """The unified account's balances, in USD; ``coins`` has each coin's wallet balance in that coin."""

    equity: Decimal
    wallet_balance: Decimal
    available_balance: Decimal
    initial_margin: Decimal
    maintenance_margin: Decimal
    coins: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """One movement of money: ``change = cash_flow + funding - fee``, all in ``currency``. ``fee`` is positive when we
    pay, ``funding`` when we receive; ``kind`` is the venue's word. ``balance`` is the coin's after it."""

    venue_id: str
    kind: str
    category: str
    symbol: str
    side: str
    currency: str
    quantity: Decimal
    price: Decimal
    cash_flow: Decimal
    funding: Decimal
    fee: Decimal
    change: Decimal
    balance: Decimal | None
    execution_id: str
    venue_order_id: str
    client_order_id: str
    booked_ms: int
