"""API keys that the simulator knows from the start, one a demo user."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path


class KeysError(ValueError):
    """A keys file that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A user and what his account begins with: ``balance`` in USDT, ``coins`` beside it."""

    user: str
    api_key: str
    api_secret: str
    balance: Decimal = Decimal(100_000)
    coins: Mapping[str, Decimal] = field(default_factory=dict)


def _demo(user: str) -> ApiKey:
    return ApiKey(user, f"simulator-{user}-key", f"simulator-{user}-secret")


DEMO_KEYS: dict[str, ApiKey] = {user: _demo(user) for user in ("alice", "bob", "desk")}


def read_keys(path: Path) -> dict[str, ApiKey]:
    """Keys from a JSON list of ``{"user", "api_key", "api_secret", "balance"}``, by user; ``"coins"`` may give further
    amounts by coin.

    Raises:
        KeysError: not readable, not such a list, or an amount that is no positive number.
    """
    try:
        rows = json.loads(path.read_text())
        keys = [
            ApiKey(
                str(row["user"]),
                str(row["api_key"]),
                str(row["api_secret"]),
                Decimal(str(row["balance"])),
                {str(coin): Decimal(str(amount)) for coin, amount in row.get("coins", {}).items()},
            )
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidOperation) as error:
        raise KeysError(f"{path} is not a list of keys: {type(error).__name__}: {error}") from None
    for key in keys:
        for amount in (key.balance, *key.coins.values()):
            if not amount.is_finite() or amount <= 0:
                raise KeysError(f"{path}: the balance of {key.user} is {amount}; expected above 0")
    return {key.user: key for key in keys}
