"""What the owner of accounts looks after once a second, read for all of its accounts at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import F

from risk.exposure import Exposure
from risk.limits import Limits
from risk.selectors import limits_of
from strategies.models import Signal
from trading.lifecycle import OrderState
from trading.models import Account, AccountReconciliation, KillSwitchTask, Order
from trading.reconciliation import MOST_FAILURES
from trading.services.exposures import NO_PRICES, account_exposures

# Recorded intents, and changes and cancels that were asked for and are not done.
UNSENT = (OrderState.NEW, OrderState.PENDING_REPLACE, OrderState.PENDING_CANCEL)
# What the venue has not confirmed although it left a while ago.
UNRESOLVED = (OrderState.UNKNOWN, OrderState.PENDING_SUBMIT)


@dataclass(frozen=True, slots=True)
class OwnerWork:
    """Of one account: orders to send, change or cancel and signals to judge, the oldest first; orders whose fate is
    open; whether the last comparisons with the venue failed, whichever process made them; what limits it and what it
    has at stake."""

    unsent: Sequence[int]
    signals: Sequence[int]
    unresolved: Sequence[int]
    doubted: bool
    limits: Limits
    exposure: Exposure


def owner_work(account_ids: Collection[int], prices: Mapping[str, Decimal] = NO_PRICES) -> dict[int, OwnerWork]:
    """By account; an account that is gone is left out. ``prices``: marks, to value what is at stake by."""
    accounts = list(Account.objects.filter(pk__in=account_ids))
    identifiers = [account.pk for account in accounts]
    unsent: dict[int, list[int]] = defaultdict(list)
    unresolved: dict[int, list[int]] = defaultdict(list)
    orders = Order.objects.filter(account_id__in=identifiers, state__in=[str(each) for each in (*UNSENT, *UNRESOLVED)])
    for pk, account_id, state in orders.order_by("created_at").values_list("pk", "account_id", "state"):
        (unsent if state in UNSENT else unresolved)[account_id].append(pk)
    signals: dict[int, list[int]] = defaultdict(list)
    pending = Signal.objects.filter(account_id__in=identifiers, outcome=Signal.Outcome.PENDING)
    for pk, account_id in pending.order_by("pk").values_list("pk", "account_id"):
        signals[account_id].append(pk)
    failing = AccountReconciliation.objects.filter(account_id__in=identifiers, failures__gte=MOST_FAILURES)
    doubted = set(failing.filter(mode=F("account__mode")).values_list("account_id", flat=True))
    limits = limits_of(accounts)
    return {
        pk: OwnerWork(unsent[pk], signals[pk], unresolved[pk], pk in doubted, limits[pk], exposure)
        for pk, exposure in account_exposures(identifiers, prices).items()
        if pk in limits
    }


def accounts_being_stopped(account_ids: Collection[int]) -> list[int]:
    """Those on which an engaged kill switch has something left to do."""
    tasks = KillSwitchTask.objects.filter(account_id__in=account_ids, switch__rearmed_at=None)
    return list(tasks.exclude(phase=KillSwitchTask.Phase.DONE).values_list("account_id", flat=True).distinct())
