"""Limits of a user and of the platform, judged once more where orders are committed.

An engine hears of other engines' orders up to a second late, so two of them could pass such a limit together. Here they
take turns: the limit's row is locked, what everybody has committed by then is read, and the lock ends with the commit.
It costs some questions for each order, and is only done for accounts that such limits span.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from marketdata.selectors import instrument_rules
from risk.checks import Refusal, check_levels
from risk.groups import SymbolGroups
from risk.intents import OrderIntent
from risk.selectors import symbol_groups
from risk.services import shared_limits_locked
from trading.models import Account
from trading.services.exposures import account_exposure


class RiskDenied(Exception):
    """Risk has denied an order when it was about to be committed."""

    def __init__(self, refusals: tuple[Refusal, ...]) -> None:
        self.refusals = refusals
        super().__init__("; ".join(refusal.message for refusal in refusals))


def shared_refusals(*, account_id: int, intent: OrderIntent, prices: Mapping[str, Decimal]) -> tuple[Refusal, ...]:
    """Call it after the lease is confirmed, in the transaction that commits the order. ``prices``: marks by symbol, to
    value positions and market orders by."""
    if intent.reduce_only:
        return ()
    owner_id = Account.objects.values_list("owner_id", flat=True).get(pk=account_id)
    levels = shared_limits_locked(owner_id)
    rules, price = instrument_rules(intent.symbol), prices.get(intent.symbol) or intent.price
    if not levels:
        return ()
    if rules is None or price is None:
        message = f"nothing is known of the market of {intent.symbol}: limits of several accounts cannot be judged"
        return (Refusal("market_data", "required", "none", message),)
    limited = any(limits.group_limits for limits in levels.values())
    groups = symbol_groups() if limited else SymbolGroups()
    return check_levels(intent, levels, account_exposure(account_id, prices), rules, price, groups).refusals
