"""What rested at which price, put where the collector puts it: a price that wanders between walls of orders."""

from __future__ import annotations

import time
from decimal import Decimal

import numpy as np

from marketdata.depth import services
from marketdata.depth.heat import HeatRows, HeatSide, row_step
from marketdata.depth.heat_packing import packed_minute
from marketdata.depth.snapshots import MINUTE, Market, minute_of

# Nearer than so many rows every order is known.
ROWS_A_SIDE, SURE_ROWS = 100, 70
AT_ONCE = 500


def store_heat(
    symbol: str, market: Market, minutes: int, *, price: float = 84_000, wall: float = 40, seed: int = 3
) -> int:
    """Minutes until now, each a hundred rows a side; how many were new. Around ``price`` walls of ``wall`` coins stand
    for hours at round prices."""
    chance, now = np.random.default_rng(seed), minute_of(time.time())
    path = price * np.exp(np.cumsum(chance.normal(0, 0.0004, minutes)))
    step = row_step(Decimal(str(price)), Decimal("0.01"))
    kept, stored = [], 0
    for at, here in enumerate(path):
        best = int(Decimal(str(round(float(here), 2))) // step)
        away = np.arange(ROWS_A_SIDE)
        bids, asks = (
            (1_000 * (0.4 + 3 * away / ROWS_A_SIDE) * chance.lognormal(0, 0.45, ROWS_A_SIDE)).astype(np.int64)
            for _ in range(2)
        )
        # Round prices hold walls that stay while the price is away from them and melt as it comes.
        for side, rows in ((bids, best - away), (asks, best + 1 + away)):
            walls = (rows % 20 == 0) & (away > 2)
            side[walls] += (1_000 * wall * (0.5 + 0.5 * np.sin(at / 90 + rows[walls] / 20))).astype(np.int64)
        rows = HeatRows(
            step,
            -3,
            HeatSide(best - ROWS_A_SIDE + 1, np.ascontiguousarray(bids[::-1]), best - SURE_ROWS),
            HeatSide(best + 1, asks, best + 1 + SURE_ROWS),
        )
        kept.append(packed_minute(symbol, market, now - (minutes - 1 - at) * MINUTE, rows))
    for start in range(0, minutes, AT_ONCE):
        stored += services.heat_minutes_store(kept[start : start + AT_ONCE])
    return stored
