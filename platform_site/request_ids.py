"""Each request has an id: the one that it came with, or a new one. It is the trace of what the request brings about."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from audit.trace import TRACE_ID, new_trace_id, tracing

HEADER = "X-Request-ID"


def request_ids(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: reads X-Request-ID and answers with it. One that could not be searched for later (longer than 64
    characters, or with spaces and quotes in it) is replaced: proxies send whatever they like."""

    def middleware(request: HttpRequest) -> HttpResponse:
        given = request.headers.get(HEADER, "")
        with tracing(given if TRACE_ID.fullmatch(given) else new_trace_id()) as trace_id:
            response = get_response(request)
        response.headers[HEADER] = trace_id
        return response

    return middleware
