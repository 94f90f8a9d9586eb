"""What rests at which price, minute by minute: rows of a book's prices, and how many minutes make one picture.

A row is a range of prices, its number times the step. Steps are 1 or 5 times a power of ten, so that each is a multiple
of every smaller one and minutes of different steps still fit each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from marketdata.depth.snapshots import MINUTE, Market

# How far from the best prices rows are kept, per mille, and what part of the price a row shall be: some 200 rows.
REACH_PER_MILLE = 50
ROW_OF_PRICE = Decimal("0.0005")
# Of a book that shows less than that (Bybit's 200 levels of BTCUSDT are 0.04 % of it), what it shows has so many.
FEWEST_ROWS = 80
# A step is kept until it is so many times too fine or too coarse: a price on the border must not change it each minute.
STEP_LEEWAY = 3
LARGEST_SUM = 2.0**61
EVERY_BID, EVERY_ASK = Decimal(0), Decimal(10) ** 30


class HeatError(ValueError):
    """A book that no rows can be made of; the sentence says why."""


@dataclass(frozen=True, slots=True)
class HeatSide:
    """Volume of the rows from ``first`` on, int64, as far as there are levels: of further ones nothing is known.

    Only levels nearer than the edge are surely all of them: bids from the row ``edge`` on, asks before it. What is
    further was seen to change since the book was loaded, and is the least that rests there.
    """

    first: int
    volumes: NDArray[np.int64]
    edge: int


@dataclass(frozen=True, slots=True)
class HeatRows:
    """One book's rows within 5 % of its best prices. A volume is so many times ``10 ** exponent`` coins."""

    step: Decimal
    exponent: int
    bids: HeatSide
    asks: HeatSide


@dataclass(frozen=True, slots=True)
class HeatMinute:
    """The rows of one book in one minute, packed (``marketdata.depth.heat_packing``)."""

    symbol: str
    market: Market
    minute: int
    body: bytes


@dataclass(frozen=True, slots=True)
class BookLevels:
    """A whole book: ``(n, 2)`` ticks and lots of each side, best first. ``reach``: the furthest bid and ask price up to
    which every level is known; 0, and a price beyond any, mean all of them."""

    bids: NDArray[np.int64]
    asks: NDArray[np.int64]
    tick_size: Decimal
    lot_size: Decimal
    reach: tuple[Decimal, Decimal]


def row_step(
    price: Decimal, tick_size: Decimal, before: Decimal | None = None, shown: Decimal | None = None
) -> Decimal:
    """How large a row is at a price: the one ``before`` as long as it will do. ``shown``: from the lowest bid of the
    book to its highest ask."""
    ideal = price * ROW_OF_PRICE
    if shown is not None:
        ideal = min(ideal, shown / FEWEST_ROWS)
    ideal = max(ideal, tick_size)
    if before is not None and before >= tick_size and before / STEP_LEEWAY <= ideal <= before * STEP_LEEWAY:
        return before
    power = Decimal(1).scaleb(ideal.adjusted())
    steps = [power, power * 5, power * 10, power * 50]
    nearest = next(lower for lower, higher in pairwise(steps) if ideal * ideal < lower * higher)
    return next(step for step in steps if step >= nearest and step >= tick_size)


def heat_rows(book: BookLevels, before: Decimal | None = None) -> HeatRows:
    """The rows of a book. ``before``: the step of the same book a minute ago.

    Raises:
        HeatError: an empty side, numbers beyond an int64.
    """
    if not len(book.bids) or not len(book.asks):
        raise HeatError("a side is empty")
    shown = int(book.asks[-1, 0] - book.bids[-1, 0]) * book.tick_size
    step = row_step(int(book.bids[0, 0]) * book.tick_size, book.tick_size, before, shown)
    units = min(int(size.as_tuple().exponent) for size in (book.tick_size, step))
    tick, row = (int(size.scaleb(-units)) for size in (book.tick_size, step))
    best_bid, best_ask = int(book.bids[0, 0]) * tick, int(book.asks[0, 0]) * tick
    if best_ask * (1000 + REACH_PER_MILLE) >= 2**62:
        raise HeatError("its prices have too many digits")
    # Twice the price is as good as beyond any, and has few digits.
    known_bid, known_ask = book.reach[0], min(book.reach[1], 2 * int(book.asks[0, 0]) * book.tick_size)
    lowest = best_bid * (1000 - REACH_PER_MILLE) // 1000 // row
    seen = min(int(known_bid // step), int(book.bids[-1, 0]) * tick // row)
    first_bid, last_bid = max(lowest, seen), best_bid // row
    highest = best_ask * (1000 + REACH_PER_MILLE) // 1000 // row
    seen = max(int(known_ask // step), int(book.asks[-1, 0]) * tick // row)
    first_ask, last_ask = best_ask // row, min(highest, seen)
    bid_edge = min(max(int(known_bid // step) + bool(known_bid % step), first_bid), last_bid + 1)
    ask_edge = min(max(int(known_ask // step), first_ask), last_ask + 1)
    lots = book.lot_size.normalize()
    exponent = int(lots.as_tuple().exponent)
    a_lot = int(lots.scaleb(-exponent))
    return HeatRows(
        step,
        exponent,
        HeatSide(first_bid, _sums(book.bids, tick, row, first_bid, last_bid, a_lot), bid_edge),
        HeatSide(first_ask, _sums(book.asks, tick, row, first_ask, last_ask, a_lot), ask_edge),
    )


def _sums(levels: NDArray[np.int64], tick: int, row: int, first: int, last: int, a_lot: int) -> NDArray[np.int64]:
    # The furthest first, or ticks of a venue's joke orders would not fit.
    near = levels[levels[:, 0] <= (last + 1) * row // tick]
    rows = near[:, 0] * tick // row
    inside = (rows >= first) & (rows <= last)
    if near[inside, 1].astype(float).sum() * a_lot > LARGEST_SUM:
        raise HeatError("its quantities have too many digits")
    volumes = np.zeros(last - first + 1, dtype=np.int64)
    np.add.at(volumes, rows[inside] - first, near[inside, 1] * a_lot)
    return volumes


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Minutes side by side: ``bids[i, j]`` coins at ``times[i]`` from ``(first + j) * step`` on, NaN where nothing is
    known. A time stands for ``seconds``: the mean of its minutes. ``known``: from which price to which, in ``times``,
    every level was known in all of its minutes."""

    seconds: int
    step: Decimal
    first: int
    times: Sequence[int]
    known: Sequence[tuple[Decimal, Decimal]]
    bids: NDArray[np.float64]
    asks: NDArray[np.float64]

    @property
    def prices(self) -> list[Decimal]:
        """The low edge of each row."""
        return [(self.first + row) * self.step for row in range(self.bids.shape[1])]


@dataclass(frozen=True, slots=True)
class _Strip:
    """A column of a picture: coins by row from ``first`` on, NaN where nothing is known."""

    first: int
    values: NDArray[np.float64]

    @property
    def end(self) -> int:
        return self.first + len(self.values)

    def coarser(self, factor: int) -> _Strip:
        if factor == 1:
            return self
        first = self.first // factor
        end = -(-self.end // factor)
        padded = np.full((end - first) * factor, np.nan)
        padded[self.first - first * factor : self.end - first * factor] = self.values
        groups = padded.reshape(-1, factor)
        known = np.isfinite(groups)
        return _Strip(first, np.where(known.any(axis=1), np.where(known, groups, 0.0).sum(axis=1), np.nan))


@dataclass(frozen=True, slots=True)
class _Column:
    time: int
    step: Decimal
    known: tuple[Decimal, Decimal]
    sides: tuple[_Strip, _Strip]


def heat_map(minutes: Iterable[tuple[int, HeatRows]], start: int, end: int, rows: int, columns: int) -> HeatMap | None:
    """One picture of the minutes from ``start`` to ``end``, of at most so many rows and columns; None of no minutes.

    Args:
        minutes: seconds since 1970 and what rested then, the earliest first.
    """
    spanned = (end // MINUTE) - (start // MINUTE) + 1
    together = max(1, math.ceil(spanned / columns)) * MINUTE
    # A bucket more may be touched than fits in: whole ones begin at multiples of their length.
    while end // together - start // together + 1 > columns:
        together += MINUTE
    found = list(_columns(minutes, together))
    if not found:
        return None
    step = max(column.step for column in found)
    sides = [[side.coarser(int(step / column.step)) for side in column.sides] for column in found]
    first, last = (choose(_ends(sides, end)) for choose, end in ((min, False), (max, True)))
    factor = max(1, math.ceil((last - first) / rows))
    while (last - 1) // factor - first // factor + 1 > rows:
        factor += 1
    sides = [[side.coarser(factor) for side in both] for both in sides]
    first, last = (choose(_ends(sides, end)) for choose, end in ((min, False), (max, True)))
    pictures = np.full((2, len(found), last - first), np.nan)
    for at, both in enumerate(sides):
        for picture, side in zip(pictures, both, strict=True):
            picture[at, side.first - first : side.end - first] = side.values
    times, known = [column.time for column in found], [column.known for column in found]
    return HeatMap(together, step * factor, first, times, known, pictures[0], pictures[1])


def _ends(sides: Sequence[Sequence[_Strip]], upper: bool) -> Iterator[int]:
    return (side.end if upper else side.first for both in sides for side in both)


def _columns(minutes: Iterable[tuple[int, HeatRows]], together: int) -> Iterator[_Column]:
    for bucket, group in groupby(minutes, key=lambda each: each[0] // together):
        rows = [each for _, each in group]
        step = max(each.step for each in rows)
        bids, asks = (_mean([_strip(each, side, step) for each in rows]) for side in ("bids", "asks"))
        low, high = max(each.bids.edge * each.step for each in rows), min(each.asks.edge * each.step for each in rows)
        yield _Column(bucket * together, step, (low, high), (bids, asks))


def _strip(rows: HeatRows, name: str, step: Decimal) -> _Strip:
    side: HeatSide = getattr(rows, name)
    coins = side.volumes.astype(np.float64)
    coins = coins * 10.0**rows.exponent if rows.exponent >= 0 else coins / 10.0**-rows.exponent
    return _Strip(side.first, coins).coarser(int(step / rows.step))


def _mean(strips: Sequence[_Strip]) -> _Strip:
    """Of each row over the minutes in which it was known."""
    if len(strips) == 1:
        return strips[0]
    first, end = min(strip.first for strip in strips), max(strip.end for strip in strips)
    sums, counts = np.zeros(end - first), np.zeros(end - first)
    for strip in strips:
        known = np.isfinite(strip.values)
        inside = slice(strip.first - first, strip.end - first)
        sums[inside] += np.where(known, strip.values, 0.0)
        counts[inside] += known
    with np.errstate(invalid="ignore"):
        return _Strip(first, np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
