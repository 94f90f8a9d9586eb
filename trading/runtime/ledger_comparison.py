"""The venue's ledger against our books: every movement of money kept once, fees and funding compared, each coin's
balance explained.

Not at every run: it costs three requests and more, and money moves with fills, which are compared every time, and with
funding, which comes hourly at most. So once a minute, at every start and reconnect, and when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Min
from django.utils import timezone

from trading.gateways.base import Gateway, TooManyPages
from trading.ledger import funding_differences, windows
from trading.models import AccountReconciliation, CoinBalance
from trading.reconciliation import Difference
from trading.reports import LedgerReport
from trading.services.ledger import (
    coin_balances,
    coin_balances_compare,
    ledger_book,
    ledger_read_note,
    ledger_settle,
    ledger_size,
)

EVERY = timedelta(seconds=60)
AT_ONCE = frozenset({"connect", "ownership", "start", "command"})
# Entries may be listed late: always look back further than the last reading.
OVERLAP = timedelta(minutes=10)
FIRST_LOOK_BACK = timedelta(days=1)
# A balance that nothing explains: an entry may have come later than the overlap is long.
UNEXPLAINED_LOOK_BACK = timedelta(hours=1)
LONGEST_WINDOW, SHORTEST_WINDOW = timedelta(days=1), timedelta(milliseconds=10)
# The venue's clock may be ahead of ours.
AHEAD = timedelta(minutes=1)
# Funding of the last moments may be in one list already and not in the other.
FUNDING_SETTLES = timedelta(minutes=2)
ROUNDS = 3


def ledger_is_due(account_id: int, mode: str, trigger: str) -> bool:
    state = AccountReconciliation.objects.filter(account_id=account_id, mode=mode).first()
    if trigger in AT_ONCE or state is None or state.ledger_compared_at is None:
        return True
    asked = state.asked_at is not None and state.asked_at > state.ledger_compared_at
    return asked or timezone.now() - state.ledger_compared_at >= EVERY


def compare_ledger(account_id: int, gateway: Gateway, begun: datetime) -> list[Difference]:
    """What differs; ``begun`` is when our books of the account begin.

    Raises:
        GatewayError: the venue does not answer.
    """
    mode = gateway.mode
    start = _start(account_id, mode)
    found: list[Difference] = []
    entries: list[LedgerReport] = []
    coins: Mapping[str, Decimal] = {}
    is_first = not CoinBalance.objects.filter(account_id=account_id, mode=mode).exists()
    for _ in range(1 if is_first else ROUNDS):
        entries, more = _read(account_id, gateway, start)
        found += more
        size = ledger_size(account_id, mode)
        coins = gateway.wallet().coins
        if _explained(account_id, mode, coins):
            break
        # Money moved between the two questions, or the ledger is late: the first is over when both are asked again.
    if is_first:
        # Had money moved meanwhile, the opening balance would be wrong for ever: then the next run begins.
        entries, more = _read(account_id, gateway, start)
        found += more
    found += ledger_settle(account_id=account_id, begun=begun, mode=mode)
    found += _compare_funding(gateway, entries, max(start, begun))
    return found + coin_balances_compare(account_id=account_id, coins=coins, at=timezone.now(), entries=size, mode=mode)


def _start(account_id: int, mode: str) -> datetime:
    state = AccountReconciliation.objects.filter(account_id=account_id, mode=mode).first()
    if state is None or state.ledger_read_through is None:
        return timezone.now() - FIRST_LOOK_BACK
    start = state.ledger_read_through - OVERLAP
    balances = CoinBalance.objects.filter(account_id=account_id, mode=mode)
    since = balances.aggregate(since=Min("unexplained_since"))["since"]
    return start if since is None else min(start, since - UNEXPLAINED_LOOK_BACK)


def _read(account_id: int, gateway: Gateway, start: datetime) -> tuple[list[LedgerReport], list[Difference]]:
    """Keep what is new since ``start``, piece by piece: after a long absence an interruption loses nothing."""
    entries, found = [], []
    now = timezone.now()
    for since, until in windows(start, now + AHEAD, LONGEST_WINDOW):
        reports = _window(gateway, since, until)
        found += ledger_book(account_id=account_id, reports=reports, mode=gateway.mode)
        ledger_read_note(account_id=account_id, through=min(until, now), mode=gateway.mode)
        entries += reports
    return entries, found


def _window(gateway: Gateway, start: datetime, end: datetime) -> list[LedgerReport]:
    try:
        return list(gateway.ledger(milliseconds(start), milliseconds(end)))
    except TooManyPages:
        half = (end - start) / 2
        if half < SHORTEST_WINDOW:
            raise
        return _window(gateway, start, start + half) + _window(gateway, start + half, end)


def _explained(account_id: int, mode: str, coins: Mapping[str, Decimal]) -> bool:
    balances = coin_balances(account_id, mode, coins)
    return bool(balances) and not any(balance.unexplained for balance in balances)


def _compare_funding(gateway: Gateway, entries: Sequence[LedgerReport], start: datetime) -> list[Difference]:
    end = timezone.now() - FUNDING_SETTLES
    if start >= end:
        return []
    found = []
    for since, until in windows(start, end, LONGEST_WINDOW):
        found += funding_differences(gateway.funding_fills(milliseconds(since), milliseconds(until)), entries)
    return found


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
