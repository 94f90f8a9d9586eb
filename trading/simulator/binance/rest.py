"""Binance's public REST side: weights, refusals, injected faults, and the endpoints behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from trading.simulator.binance.endpoints import Call, Endpoint
from trading.simulator.binance.errors import BinanceError
from trading.simulator.binance.products import Product, Spot
from trading.simulator.binance.weights import RequestWeights, Verdict
from trading.simulator.faults.answers import garbage, lost
from trading.simulator.faults.engine import Faults

UNKNOWN, TOO_MUCH = -1000, -1003


class RestApi:
    """The endpoints of one product, with its own account of weights."""

    def __init__(
        self,
        product: Product,
        endpoints: Mapping[str, Endpoint],
        weights: RequestWeights,
        faults: Faults,
        clock: Callable[[], int],
    ) -> None:
        self._product, self._endpoints, self._weights, self._faults = product, endpoints, weights, faults
        self._clock = clock

    def register(self, application: web.Application) -> None:
        for path, endpoint in self._endpoints.items():
            application.router.add_get(path, self._handler(path, endpoint))

    def _handler(self, path: str, endpoint: Endpoint) -> Any:
        async def handle(request: web.Request) -> web.Response:
            now = self._clock()
            verdict = self._weights.spend(request.remote or "", endpoint.weight(request.query), now)
            headers = {"X-MBX-USED-WEIGHT-1M": str(verdict.used)}
            if self._product.NAME == Spot.NAME:
                headers["X-MBX-USED-WEIGHT"] = str(verdict.used)
            if verdict.status != web.HTTPOk.status_code:
                headers["Retry-After"] = str(verdict.retry_after_s)
                return _answer(self._refusal(verdict), headers)
            response = self._answered(request, endpoint, headers)
            return await self._struck(request, path, response, headers) if self._faults.on_requests else response

        return handle

    def _answered(self, request: web.Request, endpoint: Endpoint, headers: Mapping[str, str]) -> web.Response:
        try:
            call = Call(self._product, request.query, self._weights.limit, self._clock())
            return _answer(endpoint.answer(call), headers)
        except BinanceError as error:
            return _answer(error, headers)

    def _refusal(self, verdict: Verdict) -> BinanceError:
        if verdict.status == web.HTTPTooManyRequests.status_code:
            what = f"Too much request weight used; current limit is {self._weights.limit} request weight per 1 MINUTE."
            advice = "Please use WebSocket Streams for live updates to avoid polling the API."
        else:
            what = f"Way too much request weight used; IP banned until {verdict.banned_until_ms}."
            advice = "Please use WebSocket Streams for live updates to avoid bans."
        return BinanceError(TOO_MUCH, f"{what} {advice}", verdict.status)

    async def _struck(
        self, request: web.Request, path: str, response: web.Response, headers: Mapping[str, str]
    ) -> web.Response:
        """Let the rules for a path spoil its answer. Nothing is changed by these endpoints, so kinds that tell whether
        a request was done look alike."""
        faults = self._faults.request(path, None)
        if faults is None:
            return response
        if faults.delay_ms:
            await asyncio.sleep(faults.delay_ms / 1000)
        rule = faults.outcome
        if rule is None:
            return response
        if rule.kind in ("lose_answer", "lose_request"):
            return lost(request)
        if rule.kind == "garbage":
            return garbage(str(rule.value), bytes(response.body) if isinstance(response.body, bytes) else b"")
        if rule.kind == "http_status":
            return _answer(BinanceError(UNKNOWN, "An unknown error occurred.", int(rule.value or 0)), headers)
        if rule.kind == "ret_code":
            return _answer(BinanceError(int(rule.value or 0), rule.message or "injected fault", 400), headers)
        return response


def _answer(body: Any, headers: Mapping[str, str]) -> web.Response:
    if isinstance(body, BinanceError):
        refusal = orjson.dumps({"code": body.code, "msg": body.message})
        return web.Response(body=refusal, status=body.status, content_type="application/json", headers=headers)
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers=headers)
