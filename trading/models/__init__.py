from __future__ import annotations

from trading.models.account import Account, EquitySnapshot, Membership, Mode, ParkedWallet, Wallet
from trading.models.exit_state import PositionExit
from trading.models.idempotency import IdempotencyKey
from trading.models.kill_switch import DeadManWatch, KillSwitch, KillSwitchTask
from trading.models.lease import EngineSession, Lease
from trading.models.order import Fill, Order, OrderAmendment, OrderTransition
from trading.models.position import Position, ReconciliationRun

__all__ = [
    "Account",
    "DeadManWatch",
    "EngineSession",
    "EquitySnapshot",
    "Fill",
    "IdempotencyKey",
    "KillSwitch",
    "KillSwitchTask",
    "Lease",
    "Membership",
    "Mode",
    "Order",
    "OrderAmendment",
    "OrderTransition",
    "ParkedWallet",
    "Position",
    "PositionExit",
    "ReconciliationRun",
    "Wallet",
]
