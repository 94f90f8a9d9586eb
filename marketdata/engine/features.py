"""What a book says, as numbers: one table that names them, one compiled function that computes them.

All from one proven book. NaN means that a side is empty; nothing divides by zero. Verified against an independent
computation in tests/marketdata/engine/test_features.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from marketdata.engine.kernels import Levels, mean_key, sum_lots


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    name: str
    formula: str
    unit: str
    range: str
    source: str


DEPTHS = (1, 5, 10, 25, 50)
_BOOK = "orderbook stream"


def _table() -> tuple[FeatureSpec, ...]:
    specs = [
        FeatureSpec("best_bid", "highest bid", "quote", "> 0", _BOOK),
        FeatureSpec("best_ask", "lowest ask", "quote", "> best_bid", _BOOK),
        FeatureSpec("mid", "(best_bid + best_ask) / 2", "quote", "> 0", _BOOK),
        FeatureSpec("spread", "best_ask - best_bid", "quote", "> 0", _BOOK),
        FeatureSpec("spread_ticks", "spread / tick size", "ticks", ">= 1", _BOOK),
        FeatureSpec("spread_relative", "spread / mid", "1", "> 0", _BOOK),
        FeatureSpec(
            "microprice",
            "(bid * ask_qty + ask * bid_qty) / (bid_qty + ask_qty)",
            "quote",
            "best_bid to best_ask",
            _BOOK,
        ),
        FeatureSpec("microprice_lean", "2 * (microprice - mid) / spread", "1", "-1 to 1", _BOOK),
        FeatureSpec(
            "order_flow_imbalance",
            "change of best-level quantities since the message before (Cont, Kukanov, Stoikov 2014)",
            "base",
            "any",
            _BOOK,
        ),
        FeatureSpec("levels_bid", "number of bid levels", "levels", ">= 0", _BOOK),
        FeatureSpec("levels_ask", "number of ask levels", "levels", ">= 0", _BOOK),
    ]
    for depth in DEPTHS:
        specs += [
            FeatureSpec(f"depth_bid_{depth}", f"quantity of the best {depth} bids", "base", ">= 0", _BOOK),
            FeatureSpec(f"depth_ask_{depth}", f"quantity of the best {depth} asks", "base", ">= 0", _BOOK),
            FeatureSpec(
                f"imbalance_{depth}",
                f"(depth_bid_{depth} - depth_ask_{depth}) / (depth_bid_{depth} + depth_ask_{depth})",
                "1",
                "-1 to 1",
                _BOOK,
            ),
            FeatureSpec(
                f"vwap_bid_{depth}", f"quantity-weighted price of the best {depth} bids", "quote", "> 0", _BOOK
            ),
            FeatureSpec(
                f"vwap_ask_{depth}", f"quantity-weighted price of the best {depth} asks", "quote", "> 0", _BOOK
            ),
        ]
    return tuple(specs)


FEATURES = _table()
_INDEX = {spec.name: index for index, spec in enumerate(FEATURES)}
_FIRST_DEPTH = _INDEX["depth_bid_1"]
_DEPTHS = np.array(DEPTHS, dtype=np.int64)


def feature_index(name: str) -> int:
    """Where a feature stands in the rows. KeyError names those that exist."""
    try:
        return _INDEX[name]
    except KeyError:
        raise KeyError(f"no feature {name!r}; there are {', '.join(_INDEX)}") from None


@nb.njit(
    "void(int64[::1], int64[::1], int64, int64[::1], int64[::1], int64, int64[::1], float64, float64, int64[::1],"
    " int64, float64[::1])",
    cache=True,
    nogil=True,
)
def compute_features(
    bid_keys: Levels,
    bid_lots: Levels,
    bid_count: int,
    ask_keys: Levels,
    ask_lots: Levels,
    ask_count: int,
    previous_best: Levels,
    tick_size: float,
    lot_size: float,
    depths: Levels,
    first_depth: int,
    row: NDArray[np.float64],
) -> None:
    """Fill ``row`` (float64, one value a feature). ``previous_best`` holds bid tick, bid lots, ask tick, ask lots of
    the message before (lots 0: there was none) and is moved on."""
    row[:] = np.nan
    row[9], row[10] = bid_count, ask_count
    for index in range(len(depths)):
        at = first_depth + 5 * index
        bids = sum_lots(bid_lots, bid_count, depths[index]) * lot_size
        asks = sum_lots(ask_lots, ask_count, depths[index]) * lot_size
        row[at], row[at + 1] = bids, asks
        if bids + asks > 0:
            row[at + 2] = (bids - asks) / (bids + asks)
        row[at + 3] = -mean_key(bid_keys, bid_lots, bid_count, depths[index]) * tick_size
        row[at + 4] = mean_key(ask_keys, ask_lots, ask_count, depths[index]) * tick_size
    if bid_count == 0 or ask_count == 0:
        previous_best[1] = previous_best[3] = 0
        return
    bid_tick, ask_tick, bid_quantity, ask_quantity = -bid_keys[0], ask_keys[0], bid_lots[0], ask_lots[0]
    bid, ask = bid_tick * tick_size, ask_tick * tick_size
    row[0], row[1], row[2] = bid, ask, (bid + ask) / 2.0
    row[4] = ask_tick - bid_tick
    row[3] = row[4] * tick_size
    row[5] = row[3] / row[2]
    row[6] = (bid * ask_quantity + ask * bid_quantity) / (bid_quantity + ask_quantity)
    row[7] = 2.0 * (row[6] - row[2]) / row[3]
    if previous_best[1] > 0 and previous_best[3] > 0:
        flow = 0.0
        if bid_tick >= previous_best[0]:
            flow += bid_quantity
        if bid_tick <= previous_best[0]:
            flow -= previous_best[1]
        if ask_tick <= previous_best[2]:
            flow -= ask_quantity
        if ask_tick >= previous_best[2]:
            flow += previous_best[3]
        row[8] = flow * lot_size
    previous_best[0], previous_best[1] = bid_tick, bid_quantity
    previous_best[2], previous_best[3] = ask_tick, ask_quantity


def feature_layout() -> tuple[NDArray[np.int64], int]:
    """The constant arguments of :func:`compute_features`."""
    return _DEPTHS, _FIRST_DEPTH
