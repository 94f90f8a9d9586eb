"""As much of Bybit as an engine asks for, on one loopback port: plays prepared books at a given rate when told to.

``python -m benchmarks.engine.load_venue`` prints its port. ``/play?rate=R&messages=N&times=FILE`` sends N book messages
of all symbols in turns, after each tenth of a symbol a trade and a ticker, and answers with the seconds that took; the
file (numpy) has when each of the N left, in ns since 1970. A book's snapshot comes with its subscription, and again
when its prepared frames are at their end, which is not at the same time for all.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.engine import streams
from benchmarks.engine.load_server import FRAMES_A_SYMBOL, SYMBOLS, framed, played

LISTINGS = [streams.alike(index) for index in range(SYMBOLS)]
PLACES = {listing.symbol: place for place, listing in enumerate(LISTINGS)}
BETWEEN_OTHERS = 10


def listed(listing: streams.Listing) -> dict[str, Any]:
    """Its row of ``instruments-info``."""
    lot = listing.lot_size
    return {
        "symbol": listing.symbol,
        "status": "Trading",
        "baseCoin": listing.symbol.removesuffix("USDT"),
        "quoteCoin": "USDT",
        "settleCoin": "USDT",
        "fundingInterval": 480,
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": listing.tick_size, "maxPrice": "1000000", "tickSize": listing.tick_size},
        "lotSizeFilter": {"maxOrderQty": "1000", "maxMktOrderQty": "200", "minOrderQty": lot, "qtyStep": lot},
    }


def others(symbol: str) -> bytes:
    """A trade and a ticker, as they go over the wire."""
    row = {"T": 1_786_310_818_000, "s": symbol, "S": "Buy", "v": "0.010", "p": "65114.00", "L": "PlusTick", "i": "1"}
    trade = {"topic": f"publicTrade.{symbol}", "type": "snapshot", "ts": 1_786_310_818_000, "data": [row]}
    data = {"symbol": symbol, "lastPrice": "65114.00", "markPrice": "65114.10", "indexPrice": "65114.20"}
    ticker = {"topic": f"tickers.{symbol}", "type": "delta", "data": data, "cs": 1, "ts": 1_786_310_818_000}
    return b"".join(framed(json.dumps(each, separators=(",", ":")).encode()) for each in (trade, ticker))


class LoadVenue:
    def __init__(self) -> None:
        self._frames = [
            [framed(frame) for frame in frames[: FRAMES_A_SYMBOL - 2 * place]]
            for place, frames in enumerate(played().values())
        ]
        self._others = [others(listing.symbol) for listing in LISTINGS]
        self._wanted: dict[str, asyncio.Transport] = {}
        # Book messages so far, with the snapshots: streams go on where they stopped.
        self._sent = SYMBOLS

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/v5/market/instruments-info", self._instruments)
        application.router.add_get("/v5/market/kline", self._klines)
        application.router.add_get("/v5/public/linear", self._socket)
        application.router.add_get("/subscribed", self._subscribed)
        application.router.add_get("/play", self._play)
        return application

    async def _instruments(self, request: web.Request) -> web.Response:
        return _answer({"category": "linear", "list": [listed(each) for each in LISTINGS], "nextPageCursor": ""})

    async def _klines(self, request: web.Request) -> web.Response:
        return _answer({"category": "linear", "list": []})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        assert request.transport is not None
        async for message in socket:
            asked = json.loads(message.data)
            await socket.send_json({"success": True, "ret_msg": "", "op": asked["op"]})
            for topic in asked.get("args", ()):
                if topic.startswith("orderbook."):
                    symbol = topic.rpartition(".")[2]
                    self._wanted[symbol] = request.transport
                    request.transport.write(self._frames[PLACES[symbol]][0])
        return socket

    async def _subscribed(self, request: web.Request) -> web.Response:
        return web.json_response(len(self._wanted))

    async def _play(self, request: web.Request) -> web.Response:
        rate, messages = float(request.query["rate"]), int(request.query["messages"])
        times = np.zeros(messages, dtype=np.int64)
        targets = [self._wanted[listing.symbol] for listing in LISTINGS]
        frames, others = self._frames, self._others
        start, sent, began = self._sent, 0, time.perf_counter()
        while sent < messages:
            due = min(int((time.perf_counter() - began) * rate), messages)
            parts: dict[asyncio.Transport, list[bytes]] = {}
            for number in range(start + sent, start + due):
                turn, symbol = divmod(number, SYMBOLS)
                chunks = parts.setdefault(targets[symbol], [])
                chunks.append(frames[symbol][turn % len(frames[symbol])])
                if turn % BETWEEN_OTHERS == 0:
                    chunks.append(others[symbol])
            times[sent:due] = time.time_ns()
            for transport, chunks in parts.items():
                transport.write(b"".join(chunks))
            sent = max(due, sent)
            await asyncio.sleep(0.001)
        self._sent += messages
        np.save(request.query["times"], times)
        return web.json_response(time.perf_counter() - began)


def _answer(result: dict[str, Any]) -> web.Response:
    return web.json_response({"retCode": 0, "retMsg": "OK", "result": result})


async def main() -> None:
    runner = web.AppRunner(LoadVenue().application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
