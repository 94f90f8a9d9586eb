"""Requests that their author may repeat: the header ``Idempotency-Key`` makes the second of two the first's answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import orjson
from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from trading.services.idempotency import StillRunning, answered_once

HEADER = "Idempotency-Key"
VISIBLE = re.compile(r"[!-~]{1,255}")
IDEMPOTENCY_KEY = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description=(
        "1 to 255 visible ASCII characters of your choice. The same request again under the same key changes nothing: "
        "it has the first answer for 24 hours, with the header `Idempotent-Replayed: true`. Another request under the "
        "key is refused with 422; one that comes while the first is at work waits up to 10 s, then has 409 and "
        "`Retry-After`. Errors below 500 are answers too; after one above, or none, repeat with the same key."
    ),
)


class KeyTaken(APIException):
    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_detail = (
        "this Idempotency-Key belongs to another request of yours; use a new key for a new request, or repeat the "
        "first one unchanged"
    )


class FirstStillRunning(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_detail = "the first request with this Idempotency-Key is still at work; repeat it in a moment"
    wait = 1


def idempotent(handler: Callable[..., Response]) -> Callable[..., Response]:
    """A method of an APIView that changes something. What it changes and the answer that is kept commit together, so
    a process that dies half-way leaves neither. Without the header nothing is different."""

    @wraps(handler)
    def answered(view: Any, request: Request, *arguments: Any, **options: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return handler(view, request, *arguments, **options)
        if not VISIBLE.fullmatch(key):
            raise serializers.ValidationError({HEADER: ["must be 1 to 255 visible ASCII characters"]})

        def first() -> tuple[int, bytes]:
            answer = answer_of(handler, view, request, *arguments, **options)
            answers.append(answer)
            return answer.status_code, orjson.dumps(answer.data, default=str)

        answers: list[Response] = []
        try:
            kept = answered_once(
                user_id=int(request.user.pk or 0),
                key=key,
                method=str(request.method),
                path=request.get_full_path(),
                body=body_of(request),
                first=first,
            )
        except StillRunning:
            raise FirstStillRunning from None
        if answers:
            return answers[0]
        if kept is None:
            raise KeyTaken
        return Response(orjson.loads(kept.answer), status=kept.status, headers={"Idempotent-Replayed": "true"})

    return answered


def answer_of(
    handler: Callable[..., Response], view: Any, request: Request, *arguments: Any, **options: Any
) -> Response:
    """The handler's answer, or a refusal as an answer, which undoes what the handler did; what is above 499 is
    raised."""
    try:
        with transaction.atomic():
            return handler(view, request, *arguments, **options)
    except Exception as error:
        answer: Response = view.handle_exception(error)  # raises what is no refusal
        if answer.status_code >= status.HTTP_500_INTERNAL_SERVER_ERROR:
            raise
        return answer


def body_of(request: Request) -> bytes:
    """The body as it came.

    Raises:
        ParseError: it is too large to be kept.
    """
    try:
        return bytes(request.body)
    except RequestDataTooBig:
        raise ParseError("the body is too large for a request with an Idempotency-Key") from None
