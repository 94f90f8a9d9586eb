"""Arithmetic of compiled backtests: int64 throughout, and exact, so that it says to the last digit what Decimal says.

Prices are in units of ``10 ** -price_decimals``, quantities of ``10 ** -quantity_decimals``; their products are money
in units of both. What is finer, fees and funding, is kept beside it in billionths of such a unit. Levels that are met
on the way are in units of 1e-10 quote coin.
"""

from __future__ import annotations

import numpy as np

from strategies.compiled import inner

BILLION = 1_000_000_000
LEVEL_DECIMALS = 10
# Corrections that an estimate in floats can need; one is the most that was seen.
_CORRECTIONS = 8


@inner
def floor_ratio(first: int, second: int, divisor: int) -> tuple[int, int]:
    """``first * second / divisor`` rounded down, and the remainder.

    The product may be larger than an int64, the quotient must fit and the divisor be from 1 to 2 ** 60: products wrap
    around, but what an estimate in floats leaves over is small, so that it comes out right.
    """
    quotient = int(np.floor(float(first) * float(second) / float(divisor)))
    rest = first * second - quotient * divisor
    more = int(np.floor(float(rest) / float(divisor)))
    quotient += more
    rest -= more * divisor
    for _ in range(_CORRECTIONS):
        if rest < 0:
            quotient -= 1
            rest += divisor
        elif rest >= divisor:
            quotient += 1
            rest -= divisor
        else:
            break
    return quotient, rest


@inner
def ceiling_ratio(first: int, second: int, divisor: int) -> int:
    quotient, rest = floor_ratio(first, second, divisor)
    return quotient + 1 if rest > 0 else quotient


@inner
def nearest_ratio(first: int, second: int, divisor: int) -> int:
    """Half to even, as Decimal rounds."""
    quotient, rest = floor_ratio(first, second, divisor)
    other = divisor - rest
    if rest > other or (rest == other and quotient % 2 != 0):
        quotient += 1
    return quotient


@inner
def share_of(worth: int, billionths: int) -> tuple[int, int]:
    """So many billionths of a worth: whole units, and billionths of one from 0 on. Below 0 where either is."""
    product = (worth % BILLION) * billionths
    return (worth // BILLION) * billionths + product // BILLION, product % BILLION
