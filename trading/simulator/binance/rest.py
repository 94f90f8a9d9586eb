"""Binance's public REST side: weights, refusals, injected faults, and the endpoints behind them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from trading.simulator.binance.endpoints import Call, Endpoint
from trading.simulator.binance.errors import BinanceError
from trading.simulator.binance.products import Product, Spot
from trading.simulator.binance.weights import RequestWeights, Verdict
from trading.simulator.faults import Fault, Faults

TOO_MUCH = -1003


class RestApi:
    """The endpoints of one product, with its own account of weights."""

    def __init__(
        self, product: Product, endpoints: Mapping[str, Endpoint], weights: RequestWeights, faults: Faults
    ) -> None:
        self._product, self._endpoints, self._weights, self._faults = product, endpoints, weights, faults

    def register(self, application: web.Application) -> None:
        for path, endpoint in self._endpoints.items():
            application.router.add_get(path, self._handler(path, endpoint))

    def _handler(self, path: str, endpoint: Endpoint) -> Any:
        async def handle(request: web.Request) -> web.Response:
            now = time.time_ns() // 1_000_000
            verdict = self._weights.spend(request.remote or "", endpoint.weight(request.query), now)
            headers = {"X-MBX-USED-WEIGHT-1M": str(verdict.used)}
            if self._product.NAME == Spot.NAME:
                headers["X-MBX-USED-WEIGHT"] = str(verdict.used)
            if verdict.status != web.HTTPOk.status_code:
                headers["Retry-After"] = str(verdict.retry_after_s)
                return _answer(self._refusal(verdict), headers)
            fault = self._faults.next(path)
            if fault is not None:
                refusal = await self._struck(request, fault)
                if refusal is not None:
                    return _answer(refusal, headers)
            try:
                call = Call(self._product, request.query, self._weights.limit, time.time_ns() // 1_000_000)
                return _answer(endpoint.answer(call), headers)
            except BinanceError as error:
                return _answer(error, headers)

        return handle

    def _refusal(self, verdict: Verdict) -> BinanceError:
        if verdict.status == web.HTTPTooManyRequests.status_code:
            what = f"Too much request weight used; current limit is {self._weights.limit} request weight per 1 MINUTE."
            advice = "Please use WebSocket Streams for live updates to avoid polling the API."
        else:
            what = f"Way too much request weight used; IP banned until {verdict.banned_until_ms}."
            advice = "Please use WebSocket Streams for live updates to avoid bans."
        return BinanceError(TOO_MUCH, f"{what} {advice}", verdict.status)

    async def _struck(self, request: web.Request, fault: Fault) -> BinanceError | None:
        """Let a fault happen; None lets the request go on."""
        if fault.kind == "delay":
            await asyncio.sleep(fault.value)
            return None
        if fault.kind == "lose_answer" and request.transport is not None:
            request.transport.abort()
        status = int(fault.value) if fault.kind == "http_status" else 400
        code = int(fault.value) if fault.kind == "ret_code" else -1000
        return BinanceError(code, "injected fault", status)


def _answer(body: Any, headers: Mapping[str, str]) -> web.Response:
    if isinstance(body, BinanceError):
        refusal = orjson.dumps({"code": body.code, "msg": body.message})
        return web.Response(body=refusal, status=body.status, content_type="application/json", headers=headers)
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers=headers)
