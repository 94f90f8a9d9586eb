"""The volume within all six depths of one book, from scratch.

A bid belongs to a depth when ``price >= best_bid * (1 - d/100)``, an ask when ``price <= best_ask * (1 + d/100)``, both
inclusive, in exact integers. A book that the engine keeps has these sums at hand (``SymbolBook.bands``); this is for
books that come whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from marketdata.depth.book_reading import DepthBook
from marketdata.depth.heat import BookLevels
from marketdata.depth.snapshots import DEPTHS, MOST_DIGITS, DepthVolume
from marketdata.engine.book import BandVolume, SymbolBook
from marketdata.engine.compiled import compiled

BID, ASK = 0, 1
LARGEST_TICK = 2**63 - 1
# A larger sum of ticks times lots may not fit: such a book is counted in Python's own integers.
LARGEST_SUM = 2.0**62


@compiled("void(int64[:, ::1], int64, int64[::1], int64[:, ::1])")
def sum_side(levels, side, limits, sums):
    """Lots, and ticks times lots, up to each limit (nearest first); ``levels`` best first. A single pass."""
    lots, notional, band = 0, 0, 0
    limit = limits[0]
    for index in range(levels.shape[0]):
        tick = levels[index, 0]
        while (tick < limit) if side == BID else (tick > limit):
            sums[band, 0], sums[band, 1] = lots, notional
            band += 1
            if band == limits.shape[0]:
                return
            limit = limits[band]
        lots += levels[index, 1]
        notional += levels[index, 1] * tick
    for rest in range(band, limits.shape[0]):
        sums[rest, 0], sums[rest, 1] = lots, notional


def limits_of(best: int, side: int) -> NDArray[np.int64]:
    """The furthest tick that still belongs to each depth."""
    if side == BID:
        limits = [-(-best * (1000 - depth) // 1000) for depth in DEPTHS]
    else:
        limits = [min(best * (1000 + depth) // 1000, LARGEST_TICK) for depth in DEPTHS]
    return np.array(limits, dtype=np.int64)


def side_sums(levels: NDArray[np.int64], side: int) -> list[tuple[int, int]]:
    """Lots, and ticks times lots, of each depth, of levels that lie best first."""
    limits = limits_of(int(levels[0, 0]), side)
    lots = levels[:, 1].astype(float).sum()
    if lots * float(levels[:, 0].max()) > LARGEST_SUM:
        return [_slow_sum(levels, side, int(limit)) for limit in limits]
    sums = np.zeros((len(DEPTHS), 2), dtype=np.int64)
    sum_side(np.ascontiguousarray(levels), side, limits, sums)
    return [(int(lots), int(notional)) for lots, notional in sums]


def _slow_sum(levels: NDArray[np.int64], side: int, limit: int) -> tuple[int, int]:
    inside = [(ticks, lots) for ticks, lots in levels.tolist() if (ticks >= limit if side == BID else ticks <= limit)]
    return sum(lots for _, lots in inside), sum(ticks * lots for ticks, lots in inside)


def depth_volumes(book: DepthBook) -> list[DepthVolume]:
    """The six depths of a book, nearest first, exact."""
    bids, asks = side_sums(book.bids, BID), side_sums(book.asks, ASK)
    # What is known reaches to the last level, or without end where there are no more.
    (best_bid, lowest), (best_ask, highest) = ((int(side[0, 0]), int(side[-1, 0])) for side in (book.bids, book.asks))
    with localcontext(prec=4 * MOST_DIGITS):
        value = book.tick_size * book.lot_size
        return [
            DepthVolume(
                depth=depth,
                bid_volume=bids[at][0] * book.lot_size,
                ask_volume=asks[at][0] * book.lot_size,
                bid_volume_usd=bids[at][1] * value,
                ask_volume_usd=asks[at][1] * value,
                bid_covered=book.bids_end or lowest * 1000 <= best_bid * (1000 - depth),
                ask_covered=book.asks_end or highest * 1000 >= best_ask * (1000 + depth),
            )
            for at, depth in enumerate(DEPTHS)
        ]


def engine_volumes(bands: Iterable[BandVolume]) -> list[DepthVolume]:
    """The six depths of a book that the engine keeps."""
    sides: dict[str, list[BandVolume]] = {"bid": [], "ask": []}
    for band in bands:
        sides[band.side].append(band)
    return [
        DepthVolume(
            depth=round(bid.percent * 10),
            bid_volume=bid.quantity,
            ask_volume=ask.quantity,
            bid_volume_usd=bid.notional,
            ask_volume_usd=ask.notional,
            bid_covered=bid.covered,
            ask_covered=ask.covered,
        )
        for bid, ask in zip(sides["bid"], sides["ask"], strict=True)
    ]


def whole_book(book: SymbolBook) -> BookLevels:
    """All levels of a book that the engine keeps."""
    bids, asks = book.level_arrays()
    return BookLevels(bids, asks, book.tick_size, book.lot_size, book.reach())


def largest_depth(volumes: Sequence[DepthVolume], side: str) -> int:
    """The depth whose own ring, between it and the next nearer one, holds the most of a side (``bid`` or ``ask``)."""
    sums = [volume.bid_volume if side == "bid" else volume.ask_volume for volume in volumes]
    rings = [total - nearer for nearer, total in zip([Decimal(0), *sums[:-1]], sums, strict=True)]
    return volumes[rings.index(max(rings))].depth
