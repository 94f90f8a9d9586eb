"""Stands in until the kill switch itself is merged: same signature, halts the account."""

from __future__ import annotations

from trading.models import Account
from trading.services.accounts import account_halt


def kill_switch_engage(*, account: Account | None = None, actor: str, reason: str) -> Account | None:
    return account_halt(account=account, actor=actor, reason=reason) if account is not None else None
