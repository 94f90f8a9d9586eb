"""The two sides of a comparison, as plain values: what the exchange has, and what our books say."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

OPEN_AT_VENUE = frozenset({"New", "PartiallyFilled", "Untriggered"})
TRADES = frozenset({"Trade", "AdlTrade", "BustTrade"})
COIN = "USDT"


@dataclass(frozen=True, slots=True)
class VenueOrder:
    """``price``: of a limit order; the venue keeps something of its own with a market order."""

    venue_order_id: str
    client_order_id: str
    symbol: str
    side: str
    quantity: Decimal
    filled: Decimal
    status: str
    created_by_user: bool
    price: Decimal = Decimal(0)

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_AT_VENUE


@dataclass(frozen=True, slots=True)
class OurOrder:
    """``price``: None for a market order. ``is_replacing``: an amendment of it has no outcome yet."""

    client_order_id: str
    venue_order_id: str
    symbol: str
    side: str
    quantity: Decimal
    filled: Decimal
    state: str
    strategy: str
    price: Decimal | None = None
    is_replacing: bool = False
    reduce_only: bool = False


@dataclass(frozen=True, slots=True)
class Execution:
    """A fill, ours or the venue's. ``client_order_id`` is empty where the venue traded without an order of ours."""

    execution_id: str
    client_order_id: str
    symbol: str
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal


@dataclass(frozen=True, slots=True)
class VenueLedger:
    """One account at the exchange. ``positions``: signed quantities by symbol, without those that are flat."""

    orders: Sequence[VenueOrder]
    executions: Sequence[Execution]
    positions: Mapping[str, Decimal]
    balance: Decimal


@dataclass(frozen=True, slots=True)
class OurLedger:
    """The same account in our books."""

    orders: Sequence[OurOrder]
    executions: Sequence[Execution]
    positions: Mapping[str, Decimal]
    balance: Decimal


def read_venue(state: Path, user: str, begun_with: Decimal) -> VenueLedger:
    """The exchange's own ledger of a user, from the simulator's journal: no gateway of ours has a part in it.
    ``begun_with``: the balance of a user with whom nothing has happened yet.

    Raises:
        sqlite3.Error: the file cannot be read now.
    """
    database = sqlite3.connect(f"file:{state}?mode=ro", uri=True, timeout=5.0)
    try:
        database.execute("BEGIN")
        row = database.execute("SELECT state FROM accounts WHERE user = ?", (user,)).fetchone()
        untouched: dict[str, Any] = {"positions": [], "wallets": {COIN: str(begun_with)}}
        account = untouched if row is None else json.loads(row[0])
        orders = [json.loads(text) for (text,) in database.execute("SELECT state FROM orders WHERE user = ?", (user,))]
        question = "SELECT row FROM records WHERE user = ? AND kind = 'execution' ORDER BY number"
        executions = [json.loads(text) for (text,) in database.execute(question, (user,))]
    finally:
        database.close()
    return VenueLedger(
        orders=[_order(row) for row in orders if row["category"] == "linear"],
        executions=[_execution(row) for row in executions if row["execType"] in TRADES],
        positions=_positions(account["positions"]),
        balance=Decimal(account["wallets"].get(COIN, "0")),
    )


def signed(side: str, quantity: Decimal) -> Decimal:
    return quantity if side == "Buy" else -quantity


def _order(row: dict[str, Any]) -> VenueOrder:
    return VenueOrder(
        venue_order_id=row["order_id"],
        client_order_id=row["link_id"],
        symbol=row["symbol"],
        side=row["side"],
        quantity=Decimal(row["quantity"]),
        filled=Decimal(row["filled"]),
        status=row["status"],
        created_by_user=row["create_type"] == "CreateByUser",
        price=Decimal(row["price"]),
    )


def _execution(row: dict[str, Any]) -> Execution:
    return Execution(
        execution_id=row["execId"],
        client_order_id=row["orderLinkId"],
        symbol=row["symbol"],
        side=row["side"],
        price=Decimal(row["execPrice"]),
        quantity=Decimal(row["execQty"]),
        fee=Decimal(row["execFee"]),
    )


def _positions(rows: list[dict[str, Any]]) -> dict[str, Decimal]:
    return {
        row["symbol"]: signed(row["side"], Decimal(row["quantity"])) for row in rows if Decimal(row["quantity"]) != 0
    }
