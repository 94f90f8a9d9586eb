"""Past bars and funding rates from the venues themselves, page by page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import numpy as np

from marketdata.candles.series_key import PriceOf, SeriesKey
from marketdata.candles.tables import PRICES, RATE, TIME, VOLUME, Block
from marketdata.feeds.binance_rest import USDM, BinanceRest
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.protocol import VenueError, VenueRefusal

log = logging.getLogger(__name__)

# Rows that are stored at once: what an interruption may lose.
ROWS_AT_ONCE = 20_000
ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.25
BINANCE_INTERVALS = {
    **{str(minutes): f"{minutes}m" for minutes in (1, 3, 5, 15, 30)},
    **{str(60 * hours): f"{hours}h" for hours in (1, 2, 4, 6, 8, 12)},
    "D": "1d",
}
BYBIT_HAS_NOT = ("480",)

# Time, and the other columns as texts.
Row = tuple[int, list[str]]


class PastSource(Protocol):
    def pages(self, key: SeriesKey, start_ms: int, end_ms: int) -> AsyncIterator[list[Row]]:
        """All that the venue has of ``[start_ms, end_ms)``, in any order.

        Raises:
            VenueError: it does not answer, or has no such line.
        """


class BybitPast:
    """From the newest page back: what the venue lists comes first, and the listing of a symbol ends it."""

    def __init__(self, rest: BybitPublicRest) -> None:
        self._rest = rest

    async def pages(self, key: SeriesKey, start_ms: int, end_ms: int) -> AsyncIterator[list[Row]]:
        if key.interval in BYBIT_HAS_NOT:
            raise VenueRefusal(f"Bybit has no bars of {key.interval} minutes; shorter ones make them")
        category = PriceOf.LINEAR.value if key.market == PriceOf.MARK else key.market
        end = end_ms
        while start_ms < end:
            page = await self._page(key, category, start_ms, end)
            if not page:
                return
            yield page
            oldest = min(at for at, _ in page)
            if oldest >= end:
                raise VenueError(f"{key}: the venue gave the same page again")
            end = oldest

    async def _page(self, key: SeriesKey, category: str, start_ms: int, end_ms: int) -> list[Row]:
        if key.is_funding:
            rates = await asked(lambda: self._rest.funding_rates(category, key.symbol, start_ms, end_ms))
            return _rows(rates, lambda row: (int(row["fundingRateTimestamp"]), [str(row["fundingRate"])]))
        is_mark = key.market == PriceOf.MARK
        bars = await asked(
            lambda: self._rest.past_klines(category, key.symbol, key.interval, start_ms, end_ms, mark=is_mark)
        )
        return _rows(bars, _mark_bar if is_mark else _bar)


class BinancePast:
    """From the oldest page on: the venue begins at the listing by itself."""

    def __init__(self, rest: BinanceRest) -> None:
        self._rest = rest

    async def pages(self, key: SeriesKey, start_ms: int, end_ms: int) -> AsyncIterator[list[Row]]:
        if key.market == PriceOf.MARK or (key.is_funding and self._rest.market is not USDM):
            raise VenueRefusal(f"{key} is not fetched from Binance; import a file of it")
        start = start_ms
        while start < end_ms:
            page = await self._page(key, start, end_ms)
            if not page:
                return
            yield page
            newest = max(at for at, _ in page)
            if newest < start:
                raise VenueError(f"{key}: the venue gave the same page again")
            start = newest + 1

    async def _page(self, key: SeriesKey, start_ms: int, end_ms: int) -> list[Row]:
        if key.is_funding:
            rates = await asked(lambda: self._rest.funding_rates(key.symbol, start_ms, end_ms))
            return _rows(rates, lambda row: (int(row["fundingTime"]), [str(row["fundingRate"])]))
        interval = BINANCE_INTERVALS[key.interval]
        return _rows(await asked(lambda: self._rest.klines(key.symbol, interval, start_ms, end_ms)), _bar)


async def past_blocks(
    source: PastSource, key: SeriesKey, start_ms: int, end_ms: int, rows_at_once: int = ROWS_AT_ONCE
) -> AsyncIterator[Block]:
    """The rows of all pages, some thousand at once. What came before an error is given first. Raises as
    :meth:`PastSource.pages`."""
    waiting: list[Row] = []
    count = 0
    try:
        async for page in source.pages(key, start_ms, end_ms):
            waiting += page
            if len(waiting) >= rows_at_once:
                yield _block(key, waiting, count)
                count += len(waiting)
                waiting = []
    except VenueError:
        if waiting:
            yield _block(key, waiting, count)
        raise
    if waiting:
        yield _block(key, waiting, count)


async def asked(question: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
    """The answer, after some attempts. Raises VenueError when none brings one."""
    for attempt in range(1, ATTEMPTS):
        try:
            return await question()
        except VenueRefusal:
            raise
        except VenueError as error:
            pause = FIRST_PAUSE_SECONDS * 2**attempt
            log.warning("asked again in %g s: %s", pause, error)
            await asyncio.sleep(pause)
    return await question()


def _rows(answers: Sequence[Any], row_of: Callable[[Any], Row]) -> list[Row]:
    try:
        return [row_of(answer) for answer in answers]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise VenueError(f"a row cannot be read: {type(error).__name__}: {error}") from None


def _bar(row: Any) -> Row:
    return int(row[0]), [str(row[place]) for place in range(1, len(PRICES) + 2)]


def _mark_bar(row: Any) -> Row:
    return int(row[0]), [str(row[place]) for place in range(1, len(PRICES) + 1)]


def _block(key: SeriesKey, rows: Sequence[Row], before: int) -> Block:
    """In the order of time; a row's number is its place in what was fetched."""
    ordered = sorted(rows, key=lambda row: row[0])
    times = np.array([at for at, _ in ordered], dtype=np.int64)
    names = (RATE,) if key.is_funding else (*PRICES, VOLUME)[: len(ordered[0][1])]
    cells = list(zip(*(values for _, values in ordered), strict=True))
    numbers = np.arange(before + 1, before + len(ordered) + 1, dtype=np.int64)
    return Block(numbers, {TIME: times, **dict(zip(names, cells, strict=True))}, is_time_ms=True)
