"""What a backtest found: exact in money, the same for the same request and data in every process."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BacktestSignal:
    """One signal and what became of it: ``outcome`` is approved, vetoed or denied, ``words`` why."""

    time_ms: int
    symbol: str
    strategy: str
    side: str
    strength: float
    entry_price: Decimal
    take_profit: Decimal
    stop_loss: Decimal
    outcome: str
    words: str


@dataclass(frozen=True, slots=True)
class BacktestFill:
    """``realised_pnl`` before fees, USDT; ``why`` is signal, take_profit, stop_loss, one of the exit rules
    (``risk.exits.ExitKind``), liquidation or end."""

    time_ms: int
    symbol: str
    strategy: str
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    is_maker: bool
    realised_pnl: Decimal
    why: str


@dataclass(frozen=True, slots=True)
class BacktestTrade:
    """One position from nothing to nothing. ``quantity`` is the largest that it was; prices are means by quantity;
    ``pnl`` is net: realised minus ``fees`` plus ``funding`` (what was received, below 0 where paid). ``best`` and
    ``worst``: the farthest that the price went for and against it, percent of the entry. ``why`` it ended."""

    symbol: str
    strategy: str
    side: str
    opened_ms: int
    closed_ms: int
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal
    fees: Decimal
    funding: Decimal
    pnl: Decimal
    best: float
    worst: float
    why: str


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """``equity_ms`` (int64) and ``equity`` (float64, USDT, positions at the last price) have one point for each bar's
    end, or each minute of trades and books; ``exposed`` (float64) is the worth of all positions there. Positions still
    open at the end are closed at the last price (``why`` is end). ``balance`` is what there is then: what the run
    began with and the ``pnl`` of all trades. ``data``: the digests of what it was tested on, by name; ``code``: the
    version of the code."""

    signals: tuple[BacktestSignal, ...]
    fills: tuple[BacktestFill, ...]
    trades: tuple[BacktestTrade, ...]
    equity_ms: NDArray[np.int64]
    equity: NDArray[np.float64]
    exposed: NDArray[np.float64]
    balance: Decimal
    events: int
    data: tuple[tuple[str, str], ...]
    code: str
