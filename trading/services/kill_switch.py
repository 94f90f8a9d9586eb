"""The kill switch: stop an account or the whole platform, close what is open, and let a person re-arm it.

Engaging is one row; from its commit on no order that adds risk can be committed. Everything after that - cancelling,
closing, proving that nothing is left - is done by whoever owns the account (trading/runtime/kill_execution.py), and
goes on from what is stored here wherever it was interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from audit import bus
from audit.models import AuditEvent
from audit.services import alert_raise, record
from audit.trace import current_trace
from trading.crash_points import reach
from trading.models import Account, DeadManWatch, KillSwitch, KillSwitchTask, Lease
from trading.permissions import platform_operators
from trading.runtime.configuration import ENVIRONMENTS, load_accounts_to_stop
from trading.services.leases import account_resource, end_idle_transactions
from trading.services.modes import account_tag

Phase = KillSwitchTask.Phase


class KillSwitchRefused(Exception):
    """It cannot be done now; the message says why and what to do."""


@transaction.atomic
def kill_switch_engage(
    *, account: Account | None = None, actor: str, reason: str, closes_positions: bool = True
) -> KillSwitch:
    """Stop trading on the account (None: on the whole platform) until a person re-arms it; engaging it again changes
    nothing, unless positions shall be closed now that were to stay. In a transaction of the caller's call it first: it
    locks leases, which orders lock before the audit chain.

    Raises:
        KillSwitchRefused: no reason was given.
    """
    if not reason.strip():
        raise KillSwitchRefused("a reason is needed: whoever re-arms trading must know why it was stopped")
    accounts = [account] if account is not None else load_accounts_to_stop(ENVIRONMENTS[settings.EXCHANGE])
    end_idle_transactions()  # whoever is paused while it engages must not keep every order waiting
    # Orders are committed under their account's lease: from here on each of them waits for us, and then sees the row.
    resources = [account_resource(each.pk) for each in accounts]
    list(Lease.objects.select_for_update(no_key=True).filter(resource__in=resources).order_by("resource"))
    # Two who engage at once: the second waits here and finds the first one's row.
    list(Account.objects.select_for_update(no_key=True).filter(pk__in=[each.pk for each in accounts]).order_by("pk"))
    now = timezone.now()
    switch = KillSwitch.objects.filter(account=account, rearmed_at=None).first()
    if switch is not None and (switch.closes_positions or not closes_positions):
        return switch
    if switch is None:
        switch = KillSwitch.objects.create(
            account=account, closes_positions=closes_positions, engaged_at=now, engaged_by=actor[:150], reason=reason
        )
        tasks = [KillSwitchTask(switch=switch, account=each, updated_at=now) for each in accounts]
        KillSwitchTask.objects.bulk_create(tasks)
    else:
        switch.closes_positions = True
        switch.save(update_fields=["closes_positions"])
        switch.tasks.update(phase=Phase.ENGAGED, done_at=None, updated_at=now)
    what = "every order is cancelled and every position closed" if closes_positions else "every order is cancelled"
    alert_raise(
        level="critical",
        kind="kill_switch_engaged",
        message=f"{_name(account)} was stopped by {actor}: {reason}; {what}",
        account_id=None if account is None else account.pk,
        detail={"switch": switch.pk, "closes_positions": closes_positions},
        key=f"kill_switch:{switch.pk}",
    )
    _recorded(switch, "kill_switch.engaged", actor, reason, {"closes_positions": closes_positions})
    reach("kill.engaging")
    return switch


@transaction.atomic
def kill_switch_rearm(*, account: Account | None = None, actor: str, reason: str, force: bool = False) -> KillSwitch:
    """Let the account (None: the platform) trade again. ``actor`` is a user's name. ``force``: although it is not
    proven that nothing is open any more.

    Raises:
        KillSwitchRefused: it is not engaged, not done yet, or it takes a second person.
    """
    if not reason.strip():
        raise KillSwitchRefused("a reason is needed: say what was found and why it is safe to trade again")
    rows = KillSwitch.objects.select_for_update(no_key=True)
    switch = rows.filter(account=account, rearmed_at=None).first()
    if switch is None:
        raise KillSwitchRefused(f"{_name(account)} is not stopped; there is nothing to re-arm")
    if account is None and switch.engaged_by == actor and len(platform_operators()) > 1:
        raise KillSwitchRefused(
            f"{actor} stopped the platform; a second person who may do so has to re-arm it: "
            f"{', '.join(name for name in platform_operators() if name != actor)}"
        )
    left = list(switch.tasks.exclude(phase=Phase.DONE).select_related("account"))
    if left and not force:
        names = ", ".join(task.account.name for task in left)
        raise KillSwitchRefused(
            f"not everything is closed yet: {names}; wait until it is, or force it when you know that nothing is open"
        )
    switch.rearmed_at, switch.rearmed_by, switch.rearm_reason = timezone.now(), actor[:150], reason
    switch.save(update_fields=["rearmed_at", "rearmed_by", "rearm_reason"])
    alert_raise(
        level="critical",
        kind="kill_switch_rearmed",
        message=f"{_name(account)} was re-armed by {actor}: {reason}",
        account_id=switch.account_id,
        detail={"switch": switch.pk, "forced": bool(left)},
        key=f"kill_switch:{switch.pk}:rearmed",
    )
    _recorded(switch, "kill_switch.rearmed", actor, reason, {"forced": bool(left)})
    return switch


@transaction.atomic
def kill_switch_progress(
    *,
    task_id: int,
    phase: KillSwitchTask.Phase,
    closer: str,
    open_orders: int | None = None,
    open_positions: int | None = None,
    trouble: str = "",
) -> KillSwitchTask:
    """Keep how far it is after one round: counts are the venue's, None is "not known now"."""
    task = _locked(task_id)
    before = (task.phase, task.open_orders, task.open_positions, task.trouble)
    began = task.phase != phase
    task.phase, task.open_orders, task.open_positions, task.trouble = phase, open_orders, open_positions, trouble
    task.rounds, task.closer, task.updated_at = task.rounds + 1, closer[:64], timezone.now()
    if phase == Phase.DONE:
        task.done_at = task.updated_at
    task.save()
    if began or trouble != before[3]:
        record(
            actor=f"kill_switch:{task.switch_id}",
            action=f"kill_switch.{phase}",
            subject=f"kill_switch:{task.switch_id}",
            account_id=task.account_id,
            reason=trouble,
            trace_id=task.switch.trace_id,
            parameters={"closer": closer, "open_orders": open_orders, "open_positions": open_positions},
        )
    if (phase, open_orders, open_positions, trouble) != before:
        bus.account_changed(task.account_id, "account", task.account_id)
    return task


@transaction.atomic
def kill_switch_done(*, task_id: int, closer: str) -> KillSwitchTask:
    """The venue has told that nothing is open any more. Trading stays stopped until a person re-arms it."""
    task = kill_switch_progress(
        task_id=task_id, phase=Phase.DONE, closer=closer, open_orders=0, open_positions=_expected_positions(task_id)
    )
    seconds = (task.updated_at - task.switch.engaged_at).total_seconds()
    alert_raise(
        level="info",
        kind="kill_switch_done",
        message=f"{task.account.label}: the kill switch is done after {seconds:.1f} s; nothing is left to close",
        account_id=task.account_id,
        detail={"switch": task.switch_id, "seconds": round(seconds, 1), "closer": closer},
        key=f"kill_switch:{task.switch_id}:done",
    )
    return task


def _expected_positions(task_id: int) -> int | None:
    return 0 if KillSwitchTask.objects.get(pk=task_id).switch.closes_positions else None


@transaction.atomic
def emergency_journal_import(*, entries: Sequence[Mapping[str, Any]]) -> int:
    """Book what an emergency close did while there was no database: each entry once, on the trail of its account,
    which stays stopped until a person re-arms it. Returns how many were new."""
    new = 0
    for entry in entries:
        trace_id = str(entry["id"])
        if AuditEvent.objects.filter(trace_id=trace_id, action__startswith="kill_switch.emergency").exists():
            continue
        account = Account.objects.filter(pk=int(entry["account_id"])).first()
        if account is not None and entry["step"] == "begun":
            kill_switch_engage(account=account, actor=str(entry["actor"]), reason=str(entry["reason"]))
        record(
            actor=str(entry["actor"]),
            action=f"kill_switch.emergency_{entry['step']}",
            subject=f"account:{entry.get('account_id')}",
            account_id=None if account is None else account.pk,
            reason=str(entry["reason"]),
            trace_id=trace_id,
            parameters={"at": entry["at"], "run": entry["run"], **dict(entry.get("detail", {}))},
        )
        new += 1
    return new


@transaction.atomic
def dead_man_set(*, account: Account, policy: str, venue_seconds: int | None, actor: str) -> DeadManWatch:
    """What shall happen to the account when no engine looks after it.

    Raises:
        ValidationError: an unknown policy, or seconds outside 3 to 300.
    """
    watch = DeadManWatch.objects.select_for_update(no_key=True).filter(account=account).first()
    before = None if watch is None else {"policy": watch.policy, "venue_seconds": watch.venue_seconds}
    watch = watch or DeadManWatch(account=account)
    watch.policy, watch.venue_seconds, watch.missing_since = policy, venue_seconds, None
    watch.full_clean(validate_unique=False)
    watch.save()
    after = {"policy": policy, "venue_seconds": venue_seconds}
    subject = f"account:{account.pk}"
    record(actor=actor, action="dead_man.set", subject=subject, account_id=account.pk, before=before, after=after)
    bus.engines_doorbell("accounts", account.pk)
    return watch


@transaction.atomic
def dead_man_refused(*, account_id: int, reason: str) -> None:
    """The venue does not cancel for us when our stream is gone, although the account's managers want it."""
    alert_raise(
        level="warning",
        kind="venue_dead_man",
        message=f"{account_tag(account_id)}the venue's own dead-man switch is not set: {reason}",
        account_id=account_id,
        key="venue_dead_man",
    )


@transaction.atomic
def dead_man_look(*, watch_id: int, owned: bool) -> Literal["watched", "missing", "engaged"]:
    """One look at whether somebody owns the account. It counts only while the watch itself was awake: a platform that
    comes back as a whole gives its engines their time."""
    rows = DeadManWatch.objects.select_for_update(of=("self",), no_key=True)  # the account is locked after its lease
    watch = rows.select_related("account").get(pk=watch_id)
    now, seconds = timezone.now(), settings.DEAD_MAN_SECONDS
    slept = watch.watched_at is None or (now - watch.watched_at).total_seconds() > seconds / 2
    if owned:
        watch.missing_since = None
    elif slept or watch.missing_since is None:
        watch.missing_since = now
    watch.watched_at = now
    watch.save(update_fields=["missing_since", "watched_at"])
    if owned or watch.missing_since is None:
        return "watched"
    missing = (now - watch.missing_since).total_seconds()
    if missing < seconds:
        return "missing"
    reason = f"no engine has looked after the account for {seconds} s"
    if watch.policy == DeadManWatch.Policy.ALERT:
        alert_raise(
            level="critical",
            kind="dead_man",
            message=f"{watch.account.label}: {reason}",
            account_id=watch.account_id,
            key="dead_man",
        )
        return "missing"
    closes = watch.policy == DeadManWatch.Policy.CLOSE
    kill_switch_engage(account=watch.account, actor="dead-man", reason=reason, closes_positions=closes)
    return "engaged"


def _locked(task_id: int) -> KillSwitchTask:
    rows = KillSwitchTask.objects.select_for_update(of=("self",), no_key=True)
    return rows.select_related("switch", "account").get(pk=task_id)


def _name(account: Account | None) -> str:
    return "the whole platform" if account is None else account.label


def _recorded(switch: KillSwitch, action: str, actor: str, reason: str, parameters: Mapping[str, Any]) -> None:
    accounts = list(switch.tasks.order_by("account_id").values_list("account_id", flat=True))
    record(
        actor=actor,
        action=action,
        subject=f"kill_switch:{switch.pk}",
        account_id=switch.account_id,
        reason=reason,
        trace_id=switch.trace_id,
        parameters={**parameters, "scope": switch.scope, "accounts": accounts, "asked_in": current_trace()},
    )
    bus.engines_doorbell("kill_switch", switch.pk)
    for account_id in accounts:
        bus.account_changed(account_id, "account", account_id)
