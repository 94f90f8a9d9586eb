"""What the owner of accounts looks after once a second, read for all of its accounts at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.db.models import F, Q
from django.db.models.functions import Now

from risk.exposure import Exposure
from risk.limits import Limits
from risk.selectors import watched_limits
from strategies.models import Signal
from trading.lifecycle import OrderState
from trading.models import Account, AccountReconciliation, KillSwitchTask, Order
from trading.reconciliation import MOST_FAILURES
from trading.services.exposures import NO_PRICES, account_exposures

# Recorded, and judged by nobody yet.
INTENTS = (OrderState.NEW,)
# Changes and cancels that were asked for and are not done.
CHANGES = (OrderState.PENDING_REPLACE, OrderState.PENDING_CANCEL)
UNRESOLVED = (OrderState.UNKNOWN, OrderState.PENDING_SUBMIT)
# An answer that is on its way takes no longer: asking sooner would only use up the rate.
ANSWER_TIME = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class OwnerWork:
    """Of one account: orders to send, orders to change or cancel, and signals to judge, the oldest first; orders whose
    fate is open; whether the last comparisons with the venue failed, whichever process made them; what limits it and
    its strategies, by their names, and what it has at stake."""

    intents: Sequence[int]
    changes: Sequence[int]
    signals: Sequence[int]
    unresolved: Sequence[int]
    doubted: bool
    limits: Limits
    strategy_limits: Mapping[str, Limits]
    exposure: Exposure


def owner_work(account_ids: Collection[int], prices: Mapping[str, Decimal] = NO_PRICES) -> dict[int, OwnerWork]:
    """By account; an account that is gone is left out. ``prices``: marks, to value what is at stake by."""
    accounts = list(Account.objects.filter(pk__in=account_ids))
    identifiers = [account.pk for account in accounts]
    found: dict[tuple[int, tuple[OrderState, ...]], list[int]] = defaultdict(list)
    kinds = {str(state): states for states in (INTENTS, CHANGES, UNRESOLVED) for state in states}
    orders = Order.objects.filter(account_id__in=identifiers, state__in=list(kinds))
    underway = Q(state=str(OrderState.PENDING_SUBMIT), sent_at__gt=Now() - ANSWER_TIME)
    orders = orders.exclude(underway)
    for pk, account_id, state in orders.order_by("created_at").values_list("pk", "account_id", "state"):
        found[account_id, kinds[state]].append(pk)
    signals: dict[int, list[int]] = defaultdict(list)
    pending = Signal.objects.filter(account_id__in=identifiers, outcome=Signal.Outcome.PENDING)
    for pk, account_id in pending.order_by("pk").values_list("pk", "account_id"):
        signals[account_id].append(pk)
    failing = AccountReconciliation.objects.filter(account_id__in=identifiers, failures__gte=MOST_FAILURES)
    doubted = set(failing.filter(mode=F("account__mode")).values_list("account_id", flat=True))
    limits = watched_limits(accounts)
    return {
        pk: OwnerWork(
            found[pk, INTENTS],
            found[pk, CHANGES],
            signals[pk],
            found[pk, UNRESOLVED],
            pk in doubted,
            *limits[pk],
            exposure,
        )
        for pk, exposure in account_exposures(identifiers, prices).items()
        if pk in limits
    }


def accounts_being_stopped(account_ids: Collection[int]) -> list[int]:
    """Those on which an engaged kill switch has something left to do."""
    tasks = KillSwitchTask.objects.filter(account_id__in=account_ids, switch__rearmed_at=None)
    return list(tasks.exclude(phase=KillSwitchTask.Phase.DONE).values_list("account_id", flat=True).distinct())
