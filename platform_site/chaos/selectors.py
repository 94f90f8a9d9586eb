"""What our books say, as the judge compares it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from django.db.models.functions import Now

from audit.chain import GENESIS, link_hash
from audit.models import AuditChain, AuditEvent, ComponentHeartbeat
from audit.selectors import trail_breaks
from audit.services import hashed_content
from platform_site.chaos.ledgers import Execution, OurLedger, OurOrder, signed
from trading.models import Account, Fill, Lease, Order, Position, Wallet
from trading.services.leases import account_resource

Heads = dict[str, tuple[int, str]]
# An engine beats every two seconds.
FRESH = timedelta(seconds=5)


def our_ledger(account_id: int) -> OurLedger:
    orders = Order.objects.filter(account_id=account_id).select_related("instrument")
    fills = Fill.objects.filter(account_id=account_id).select_related("instrument", "order")
    open_positions = Position.objects.filter(account_id=account_id).exclude(state=Position.State.CLOSED)
    wallet = Wallet.objects.filter(account_id=account_id).first()
    return OurLedger(
        orders=[
            OurOrder(
                client_order_id=order.client_order_id,
                venue_order_id=order.venue_order_id,
                symbol=order.instrument.symbol,
                side=order.side,
                quantity=order.quantity,
                filled=order.filled_quantity,
                state=str(order.state),
                strategy=order.strategy,
                price=order.price,
                is_replacing=order.is_replacing,
                reduce_only=order.reduce_only,
            )
            for order in orders
        ],
        executions=[
            Execution(
                execution_id=fill.execution_id,
                client_order_id=fill.order.client_order_id if fill.order is not None else "",
                symbol=fill.instrument.symbol,
                side=fill.side,
                price=fill.price,
                quantity=fill.quantity,
                fee=fill.fee,
            )
            for fill in fills
        ],
        positions={row.instrument.symbol: signed(row.side, row.quantity) for row in open_positions if row.quantity},
        balance=wallet.wallet_balance if wallet is not None else Decimal(-1),
    )


def owner_name(account_id: int) -> str:
    """The engine that owns the account now; empty when nobody does."""
    living = Lease.objects.filter(session__ended=False, session__expires_at__gt=Now())
    row = living.filter(resource=account_resource(account_id)).select_related("session").first()
    return row.session.name.partition(":")[0] if row is not None and row.session is not None else ""


def trades(account: Account) -> bool:
    """Whether an engine has told just now that it trades on the account."""
    beats = ComponentHeartbeat.objects.filter(component="engine", status="ok", updated_at__gt=Now() - FRESH)
    told = [beat.detail.get("accounts", {}).get(str(account.pk), {}) for beat in beats]
    return any(detail.get("state") == "trading" for detail in told)


def new_chain_breaks(heads: Heads) -> list[str]:
    """What was appended to every chain since ``heads`` (chain -> sequence and hash), which are brought up to date where
    it is unbroken. The whole chains are for :func:`chain_breaks`, at the end."""
    found = []
    for head in AuditChain.objects.all():
        sequence, previous = heads.get(head.name, (0, GENESIS))
        events = AuditEvent.objects.filter(chain=head.name, sequence__gt=sequence, sequence__lte=head.sequence)
        for event in events.order_by("sequence").iterator(chunk_size=2_000):
            if (event.sequence, event.previous_hash) != (sequence + 1, previous):
                found.append(f"{head.name}: event {event.sequence} does not follow {sequence}")
                break
            if link_hash(event.previous_hash, hashed_content(event)) != event.hash:
                found.append(f"{head.name}: event {event.sequence} does not match its hash")
                break
            sequence, previous = event.sequence, event.hash
        else:
            if (sequence, previous) != (head.sequence, head.hash):
                found.append(f"{head.name}: ends at {sequence}, its head says {head.sequence}")
            heads[head.name] = (sequence, previous)
    return found


def chain_breaks() -> list[str]:
    """Every chain from its beginning, by the verifier that operators use."""
    found = trail_breaks()
    return [f"{name}: event {broken.sequence}: {broken.reason}" for name, broken in found.items() if broken is not None]
