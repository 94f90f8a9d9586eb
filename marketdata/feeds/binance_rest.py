"""Binance's public REST: what is listed, and snapshots of books, within the weight that an address may use."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

import aiohttp
import orjson

from marketdata.feeds.protocol import OpenGate, RestAnswer, RestGate, VenueBest, VenueError, VenueRefusal

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
CONCURRENT_REQUESTS = 2
MINUTE_SECONDS = 60.0
# The rest is for others at the same address.
USABLE_SHARE = 0.8
DEFAULT_RETRY_SECONDS = 60.0
TOO_MANY_REQUESTS, BANNED = 429, 418
USED_WEIGHT = "X-MBX-USED-WEIGHT-1M"


@dataclass(frozen=True, slots=True)
class BinanceMarket:
    """One of Binance's markets: where its listing and snapshots are, how deep, what they weigh of how much a minute."""

    name: str
    listing_path: str
    listing_weight: int
    depth_path: str
    snapshot_limit: int
    snapshot_weight: int
    best_limit: int
    best_weight: int
    weight_a_minute: int


SPOT = BinanceMarket("spot", "/api/v3/exchangeInfo", 20, "/api/v3/depth", 1_000, 50, 5, 5, 6_000)
USDM = BinanceMarket("usdm", "/fapi/v1/exchangeInfo", 1, "/fapi/v1/depth", 1_000, 20, 5, 2, 2_400)
MARKETS = {market.name: market for market in (SPOT, USDM)}
# What a book of at most so many levels a side weighs.
DEPTH_WEIGHTS = {
    SPOT.name: {100: 5, 500: 25, 1_000: 50, 5_000: 250},
    USDM.name: {50: 2, 100: 5, 500: 10, 1_000: 20},
}
MOST_KLINES, MOST_RATES = 1_000, 1_000
# Path and weight of so many klines.
KLINES = {SPOT.name: ("/api/v3/klines", 2), USDM.name: ("/fapi/v1/klines", 5)}
FUNDING_PATH, FUNDING_WEIGHT = "/fapi/v1/fundingRate", 1
# Binance's code for a symbol that the market does not list.
UNKNOWN_SYMBOL = b'"code":-1121'


class UnknownSymbol(VenueRefusal):
    """The market does not list the symbol: asking again brings nothing."""


class WeightBudget:
    """Says how long to wait before a request: what the venue counted in this minute, and what it forbade.

    ``now`` is a clock in seconds since 1970: the venue's minutes are those of the calendar.
    """

    def __init__(self, weight_a_minute: int) -> None:
        self._usable = int(weight_a_minute * USABLE_SHARE)
        self._minute, self.used = 0, 0
        self._closed_until = 0.0

    def delay(self, weight: int, now: float) -> float:
        """Seconds until a request of this weight may leave; 0 takes the weight at once."""
        if now < self._closed_until:
            return self._closed_until - now
        self._turn(now)
        if self.used and self.used + weight > self._usable:
            return (self._minute + 1) * MINUTE_SECONDS - now
        self.used += weight
        return 0.0

    def counted(self, used: int, now: float) -> None:
        """The venue's own count; requests that are under way are in ours alone."""
        self._turn(now)
        self.used = max(self.used, used)

    def close(self, seconds: float, now: float) -> None:
        """The venue refuses everything for so long."""
        self._closed_until = max(self._closed_until, now + seconds)

    def _turn(self, now: float) -> None:
        minute = int(now // MINUTE_SECONDS)
        if minute != self._minute:
            self._minute, self.used = minute, 0


class BinanceRest:
    """Use from one event loop, and close it there. Every question waits until the budget lets it pass,
    then passes the ``gate``, which knows of the other processes at this address."""

    def __init__(self, url: str, market: BinanceMarket, gate: RestGate | None = None) -> None:
        self._url, self.market = url.rstrip("/"), market
        self._shared_gate = gate or OpenGate()
        self.budget = WeightBudget(market.weight_a_minute)
        self._gate = asyncio.Semaphore(CONCURRENT_REQUESTS)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def grids(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Tick and lot size of every symbol that is listed."""
        path = self.market.listing_path
        body = await self._ask(path, {}, self.market.listing_weight)
        found = {}
        try:
            for row in orjson.loads(body)["symbols"]:
                filters = {each["filterType"]: each for each in row["filters"]}
                tick, lot = filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]
                found[str(row["symbol"])] = Decimal(tick), Decimal(lot)
        except (ValueError, KeyError, TypeError, InvalidOperation) as error:
            raise VenueError(f"{path}: {type(error).__name__}: {error}") from None
        return found

    async def snapshot(self, symbol: str) -> bytes:
        """The book as it came, to be taken by a book itself."""
        return await self._depth(symbol, self.market.snapshot_limit, self.market.snapshot_weight)

    def snapshot_url(self, symbol: str) -> str:
        """Where :meth:`snapshot` asks, for recordings."""
        return f"{self._url}{self.market.depth_path}?symbol={symbol}&limit={self.market.snapshot_limit}"

    async def best_prices(self, symbol: str) -> VenueBest:
        """Its number is ``lastUpdateId``."""
        body = await self._depth(symbol, self.market.best_limit, self.market.best_weight)
        try:
            answer = orjson.loads(body)
            return VenueBest(int(answer["lastUpdateId"]), str(answer["bids"][0][0]), str(answer["asks"][0][0]))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise VenueError(f"depth of {symbol}: {type(error).__name__}: {error}") from None

    async def depth(self, symbol: str, limit: int) -> bytes:
        """A book of at most so many levels a side, as it came.

        Raises:
            UnknownSymbol: the market does not list it.
        """
        weights = DEPTH_WEIGHTS[self.market.name]
        weight = next(weight for most, weight in weights.items() if limit <= most)
        return await self._depth(symbol, limit, weight)

    async def klines(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[Any]:
        """The oldest 1,000 bars that start in ``[start_ms, end_ms)``, the oldest first, as the venue wrote them. Raises
        as :meth:`depth`."""
        path, weight = KLINES[self.market.name]
        fields = {"symbol": symbol, "interval": interval, "limit": str(MOST_KLINES)}
        return await self._list(path, fields, start_ms, end_ms, weight)

    async def funding_rates(self, symbol: str, start_ms: int, end_ms: int) -> list[Any]:
        """The oldest 1,000 rates of ``[start_ms, end_ms)``, the oldest first, as the venue wrote them; of USD-M. Raises
        as :meth:`depth`."""
        fields = {"symbol": symbol, "limit": str(MOST_RATES)}
        return await self._list(FUNDING_PATH, fields, start_ms, end_ms, FUNDING_WEIGHT)

    async def _list(self, path: str, fields: Mapping[str, str], start_ms: int, end_ms: int, weight: int) -> list[Any]:
        body = await self._ask(path, {**fields, "startTime": str(start_ms), "endTime": str(end_ms - 1)}, weight)
        try:
            found = orjson.loads(body)
        except ValueError as error:
            raise VenueError(f"{path}: {error}") from None
        if not isinstance(found, list):
            raise VenueError(f"{path}: {type(found).__name__}; expected a list")
        return found

    async def _depth(self, symbol: str, limit: int, weight: int) -> bytes:
        return await self._ask(self.market.depth_path, {"symbol": symbol, "limit": str(limit)}, weight)

    async def _ask(self, path: str, fields: Mapping[str, str], weight: int) -> bytes:
        async with self._gate:
            while (delay := self.budget.delay(weight, time.time())) > 0:
                log.info("a request for %s %s waits %.1f s for Binance's limits", path, fields, delay)
                await asyncio.sleep(delay)
            return await self._get(path, fields)

    async def _get(self, path: str, fields: Mapping[str, str]) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        try:
            answer = await self._shared_gate.ask(partial(self._fetch, self._session, path, fields))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise VenueError(f"{path}: {type(error).__name__}: {error}") from error
        if answer.status == 400 and UNKNOWN_SYMBOL in answer.body:
            raise UnknownSymbol(f"{path}: {self.market.name} does not list {fields.get('symbol')}")
        if answer.status != 200:
            raise VenueError(f"{path}: HTTP {answer.status}: {answer.body[:200].decode(errors='replace')}")
        return answer.body

    async def _fetch(self, session: aiohttp.ClientSession, path: str, fields: Mapping[str, str]) -> RestAnswer:
        async with session.get(f"{self._url}{path}", params=fields) as response:
            self._obey(response)
            return RestAnswer(response.status, response.headers, await response.read())

    def _obey(self, response: aiohttp.ClientResponse) -> None:
        """Take over the venue's own count, and stop when it says so."""
        now = time.time()
        used = response.headers.get(USED_WEIGHT, "")
        if used.isdecimal():
            self.budget.counted(int(used), now)
        if response.status in (TOO_MANY_REQUESTS, BANNED):
            told = response.headers.get("Retry-After", "")
            seconds = float(told) if told.isdecimal() else DEFAULT_RETRY_SECONDS
            log.error("Binance refuses requests for %g s (HTTP %d)", seconds, response.status)
            self.budget.close(seconds, now)
