"""API keys that the simulator knows from the start, one a demo user."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path


class KeysError(ValueError):
    """A keys file that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    user: str
    api_key: str
    api_secret: str
    balance: Decimal = Decimal(100_000)


def _demo(user: str) -> ApiKey:
    return ApiKey(user, f"simulator-{user}-key", f"simulator-{user}-secret")


DEMO_KEYS: dict[str, ApiKey] = {user: _demo(user) for user in ("alice", "bob", "desk")}


def read_keys(path: Path) -> dict[str, ApiKey]:
    """Keys from a JSON list of ``{"user", "api_key", "api_secret", "balance"}``, by user.

    Raises:
        KeysError: not readable, not such a list, or a balance that is no positive number.
    """
    try:
        rows = json.loads(path.read_text())
        keys = [
            ApiKey(str(row["user"]), str(row["api_key"]), str(row["api_secret"]), Decimal(str(row["balance"])))
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError, InvalidOperation) as error:
        raise KeysError(f"{path} is not a list of keys: {type(error).__name__}: {error}") from None
    for key in keys:
        if not key.balance.is_finite() or key.balance <= 0:
            raise KeysError(f"{path}: the balance of {key.user} is {key.balance}; expected above 0")
    return {key.user: key for key in keys}
