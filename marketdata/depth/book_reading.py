"""A book by REST as sorted integers: ticks and lots of its own steps, exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec
import numpy as np
from numpy.typing import NDArray

from marketdata.depth.heat import EVERY_ASK, EVERY_BID, BookLevels
from marketdata.engine.grid import NUMBER

LARGEST_UNITS = 2**62


class BookReadingError(ValueError):
    """An answer that is no usable book; the sentence says what it is instead."""


class _Answer(msgspec.Struct):
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    lastUpdateId: int = 0


_DECODER = msgspec.json.Decoder(_Answer)


@dataclass(frozen=True, slots=True)
class DepthBook:
    """Levels best first: ``(n, 2)`` int64 of ticks and lots. ``bids_end`` and ``asks_end``: whether nothing lies behind
    the last one, so that the whole side is known."""

    tick_size: Decimal
    lot_size: Decimal
    bids: NDArray[np.int64]
    asks: NDArray[np.int64]
    bids_end: bool
    asks_end: bool
    update_id: int = 0

    def price(self, ticks: int) -> Decimal:
        return int(ticks) * self.tick_size

    def quantity(self, lots: int) -> Decimal:
        return int(lots) * self.lot_size

    def whole(self) -> BookLevels:
        reach = (
            EVERY_BID if self.bids_end else self.price(self.bids[-1, 0]),
            EVERY_ASK if self.asks_end else self.price(self.asks[-1, 0]),
        )
        return BookLevels(self.bids, self.asks, self.tick_size, self.lot_size, reach)

    def ladder(self, levels: int) -> tuple[list[list[str]], list[list[str]]]:
        """The best bids and asks as price and quantity texts."""
        bids, asks = (
            [[f"{self.price(ticks):f}", f"{self.quantity(lots):f}"] for ticks, lots in side[:levels].tolist()]
            for side in (self.bids, self.asks)
        )
        return bids, asks


def read_depth(body: bytes, limit: int) -> DepthBook:
    """Binance's answer to ``depth`` asked for ``limit`` levels a side.

    Raises:
        BookReadingError: not such an answer, an empty side, levels out of order, a crossed book.
    """
    try:
        answer = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BookReadingError(f"not a book: {error}") from None
    if not answer.bids or not answer.asks:
        raise BookReadingError("a side of the book is empty")
    levels = [*answer.bids, *answer.asks]
    ticks, tick_size = _units([price for price, _ in levels])
    lots, lot_size = _units([quantity for _, quantity in levels])
    both = np.stack([ticks, lots], axis=1)
    bids, asks = both[: len(answer.bids)], both[len(answer.bids) :]
    if np.any(np.diff(bids[:, 0]) >= 0) or np.any(np.diff(asks[:, 0]) <= 0):
        raise BookReadingError("its levels are not in order")
    if bids[0, 0] >= asks[0, 0]:
        raise BookReadingError("crossed: the best bid is not below the best ask")
    if ticks.min() <= 0:
        raise BookReadingError("a price is 0; expected prices above 0")
    return DepthBook(
        tick_size, lot_size, bids, asks, len(bids) < limit, len(asks) < limit, update_id=answer.lastUpdateId
    )


def _units(texts: Sequence[str]) -> tuple[NDArray[np.int64], Decimal]:
    """The numbers as multiples of their largest common step, and the step."""
    matches = [NUMBER.fullmatch(text) for text in texts]
    decimals = 0
    for text, match in zip(texts, matches, strict=True):
        if match is None:
            raise BookReadingError(f"{text[:50]!r} is not a plain number")
        decimals = max(decimals, len((match[2] or "").rstrip("0")))
    units = [int(match[1] + (match[2] or "")[:decimals].ljust(decimals, "0")) for match in matches if match is not None]
    if max(units) > LARGEST_UNITS:
        raise BookReadingError(f"{max(texts, key=len)[:50]} has too many digits")
    step = math.gcd(*units) or 1
    return np.array(units, dtype=np.int64) // step, Decimal(step).scaleb(-decimals)
