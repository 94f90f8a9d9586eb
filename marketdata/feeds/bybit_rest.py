"""Bybit's public REST: what is listed, and the candles of the past."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

import aiohttp
import orjson

from marketdata.events import Candle
from marketdata.feeds.protocol import OpenGate, RestAnswer, RestGate, VenueError, VenueRefusal
from marketdata.instruments import InstrumentError, InstrumentRules, rules_from_bybit

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
MAX_PAGES = 20
MOST_CANDLES, MOST_RATES = 1_000, 200
# Parameters that are none: an unknown symbol, too.
PARAMETER_ERROR = 10001


class BybitPublicRest:
    """Use from one event loop, and close it there. Every question passes the ``gate``."""

    def __init__(self, url: str, gate: RestGate | None = None) -> None:
        self._url = url.rstrip("/")
        self._gate = gate or OpenGate()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def server_time_ms(self) -> int:
        answer = await self._ask("/v5/market/time", {})
        return int(answer["timeNano"]) // 1_000_000

    async def instruments(self, category: str) -> list[InstrumentRules]:
        """Everything the venue lists; a row that cannot be understood is left out and told."""
        found: list[InstrumentRules] = []
        for row in await self.listings(category):
            try:
                found.append(rules_from_bybit(row, category))
            except InstrumentError as error:
                log.warning("instrument left out: %s", error)
        return found

    async def listings(self, category: str) -> list[Any]:
        """The rows of everything the venue lists, as it wrote them."""
        found: list[Any] = []
        cursor = ""
        for _ in range(MAX_PAGES):
            answer = await self._ask(
                "/v5/market/instruments-info", {"category": category, "limit": "1000", "cursor": cursor}
            )
            found += _rows(answer)
            cursor = str(answer.get("nextPageCursor") or "")
            if not cursor:
                return found
        raise VenueError(f"instruments-info: more than {MAX_PAGES} pages")

    async def tickers(self, category: str) -> list[Any]:
        """The tickers of everything, as the venue wrote them."""
        return _rows(await self._ask("/v5/market/tickers", {"category": category}))

    async def klines(self, symbol: str, interval: str, limit: int) -> list[Candle]:
        """The newest ``limit`` candles (at most 1,000), oldest first; the last one is usually still open. The
        venue's clock says which are closed: by ours, a bar that still changes could pass for one that is over."""
        fields = {"category": "linear", "symbol": symbol, "interval": interval, "limit": str(limit)}
        now_ms, answer = await self._ask_when("/v5/market/kline", fields)
        length_ms = {"D": 1_440}.get(interval, 0) * 60_000 or int(interval) * 60_000
        return [_candle(symbol, interval, length_ms, now_ms, row) for row in reversed(_rows(answer))]

    async def past_klines(
        self, category: str, symbol: str, interval: str, start_ms: int, end_ms: int, *, mark: bool = False
    ) -> list[Any]:
        """The newest 1,000 bars that start in ``[start_ms, end_ms)``, the newest first, as the venue wrote them: start
        and prices, and volume and turnover where they are not of the mark price."""
        path = "/v5/market/mark-price-kline" if mark else "/v5/market/kline"
        fields = {"category": category, "symbol": symbol, "interval": interval, "limit": str(MOST_CANDLES)}
        return _rows(await self._ask(path, {**fields, "start": str(start_ms), "end": str(end_ms - 1)}))

    async def funding_rates(self, category: str, symbol: str, start_ms: int, end_ms: int) -> list[Any]:
        """The newest 200 rates of ``[start_ms, end_ms)``, the newest first, as the venue wrote them."""
        fields = {"category": category, "symbol": symbol, "limit": str(MOST_RATES)}
        times = {"startTime": str(start_ms), "endTime": str(end_ms - 1)}
        return _rows(await self._ask("/v5/market/funding/history", {**fields, **times}))

    async def orderbook(self, symbol: str, limit: int) -> Mapping[str, Any]:
        """The venue's own book: ``{s, b, a, ts, u, seq}``, prices and quantities as text."""
        return await self._ask("/v5/market/orderbook", {"category": "linear", "symbol": symbol, "limit": str(limit)})

    async def _ask(self, path: str, fields: Mapping[str, str]) -> Mapping[str, Any]:
        return (await self._ask_when(path, fields))[1]

    async def _ask_when(self, path: str, fields: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        """The result, and when the venue gave it (milliseconds, by its clock; by ours where it does not say)."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        query = {name: value for name, value in fields.items() if value}
        try:
            came = await self._gate.ask(partial(self._get, self._session, path, query))
            if came.status != 200:
                raise VenueError(f"{path}: HTTP {came.status}")
            answer = orjson.loads(came.body)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise VenueError(f"{path}: {type(error).__name__}: {error}") from error
        if not isinstance(answer, Mapping) or answer.get("retCode") != 0:
            text = answer.get("retMsg") if isinstance(answer, Mapping) else type(answer).__name__
            is_final = isinstance(answer, Mapping) and answer.get("retCode") == PARAMETER_ERROR
            raise (VenueRefusal if is_final else VenueError)(f"{path}: {text}")
        result = answer.get("result")
        if not isinstance(result, Mapping):
            raise VenueError(f"{path}: result is {type(result).__name__}; expected an object")
        told = answer.get("time")
        return told if type(told) is int else time.time_ns() // 1_000_000, result

    async def _get(self, session: aiohttp.ClientSession, path: str, query: Mapping[str, str]) -> RestAnswer:
        async with session.get(f"{self._url}{path}", params=query) as response:
            return RestAnswer(response.status, response.headers, await response.read())


def _rows(answer: Mapping[str, Any]) -> list[Any]:
    rows = answer.get("list")
    if not isinstance(rows, list):
        raise VenueError(f"list is {type(rows).__name__}; expected a list")
    return rows


def _candle(symbol: str, interval: str, length_ms: int, now_ms: int, row: Any) -> Candle:
    try:
        start_ms = int(row[0])
        opened, high, low, close, volume, turnover = (Decimal(text) for text in row[1:7])
    except (TypeError, ValueError, IndexError, InvalidOperation) as error:
        raise VenueError(f"kline of {symbol}: {row!r}: {type(error).__name__}") from None
    closed = start_ms + length_ms <= now_ms
    return Candle(symbol, interval, start_ms, opened, high, low, close, volume, turnover, closed)
