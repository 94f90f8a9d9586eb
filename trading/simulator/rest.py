"""The REST side: envelopes, signatures, limits, faults - around each endpoint, which is a small function."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from multidict import CIMultiDict

from trading.simulator import rest_market, rest_private
from trading.simulator.errors import ApiError
from trading.simulator.faults.answers import bare_status, garbage, lost
from trading.simulator.faults.engine import RequestFaults
from trading.simulator.limits import SECOND_MS, AddressLimits, RateLimits
from trading.simulator.signatures import Authority
from trading.simulator.venue import Venue, now_ms

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024
# The paths that a fault rule may name.
ENDPOINTS = frozenset({*rest_market.ENDPOINTS, *rest_private.QUERIES, *rest_private.COMMANDS})
SERVER_TIME = "/v5/market/time"
SETTLE_SECONDS = 0.001
JSON_TYPE = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Answer(NamedTuple):
    """What an endpoint said, before it is written as an envelope. ``limits``: the limit, what remains, its reset."""

    code: int
    message: str
    result: Any
    limits: tuple[int, int, int] | None
    time_ms: int


# Does the request with the venue's clock so many ms ahead.
Work = Callable[[int], Answer]


class RestApi:
    """Routes for one venue; ``addresses`` counts requests by address where that is asked for."""

    def __init__(self, venue: Venue, authority: Authority, addresses: AddressLimits | None = None) -> None:
        self._venue, self._authority, self._addresses = venue, authority, addresses
        self._limits = RateLimits()
        self._settling = False

    def register(self, application: web.Application) -> None:
        for path, public in rest_market.ENDPOINTS.items():
            application.router.add_get(path, self._public(path, public))
        for path, query in rest_private.QUERIES.items():
            application.router.add_get(path, self._signed(path, query))
        for path, command in rest_private.COMMANDS.items():
            application.router.add_post(path, self._signed(path, command))

    def _public(self, path: str, answer: Callable[[Venue, Mapping[str, str]], Any]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            def work(skew_ms: int) -> Answer:
                now = now_ms() + skew_ms
                if skew_ms and path == SERVER_TIME:
                    return Answer(
                        0, "OK", {"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)}, None, now
                    )
                return self._done(lambda: answer(self._venue, fields_of(raw_query(request))), None, now)

            return await self._answered(request, path, None, work)

        return handle

    def _signed(self, path: str, answer: Callable[[Venue, str, Mapping[str, Any]], Any]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            is_post = request.method == "POST"
            raw = await request.read() if is_post else raw_query(request).encode(errors="surrogateescape")

            def work(skew_ms: int) -> Answer:
                now = now_ms() + skew_ms
                limits = None
                try:
                    user = self._authority.user_of(request.headers, raw, now)
                    fields, refusal = parsed_body(raw) if is_post else (fields_of(raw_query(request)), None)
                    limits = self._limits.take(user, path, now - skew_ms, category_of(fields))
                    if limits[1] < 0:
                        refusal = ApiError(10006, "Too many visits. Exceeded the API Rate Limit.")
                    if refusal is not None:
                        raise refusal
                except ApiError as error:
                    return Answer(error.code, error.message, {}, limits, now)
                return self._done(lambda: answer(self._venue, user, fields), limits, now)

            return await self._answered(request, path, self._authority.claimed_user(request.headers), work)

        return handle

    def _done(self, work: Callable[[], Any], limits: tuple[int, int, int] | None, now: int) -> Answer:
        code, message, result = 0, "OK", {}
        try:
            result = work()
        except ApiError as error:
            code, message = error.code, error.message
        except Exception:
            # One request that nobody thought of must not look like a broken network.
            log.exception("a request failed")
            code, message = 10016, "Server error."
        exchange = self._venue.exchange
        if exchange.dirty or exchange.changed_orders:
            # Written down before it is answered, told to the streams after it.
            self._venue.remember()
        if (exchange.outbox or exchange.trades) and not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._settle)
        return Answer(code, message, result, limits, now)

    def _settle(self) -> None:
        self._settling = False
        self._venue.settle()

    async def _answered(self, request: web.Request, path: str, user: str | None, work: Work) -> web.StreamResponse:
        if self._addresses is not None and not self._addresses.admits_request(request.remote, now_ms()):
            return bare_status(403)
        faults = self._venue.faults
        spoilt = faults.request(path, user) if faults.on_requests else None
        if spoilt is not None:
            return await self._spoilt(request, path, user, work, spoilt)
        return response(work(0))

    async def _spoilt(
        self, request: web.Request, path: str, user: str | None, work: Work, faults: RequestFaults
    ) -> web.StreamResponse:
        rule = faults.outcome
        kind = rule.kind if rule is not None else ""
        value = rule.value if rule is not None else None
        answer = None
        if kind not in ("lose_request", "http_status", "ret_code"):
            answer = work(faults.skew_ms)
        if kind == "duplicate_delivery":
            again = work(faults.skew_ms)
            answer = again if value == "second" else answer
        if kind == "answer_after_private":
            self._venue.settle()
            await self._venue.hub.drained(user)
            await asyncio.sleep(int(value or 0) / 1000)
        if faults.delay_ms:
            await asyncio.sleep(faults.delay_ms / 1000)
        if kind in ("lose_request", "lose_answer"):
            return lost(request)
        if kind == "http_status":
            return bare_status(int(value or 0))
        if answer is None:
            answer = self._refused(path, user, int(value or 0), rule.message if rule is not None else "")
        if kind == "garbage":
            return garbage(str(value), body_of(answer))
        return response(answer)

    def _refused(self, path: str, user: str | None, code: int, message: str) -> Answer:
        """A retCode that a rule makes up; with 10006 comes the reset that clients wait for."""
        now = now_ms()
        limits = None
        if user is not None:
            limit, remaining, reset = self._limits.take(user, path, now)
            limits = (limit, 0, now + SECOND_MS) if code == 10006 else (limit, remaining, reset)
        return Answer(code, message, {}, limits, now)


def raw_query(request: web.Request) -> str:
    """The query string as it stands in the request line, which is what was signed."""
    return request.raw_path.partition("?")[2]


def fields_of(query: str) -> dict[str, str]:
    if not query.isascii():
        query = query.encode(errors="replace").decode()  # an answer that names it must be writable
    return dict(parse_qsl(query, keep_blank_values=True)) if query else {}


def category_of(fields: Mapping[str, Any]) -> str:
    category = fields.get("category")
    return category if category in ("spot", "option", "inverse") else "linear"


def parsed_body(raw: bytes) -> tuple[Mapping[str, Any], ApiError | None]:
    """The object in a body, or an empty one and why it is none: a request counts before it is refused."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return {}, ApiError(10001, f"Request parameter error: the body is not JSON ({error}).")
    if not isinstance(body, dict):
        return {}, ApiError(10001, "Request parameter error: the body must be a JSON object.")
    return body, None


def envelope(code: int, message: str, result: Any) -> web.Response:
    return response(Answer(code, message, result, None, now_ms()))


def body_of(answer: Answer) -> bytes:
    body = {
        "retCode": answer.code,
        "retMsg": answer.message,
        "result": answer.result,
        "retExtInfo": {"list": answer.result.codes} if isinstance(answer.result, rest_private.Batch) else {},
        "time": answer.time_ms,
    }
    return orjson.dumps(body)


def response(answer: Answer) -> web.Response:
    headers: CIMultiDict[str] = CIMultiDict({"Content-Type": JSON_TYPE})
    if answer.limits is not None:
        limit, remaining, reset = answer.limits
        headers["X-Bapi-Limit"] = str(limit)
        headers["X-Bapi-Limit-Status"] = str(max(0, remaining))
        headers["X-Bapi-Limit-Reset-Timestamp"] = str(reset)
    return web.Response(body=body_of(answer), headers=headers)
