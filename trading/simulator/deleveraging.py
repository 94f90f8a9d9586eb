"""The queue of auto-deleveraging: who of those who hold one side of a contract is closed first.

Bybit ranks by profit ratio times effective leverage (https://www.bybit.com/en/help-center/article/Auto-Deleveraging-ADL):
a gain counts the more the higher the leverage, a loss the less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from trading.simulator.accounts import SimulatedAccount
from trading.simulator.positions import SimulatedPosition

LIGHTS = 5
# Of an account that has nothing left, whose leverage is as high as can be.
LEAST_EQUITY = Decimal("1e-8")

Holding = tuple[SimulatedAccount, SimulatedPosition]


def rank(account: SimulatedAccount, position: SimulatedPosition) -> Decimal:
    """The higher, the sooner; only to compare with others."""
    profit = position.unrealised / position.value
    leverage = position.quantity * (position.mark_price or position.entry_price)
    leverage /= max(account.margin_balance, LEAST_EQUITY)
    return profit * leverage if profit > 0 else profit / leverage


def queue(accounts: Iterable[SimulatedAccount], symbol: str, side: str) -> list[Holding]:
    """Everybody who holds this side of a contract, who is closed first in front."""
    return sorted(_holdings(accounts, symbol, side), key=lambda holding: rank(*holding), reverse=True)


def lights(accounts: Iterable[SimulatedAccount], account: SimulatedAccount, position: SimulatedPosition) -> int:
    """``adlRankIndicator``: 5 for the first fifth of the queue to 1 for the last, 0 without a position."""
    if not position.quantity:
        return 0
    mine = rank(account, position)
    ranks = [rank(*holding) for holding in _holdings(accounts, position.symbol, position.side)]
    return LIGHTS - sum(each > mine for each in ranks) * LIGHTS // len(ranks)


def _holdings(accounts: Iterable[SimulatedAccount], symbol: str, side: str) -> Iterator[Holding]:
    for account in accounts:
        for index in (0, 1, 2):
            position = account.positions.get((symbol, index))
            if position is not None and position.quantity and position.side == side:
                yield account, position
