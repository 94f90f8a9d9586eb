"""What every order asks before its row is made, in two questions."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from marketdata.models import Instrument
from trading.services.leases import LeaseToken, lease_confirm


@dataclass(frozen=True, slots=True)
class OrderGate:
    """What is known before an order is made: the keys of its row and of its signal's, its instrument (its name only;
    None where there is none), its account's mode, held until the transaction ends, and whether a kill switch stops the
    account."""

    order_id: int
    signal_id: int
    instrument: Instrument | None
    mode: str
    stopped: bool


def order_gate(*leases: LeaseToken, account_id: int, symbol: str) -> OrderGate:
    """Call it first in the transaction that commits an order: two questions instead of one for each row.

    Raises:
        LeaseLost: one of the leases is somebody else's by now; nothing may be sent.
    """
    lease_confirm(*leases)
    # Not together with the leases: whoever engages a kill switch holds them, and we must see what he has done.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval('trading_order_id_seq'), nextval('strategies_signal_id_seq'),"
            " (SELECT id FROM marketdata_instrument WHERE category = 'linear' AND symbol = %s), account.mode,"
            " EXISTS (SELECT FROM trading_killswitch AS switch"
            " WHERE rearmed_at IS NULL AND (switch.account_id = account.id OR switch.account_id IS NULL))"
            " FROM trading_account AS account WHERE account.id = %s FOR SHARE OF account",
            [symbol, account_id],
        )
        order_id, signal_id, instrument_id, mode, stopped = cursor.fetchone()
    instrument = None if instrument_id is None else Instrument(pk=instrument_id, symbol=symbol)
    return OrderGate(order_id, signal_id, instrument, mode, stopped)
