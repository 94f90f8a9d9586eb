from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.db import transaction
from django.utils import timezone

from audit import bus
from audit.services import alert_raise, record, recorded_together
from trading.models import Account, AccountReconciliation, Discrepancy, ReconciliationRun
from trading.reconciliation import (
    ENDS_BY_ITSELF,
    ENDS_WITH_LEDGER,
    MOST_FAILURES,
    PUT_RIGHT,
    Difference,
    DifferenceKind,
)
from trading.services.accounts import account_halt
from trading.services.modes import ModeChanged, mode_confirm

MOST_NAMED = 3
# A foreign fill has an alert of its own (see outside_changes).
ALERTS: Mapping[DifferenceKind, tuple[Literal["info", "warning", "critical"], str]] = {
    DifferenceKind.MISSED_FILL: ("info", "fills had not reached us and were booked late"),
    DifferenceKind.FOREIGN_ORDER: ("warning", "orders at the venue are not ours"),
    DifferenceKind.AMENDED: ("warning", "orders were changed at the venue, and ours took its values"),
    DifferenceKind.LOST_ORDER: ("info", "orders ended without our hearing of it"),
    DifferenceKind.NEVER_PLACED: ("warning", "orders never reached the venue"),
    DifferenceKind.ENDED_HERE_ONLY: ("critical", "orders that ended in our books still work at the venue"),
    DifferenceKind.POSITION: ("warning", "positions were not what the venue says, and were corrected"),
    DifferenceKind.BALANCE: ("critical", "balances are not explained by the venue's ledger"),
    DifferenceKind.FEE: ("warning", "fees in our books are not those of the venue's ledger"),
    DifferenceKind.FUNDING: ("warning", "funding does not agree with the venue's ledger"),
    DifferenceKind.UNBOOKED_TRADE: ("critical", "trades in the venue's ledger have no fill in our books"),
}


def reconciliation_locked(account_id: int, mode: str | None = None) -> AccountReconciliation:
    """How the account is compared in ``mode`` (None: its own), locked: whoever compares it at the same time waits here.
    The account is locked alone at once: two that shared it would each wait for the other's share before they could
    write it.

    Raises:
        ModeChanged: the account is in the other mode by now.
    """
    held = Account.objects.select_for_update(no_key=True).values_list("mode", flat=True).get(pk=account_id)
    if mode is not None and mode != held:
        raise ModeChanged(f"account {account_id} is {held} now; nothing is compared {mode}")
    mode = held
    rows = AccountReconciliation.objects.select_for_update(no_key=True).filter(account_id=account_id, mode=mode)
    row = rows.first()
    if row is None:
        fresh = AccountReconciliation(account_id=account_id, mode=mode)
        AccountReconciliation.objects.bulk_create([fresh], ignore_conflicts=True)
        row = rows.get()
    mode_confirm(account_id, mode)
    return row


def reconciliation_record(
    *,
    account_id: int,
    trigger: str,
    started_at: datetime,
    differences: Sequence[Difference],
    error: str = "",
    refusal: str = "",
    ledger_compared: bool = False,
    mode: str | None = None,
) -> ReconciliationRun:
    """Keep one comparison with the venue of ``mode`` (None: the account's), and each difference. Only a successful one
    makes the account known, so that it may trade. ``error``: the venue did not answer; ``refusal``: it did, and the
    account must not trade.

    Raises:
        ModeChanged: the account is in the other mode by now.
    """
    with transaction.atomic(), recorded_together():
        outcome = Outcome(trigger, tuple(differences), error, refusal, ledger_compared)
        return _record(reconciliation_locked(account_id, mode), started_at, outcome)


@dataclass(frozen=True, slots=True)
class Outcome:
    trigger: str
    differences: Sequence[Difference]
    error: str
    refusal: str
    ledger_compared: bool


def _record(state: AccountReconciliation, started_at: datetime, outcome: Outcome) -> ReconciliationRun:
    account_id = state.account_id
    now = timezone.now()
    run = ReconciliationRun.objects.create(
        account_id=account_id,
        mode=state.mode,
        trigger=outcome.trigger,
        started_at=started_at,
        finished_at=now,
        succeeded=not outcome.error and not outcome.refusal,
        error=outcome.error,
        refusal=outcome.refusal,
        differences=[difference.as_dict() for difference in outcome.differences],
    )
    fresh = [difference for difference in outcome.differences if discrepancy_note(run, difference)]
    if not outcome.error:
        ends = ENDS_BY_ITSELF | ENDS_WITH_LEDGER if outcome.ledger_compared else ENDS_BY_ITSELF
        _end_what_is_gone(run, outcome.differences, ends)
    _alert(run, fresh)
    known_trouble = state.trouble
    _keep_outcome(state, run)
    if run.succeeded:
        Account.objects.filter(pk=account_id).update(reconciled_at=now)
    # A difference that stands, and a trouble that lasts, are told by their rows; the trail needs them once.
    told = [each for each in outcome.differences if not each.stands or each in fresh]
    changed = state.trouble != known_trouble
    if told or changed:
        action = "failed" if not run.succeeded else "differences" if told else "recovered"
        record(
            actor="reconciliation",
            action=f"reconciliation.{action}",
            subject=f"account:{account_id}",
            account_id=account_id,
            reason=outcome.error or outcome.refusal,
            parameters={"trigger": outcome.trigger, "differences": [difference.as_dict() for difference in told]},
        )
    if told or changed or not run.succeeded:
        bus.account_changed(account_id, "account", account_id)
    return run


def discrepancy_note(run: ReconciliationRun, difference: Difference) -> bool:
    """Keep a difference as a row; False for one that was open already. Call it with the account's row locked."""
    subject = difference.subject[:100]
    if difference.stands:
        rows = Discrepancy.objects.filter(
            account_id=run.account_id, mode=run.mode, kind=difference.kind, resolved_at=None
        )
        known = rows.filter(subject=subject).first()
        if known is not None:
            known.last_seen_at, known.ours, known.theirs = run.finished_at, difference.ours, difference.theirs
            known.amount = difference.amount
            known.sightings += 1
            known.save()
            return False
    row = Discrepancy.objects.create(
        account_id=run.account_id,
        mode=run.mode,
        run=run,
        kind=difference.kind,
        subject=subject,
        ours=difference.ours,
        theirs=difference.theirs,
        amount=difference.amount,
        first_seen_at=run.finished_at,
        last_seen_at=run.finished_at,
        resolved_at=None if difference.stands else run.finished_at,
        resolution="" if difference.stands else PUT_RIGHT[difference.kind],
    )
    bus.account_changed(run.account_id, "difference", row.pk)
    return True


def _end_what_is_gone(
    run: ReconciliationRun, differences: Sequence[Difference], kinds: Collection[DifferenceKind]
) -> None:
    standing = {(each.kind, each.subject[:100]) for each in differences if each.stands}
    open_rows = Discrepancy.objects.filter(account_id=run.account_id, mode=run.mode, resolved_at=None)
    for row in open_rows.filter(kind__in=kinds):
        # An entry of the ledger that contradicts itself is a fact like a fee.
        is_fact = row.subject.startswith("entry ")
        if not is_fact and (row.kind, row.subject) not in standing:
            row.resolved_at, row.resolution = run.finished_at, "it is not there any more"
            row.save(update_fields=["resolved_at", "resolution"])
            bus.account_changed(run.account_id, "difference", row.pk)


def _alert(run: ReconciliationRun, fresh: Sequence[Difference]) -> None:
    """One alert for each kind; while nobody has acknowledged it the next of its kind count up in it."""
    by_kind: dict[DifferenceKind, list[Difference]] = defaultdict(list)
    for difference in fresh:
        by_kind[difference.kind].append(difference)
    for kind, found in by_kind.items():
        if kind not in ALERTS:
            continue
        level, sentence = ALERTS[kind]
        named = [f"{each.subject} (ours {each.ours}, theirs {each.theirs})" for each in found[:MOST_NAMED]]
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        alert_raise(
            level=level,
            kind=f"reconciliation_{kind}",
            message=f"{sentence}: {', '.join(named)}{more}",
            account_id=run.account_id,
            detail={"run": run.pk, "differences": [each.as_dict() for each in found[:20]]},
            key=f"reconciliation:{kind}",
        )


def _keep_outcome(state: AccountReconciliation, run: ReconciliationRun) -> None:
    state.failures = 0 if run.succeeded else state.failures + 1
    state.trouble = run.refusal or run.error
    begins = bool(run.refusal) and not state.hedge_mode
    if not run.error:
        state.hedge_mode = bool(run.refusal)
    state.save(update_fields=["failures", "trouble", "hedge_mode"])
    if begins:
        _stop(run)
    if state.failures == MOST_FAILURES:
        alert_raise(
            level="critical",
            kind="reconciliation_failed",
            message=f"the account cannot be compared with the venue and does not trade: {state.trouble}",
            account_id=run.account_id,
            detail={"run": run.pk, "failures": state.failures, "trigger": run.trigger},
            key="reconciliation:failed",
        )


def _stop(run: ReconciliationRun) -> None:
    account = Account.objects.select_for_update(no_key=True).get(pk=run.account_id)
    if account.trading_state == Account.TradingState.ACTIVE:
        account_halt(account=account, actor="reconciliation", reason=run.refusal)
    alert_raise(
        level="critical",
        kind="reconciliation_refused",
        message=f"the account does not trade: {run.refusal}",
        account_id=run.account_id,
        detail={"run": run.pk},
        key="reconciliation:refused",
    )


@transaction.atomic
def reconciliation_request(*, account: Account, actor: str) -> AccountReconciliation:
    """Somebody wants the account compared now, its ledger too. Its owner does it at once; should the doorbell be lost,
    the next run on schedule does."""
    state = reconciliation_locked(account.pk)
    state.asked_at = timezone.now()
    state.save(update_fields=["asked_at"])
    record(actor=actor, action="reconciliation.asked", subject=f"account:{account.pk}", account_id=account.pk)
    bus.engines_command("reconcile", account.pk)
    return state


@transaction.atomic
def foreign_orders_set(*, account: Account, policy: str, actor: str) -> AccountReconciliation:
    """Choose what becomes of orders at the venue that are not ours: adopted, or flagged. Adopted ones stay adopted."""
    if policy not in AccountReconciliation.ForeignOrders:
        allowed = ", ".join(AccountReconciliation.ForeignOrders.values)
        raise ValueError(f"foreign_orders is {policy!r}; expected one of {allowed}")
    state = reconciliation_locked(account.pk)
    before = {"foreign_orders": state.foreign_orders}
    state.foreign_orders = policy
    state.save(update_fields=["foreign_orders"])
    record(
        actor=actor,
        action="account.foreign_orders",
        subject=f"account:{account.pk}",
        account_id=account.pk,
        before=before,
        after={"foreign_orders": policy},
    )
    bus.engines_command("reconcile", account.pk)
    return state


@transaction.atomic
def discrepancy_resolve(*, discrepancy: Discrepancy, actor: str, reason: str) -> Discrepancy:
    """A person has settled a difference that does not end by itself. Once: whoever is later changes nothing."""
    reconciliation_locked(discrepancy.account_id)
    row = Discrepancy.objects.select_for_update(no_key=True).get(pk=discrepancy.pk)
    if row.resolved_at is not None:
        return row
    row.resolved_at, row.resolution = timezone.now(), f"{actor}: {reason}"
    row.save(update_fields=["resolved_at", "resolution"])
    record(
        actor=actor,
        action="reconciliation.resolved",
        subject=f"discrepancy:{row.pk}",
        account_id=row.account_id,
        reason=reason,
        parameters={"kind": row.kind, "subject": row.subject, "ours": row.ours, "theirs": row.theirs},
    )
    bus.account_changed(row.account_id, "difference", row.pk)
    return row
