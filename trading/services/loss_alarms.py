"""What is done when too much is lost: once for each crossing at each level, whoever restarts meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from audit import bus
from audit.services import alert_raise, record, recorded_together
from strategies.models import StrategyConfig
from strategies.services import strategy_disable
from trading.models import Account, LossAlarm, Wallet
from trading.services.kill_switch import kill_switch_engage

ACTOR = "risk"
Level, Limit = LossAlarm.Level, LossAlarm.Limit


@transaction.atomic
def loss_alarm_raise(
    *,
    account_id: int,
    limit: str,
    value: Decimal,
    percent: Decimal,
    equity: Decimal,
    message: str,
    level: str = "account",
    strategy: str = "",
    peak: Decimal | None = None,
) -> bool:
    """A loss has crossed a limit of some level: a critical alert, and the account's kill switch; a strategy's limit
    disables the strategy instead. False when this crossing has had its alarm: at this level, by this limit, for the
    day (UTC) or the peak of equity, and since it was armed again. ``peak``: what a drawdown of several accounts is
    measured from; its alarm stands until they are worth that again (:func:`loss_alarm_recovered`), for the sum of
    their peaks rises with each of them, also while all are far below it."""
    # `of`: the account is locked after its lease, by the kill switch, as by those who commit orders.
    wallets = Wallet.objects.select_for_update(of=("self",), no_key=True).select_related("account")
    wallet = wallets.get(account_id=account_id)
    account = wallet.account
    daily = limit == Limit.DAILY_LOSS
    episode: dict[str, Any] = {
        "day": datetime.now(UTC).date() if daily else None,
        "peak_equity": None if daily else peak or wallet.peak_equity,
        "value": value,
    }
    named: dict[str, Any] = {
        "account": account,
        "mode": account.mode,
        "level": level,
        "strategy": strategy,
        "limit": limit,
    }
    same = episode if peak is None else {"value": value}
    if LossAlarm.objects.filter(**named, **same, rearmed_at=None).exists():
        return False
    raised = {**episode, "percent": percent, "raised_at": timezone.now(), "rearmed_at": None, "rearmed_by": ""}
    alarm, _ = LossAlarm.objects.update_or_create(**named, defaults=raised)
    message = f"{account.tag}{message}"
    detail = {"level": level, "limit": alarm.named, "value": value, "percent": percent, "equity": equity}
    if strategy:
        detail["strategy"] = strategy
    with recorded_together():  # the trail is the last row to be locked, after both alerts
        if level == Level.STRATEGY:
            for config in StrategyConfig.objects.filter(account=account, name=strategy, enabled=True):
                strategy_disable(config=config, actor=ACTOR)
        else:
            kill_switch_engage(account=account, actor=ACTOR, reason=message)
        alert_raise(
            level="critical",
            kind="loss_limit",
            message=message,
            account_id=account_id,
            detail=detail,
            key=f"loss:{alarm.named}{':' if strategy else ''}{strategy}",
        )
        record(
            actor=ACTOR,
            action="risk.loss_limit_crossed",
            subject=f"account:{account_id}",
            account_id=account_id,
            reason=message,
            parameters=detail,
        )
    return True


@transaction.atomic
def loss_alarm_rearm(*, alarm: LossAlarm, actor: str) -> LossAlarm:
    """Let one limit of one level raise its alarm again, the others stay as they are: a person's decision. While the
    loss is still beyond the limit it is raised at once."""
    alarm = LossAlarm.objects.select_for_update(of=("self",), no_key=True).select_related("account").get(pk=alarm.pk)
    if alarm.rearmed_at is not None:
        return alarm
    alarm.rearmed_at, alarm.rearmed_by = timezone.now(), actor
    alarm.save(update_fields=["rearmed_at", "rearmed_by"])
    record(
        actor=actor,
        action="risk.loss_alarm_rearmed",
        subject=f"account:{alarm.account_id}",
        account_id=alarm.account_id,
        parameters={"level": alarm.level, "strategy": alarm.strategy, "limit": alarm.named, "value": alarm.value},
    )
    return alarm


@transaction.atomic
def loss_alarm_recovered(*, account_id: int, level: str, peak: Decimal) -> bool:
    """The accounts of a level are worth again what a drawdown was measured from: the next one is another."""
    standing = LossAlarm.objects.filter(
        account_id=account_id, mode=F("account__mode"), level=level, limit=Limit.DRAWDOWN, peak_equity=peak,
        rearmed_at=None,
    )  # fmt: skip
    if not standing.update(rearmed_at=timezone.now(), rearmed_by=ACTOR):
        return False
    record(
        actor=ACTOR,
        action="risk.loss_recovered",
        subject=f"account:{account_id}",
        account_id=account_id,
        parameters={"level": level, "peak_equity": peak},
    )
    return True


@transaction.atomic
def peak_equity_raise(*, account_id: int, equity: Decimal, seen: Decimal) -> bool:
    """Keep a peak that the mark prices made. ``seen``: the peak that was known then; False when it is another by now,
    which a person may have set."""
    raised = Wallet.objects.filter(account_id=account_id, peak_equity=seen).update(peak_equity=max(equity, seen))
    if raised:
        bus.account_changed(account_id, "equity", account_id)
    return bool(raised)


@transaction.atomic
def peak_equity_reset(*, account: Account, actor: str) -> Wallet | None:
    """Measure the drawdown from today's equity on: a person's decision, after a loss or a withdrawal. None while the
    venue has told no equity yet."""
    wallet = Wallet.objects.select_for_update(no_key=True).filter(account=account).first()
    if wallet is None:
        return None
    before = {"peak_equity": wallet.peak_equity}
    wallet.peak_equity = wallet.equity
    wallet.save(update_fields=["peak_equity"])
    drawdowns = LossAlarm.objects.filter(account=account, mode=account.mode, limit=Limit.DRAWDOWN, rearmed_at=None)
    drawdowns.update(rearmed_at=timezone.now(), rearmed_by=actor)
    record(
        actor=actor,
        action="account.peak_equity_reset",
        subject=f"account:{account.pk}",
        account_id=account.pk,
        before=before,
        after={"peak_equity": wallet.peak_equity},
    )
    bus.account_changed(account.pk, "equity", account.pk)
    return wallet
