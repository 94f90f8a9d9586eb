"""The REST side: envelopes, signatures, limits - and each endpoint as a small function."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from trading.simulator import rest_market, rest_private
from trading.simulator.errors import ApiError
from trading.simulator.faults import Fault
from trading.simulator.signatures import Authority, RateLimits
from trading.simulator.venue import Venue, now_ms

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024


class RestApi:
    """Routes for one venue."""

    def __init__(self, venue: Venue, authority: Authority) -> None:
        self._venue, self._authority, self._limits = venue, authority, RateLimits()

    def register(self, application: web.Application) -> None:
        for path, public in rest_market.ENDPOINTS.items():
            application.router.add_get(path, self._public(path, public))
        for path, query in rest_private.QUERIES.items():
            application.router.add_get(path, self._signed(path, query))
        for path, command in rest_private.COMMANDS.items():
            application.router.add_post(path, self._signed(path, command))

    def _public(self, path: str, answer: Callable[[Venue, Mapping[str, str]], Any]) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            fault = self._venue.faults.next(path)
            return await self._answered(request, fault, lambda: answer(self._venue, request.query), {})

        return handle

    def _signed(self, path: str, answer: Callable[[Venue, str, Mapping[str, Any]], Any]) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            raw = await request.read() if request.method == "POST" else request.query_string.encode()
            headers: dict[str, str] = {}

            def work() -> Any:
                now = now_ms()
                user = self._authority.user_of(request.headers, raw_query(request, raw), now)
                limit, remaining, reset = self._limits.take(user, path, now)
                headers["X-Bapi-Limit"] = str(limit)
                headers["X-Bapi-Limit-Status"] = str(max(0, remaining))
                headers["X-Bapi-Limit-Reset-Timestamp"] = str(reset)
                if remaining < 0:
                    raise ApiError(10006, "Too many visits. Exceeded the API Rate Limit.")
                fields = parsed_body(raw) if request.method == "POST" else dict(request.query)
                return answer(self._venue, user, fields)

            return await self._answered(request, self._venue.faults.next(path), work, headers)

        return handle

    async def _answered(
        self, request: web.Request, fault: Fault | None, work: Callable[[], Any], headers: dict[str, str]
    ) -> web.StreamResponse:
        if fault is not None and fault.kind == "http_status":
            return web.Response(status=int(fault.value), text="injected fault")
        if fault is not None and fault.kind == "ret_code":
            return envelope(int(fault.value), "injected fault", {}, headers)
        try:
            result = work()
            code, message = 0, "OK"
        except ApiError as error:
            result, code, message = {}, error.code, error.message
        # Written down before it is answered, told to the streams after it.
        self._venue.remember()
        asyncio.get_running_loop().call_later(0.001, self._venue.settle)
        if fault is not None and fault.kind == "lose_answer":
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.value)
        return envelope(code, message, result, headers)


def raw_query(request: web.Request, raw: bytes) -> str:
    """What was signed: the raw body, or the query string as it stands in the request line."""
    if request.method == "POST":
        return raw.decode(errors="replace")
    return request.raw_path.partition("?")[2]


def parsed_body(raw: bytes) -> Mapping[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError(10001, f"Request parameter error: the body is not JSON ({error}).") from None
    if not isinstance(body, dict):
        raise ApiError(10001, "Request parameter error: the body must be a JSON object.")
    return body


def envelope(code: int, message: str, result: Any, headers: Mapping[str, str]) -> web.Response:
    extra = {"list": result.codes} if isinstance(result, rest_private.Batch) else {}
    body = {"retCode": code, "retMsg": message, "result": result, "retExtInfo": extra, "time": now_ms()}
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers=headers)
