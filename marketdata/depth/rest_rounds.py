"""Books by REST, one symbol after the other, once a minute: within the venue's weights, whatever single symbols do."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from marketdata.depth.book_reading import BookReadingError, DepthBook, read_depth
from marketdata.depth.snapshots import MINUTE, Market, minute_of
from marketdata.feeds.binance_rest import BinanceRest, UnknownSymbol
from marketdata.feeds.protocol import VenueError

log = logging.getLogger(__name__)

LEVELS = 500
SPACING_SECONDS = 0.3
RETRIES = 3
FIRST_BACK_OFF = 0.5
# A symbol that a market does not list may be listed later.
UNLISTED_SECONDS = 3_600.0

OnBook = Callable[[Market, str, DepthBook, float], Awaitable[None]]


class RestRounds:
    """One market's round over its symbols, again and again. ``on_book`` hears of each book, with the time at which it
    came (seconds since 1970); of each symbol once a minute."""

    def __init__(self, market: Market, rest: BinanceRest, on_book: OnBook, *, spacing: float = SPACING_SECONDS) -> None:
        self.market, self._rest, self._on_book, self._spacing = market, rest, on_book, spacing
        self.symbols: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._collected: dict[str, int] = {}
        self._unlisted: dict[str, float] = {}
        self.failures: dict[str, str] = {}
        self.counts = {"requests": 0, "ok": 0, "failed": 0, "rounds": 0}
        # Since when there are symbols.
        self.began = time.time()
        self.last_collected: float | None = None
        self.request_seconds: float | None = None

    def follow(self, symbols: frozenset[str]) -> None:
        """Collect these from now on; new ones are asked for at once."""
        if symbols and not self.symbols:
            self.began = time.time()
        self.symbols = symbols
        self._changed.set()

    async def run(self) -> None:
        """Begin a round with each minute; one that takes longer is followed at once by the next."""
        while True:
            began = time.time()
            self._changed.clear()
            await self.round()
            left = began // MINUTE * MINUTE + MINUTE - time.time()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(left, self._spacing)):
                    await self._changed.wait()

    async def round(self) -> None:
        """Ask for each symbol once. A symbol that fails is left for the next round."""
        now = time.monotonic()
        self._unlisted = {symbol: until for symbol, until in self._unlisted.items() if until > now}
        for symbol in sorted(self.symbols):
            if symbol not in self.symbols or symbol in self._unlisted:
                continue
            if self._collected.get(symbol) == minute_of(time.time()):
                continue
            began = time.monotonic()
            await self._collect(symbol)
            await asyncio.sleep(max(0.0, self._spacing - (time.monotonic() - began)))
        self.failures = {symbol: why for symbol, why in self.failures.items() if symbol in self.symbols}
        self.counts["rounds"] += 1

    def status(self) -> dict[str, Any]:
        return {
            **self.counts,
            "symbols": len(self.symbols),
            "last_collection": self.last_collected,
            "latency_ms": None if self.request_seconds is None else round(self.request_seconds * 1000, 1),
            "began": self.began,
            "unlisted": sorted(self._unlisted),
            "used_weight": self._rest.budget.used,
            "failing": dict(sorted(self.failures.items())[:20]),
        }

    async def _collect(self, symbol: str) -> None:
        for attempt in range(RETRIES + 1):
            self.counts["requests"] += 1
            began = time.monotonic()
            try:
                book = read_depth(await self._rest.depth(symbol, LEVELS), LEVELS)
                moment, self.request_seconds = time.time(), time.monotonic() - began
            except (VenueError, BookReadingError) as error:
                self.counts["failed"] += 1
                self.failures[symbol] = str(error)[:200]
                if isinstance(error, UnknownSymbol):
                    self._unlisted[symbol] = time.monotonic() + UNLISTED_SECONDS
                    return
                if attempt < RETRIES:
                    # What the venue's limits ask for is waited for by the budget itself.
                    await asyncio.sleep(FIRST_BACK_OFF * 2**attempt * random.uniform(0.5, 1.0))
                continue
            self.counts["ok"] += 1
            self.failures.pop(symbol, None)
            self.last_collected = moment
            self._collected[symbol] = minute_of(moment)
            await self._heard(symbol, book, moment)
            return
        log.warning("%s %s was not collected: %s", self.market, symbol, self.failures[symbol])

    async def _heard(self, symbol: str, book: DepthBook, moment: float) -> None:
        try:
            await self._on_book(self.market, symbol, book, moment)
        except Exception:  # whatever a book leads to, the round goes on
            log.exception("the book of %s %s could not be used", self.market, symbol)
