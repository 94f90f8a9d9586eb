"""One shape for every error of the API: what was wrong, in which field, with which value, by which rule."""

from __future__ import annotations

import logging
from typing import Any

from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import status
from rest_framework.response import Response
from rest_framework.views import exception_handler as default_handler

from audit.trace import current_trace, new_trace_id
from strategies.services import StrategyConfigRefused
from trading.backtest.request_json import RequestInvalid
from trading.services.account_modes import ModeRefused
from trading.services.amendments import OrderNotAmendable
from trading.services.kill_switch import KillSwitchRefused
from trading.services.order_refusals import ClientOrderIdTaken, KillSwitchEngaged, OrderNotCancellable, OrderRefused
from trading.services.run_lives import BacktestRefused

log = logging.getLogger(__name__)

MOST_FIELDS = 40
CODES = {
    400: "invalid",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "conflict",
    429: "too_many_requests",
    500: "error",
    503: "unavailable",
}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook: our own refusals, then DRF's exceptions, all in the same shape."""
    if isinstance(error, ClientOrderIdTaken):
        return refusal(409, "the client order id is taken", error.violations)
    if isinstance(error, KillSwitchEngaged):
        return refusal(409, "trading is stopped by the kill switch", error.violations)
    if isinstance(error, (OrderRefused, StrategyConfigRefused)):
        return refusal(400, "the request breaks a rule", error.violations)
    if isinstance(error, RequestInvalid):
        return refusal(400, "what is asked breaks a rule", error.violations)
    if isinstance(error, (BacktestRefused, OrderNotCancellable, OrderNotAmendable, KillSwitchRefused)):
        return envelope(409, str(error))
    if isinstance(error, ModeRefused):
        code = 400 if error.field == "confirm_name" else 409
        return envelope(code, "the account is not switched", [{"field": error.field, "value": "", "rule": str(error)}])
    response = default_handler(error, context)
    if response is None:
        return None
    request = context.get("request")
    data = getattr(request, "_full_data", None)
    fields = field_errors(response.data, data if isinstance(data, dict) else {})
    message = "the request is invalid" if fields else text_of(response.data)
    if isinstance(error, Http404):
        message = "there is no such thing, or it is not yours"
    answer = envelope(response.status_code, message, fields)
    for name, value in response.headers.items():
        if name in ("Retry-After", "WWW-Authenticate", "Allow"):
            answer[name] = value
    return answer


def refusal(code: int, message: str, violations: Any) -> Response:
    return envelope(code, message, [{"field": v.field, "value": v.value, "rule": v.rule} for v in violations])


def tellable(text: str) -> str:
    """Short, and without the lone surrogates that JSON can hold and UTF-8 cannot."""
    return text[:200].encode("utf-8", "replace").decode()


def refuse_nul(get_response: Any) -> Any:
    """Middleware: no address of ours holds a NUL, and PostgreSQL takes none as text."""

    def middleware(request: HttpRequest) -> Any:
        if "\0" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
            return JsonResponse(body(400, "an address may not hold the character NUL"), status=400)
        return get_response(request)

    return middleware


def envelope(code: int, message: str, fields: list[dict[str, Any]] | None = None) -> Response:
    return Response(body(code, message, fields), status=code)


def body(code: int, message: str, fields: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    request_id = current_trace() or new_trace_id()
    if code >= status.HTTP_500_INTERNAL_SERVER_ERROR:
        log.error("request %s failed: %s", request_id, message)
    told = [{name: tellable(str(text)) for name, text in field.items()} for field in (fields or [])[:MOST_FIELDS]]
    error = {"code": CODES.get(code, "error"), "message": tellable(message), "fields": told, "request_id": request_id}
    return {"error": error}


def field_errors(data: Any, sent: dict[str, Any], prefix: str = "") -> list[dict[str, Any]]:
    """DRF's nested errors as a flat list."""
    if not isinstance(data, dict) or set(data) == {"detail"}:
        return []
    found = []
    for name, errors in data.items():
        if isinstance(errors, dict):
            nested = sent.get(name)
            found += field_errors(errors, nested if isinstance(nested, dict) else {}, f"{prefix}{name}.")
            continue
        rules = errors if isinstance(errors, list) else [errors]
        value = sent.get(name)
        shown = "" if value is None else str(value)[:200]
        found += [{"field": f"{prefix}{name}", "value": shown, "rule": str(rule)} for rule in rules]
    return found


def text_of(data: Any) -> str:
    if isinstance(data, dict) and "detail" in data:
        return str(data["detail"])
    if isinstance(data, list):
        return "; ".join(str(item) for item in data)
    return str(data)


def unknown_endpoint(request: HttpRequest, path: str = "") -> JsonResponse:
    return JsonResponse(body(404, f"there is no endpoint {request.path}; see /api/v1/docs/"), status=404)
