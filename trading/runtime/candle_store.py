"""Closed candles into the database: the past fetched once, the present as it closes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import partial

from django.db import Error
from django.db.models import Max
from django.utils import timezone

from marketdata.events import Candle
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.protocol import VenueError
from marketdata.models import Candle as CandleRow
from marketdata.services import candles_store
from trading.runtime.database import ask_database
from trading.runtime.market_plane import INTERVALS

log = logging.getLogger(__name__)

MOST_CANDLES = 1_000
FLUSH_SECONDS = 1.0
CONCURRENT_REQUESTS = 4


class CandleStore:
    """Never lets the market wait for the database: closed candles queue here, and stay until they are stored."""

    def __init__(self, rest: BybitPublicRest, instrument_ids: Mapping[str, int]) -> None:
        self._rest, self._instrument_ids = rest, dict(instrument_ids)
        self._waiting: list[Candle] = []

    def add(self, candle: Candle) -> None:
        if candle.closed:
            self._waiting.append(candle)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        try:
            await ask_database(partial(candles_store, batch, self._instrument_ids))
        except Error as error:
            log.warning("%d candles wait for the database: %s", len(batch), error)
            self._waiting = batch + self._waiting

    async def backfill(self, symbols: Iterable[str], intervals: Iterable[str] = INTERVALS) -> None:
        """Fetch what is missing since the last stored candle, at most 1,000 of each interval."""
        newest = await ask_database(self._newest)
        gate = asyncio.Semaphore(CONCURRENT_REQUESTS)

        async def one(symbol: str, interval: str) -> None:
            limit = missing_candles(newest.get((symbol, interval)), interval)
            if limit:
                async with gate:
                    self._waiting += await self._rest.klines(symbol, interval, limit)
                # A stop must not wait until everything that was ever missing is stored.
                await self.flush()

        results = await asyncio.gather(
            *(one(symbol, interval) for interval in intervals for symbol in symbols), return_exceptions=True
        )
        for result in results:
            if isinstance(result, VenueError):
                log.warning("candles could not be fetched: %s", result)
            elif isinstance(result, BaseException):
                raise result

    async def history(self, symbol: str, interval: str, limit: int) -> list[Candle]:
        """The newest closed candles, oldest first, from the venue itself."""
        candles = await self._rest.klines(symbol, interval, min(MOST_CANDLES, limit + 1))
        return [candle for candle in candles if candle.closed]

    def _newest(self) -> dict[tuple[str, str], int]:
        symbols = {pk: symbol for symbol, pk in self._instrument_ids.items()}
        rows = CandleRow.objects.filter(instrument_id__in=symbols).values_list("instrument_id", "interval")
        return {
            (symbols[pk], interval): int(start.timestamp() * 1000)
            for pk, interval, start in rows.annotate(Max("start"))
        }


def missing_candles(newest_start_ms: int | None, interval: str) -> int:
    """How many candles to ask for: those since the newest stored one and a few more, or all that one request gives."""
    if newest_start_ms is None:
        return MOST_CANDLES
    elapsed_ms = int(timezone.now().timestamp() * 1000) - newest_start_ms
    return min(MOST_CANDLES, elapsed_ms // (int(interval) * 60_000) + 2)
