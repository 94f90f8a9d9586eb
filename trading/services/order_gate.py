"""What every order asks before its row is made, in two questions."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from marketdata.models import Instrument
from risk.checks import Refusal
from strategies.models import StrategyConfig
from trading.models import Account
from trading.services.leases import LeaseToken, lease_confirm


@dataclass(frozen=True, slots=True)
class OrderGate:
    """What is known before an order is made: the keys of its row and of its signal's, its instrument (its name only;
    None where there is none), its account's mode, held until the transaction ends, whether a kill switch stops the
    account, and what else forbids the order. Halting the account and disabling the strategy wait for the transaction,
    or it sees them."""

    order_id: int
    signal_id: int
    instrument: Instrument | None
    mode: str
    stopped: bool
    halt_reason: str | None
    disabled: str | None

    def refusals(self, *, reduce_only: bool) -> tuple[Refusal, ...]:
        """Why the order must not be, kill switches aside. A halted account still gets out of its positions; a disabled
        strategy orders nothing at all."""
        found = []
        if self.disabled is not None:
            message = f"{self.disabled} is not enabled any more"
            found.append(Refusal("strategy", "enabled", "not enabled", message))
        if self.halt_reason is not None and not reduce_only:
            found.append(halt_refusal(self.halt_reason))
        return tuple(found)


def halt_refusal(reason: str) -> Refusal:
    """What an order with new risk is told on a halted account."""
    message = f"the account is halted: {reason or 'no reason was given'}"
    return Refusal("trading_state", "active", "halted", message)


def order_gate(*leases: LeaseToken, account_id: int, symbol: str, config_id: int | None = None) -> OrderGate:
    """Call it first in the transaction that commits an order: two questions instead of one for each row. ``config_id``:
    of the strategy that wants it; None for nobody's.

    Raises:
        LeaseLost: one of the leases is somebody else's by now; nothing may be sent.
    """
    lease_confirm(*leases)
    # Not together with the leases: whoever engages a kill switch holds them, and we must see what he has done.
    with connection.cursor() as cursor:
        # A row locked here is read as it is once the lock is ours, not as it was when the question began.
        cursor.execute(
            "SELECT nextval('trading_order_id_seq'), nextval('strategies_signal_id_seq'),"
            " (SELECT id FROM marketdata_instrument WHERE category = 'linear' AND symbol = %s), account.mode,"
            " EXISTS (SELECT FROM trading_killswitch AS switch"
            " WHERE rearmed_at IS NULL AND (switch.account_id = account.id OR switch.account_id IS NULL)),"
            " CASE WHEN account.trading_state = %s THEN account.halt_reason END,"
            " (SELECT enabled FROM strategies_strategyconfig WHERE id = %s FOR SHARE)"
            " FROM trading_account AS account WHERE account.id = %s FOR SHARE OF account",
            [symbol, Account.TradingState.HALTED, config_id, account_id],
        )
        order_id, signal_id, instrument_id, mode, stopped, halt_reason, enabled = cursor.fetchone()
    instrument = None if instrument_id is None else Instrument(pk=instrument_id, symbol=symbol)
    disabled = None if config_id is None or enabled else _strategy_name(config_id)
    return OrderGate(order_id, signal_id, instrument, mode, stopped, halt_reason, disabled)


def _strategy_name(config_id: int) -> str:
    name = StrategyConfig.objects.values_list("name", flat=True).filter(pk=config_id).first()
    return name or "a strategy that was removed"
