"""Does what clients ask for, whichever way it came: counted, written down before the answer, told of after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from trading.simulator.errors import ApiError
from trading.simulator.faults.engine import RequestFaults
from trading.simulator.limits import SECOND_MS, RateLimits
from trading.simulator.rest_private import Batch, Endpoint
from trading.simulator.venue import Venue

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.001

Fields = Mapping[str, Any]


class Answer(NamedTuple):
    """What an endpoint said, before it is written as an envelope. ``limits``: the limit, what remains, its reset."""

    code: int
    message: str
    result: Any
    limits: tuple[int, int, int] | None
    time_ms: int

    @property
    def details(self) -> dict[str, Any]:
        """``retExtInfo``: what became of each item of a batch."""
        return {"list": self.result.codes} if isinstance(self.result, Batch) else {}

    @property
    def limit_headers(self) -> dict[str, str]:
        if self.limits is None:
            return {}
        limit, remaining, reset = self.limits
        return {
            "X-Bapi-Limit": str(limit),
            "X-Bapi-Limit-Status": str(max(0, remaining)),
            "X-Bapi-Limit-Reset-Timestamp": str(reset),
        }


class Spoilt(NamedTuple):
    """A request that a fault hit: ``answer`` is None where nothing is said; ``kind`` is empty for a mere delay."""

    answer: Answer | None
    kind: str
    value: int | str | None


# Does the request with the venue's clock so many ms ahead.
Work = Callable[[int], Answer]


class Clerk:
    """One for all ways into a venue, so that REST and the trade websocket share each account's limits."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._limits = RateLimits()
        self._settling = False

    def signed(
        self,
        path: str,
        endpoint: Endpoint,
        prove: Callable[[int], str],
        read: Callable[[], tuple[Fields, ApiError | None]],
        skew_ms: int,
    ) -> Answer:
        """A user's request. ``prove`` gives the user at a time of the venue or raises, ``read`` the fields and why they
        are refused: a request counts before it is refused."""
        now = self._venue.clock() + skew_ms
        limits = None
        try:
            user = prove(now)
            fields, refusal = read()
            limits = self._limits.take(user, path, now - skew_ms, category_of(fields))
            if limits[1] < 0:
                refusal = ApiError(10006, "Too many visits. Exceeded the API Rate Limit.")
            if refusal is not None:
                raise refusal
        except ApiError as error:
            return Answer(error.code, error.message, {}, limits, now)
        return self.done(lambda: endpoint(self._venue, user, fields), limits, now)

    def done(self, work: Callable[[], Any], limits: tuple[int, int, int] | None, now: int) -> Answer:
        """Do it; whatever it changed is written down before this returns and told to the streams after it."""
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
            self._venue.remember()
        if (exchange.outbox or exchange.trades) and not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._settle)
        return Answer(code, message, result, limits, now)

    def faults(self, path: str, user: str | None) -> RequestFaults | None:
        """What goes wrong with a request, None for nothing. ``user`` is who it claims to be, None for a public one."""
        faults = self._venue.faults
        return faults.request(path, user) if faults.on_requests else None

    async def spoilt(self, path: str, user: str | None, work: Work, faults: RequestFaults) -> Spoilt:
        """Do, repeat, delay or leave a request as the faults have it; how it is told is for whoever answers."""
        rule = faults.outcome
        kind, value = (rule.kind, rule.value) if rule is not None else ("", None)
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
        if kind == "ret_code" and rule is not None:
            answer = self._refused(path, user, int(value or 0), rule.message)
        return Spoilt(None if kind == "lose_answer" else answer, kind, value)

    def _refused(self, path: str, user: str | None, code: int, message: str) -> Answer:
        """A retCode that a rule makes up; with 10006 comes the reset that clients wait for."""
        now = self._venue.clock()
        limits = None
        if user is not None:
            limit, remaining, reset = self._limits.take(user, path, now)
            limits = (limit, 0, now + SECOND_MS) if code == 10006 else (limit, remaining, reset)
        return Answer(code, message, {}, limits, now)

    def _settle(self) -> None:
        self._settling = False
        self._venue.settle()


def category_of(fields: Fields) -> str:
    category = fields.get("category")
    return category if category in ("spot", "option", "inverse") else "linear"


def parsed_body(raw: bytes) -> tuple[Fields, ApiError | None]:
    """The object in a body, or an empty one and why it is none."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return {}, ApiError(10001, f"Request parameter error: the body is not JSON ({error}).")
    if not isinstance(body, dict):
        return {}, ApiError(10001, "Request parameter error: the body must be a JSON object.")
    return body, None
