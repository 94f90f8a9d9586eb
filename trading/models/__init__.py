from __future__ import annotations

from trading.models.account import Account, EquitySnapshot, Membership, Mode, ParkedWallet, Wallet
from trading.models.backtest import BacktestPart, BacktestRun
from trading.models.exit_state import PositionExit
from trading.models.idempotency import IdempotencyKey
from trading.models.kill_switch import DeadManWatch, KillSwitch, KillSwitchTask
from trading.models.lease import EngineSession, Lease
from trading.models.loss_alarm import LossAlarm
from trading.models.order import Fill, Order, OrderAmendment, OrderTransition
from trading.models.position import Position, ReconciliationRun
from trading.models.reconciliation import (
    AbsenceReading,
    AccountReconciliation,
    CoinBalance,
    Discrepancy,
    ForeignOrder,
    LedgerEntry,
)
from trading.models.search import Search, SearchTrial

__all__ = [
    "AbsenceReading",
    "Account",
    "AccountReconciliation",
    "BacktestPart",
    "BacktestRun",
    "CoinBalance",
    "DeadManWatch",
    "Discrepancy",
    "EngineSession",
    "EquitySnapshot",
    "Fill",
    "ForeignOrder",
    "IdempotencyKey",
    "KillSwitch",
    "KillSwitchTask",
    "Lease",
    "LedgerEntry",
    "LossAlarm",
    "Membership",
    "Mode",
    "Order",
    "OrderAmendment",
    "OrderTransition",
    "ParkedWallet",
    "Position",
    "PositionExit",
    "ReconciliationRun",
    "Search",
    "SearchTrial",
    "Wallet",
]
