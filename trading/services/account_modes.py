"""The switch between paper and real: one transaction changes where an account's orders go and which books it has."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Field
from django.db.models.functions import Now
from django.utils import timezone

from audit import bus
from audit.services import record
from trading.credentials import CredentialsError, encrypt
from trading.lifecycle import LIVE, OrderState
from trading.models import (
    Account,
    EngineSession,
    KillSwitchTask,
    Lease,
    Mode,
    Order,
    ParkedWallet,
    Position,
    PositionExit,
    Wallet,
)
from trading.services.leases import account_resource, end_idle_transactions
from trading.simulator.paper_keys import PaperKeys

NAMED = 3


class ModeRefused(Exception):
    """The account cannot be switched now; ``field`` is what is wrong, the message says why and what to do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@transaction.atomic
def account_mode_set(*, account: Account, mode: str, confirm_name: str = "", actor: str) -> Account:
    """Let the account trade on paper or for real from now on. The books of the other mode stay and are hidden. The
    owner loses the account in this transaction, so that nothing it decided before can be committed after it, and opens
    it anew with the other keys.

    Raises:
        ModeRefused: not such a mode, the account's name was not typed, or something is still open.
    """
    if mode not in Mode.values:
        raise ModeRefused("mode", f"{mode!r} is no mode; expected {' or '.join(Mode.values)}")
    if mode == Mode.REAL and confirm_name != account.name:
        raise ModeRefused(
            "confirm_name", f"type the account's name to let it trade for real: {account.name!r} is expected"
        )
    end_idle_transactions()
    # One order of locks everywhere: the wallet, the lease, the account, the audit chain.
    had_wallet = Wallet.objects.filter(account=account).exists()
    if not had_wallet:
        Wallet.objects.bulk_create([Wallet(account=account, updated_at=timezone.now())], ignore_conflicts=True)
    wallet = Wallet.objects.select_for_update(no_key=True).get(account=account)
    # Orders are committed under the account's lease: from here on each of them waits for us, and is refused then.
    lease = Lease.objects.select_for_update(no_key=True).filter(resource=account_resource(account.pk)).first()
    account = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    if account.mode == mode:
        if not had_wallet:
            wallet.delete()
        return account
    _refuse_what_is_open(account)
    before = {"mode": account.mode}
    if mode == Mode.PAPER:
        paper_keys_make(account)
    elif not account.api_key_encrypted or not account.api_secret_encrypted:
        raise ModeRefused("mode", "the account has no keys of its real venue; enter them first")
    if lease is not None:
        EngineSession.objects.filter(leases=lease, ended=False).update(ended=True, expires_at=Now())
    _exchange_wallets(account, wallet, mode, is_known=had_wallet)
    PositionExit.objects.filter(account=account).delete()
    account.mode, account.reconciled_at = mode, None
    account.save(update_fields=["mode", "reconciled_at", "paper_key_encrypted", "paper_secret_encrypted"])
    subject, after = f"account:{account.pk}", {"mode": mode}
    record(
        actor=actor,
        action="account.mode_set",
        subject=subject,
        account_id=account.pk,
        before=before,
        after=after,
        reason=f"{account.name} trades {'on PAPER' if mode == Mode.PAPER else 'for real'} from now on",
    )
    bus.engines_doorbell("accounts", account.pk)
    bus.account_changed(account.pk, "mode", account.pk)
    return account


def paper_keys_make(account: Account) -> None:
    """New keys for the paper venue; the account has to be saved. The paper ledger stays the same.

    Raises:
        CredentialsError: there is no master key.
    """
    try:
        key = PaperKeys(_master_keys()).issue(account.pk)
    except ValueError:
        raise CredentialsError("BALLAST_MASTER_KEY is not set; the keys of paper accounts follow from it") from None
    account.paper_key_encrypted, account.paper_secret_encrypted = encrypt(key.api_key), encrypt(key.api_secret)


def _master_keys() -> list[str]:
    return [key.strip() for key in settings.MASTER_KEY.split(",") if key.strip()]


def _refuse_what_is_open(account: Account) -> None:
    open_states = sorted({str(state) for state in (*LIVE, OrderState.NEW)})
    orders = Order.objects.filter(account=account, state__in=open_states)
    if count := orders.count():
        named = ", ".join(f"{order.client_order_id} ({order.state})" for order in orders[:NAMED])
        raise ModeRefused("mode", f"{count} orders have not ended: {named}; cancel them and wait for their end")
    positions = Position.objects.filter(account=account).exclude(state=Position.State.CLOSED)
    if held := list(positions.select_related("instrument")):
        named = ", ".join(f"{each.side} {each.quantity:f} {each.instrument.symbol}" for each in held[:NAMED])
        raise ModeRefused("mode", f"{len(held)} positions are open: {named}; close them first")
    running = KillSwitchTask.objects.filter(account=account, switch__rearmed_at=None)
    if running.exclude(phase=KillSwitchTask.Phase.DONE).exists():
        raise ModeRefused("mode", "a kill switch is being carried out on the account; wait until it is done")


def _exchange_wallets(account: Account, wallet: Wallet, mode: str, *, is_known: bool) -> None:
    """Put today's wallet away under its mode, if the venue has told it, and bring that of the other back, where there
    is one."""
    if is_known:
        ParkedWallet.objects.update_or_create(
            account=account, mode=account.mode, defaults={"values": _values(wallet), "parked_at": timezone.now()}
        )
    parked = ParkedWallet.objects.filter(account=account, mode=mode).first()
    if parked is None:
        wallet.delete()
        return
    for each in _kept_fields():
        setattr(wallet, each.name, each.to_python(parked.values.get(each.name, each.get_default())))
    wallet.updated_at = timezone.now()
    wallet.save()


def _kept_fields() -> list[Field[Any, Any]]:
    return [each for each in Wallet._meta.concrete_fields if each.name not in ("id", "account", "updated_at")]


def _values(wallet: Wallet) -> dict[str, str | None]:
    values = {each.name: getattr(wallet, each.name) for each in _kept_fields()}
    return {
        name: None if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)
        for name, value in values.items()
    }
