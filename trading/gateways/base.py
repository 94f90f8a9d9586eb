"""What the owner of an account needs from a venue. Gateways do I/O and know nothing of Django."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from trading.reports import FillReport, LedgerReport, OrderReport, PositionReport, SubmissionResult, WalletReport


class GatewayError(Exception):
    """A question to the venue had no usable answer; it may be asked again. ``code`` is the venue's, if it gave one."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class TooManyPages(GatewayError):
    """The answer is longer than anybody should read at once: ask for a shorter time."""


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One order as it is sent: everything already on the instrument's grid. ``latest_ms``: the latest timestamp, in ms
    since 1970, that the request may carry; later it is not sent any more. ``position_index``: which side of an account
    in hedge mode, 0 in one-way mode. ``closes_position``: a reduce-only market order that closes whatever the position
    is, for one whose quantity the venue would not take by its number."""

    client_order_id: str
    symbol: str
    side: str
    order_type: str
    time_in_force: str
    quantity: Decimal
    price: Decimal | None
    reduce_only: bool
    take_profit: Decimal | None
    stop_loss: Decimal | None
    latest_ms: int | None = None
    position_index: int = 0
    closes_position: bool = False


@dataclass(frozen=True, slots=True)
class AmendRequest:
    """Both values as they shall be, on the instrument's grid; ``latest_ms`` as in :class:`OrderRequest`."""

    client_order_id: str
    venue_order_id: str
    symbol: str
    quantity: Decimal
    price: Decimal
    latest_ms: int | None = None


class Gateway(Protocol):
    """All calls block: each account's owner makes them on a thread of its own.

    ``prepare_order`` comes before an order's commit and waits as long as its sending may have to; ``submit`` follows at
    once. ``submit``, ``amend`` and ``cancel`` never raise for what the venue or the network did: they classify. The
    others raise :class:`GatewayError`. ``mode``, paper or real, is where its requests go; ``history_delay_ms``: after
    so long at the latest an order that ended, and its executions, can be found.
    """

    mode: str
    history_delay_ms: int

    def server_time_ms(self) -> int: ...

    def prepare_order(self) -> None: ...

    def submit(self, request: OrderRequest) -> SubmissionResult: ...

    def amend(self, request: AmendRequest) -> SubmissionResult: ...

    def cancel(self, symbol: str, client_order_id: str, venue_order_id: str) -> SubmissionResult: ...

    def cancel_all(self) -> SubmissionResult: ...

    def set_leverage(self, symbol: str, leverage: Decimal) -> None: ...

    def find_order(self, symbol: str, client_order_id: str, venue_order_id: str = "") -> OrderReport | None: ...

    def open_orders(self) -> Sequence[OrderReport]: ...

    def fills_since(self, start_ms: int) -> Sequence[FillReport]: ...

    def fills_of(self, symbol: str, client_order_id: str, venue_order_id: str = "") -> Sequence[FillReport]: ...

    def positions(self) -> Sequence[PositionReport]: ...

    def position_indexes(self, symbol: str) -> frozenset[int]: ...

    def leverage(self, symbol: str) -> Decimal: ...

    def wallet(self) -> WalletReport: ...

    def ledger(self, start_ms: int, end_ms: int) -> Sequence[LedgerReport]: ...

    def funding_fills(self, start_ms: int, end_ms: int) -> Sequence[FillReport]: ...
