from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.db.models import Q, Sum
from django.utils import timezone

from audit import bus
from audit.services import record
from trading.ledger import SETTLING, ZERO, ExplainedBalance, contradiction, fee_difference
from trading.models import AccountReconciliation, CoinBalance, Fill, LedgerEntry, Position
from trading.reconciliation import Difference, DifferenceKind
from trading.reports import LedgerReport
from trading.services.fills import TRADING_EXECUTIONS, moment
from trading.services.reconciliations import reconciliation_locked

DERIVATIVES = "linear"
# One event on the trail tells of so many entries by their ids; the rows themselves have everything.
MOST_NAMED = 200


@transaction.atomic
def ledger_book(*, account_id: int, reports: Sequence[LedgerReport], mode: str | None = None) -> list[Difference]:
    """Keep the venue's money movements, each exactly once; returns new ones that contradict themselves."""
    if not reports:
        return []
    mode = reconciliation_locked(account_id, mode).mode
    entries = LedgerEntry.objects.filter(account_id=account_id, mode=mode)
    known = set(entries.filter(venue_id__in=[each.venue_id for each in reports]).values_list("venue_id", flat=True))
    fresh = {report.venue_id: report for report in reports if report.venue_id not in known}
    if not fresh:
        return []
    LedgerEntry.objects.bulk_create([_entry(account_id, mode, report) for report in fresh.values()])
    changes: dict[str, Decimal] = {}
    for report in fresh.values():
        changes[report.currency] = changes.get(report.currency, ZERO) + report.change
    record(
        actor="venue",
        action="ledger.booked",
        subject=f"account:{account_id}",
        account_id=account_id,
        parameters={"entries": len(fresh), "changes": changes, "ids": list(fresh)[:MOST_NAMED]},
    )
    return [found for report in fresh.values() if (found := contradiction(report)) is not None]


def _entry(account_id: int, mode: str, report: LedgerReport) -> LedgerEntry:
    return LedgerEntry(
        account_id=account_id,
        mode=mode,
        venue_id=report.venue_id,
        kind=report.kind,
        category=report.category,
        symbol=report.symbol,
        side=report.side,
        currency=report.currency,
        quantity=report.quantity,
        price=report.price,
        cash_flow=report.cash_flow,
        funding=report.funding,
        fee=report.fee,
        change=report.change,
        balance=report.balance,
        execution_id=report.execution_id,
        venue_order_id=report.venue_order_id,
        client_order_id=report.client_order_id,
        booked_at=moment(report.booked_ms),
    )


@transaction.atomic
def ledger_settle(*, account_id: int, begun: datetime, mode: str | None = None) -> list[Difference]:
    """Find the fill or the position of each entry that has none yet: fees are compared, funding goes to its position.

    An entry without either waits a while, for both sides may be late; then it is a difference. What was before
    ``begun`` is not in our books and is no difference.
    """
    mode = reconciliation_locked(account_id, mode).mode
    found = []
    rows = LedgerEntry.objects.select_for_update(no_key=True).filter(account_id=account_id, mode=mode)
    for entry in rows.filter(compared=False).order_by("booked_at", "pk"):
        difference = _settle_funding(entry) if entry.funding else _settle_trade(entry)
        if difference is not None:
            if entry.booked_at < begun:
                difference = None
            elif difference.kind is not DifferenceKind.FEE and timezone.now() - entry.recorded_at < SETTLING:
                continue
        if difference is not None:
            found.append(difference)
        entry.compared = True
        entry.save(update_fields=["compared", "fill", "position"])
    return found


def _settle_trade(entry: LedgerEntry) -> Difference | None:
    if entry.category != DERIVATIVES or not entry.execution_id:
        return None
    fills = Fill.objects.filter(account_id=entry.account_id, mode=entry.mode, execution_id=entry.execution_id)
    fill = fills.first()
    if fill is None:
        text = f"{entry.side} {entry.quantity:f} {entry.symbol} at {entry.price:f}"
        return Difference(DifferenceKind.UNBOOKED_TRADE, entry.execution_id, "no fill", text, stands=True)
    if fill.execution_type not in TRADING_EXECUTIONS:
        return None
    entry.fill = fill
    return fee_difference(entry.execution_id, fill.fee, entry.fee, entry.currency)


def _settle_funding(entry: LedgerEntry) -> Difference | None:
    held = Position.objects.select_for_update(of=("self",), no_key=True).filter(
        Q(closed_at=None) | Q(closed_at__gte=entry.booked_at),
        account_id=entry.account_id,
        mode=entry.mode,
        instrument__symbol=entry.symbol,
        opened_at__lte=entry.booked_at,
    )
    position = held.order_by("-opened_at").first()
    if position is None:
        paid = f"{entry.funding:f} {entry.currency} for {entry.symbol}"
        return Difference(
            DifferenceKind.FUNDING, f"entry {entry.venue_id}"[:100], "no position then", paid, True, entry.funding
        )
    position.funding += entry.funding
    position.save(update_fields=["funding", "updated_at"])
    entry.position = position
    bus.account_changed(entry.account_id, "position", position.pk)
    return None


def coin_balances(account_id: int, mode: str, coins: Mapping[str, Decimal]) -> list[ExplainedBalance]:
    """Each coin's balance as the entries explain it, next to what the venue says. Empty before the first comparison."""
    rows = CoinBalance.objects.filter(account_id=account_id, mode=mode)
    openings = dict(rows.values_list("currency", "opening_balance"))
    if not openings:
        return []
    changes = _changes(account_id, mode)
    names = sorted({*openings, *changes, *(coin for coin, amount in coins.items() if amount)})
    return [
        ExplainedBalance(name, openings.get(name, ZERO) + changes.get(name, ZERO), coins.get(name, ZERO))
        for name in names
    ]


def ledger_size(account_id: int, mode: str) -> int:
    """How many entries we know."""
    return LedgerEntry.objects.filter(account_id=account_id, mode=mode).count()


def _changes(account_id: int, mode: str) -> dict[str, Decimal]:
    rows = LedgerEntry.objects.filter(account_id=account_id, mode=mode).order_by()
    return dict(rows.values("currency").annotate(total=Sum("change")).values_list("currency", "total"))


@transaction.atomic
def coin_balances_compare(
    *, account_id: int, coins: Mapping[str, Decimal], at: datetime, entries: int, mode: str | None = None
) -> list[Difference]:
    """Keep how each balance is explained. ``entries``: how many were known when ``coins`` were told.

    The first comparison fixes what was there before the first entry, unless others came meanwhile. Later a coin is a
    difference when it stays unexplained for longer than the ledger may be late.
    """
    state = reconciliation_locked(account_id, mode)
    mode = state.mode
    known = {row.currency: row for row in CoinBalance.objects.filter(account_id=account_id, mode=mode)}
    if not known:
        if ledger_size(account_id, mode) == entries:
            _open_balances(state, coins, at)
        return []
    found = []
    for balance in coin_balances(account_id, mode, coins):
        # A coin that was not there at the first comparison began with nothing.
        row = known.get(balance.currency) or CoinBalance(
            account_id=account_id, mode=mode, currency=balance.currency, opening_balance=ZERO, opened_at=at
        )
        row.explained_balance, row.venue_balance, row.compared_at = balance.explained, balance.venue, at
        row.unexplained_since = (row.unexplained_since or at) if balance.unexplained else None
        row.save()
        if row.unexplained_since is not None and at - row.unexplained_since >= SETTLING:
            found.append(balance.difference())
    state.ledger_compared_at = at
    state.save(update_fields=["ledger_compared_at"])
    return found


def _open_balances(state: AccountReconciliation, coins: Mapping[str, Decimal], at: datetime) -> None:
    account_id, mode = state.account_id, state.mode
    changes = _changes(account_id, mode)
    rows = [
        CoinBalance(
            account_id=account_id,
            mode=mode,
            currency=coin,
            opening_balance=amount - changes.get(coin, ZERO),
            opened_at=at,
            explained_balance=amount,
            venue_balance=amount,
            compared_at=at,
        )
        for coin, amount in (dict.fromkeys(changes, ZERO) | dict(coins)).items()
    ]
    CoinBalance.objects.bulk_create(rows)
    state.ledger_compared_at = at
    state.save(update_fields=["ledger_compared_at"])
    record(
        actor="reconciliation",
        action="ledger.opened",
        subject=f"account:{account_id}",
        account_id=account_id,
        after={row.currency: row.opening_balance for row in rows},
    )


@transaction.atomic
def coin_balance_accept(*, account_id: int, currency: str, actor: str, reason: str) -> CoinBalance:
    """A person knows what the unexplained part of a balance is: explain it from now on as what was there before.

    Raises:
        CoinBalance.DoesNotExist: nothing is known of this coin.
    """
    mode = reconciliation_locked(account_id).mode
    row = CoinBalance.objects.get(account_id=account_id, mode=mode, currency=currency)
    before = {"opening_balance": row.opening_balance}
    row.opening_balance += row.venue_balance - row.explained_balance
    row.explained_balance, row.unexplained_since = row.venue_balance, None
    row.save()
    record(
        actor=actor,
        action="ledger.balance_accepted",
        subject=f"balance:{currency}",
        account_id=account_id,
        reason=reason,
        before=before,
        after={"opening_balance": row.opening_balance},
    )
    return row


@transaction.atomic
def ledger_read_note(*, account_id: int, through: datetime, mode: str | None = None) -> None:
    """The ledger is read up to this time."""
    state = reconciliation_locked(account_id, mode)
    if state.ledger_read_through is None or state.ledger_read_through < through:
        state.ledger_read_through = through
        state.save(update_fields=["ledger_read_through"])
