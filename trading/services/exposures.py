from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType

from django.db.models import Count, Q
from django.utils import timezone

from risk.exposure import Exposure, PendingExposure, PositionExposure
from trading.lifecycle import WORKING
from trading.models import Account, Order, Position, Wallet

_WORKING = sorted(str(state) for state in WORKING)


def account_exposure(account_id: int) -> Exposure:
    """What the account has at stake, from our own books: open positions, and every order that may still fill,
    those of unknown fate included. Intents that nobody approved yet are not at stake: counted here, they would be
    counted against themselves."""
    account = Account.objects.get(pk=account_id)
    wallet = Wallet.objects.filter(account_id=account_id).first()
    orders = Order.objects.filter(account_id=account_id)
    pending: dict[str, PendingExposure] = {}
    live = orders.filter(state__in=_WORKING).values_list(
        "instrument__symbol", "side", "quantity", "filled_quantity", "reduce_only"
    )
    for symbol, side, quantity, filled, reduce_only in live:
        if not reduce_only:
            pending[symbol] = pending.get(symbol, PendingExposure()).plus(side, quantity - filled)
    second_ago = timezone.now() - timedelta(seconds=1)
    counts = orders.aggregate(
        open=Count("pk", filter=Q(state__in=_WORKING)), recent=Count("pk", filter=Q(sent_at__gt=second_ago))
    )
    return Exposure(
        known=account.reconciled_at is not None and wallet is not None,
        equity=wallet.equity if wallet else Decimal(0),
        available_balance=wallet.available_balance if wallet else Decimal(0),
        day_pnl=wallet.equity - wallet.day_start_equity if wallet else Decimal(0),
        positions=MappingProxyType(_positions(account_id)),
        pending=MappingProxyType(pending),
        open_orders=counts["open"],
        orders_last_second=counts["recent"],
    )


def _positions(account_id: int) -> dict[str, PositionExposure]:
    rows = Position.objects.filter(account_id=account_id).exclude(state=Position.State.CLOSED)
    return {
        row.instrument.symbol: PositionExposure(
            row.side, row.quantity, row.entry_price, row.mark_price or row.entry_price, row.leverage
        )
        for row in rows.select_related("instrument")
    }
