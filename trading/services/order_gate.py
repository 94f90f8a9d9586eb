"""What every order asks before its row is made, in two questions."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from marketdata.models import Instrument
from trading.services.leases import LeaseToken, lease_confirm


@dataclass(frozen=True, slots=True)
class OrderGate:
    """What is known before an order is made: the keys of its row and of its signal's, its instrument, and whether a
    kill switch stops its account. ``instrument`` is None where there is none of that symbol; it has its name only."""

    order_id: int
    signal_id: int
    instrument: Instrument | None
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
            " (SELECT id FROM marketdata_instrument WHERE category = 'linear' AND symbol = %s),"
            " EXISTS (SELECT FROM trading_killswitch"
            " WHERE rearmed_at IS NULL AND (account_id = %s OR account_id IS NULL))",
            [symbol, account_id],
        )
        order_id, signal_id, instrument_id, stopped = cursor.fetchone()
    instrument = None if instrument_id is None else Instrument(pk=instrument_id, symbol=symbol)
    return OrderGate(order_id, signal_id, instrument, stopped)
