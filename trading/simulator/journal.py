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

from trading.simulator.accounts import SimulatedAccount, SimulatedOrder, SimulatedPosition

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (user TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, user TEXT NOT NULL, created_ms INTEGER, state TEXT);
CREATE TABLE IF NOT EXISTS executions (number INTEGER PRIMARY KEY, user TEXT NOT NULL, row TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS minutes (symbol TEXT, minute INTEGER, bar TEXT NOT NULL, PRIMARY KEY (symbol, minute));
CREATE TABLE IF NOT EXISTS history (symbol TEXT PRIMARY KEY, first_minute INTEGER, bars BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS prices (symbol TEXT PRIMARY KEY, price TEXT NOT NULL);
"""
_DECIMALS = {field.name for field in fields(SimulatedOrder) if field.type in ("Decimal", Decimal)}
_POSITION_DECIMALS = {field.name for field in fields(SimulatedPosition) if field.type in ("Decimal", Decimal)}


class JournalError(Exception):
    """A state file that cannot be used; the message says why and what to do."""


class Journal:
    """With no path it remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self._written: dict[str, int] = {}
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
        row = self._database.execute("SELECT state FROM accounts WHERE user = ?", (account.user,)).fetchone()
        if row is not None:
            state = json.loads(row[0])
            account.balance, account.realised = Decimal(state["balance"]), Decimal(state["realised"])
            for position in state["positions"]:
                held: dict[str, Any] = {n: Decimal(v) if n in _POSITION_DECIMALS else v for n, v in position.items()}
                account.positions[held["symbol"]] = SimulatedPosition(**held)
        orders = self._database.execute(
            "SELECT state FROM orders WHERE user = ? ORDER BY created_ms, rowid", (account.user,)
        )
        for (text,) in orders:
            values: dict[str, Any] = {n: Decimal(v) if n in _DECIMALS else v for n, v in json.loads(text).items()}
            order = SimulatedOrder(**values)
            account.orders[order.order_id] = order
            if order.link_id:
                account.by_link[order.link_id] = order
        executions = self._database.execute(
            "SELECT row FROM executions WHERE user = ? ORDER BY number", (account.user,)
        )
        account.executions = [json.loads(text) for (text,) in executions]
        self._written[account.user] = len(account.executions)

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

    def write(self, accounts: Iterable[SimulatedAccount], orders: Iterable[SimulatedOrder]) -> None:
        """Keep what changed, in one transaction."""
        if self._database is None:
            return
        self._database.execute("BEGIN")
        for account in accounts:
            state = {
                "balance": str(account.balance),
                "realised": str(account.realised),
                "positions": [_values(position) for position in account.positions.values()],
            }
            self._database.execute("REPLACE INTO accounts VALUES (?, ?)", (account.user, json.dumps(state)))
            first = self._written.get(account.user, 0)
            self._database.executemany(
                "INSERT INTO executions (user, row) VALUES (?, ?)",
                [(account.user, json.dumps(row)) for row in account.executions[first:]],
            )
            self._written[account.user] = len(account.executions)
        self._database.executemany(
            "REPLACE INTO orders (order_id, user, created_ms, state) VALUES (?, ?, ?, ?)",
            [(order.order_id, order.user, order.created_ms, json.dumps(_values(order))) for order in orders],
        )
        self._database.execute("COMMIT")

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


def _values(record: Any) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record) if field.name != "entry"}
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in values.items()}
