"""What is done when an account has lost too much: once for each crossing, whoever restarts meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from django.db import transaction

from audit import bus
from audit.services import alert_raise, record, recorded_together
from trading.models import Account, Wallet
from trading.services.kill_switch import kill_switch_engage

ACTOR = "risk"


@transaction.atomic
def loss_alarm_raise(
    *, account_id: int, limit: str, value: Decimal, percent: Decimal, equity: Decimal, message: str
) -> bool:
    """A loss has crossed a limit: a critical alert, and the account's kill switch. ``limit`` is
    ``max_daily_loss_percent`` or ``max_drawdown_percent``, with its level before a dot where it is not the account's.
    False when this crossing has had its alarm: that of a day until the next one (UTC), that of a peak until equity
    passes it or a person begins anew."""
    # `of`: the account is locked after its lease, by the kill switch, as by those who commit orders.
    wallets = Wallet.objects.select_for_update(of=("self",), no_key=True).select_related("account")
    wallet = wallets.get(account_id=account_id)
    if limit.endswith("max_daily_loss_percent"):
        today = datetime.now(UTC).date()
        if wallet.daily_loss_alarm == today:
            return False
        wallet.daily_loss_alarm = today
    else:
        if wallet.drawdown_alarm == wallet.peak_equity:
            return False
        wallet.drawdown_alarm = wallet.peak_equity
    wallet.save(update_fields=["daily_loss_alarm", "drawdown_alarm"])
    message = f"{wallet.account.tag}{message}"
    detail = {"limit": limit, "value": value, "percent": percent, "equity": equity}
    with recorded_together():  # the trail is the last row to be locked, after both alerts
        kill_switch_engage(account=wallet.account, actor=ACTOR, reason=message)
        alert_raise(
            level="critical",
            kind="loss_limit",
            message=message,
            account_id=account_id,
            detail=detail,
            key=f"loss:{limit}",
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
    wallet.peak_equity, wallet.drawdown_alarm = wallet.equity, None
    wallet.save(update_fields=["peak_equity", "drawdown_alarm"])
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
