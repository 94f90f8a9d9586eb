"""The control messages of a websocket: what a valid one says, and how Binance words what is wrong with others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_STREAM = re.compile(r"[A-Za-z0-9_!@.\-]{1,100}")
_TEXT_ID = re.compile(r"[A-Za-z0-9\-_]{1,36}")

UNKNOWN_PROPERTY, WRONG_TYPE, INVALID_REQUEST, INVALID_JSON = range(4)


class RequestError(Exception):
    """A message that gets an error for an answer; ``request_id`` is None where it was not understood."""

    def __init__(self, code: int, message: str, request_id: int | str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.request_id = code, message, request_id

    def answer(self) -> bytes:
        body: dict[str, Any] = {"error": {"code": self.code, "msg": self.message}}
        if self.request_id is not None:
            body["id"] = self.request_id
        return orjson.dumps(body)


@dataclass(frozen=True, slots=True)
class Request:
    """``streams`` for (un)subscribing, ``combined`` for setting that property."""

    method: str
    request_id: int | str | None
    streams: tuple[str, ...] = ()
    combined: bool = False


def parse(data: str | bytes, *, integer_ids: bool) -> Request:
    """Read one message; ``integer_ids`` refuses ids that are text or null.

    Raises:
        RequestError: with code 3 where it is no JSON, else 0, 1 or 2.
    """
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise RequestError(INVALID_JSON, f"Invalid JSON: expected value at {where}") from None
    if not isinstance(body, dict):
        raise RequestError(INVALID_REQUEST, "Invalid request: expected an object")
    request_id = _request_id(body, integer_ids=integer_ids)
    where = f"at line 1 column {len(data)}"
    if "method" not in body:
        raise RequestError(INVALID_REQUEST, f"Invalid request: missing field `method` {where}", request_id)
    method, parameters = body["method"], body.get("params", [])
    if method not in METHODS:
        expected = ", ".join(f"`{each}`" for each in METHODS)
        text = f"Invalid request: unknown variant `{method}`, expected one of {expected} {where}"
        raise RequestError(INVALID_REQUEST, text, request_id)
    if not isinstance(parameters, list):
        raise RequestError(INVALID_REQUEST, f"Invalid request: params must be an array {where}", request_id)
    if method == "LIST_SUBSCRIPTIONS":
        if parameters:
            raise RequestError(INVALID_REQUEST, "Invalid request: too many parameters", request_id)
        return Request(method, request_id)
    if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
        return Request(method, request_id, streams=_streams(parameters, request_id))
    return Request(method, request_id, combined=_combined(parameters, request_id, wants_value=method == "SET_PROPERTY"))


def is_stream_name(value: Any) -> bool:
    return isinstance(value, str) and _STREAM.fullmatch(value) is not None


def _request_id(body: dict[str, Any], *, integer_ids: bool) -> int | str | None:
    value = body.get("id")
    integer = isinstance(value, int) and not isinstance(value, bool) and (value >= 0 or not integer_ids)
    text = not integer_ids and (value is None or (isinstance(value, str) and _TEXT_ID.fullmatch(value) is not None))
    if not integer and not text:
        raise RequestError(INVALID_REQUEST, "Invalid request: request ID must be an unsigned integer")
    return value


def _streams(parameters: list[Any], request_id: int | str | None) -> tuple[str, ...]:
    if not all(is_stream_name(each) for each in parameters):
        raise RequestError(INVALID_REQUEST, "Invalid request: invalid stream", request_id)
    return tuple(parameters)


def _combined(parameters: list[Any], request_id: int | str | None, *, wants_value: bool) -> bool:
    if not parameters or not isinstance(parameters[0], str):
        raise RequestError(INVALID_REQUEST, "Invalid request: property name must be a string", request_id)
    if parameters[0] != "combined":
        raise RequestError(UNKNOWN_PROPERTY, "Unknown property", request_id)
    if len(parameters) > 1 + wants_value:
        raise RequestError(INVALID_REQUEST, "Invalid request: too many parameters", request_id)
    if not wants_value:
        return False
    if len(parameters) < 2 or not isinstance(parameters[1], bool):
        raise RequestError(WRONG_TYPE, "Invalid value type: expected Boolean", request_id)
    return parameters[1]
