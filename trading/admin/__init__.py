"""The admin of everything that belongs to accounts: whoever is staff sees the accounts that they may see."""

from __future__ import annotations

from trading.admin import accounts, orders, other_apps, reconciliation, stopping

__all__ = ["accounts", "orders", "other_apps", "reconciliation", "stopping"]
