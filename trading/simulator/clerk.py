"""Does what clients ask for, whichever way it came: counted, written down before the answer, told of after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import orjson

from trading.simulator.errors import ApiError, too_many_visits
from trading.simulator.faults.engine import RequestFaults
from trading.simulator.limits import SECOND_MS, Allowance, RateLimits
from trading.simulator.rest_private import Batch, BatchCommand, Endpoint
from trading.simulator.venue import Venue

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.001

Fields = Mapping[str, Any]


class Answer(NamedTuple):
    """What an endpoint said, before it is written as an envelope."""

    code: int
    message: str
    result: Any
    limits: Allowance | None
    time_ms: int
    refusal_details: dict[str, Any] | None = None

    @property
    def details(self) -> dict[str, Any]:
        """``retExtInfo``: what became of each item of a batch, or more about a refusal."""
        return {"list": self.result.codes} if isinstance(self.result, Batch) else self.refusal_details or {}

    @property
    def limit_headers(self) -> dict[str, str]:
        if self.limits is None:
            return {}
        return {
            "X-Bapi-Limit": str(self.limits.limit),
            "X-Bapi-Limit-Status": str(self.limits.remaining),
            "X-Bapi-Limit-Reset-Timestamp": str(self.limits.reset_ms),
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
        are refused: a request counts before it is refused, a batch as many times as it has orders."""
        now = self._venue.clock() + skew_ms
        limits = None
        try:
            user = prove(now)
            fields, refusal = read()
            weight = endpoint.weight(fields) if isinstance(endpoint, BatchCommand) else 1
            limits = self._limits.take(user, path, now - skew_ms, category_of(fields), weight)
            if not limits.admitted:
                refusal = too_many_visits()
            if refusal is not None:
                raise refusal
        except ApiError as error:
            return Answer(error.code, error.message, {}, limits, now)
        if isinstance(endpoint, BatchCommand):
            return self.done(partial(endpoint, self._venue, user, fields, limits.admitted), limits, now)
        return self.done(partial(endpoint, self._venue, user, fields), limits, now)

    def done(self, work: Callable[[], Any], limits: Allowance | None, now: int) -> Answer:
        """Do it; whatever it changed is written down before this returns and told to the streams after it."""
        code, message, result, details = 0, "OK", {}, None
        try:
            result = work()
        except ApiError as error:
            code, message, details = error.code, error.message, error.details
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
        return Answer(code, message, result, limits, now, details)

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
            limits = self._limits.take(user, path, now)
            if code == 10006:
                limits = limits._replace(remaining=0, reset_ms=now + SECOND_MS)
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
