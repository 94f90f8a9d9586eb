"""A name for each request to the API: in the header of its answer, in its error, in the log."""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware

HEADER = "X-Request-ID"
_current: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """That of the request which is being answered, or a new one outside of any."""
    return _current.get() or uuid.uuid4().hex


@sync_and_async_middleware
def request_id(get_response: Any) -> Any:
    """Middleware: every answer of the API carries its request's id."""
    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> Any:
            token = _current.set(uuid.uuid4().hex)
            try:
                return _marked(request, await get_response(request))
            finally:
                _current.reset(token)

        return markcoroutinefunction(asynchronous)

    def synchronous(request: HttpRequest) -> Any:
        token = _current.set(uuid.uuid4().hex)
        try:
            return _marked(request, get_response(request))
        finally:
            _current.reset(token)

    return synchronous


def _marked(request: HttpRequest, response: Any) -> Any:
    if request.path.startswith("/api/"):
        response[HEADER] = _current.get()
    return response
