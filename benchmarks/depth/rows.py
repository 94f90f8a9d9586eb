"""Minutes of one book to store: as recorded books have them, and generated ones that wander alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from benchmarks.likeness import DATA
from marketdata.depth.bands import engine_volumes
from marketdata.depth.snapshots import DEPTHS, MINUTE, DepthVolume
from marketdata.feeds.book_replay import Replay
from marketdata.feeds.recorded import read_recording

RECORDINGS = ("spot_btcusdt_20240808", "usdm_btcusdt_20240808", "usdm_ethusdt_20240808")
# Six depths by depth, of consecutive minutes: seconds of the day and volumes.
Book = dict[int, list[tuple[int, DepthVolume]]]


@dataclass(frozen=True, slots=True)
class Walk:
    """How far the coins between two depths, and their mean price, go in a minute: standard deviations of a fraction."""

    coins: float = 0.01
    price: float = 5e-4
    # Rings of a book that are known: six of a streamed one, one of a liquid book by REST, which ends before 1.5 %.
    rings: int = len(DEPTHS)


def generated(seed: int, walk: Walk, minutes: int = 1_440, lot: int = -5, tick: int = -2) -> Book:
    """Each ring between two depths wanders by itself; a depth is the sum of its rings, as in a book."""
    chance = np.random.default_rng(seed)
    shape = (minutes, len(DEPTHS), 2)
    lots = np.exp(np.cumsum(chance.normal(0, walk.coins, shape), axis=0) + np.log(2e7))
    ticks = np.exp(np.cumsum(chance.normal(0, walk.price, shape), axis=0) + np.log(6e6))
    lots[:, walk.rings :] = 0
    coins = np.rint(lots).astype(np.int64)
    value = np.rint(coins * ticks).astype(np.int64)
    return _book(np.cumsum(np.concatenate([coins, value], axis=2), axis=1), lot, tick)


def recorded(name: str) -> tuple[Book, int]:
    """A recorded book, each second of it as if it were a minute; and every sixtieth's number for comparison."""
    replay = Replay()
    seconds, book, last = 0, {depth: [] for depth in DEPTHS}, 0  # type: ignore[var-annotated]
    for step in replay.run(read_recording(DATA / "binance-raw" / f"{name}.gz")):
        second = step.book.receive_ns // 10**9
        if second == last or step.book.best_bid_ticks is None or step.book.best_ask_ticks is None:
            continue
        last = second
        for volume in engine_volumes(step.book.bands()):
            book[volume.depth].append((seconds * MINUTE, volume))
        seconds += 1
    return book, seconds


def _book(sums: NDArray[np.int64], lot: int, tick: int) -> Book:
    book: Book = {depth: [] for depth in DEPTHS}
    for minute, depths in enumerate(sums.tolist()):
        for depth, (bid, ask, bid_value, ask_value) in zip(DEPTHS, depths, strict=True):
            volume = DepthVolume(
                depth,
                Decimal(bid).scaleb(lot),
                Decimal(ask).scaleb(lot),
                Decimal(bid_value).scaleb(lot + tick),
                Decimal(ask_value).scaleb(lot + tick),
            )
            book[depth].append((minute * MINUTE, volume))
    return book


def every(book: Book, step: int) -> Iterator[Book]:
    """The book each ``step``-th row, from each of the first rows on."""
    for first in range(step):
        chosen = {depth: rows[first::step] for depth, rows in book.items()}
        yield {
            depth: [(number * MINUTE, volume) for number, (_, volume) in enumerate(rows)]
            for depth, rows in chosen.items()
        }
