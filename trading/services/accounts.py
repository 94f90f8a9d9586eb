from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils import timezone

from audit import bus
from audit.services import alert_raise, record
from trading.credentials import encrypt
from trading.lifecycle import WORKING
from trading.models import Account, EquitySnapshot, Membership, Mode, Order, Position, Wallet
from trading.reports import WalletReport
from trading.services.account_modes import paper_keys_make
from trading.services.modes import mode_confirm

KEY_COLUMNS = ["api_key_encrypted", "api_secret_encrypted", "paper_key_encrypted", "paper_secret_encrypted"]


@transaction.atomic
def account_create(
    *,
    owner: Any,
    name: str,
    environment: str,
    actor: str,
    api_key: str = "",
    api_secret: str = "",
    venue: str = "bybit",
    mode: str | None = None,
) -> Account:
    """A new account with its keys encrypted. One of a real venue begins on paper, where it needs no keys of the venue;
    one of the simulator at the simulator. A LIVE one does not trade there before a person opts in."""
    if mode is None:
        mode = Mode.REAL if environment == Account.Environment.SIMULATOR else Mode.PAPER
    account = Account(owner=owner, name=name, environment=environment, venue=venue, mode=mode)
    if api_key or api_secret or mode == Mode.REAL:
        account.api_key_encrypted, account.api_secret_encrypted = encrypt(api_key), encrypt(api_secret)
    account.full_clean(exclude=KEY_COLUMNS)
    account.save()
    if mode == Mode.PAPER:
        paper_keys_make(account)
        account.save(update_fields=["paper_key_encrypted", "paper_secret_encrypted"])
    after = {"name": name, "environment": environment, "venue": venue, "owner": owner.get_username(), "mode": mode}
    record(actor=actor, action="account.created", subject=f"account:{account.pk}", account_id=account.pk, after=after)
    bus.engines_doorbell("accounts", account.pk)
    return account


@transaction.atomic
def account_keys_replace(*, account: Account, api_key: str, api_secret: str, actor: str) -> Account:
    account = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    account.api_key_encrypted, account.api_secret_encrypted = encrypt(api_key), encrypt(api_secret)
    account.save(update_fields=["api_key_encrypted", "api_secret_encrypted"])
    # The keys themselves never enter the trail, not even in part.
    record(actor=actor, action="account.keys_replaced", subject=f"account:{account.pk}", account_id=account.pk)
    bus.engines_doorbell("accounts", account.pk)
    return account


@transaction.atomic
def account_live_opt_in_set(*, account: Account, opted_in: bool, actor: str) -> Account:
    """A person's explicit yes (or no) to trading real money on a LIVE account."""
    account = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    before = {"live_opt_in": account.live_opt_in}
    account.live_opt_in = opted_in
    account.save(update_fields=["live_opt_in"])
    record(
        actor=actor,
        action="account.live_opt_in",
        subject=f"account:{account.pk}",
        account_id=account.pk,
        before=before,
        after={"live_opt_in": opted_in},
    )
    if not opted_in and account.environment == Account.Environment.LIVE:
        _tell_what_is_left(account, actor)
    bus.engines_doorbell("accounts", account.pk)
    return account


def _tell_what_is_left(account: Account, actor: str) -> None:
    positions = Position.objects.filter(account=account).exclude(state=Position.State.CLOSED).count()
    orders = Order.objects.filter(account=account, state__in=[str(state) for state in WORKING]).count()
    if positions or orders:
        alert_raise(
            level="critical",
            kind="account_left_open",
            message=f"{actor} opted {account.name} out with {positions} positions and {orders} orders open: no engine "
            "looks after them, neither exits nor loss limits; stop the account to close them",
            account_id=account.pk,
            detail={"positions": positions, "orders": orders},
            key="left_open",
        )


@transaction.atomic
def account_halt(*, account: Account, actor: str, reason: str) -> Account:
    """Stop new risk on the account; orders that reduce positions still pass."""
    return _set_trading_state(account, Account.TradingState.HALTED, actor, reason, "account.halted")


@transaction.atomic
def account_resume(*, account: Account, actor: str) -> Account:
    return _set_trading_state(account, Account.TradingState.ACTIVE, actor, "", "account.resumed")


def _set_trading_state(account: Account, state: str, actor: str, reason: str, action: str) -> Account:
    account = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    before = {"trading_state": account.trading_state, "halt_reason": account.halt_reason}
    account.trading_state, account.halt_reason = state, reason
    account.save(update_fields=["trading_state", "halt_reason"])
    record(
        actor=actor,
        action=action,
        subject=f"account:{account.pk}",
        account_id=account.pk,
        reason=reason,
        before=before,
        after={"trading_state": state, "halt_reason": reason},
    )
    bus.engines_doorbell("accounts", account.pk)
    bus.account_changed(account.pk, "alert", account.pk)
    return account


@transaction.atomic
def leverage_note(*, account_id: int, symbol: str, leverage: Decimal, before: Decimal | None) -> None:
    """We have set a symbol's leverage at the venue. ``before``: what we had set; None when that is not known."""
    record(
        actor="engine",
        action="leverage.set",
        subject=f"position:{symbol}",
        account_id=account_id,
        before=None if before is None else {"leverage": before},
        after={"leverage": leverage},
    )


@transaction.atomic
def membership_grant(*, account: Account, user: Any, role: str, actor: str) -> Membership:
    before = Membership.objects.filter(account=account, user=user).values_list("role", flat=True).first()
    membership, _ = Membership.objects.update_or_create(account=account, user=user, defaults={"role": role})
    record(
        actor=actor,
        action="membership.granted",
        subject=f"account:{account.pk}",
        account_id=account.pk,
        before=None if before is None else {"user": user.get_username(), "role": before},
        after={"user": user.get_username(), "role": role},
    )
    return membership


@transaction.atomic
def membership_revoke(*, account: Account, user: Any, actor: str) -> None:
    deleted, _ = Membership.objects.filter(account=account, user=user).delete()
    if deleted:
        record(
            actor=actor,
            action="membership.revoked",
            subject=f"account:{account.pk}",
            account_id=account.pk,
            before={"user": user.get_username()},
        )
        bus.account_changed(account.pk, "alert", account.pk)


@transaction.atomic
def wallet_apply(*, account_id: int, report: WalletReport, snapshot: bool = False, mode: str | None = None) -> Wallet:
    """Keep the latest balances that the venue of ``mode`` told (None: of the account's); the first report of a UTC day
    fixes what the day's PnL is measured from.

    Raises:
        ModeChanged: the account is in the other mode by now.
    """
    now = timezone.now()
    Wallet.objects.bulk_create([Wallet(account_id=account_id, updated_at=now)], ignore_conflicts=True)
    wallet = Wallet.objects.select_for_update(no_key=True).get(account_id=account_id)
    mode = mode_confirm(account_id, mode)
    if wallet.day != now.date():
        wallet.day, wallet.day_start_equity = now.date(), report.equity
    wallet.equity, wallet.wallet_balance = report.equity, report.wallet_balance
    wallet.peak_equity = max(wallet.peak_equity, report.equity)
    wallet.available_balance = report.available_balance
    wallet.initial_margin, wallet.maintenance_margin = report.initial_margin, report.maintenance_margin
    wallet.updated_at = now
    wallet.save()
    if snapshot:
        point = EquitySnapshot(
            account_id=account_id,
            mode=mode,
            taken_at=now,
            equity=report.equity,
            wallet_balance=report.wallet_balance,
        )
        EquitySnapshot.objects.bulk_create([point], ignore_conflicts=True)
    bus.account_changed(account_id, "equity", account_id)
    return wallet
