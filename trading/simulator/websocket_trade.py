"""Trade connections: orders by websocket, with the limits and the words of REST."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from trading.simulator.clerk import Answer, Clerk, Work
from trading.simulator.errors import ApiError, parameter_error
from trading.simulator.faults.engine import RequestFaults
from trading.simulator.limits import TradeLimits
from trading.simulator.rest_private import COMMANDS
from trading.simulator.signatures import Authority, check_window
from trading.simulator.venue import Venue
from trading.simulator.websocket_session import ANSWER_SECONDS, Session

OPERATIONS = {
    f"order.{name}": f"/v5/order/{name}"
    for name in ("create", "amend", "cancel", "create-batch", "amend-batch", "cancel-batch")
}
CATEGORIES = ("linear", "spot")
LONGEST_REQUEST_ID = 36
REMEMBERED_REQUEST_IDS = 100_000


class TradeSession(Session):
    """Requests with ``reqId``, ``header``, ``op`` and one object in ``args``, done one after another as they came."""

    channel = "trade"

    def __init__(
        self,
        venue: Venue,
        authority: Authority,
        clerk: Clerk,
        limits: TradeLimits,
        address_admits: Callable[[int], bool] | None = None,
    ) -> None:
        """``address_admits`` says whether the address may make one more request now (ms), None: no limit."""
        super().__init__(venue)
        self._authority, self._clerk, self._limits = authority, clerk, limits
        self._address_admits, self._rate = address_admits, limits.of_session()
        # In the order of their arrival, so that the oldest can be forgotten.
        self._request_ids: dict[str, None] = {}
        self._arrived: deque[tuple[str | None, str, str, dict[str, Any]]] = deque()
        self._spoilt: set[asyncio.Task[None]] = set()

    def take(self, request: dict[str, Any]) -> None:
        operation, request_id = request.get("op", ""), request.get("reqId", "")
        if not isinstance(operation, str) or not isinstance(request_id, str):
            self.malformed("op and reqId must be texts")
        elif len(request_id) > LONGEST_REQUEST_ID:
            self.malformed(f"reqId has {len(request_id)} characters; at most {LONGEST_REQUEST_ID} are allowed")
        elif (refusal := self._too_often()) is not None:
            self._say(operation, request_id, refusal.code, refusal.message)
        elif operation == "ping":
            self._say("pong", request_id, 0, "OK", {"data": [str(self.venue.clock())]})
        elif operation == "auth":
            self._authenticate(request_id, request.get("args"))
        else:
            # The queue keeps the order of arrival, which timers do not promise.
            self._arrived.append((self.client.user, operation, request_id, request))
            asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._take_next)

    def _too_often(self) -> ApiError | None:
        now = self.venue.clock()
        if self._address_admits is not None and not self._address_admits(now):
            return ApiError(10403, "exceeded the IP rate limit of trade requests")
        return None if self._rate.admits(now) else ApiError(20003, "Too frequent requests under the same session")

    def _take_next(self) -> None:
        user, operation, request_id, request = self._arrived.popleft()
        if user is None:
            self._say(operation, request_id, 10003, "Request not authorized: authenticate first.")
        elif request_id in self._request_ids:
            self._say(operation, request_id, 20006, "reqId is duplicated")
        else:
            self._remember(request_id)
            self._order(user, operation, request_id, request)

    def malformed(self, sentence: str) -> None:
        self._say("", "", 10001, f"Request parameter error: {sentence}.")

    def ended(self) -> None:
        for task in self._spoilt:
            task.cancel()
        if self.client.user is not None:
            self._limits.ends_session(self.client.user)

    def _authenticate(self, request_id: str, arguments: object) -> None:
        code, message = 0, "OK"
        if self.client.user is not None:
            code, message = 20001, "Repeat auth"
        else:
            now = self.venue.clock() + self.venue.faults.skew_ms()
            try:
                user = self._authority.user_of_websocket(arguments if isinstance(arguments, list) else [], now)
                if not self._limits.begins_session(user):
                    raise ApiError(10003, "Too many sessions under the same UID")
                self.client.user = user
            except ApiError as error:
                code, message = error.code, error.message
        self._say("auth", request_id, code, message)

    def _remember(self, request_id: str) -> None:
        if not request_id:
            return
        if len(self._request_ids) >= REMEMBERED_REQUEST_IDS:
            del self._request_ids[next(iter(self._request_ids))]
        self._request_ids[request_id] = None

    def _order(self, user: str, operation: str, request_id: str, request: Mapping[str, Any]) -> None:
        path = OPERATIONS.get(operation)
        if path is None:
            self._say(operation, request_id, 10404, f"op is not found: {operation!r}")
            return

        def work(skew_ms: int) -> Answer:
            def prove(now: int) -> str:
                timestamp, window = window_of(request.get("header"))
                check_window(timestamp, window, now)
                return user

            return self._clerk.signed(path, COMMANDS[path], prove, lambda: fields_of(request.get("args")), skew_ms)

        faults = self._clerk.faults(path, user)
        if faults is None:
            self._answer(operation, request_id, work(0))
            return
        task = asyncio.create_task(self._answer_spoilt(user, operation, request_id, work, faults))
        self._spoilt.add(task)
        task.add_done_callback(self._spoilt.discard)

    async def _answer_spoilt(
        self, user: str, operation: str, request_id: str, work: Work, faults: RequestFaults
    ) -> None:
        """A status has no place here: it is told as the code that stands for it. A lost answer ends the connection."""
        answer, kind, value = await self._clerk.spoilt(OPERATIONS[operation], user, work, faults)
        if kind == "http_status":
            code, message = (10429, "System level frequency protection") if value == 429 else (10016, "Server error.")
            answer = Answer(code, message, {}, None, self.venue.clock())
        if answer is None:
            self.client.drop()
        elif kind == "garbage":
            body = self._body(operation, request_id, answer)
            self.client.send(body[: len(body) // 2])
        else:
            self._answer(operation, request_id, answer)

    def _answer(self, operation: str, request_id: str, answer: Answer) -> None:
        self.venue.hub.deliver(self.client, operation, self._body(operation, request_id, answer))

    def _body(self, operation: str, request_id: str, answer: Answer) -> bytes:
        header = {**answer.limit_headers, "Traceid": uuid.uuid4().hex, "Timenow": str(answer.time_ms)}
        rest = {"data": answer.result, "retExtInfo": answer.details, "header": header}
        return self._written(operation, request_id, answer.code, answer.message, rest)

    def _say(
        self, operation: str, request_id: str, code: int, message: str, rest: Mapping[str, Any] | None = None
    ) -> None:
        self.client.send(self._written(operation, request_id, code, message, rest or {}))

    def _written(self, operation: str, request_id: str, code: int, message: str, rest: Mapping[str, Any]) -> bytes:
        # Who sent no reqId gets none.
        named = {"reqId": request_id} if request_id else {}
        body = {**named, "retCode": code, "retMsg": message, "op": operation, **rest, "connId": self.connection_id}
        return orjson.dumps(body)


def window_of(header: object) -> tuple[str, str]:
    """The time and the receive window of a request, as texts; some clients send numbers."""
    if not isinstance(header, Mapping):
        return "", ""
    found = (header.get(name, "") for name in ("X-BAPI-TIMESTAMP", "X-BAPI-RECV-WINDOW"))
    timestamp, window = (str(value) if isinstance(value, str | int) else "" for value in found)
    return timestamp, window


def fields_of(arguments: object) -> tuple[Mapping[str, Any], ApiError | None]:
    """The one order of a request, and why it is refused."""
    if not isinstance(arguments, list) or len(arguments) != 1 or not isinstance(arguments[0], dict):
        return {}, parameter_error("Request parameter error: args must be a list of one object.")
    if arguments[0].get("category") not in CATEGORIES:
        return arguments[0], ApiError(10404, "category is not correct or not supported")
    return arguments[0], None
