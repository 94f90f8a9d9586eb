"""The exchange's memory across restarts: wallets, positions, orders, executions and minute bars in one SQLite file.

Written after every change and before it is answered, so that a killed process forgets nothing it said. Without fsync:
it guards against the end of the process, not of the machine.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from trading.simulator.accounts import SimulatedAccount
from trading.simulator.ledger import Ledger
from trading.simulator.orders import SimulatedOrder
from trading.simulator.positions import SimulatedPosition

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (user TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, user TEXT NOT NULL, created_ms INTEGER, state TEXT);
CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, user TEXT NOT NULL, kind TEXT NOT NULL, row TEXT);
CREATE TABLE IF NOT EXISTS closed_pnl (order_id TEXT PRIMARY KEY, user TEXT NOT NULL, row TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS minutes (symbol TEXT, minute INTEGER, bar TEXT NOT NULL, PRIMARY KEY (symbol, minute));
CREATE TABLE IF NOT EXISTS history (symbol TEXT PRIMARY KEY, first_minute INTEGER, bars BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS prices (symbol TEXT PRIMARY KEY, price TEXT NOT NULL);
"""
# The row of the accounts table that holds the exchange's own money.
LEDGER = "*ledger"
_LEDGERS = ("fees", "background", "background_contracts", "insurance", "insurance_contracts")
_ORDER_DECIMALS = {field.name for field in fields(SimulatedOrder) if field.type in ("Decimal", Decimal)}
_POSITION_DECIMALS = {field.name for field in fields(SimulatedPosition) if field.type in ("Decimal", Decimal)}

# What an order is in books and sums of a running exchange only.
_FLEETING = ("entry", "reserved", "counted")


class JournalError(Exception):
    """A state file that cannot be used; the message says why and what to do."""


class Journal:
    """With no path it remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self._written: dict[tuple[str, str], int] = {}
        self._database: sqlite3.Connection | None = None
        if path is None:
            return
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=OFF")
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise JournalError(f"{path} is not a simulator state ({error}); remove it or name another") from None

    def load(self, account: SimulatedAccount) -> None:
        """Put an account back as it was."""
        if self._database is None:
            return
        user = (account.user,)
        row = self._database.execute("SELECT state FROM accounts WHERE user = ?", user).fetchone()
        if row is not None:
            state = json.loads(row[0])
            account.wallets = {coin: Decimal(amount) for coin, amount in state["wallets"].items()}
            account.realised, account.hedged = Decimal(state["realised"]), set(state["hedged"])
            account.switched_off = set(state.get("switched_off", ()))
            for values in state["positions"]:
                position = SimulatedPosition(**_parsed(values, _POSITION_DECIMALS))
                account.positions[position.symbol, position.index] = position
        orders = self._database.execute("SELECT state FROM orders WHERE user = ? ORDER BY created_ms, rowid", user)
        for (text,) in orders:
            order = SimulatedOrder(**_parsed(json.loads(text), _ORDER_DECIMALS))
            account.orders[order.order_id] = order
            if order.link_id:
                account.by_link[order.link_id] = order
        for kind, rows in _records(account).items():
            stored = self._database.execute(
                "SELECT row FROM records WHERE user = ? AND kind = ? ORDER BY number", (account.user, kind)
            )
            rows += [json.loads(text) for (text,) in stored]
            self._written[account.user, kind] = len(rows)
        closed = self._database.execute("SELECT row FROM closed_pnl WHERE user = ? ORDER BY rowid", user)
        account.closed_pnl = {row["orderId"]: row for row in (json.loads(text) for (text,) in closed)}

    def has_orders(self) -> bool:
        """Whether an earlier run took any."""
        if self._database is None:
            return False
        return self._database.execute("SELECT 1 FROM orders LIMIT 1").fetchone() is not None

    def users(self) -> set[str]:
        """Whose accounts there are."""
        if self._database is None:
            return set()
        rows = self._database.execute("SELECT user FROM accounts WHERE user != ?", (LEDGER,))
        return {user for (user,) in rows}

    def load_ledger(self, ledger: Ledger) -> None:
        """Put the exchange's own money back as it was."""
        if self._database is None:
            return
        row = self._database.execute("SELECT state FROM accounts WHERE user = ?", (LEDGER,)).fetchone()
        for name, amounts in (json.loads(row[0]) if row is not None else {}).items():
            getattr(ledger, name).update({key: Decimal(amount) for key, amount in amounts.items()})

    def last_price(self, symbol: str) -> Decimal | None:
        if self._database is None:
            return None
        row = self._database.execute("SELECT price FROM prices WHERE symbol = ?", (symbol,)).fetchone()
        return Decimal(row[0]) if row else None

    def history(self, symbol: str) -> list[tuple[int, NDArray[np.float64]]]:
        """Minute bars of earlier runs, oldest first, as pieces without holes: first minute, bars (minutes x 6)."""
        if self._database is None:
            return []
        pieces = [
            (minute, np.frombuffer(zstandard.decompress(bars)).reshape(-1, 6))
            for minute, bars in self._database.execute(
                "SELECT first_minute, bars FROM history WHERE symbol = ?", (symbol,)
            )
        ]
        rows = self._database.execute("SELECT minute, bar FROM minutes WHERE symbol = ? ORDER BY minute", (symbol,))
        return pieces + [(minute, np.array([json.loads(text)])) for minute, text in rows]

    def write_history(self, symbol: str, first_minute: int, bars: NDArray[np.float64]) -> None:
        """Keep the whole past of a symbol, also what was made up: a venue does not change its history."""
        if self._database is None:
            return
        self._database.execute("BEGIN")
        content = zstandard.compress(bars.tobytes(), 1)
        self._database.execute("REPLACE INTO history VALUES (?, ?, ?)", (symbol, first_minute, content))
        self._database.execute("DELETE FROM minutes WHERE symbol = ?", (symbol,))
        self._database.execute("COMMIT")

    def write(
        self, accounts: Iterable[SimulatedAccount], orders: Iterable[SimulatedOrder], ledger: Ledger | None = None
    ) -> None:
        """Keep what changed, in one transaction."""
        database, changed = self._database, list(orders)
        if database is None:
            return
        database.execute("BEGIN")
        for account in accounts:
            self._write_account(database, account, changed)
        database.executemany(
            "REPLACE INTO orders (order_id, user, created_ms, state) VALUES (?, ?, ?, ?)",
            [(order.order_id, order.user, order.created_ms, json.dumps(_values(order))) for order in changed],
        )
        if ledger is not None:
            state = {name: {key: str(amount) for key, amount in getattr(ledger, name).items()} for name in _LEDGERS}
            database.execute("REPLACE INTO accounts VALUES (?, ?)", (LEDGER, json.dumps(state)))
        database.execute("COMMIT")

    def _write_account(
        self, database: sqlite3.Connection, account: SimulatedAccount, changed: Iterable[SimulatedOrder]
    ) -> None:
        state = {
            "wallets": {coin: str(amount) for coin, amount in account.wallets.items()},
            "realised": str(account.realised),
            "hedged": sorted(account.hedged),
            "switched_off": sorted(account.switched_off),
            "positions": [_values(position) for position in account.positions.values()],
        }
        database.execute("REPLACE INTO accounts VALUES (?, ?)", (account.user, json.dumps(state)))
        for kind, rows in _records(account).items():
            first = self._written.get((account.user, kind), 0)
            database.executemany(
                "INSERT INTO records (user, kind, row) VALUES (?, ?, ?)",
                [(account.user, kind, json.dumps(row)) for row in rows[first:]],
            )
            self._written[account.user, kind] = len(rows)
        closed = [order.order_id for order in changed if order.order_id in account.closed_pnl]
        database.executemany(
            "REPLACE INTO closed_pnl (order_id, user, row) VALUES (?, ?, ?)",
            [(order_id, account.user, json.dumps(account.closed_pnl[order_id])) for order_id in closed],
        )

    def write_minute(self, bars: Iterable[tuple[str, int, list[float], Decimal]]) -> None:
        """Keep closed minute bars (symbol, minute, bar) and the last price of each symbol."""
        if self._database is None:
            return
        rows = list(bars)
        self._database.execute("BEGIN")
        self._database.executemany(
            "REPLACE INTO minutes VALUES (?, ?, ?)",
            [(symbol, minute, json.dumps(bar)) for symbol, minute, bar, _ in rows],
        )
        self._database.executemany(
            "REPLACE INTO prices VALUES (?, ?)", [(symbol, str(price)) for symbol, _, _, price in rows]
        )
        self._database.execute("COMMIT")

    def close(self) -> None:
        if self._database is not None:
            self._database.close()


def _records(account: SimulatedAccount) -> dict[str, list[dict[str, Any]]]:
    """What only ever grows."""
    return {"execution": account.executions, "transaction": account.transactions}


def _parsed(values: dict[str, Any], decimals: set[str]) -> dict[str, Any]:
    return {name: Decimal(value) if name in decimals else value for name, value in values.items()}


def _values(record: Any) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record) if field.name not in _FLEETING}
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in values.items()}
