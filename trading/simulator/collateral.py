"""Coins that stand for margin in a unified account: what they count for, and which of them the exchange knows.

The ratios are in the form of Bybit's tiers (https://bybit-exchange.github.io/docs/v5/spot-margin-uta/tier-collateral-ratio):
a part of a holding counts with the ratio of its tier. The numbers are the simulator's own.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from decimal import Decimal
from typing import NamedTuple

from trading.simulator.orders import ZERO


class Tier(NamedTuple):
    """A holding's part from ``least`` up to ``most`` coins (None: without end) counts with ``ratio``."""

    least: Decimal
    most: Decimal | None
    ratio: Decimal


def _tiers(*steps: tuple[int, str]) -> tuple[Tier, ...]:
    ends = [Decimal(least) for least, _ in steps[1:]]
    return tuple(
        Tier(Decimal(least), most, Decimal(ratio)) for (least, ratio), most in zip(steps, [*ends, None], strict=True)
    )


TIERS: dict[str, tuple[Tier, ...]] = {
    "USDT": _tiers((0, "1")),
    "USDC": _tiers((0, "1")),
    "BTC": _tiers((0, "0.95"), (100, "0.9"), (1_000, "0")),
    "ETH": _tiers((0, "0.95"), (1_000, "0.9"), (10_000, "0")),
}
# Bybit does not let these be switched off.
ALWAYS_ON = frozenset({"USDT", "USDC"})
# What losses may take USDT below zero; beyond it other coins are sold.
MOST_BORROWED = Decimal(1_000_000)
HOURLY_BORROW_RATE = Decimal("0.000005")
# Margin for what is borrowed, as a fraction of it: ten times leverage, and what is kept at least.
BORROW_INITIAL_RATE, BORROW_MAINTENANCE_RATE = Decimal("0.1"), Decimal("0.04")


class Collateral:
    """``price`` gives the index price of a coin in USD, zero where there is none."""

    def __init__(self, price: Callable[[str], Decimal]) -> None:
        self.price = price

    def value(self, wallets: Mapping[str, Decimal], switched_off: Container[str], but: str) -> Decimal:
        """What all coins ``but`` one count for, in USD."""
        return sum(
            (
                counted(coin, amount) * self.price(coin)
                for coin, amount in wallets.items()
                if coin != but and amount > 0 and coin in TIERS and coin not in switched_off
            ),
            ZERO,
        )


def counted(coin: str, amount: Decimal) -> Decimal:
    """How many of so many coins count as margin."""
    return sum(
        (
            (amount if tier.most is None else min(amount, tier.most)) * tier.ratio - tier.least * tier.ratio
            for tier in TIERS[coin]
            if amount > tier.least
        ),
        ZERO,
    )
