"""The REST side: envelopes, signatures, limits, faults - around each endpoint, which is a small function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from multidict import CIMultiDict

from trading.simulator import rest_market, rest_private
from trading.simulator.clerk import Answer, Clerk, Work, parsed_body
from trading.simulator.faults.answers import bare_status, garbage, lost
from trading.simulator.limits import AddressLimits
from trading.simulator.signatures import Authority
from trading.simulator.venue import Venue

MAX_BODY = 64 * 1024
# The paths that a fault rule may name.
ENDPOINTS = frozenset({*rest_market.ENDPOINTS, *rest_private.QUERIES, *rest_private.COMMANDS})
SERVER_TIME = "/v5/market/time"
JSON_TYPE = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RestApi:
    """Routes for one venue; ``addresses`` counts requests by address where that is asked for."""

    def __init__(
        self, venue: Venue, authority: Authority, clerk: Clerk, addresses: AddressLimits | None = None
    ) -> None:
        self._venue, self._authority, self._clerk, self._addresses = venue, authority, clerk, addresses

    def register(self, application: web.Application) -> None:
        for path, public in rest_market.ENDPOINTS.items():
            application.router.add_get(path, self._public(path, public))
        for path, query in rest_private.QUERIES.items():
            application.router.add_get(path, self._signed(path, query))
        for path, command in rest_private.COMMANDS.items():
            application.router.add_post(path, self._signed(path, command))
        # Behind everything else below /v5, the websockets too: more of a path fits before less of it does.
        application.router.add_route("*", "/v5/{rest:.*}", self._astray)

    async def _astray(self, request: web.Request) -> web.StreamResponse:
        """An unknown path, or a known one by another method."""
        now = self._venue.clock()
        if self._addresses is not None and not self._addresses.admits_request(request.remote, now):
            return bare_status(403)
        if request.path in ENDPOINTS:
            return bare_status(400)
        found = envelope(10017, "Route not found", {}, now)
        found.set_status(404)
        return found

    def _public(self, path: str, answer: Callable[[Venue, Mapping[str, str]], Any]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            def work(skew_ms: int) -> Answer:
                now = self._venue.clock() + skew_ms
                if skew_ms and path == SERVER_TIME:
                    return Answer(
                        0, "OK", {"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)}, None, now
                    )
                return self._clerk.done(lambda: answer(self._venue, fields_of(raw_query(request))), None, now)

            return await self._answered(request, path, None, work)

        return handle

    def _signed(self, path: str, endpoint: rest_private.Endpoint) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            is_post = request.method == "POST"
            raw = await request.read() if is_post else raw_query(request).encode(errors="surrogateescape")

            def work(skew_ms: int) -> Answer:
                return self._clerk.signed(
                    path,
                    endpoint,
                    lambda now: self._authority.user_of(request.headers, raw, now),
                    lambda: parsed_body(raw) if is_post else (fields_of(raw_query(request)), None),
                    skew_ms,
                )

            return await self._answered(request, path, self._authority.claimed_user(request.headers), work)

        return handle

    async def _answered(self, request: web.Request, path: str, user: str | None, work: Work) -> web.StreamResponse:
        if self._addresses is not None and not self._addresses.admits_request(request.remote, self._venue.clock()):
            return bare_status(403)
        if request.method == "GET" and request.body_exists:
            return bare_status(403)  # Bybit's front does not let a GET with a body through, an empty object neither
        faults = self._clerk.faults(path, user)
        if faults is None:
            return response(work(0))
        answer, kind, value = await self._clerk.spoilt(path, user, work, faults)
        if kind == "http_status":
            return bare_status(int(value or 0))
        if answer is None:
            return lost(request)
        if kind == "garbage":
            return garbage(str(value), body_of(answer))
        return response(answer)


def raw_query(request: web.Request) -> str:
    """The query string as it stands in the request line, which is what was signed."""
    return request.raw_path.partition("?")[2]


def fields_of(query: str) -> dict[str, str]:
    if not query.isascii():
        query = query.encode(errors="replace").decode()  # an answer that names it must be writable
    return dict(parse_qsl(query, keep_blank_values=True)) if query else {}


def envelope(code: int, message: str, result: Any, time_ms: int) -> web.Response:
    return response(Answer(code, message, result, None, time_ms))


def body_of(answer: Answer) -> bytes:
    body = {
        "retCode": answer.code,
        "retMsg": answer.message,
        "result": answer.result,
        "retExtInfo": answer.details,
        "time": answer.time_ms,
    }
    return orjson.dumps(body)


def response(answer: Answer) -> web.Response:
    headers: CIMultiDict[str] = CIMultiDict({"Content-Type": JSON_TYPE, **answer.limit_headers})
    return web.Response(body=body_of(answer), headers=headers)
