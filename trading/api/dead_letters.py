from __future__ import annotations

from typing import Any

import redis
from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.dead_letters import LetterGone
from audit.services import dead_letters
from trading.permissions import is_staff
from trading.runtime.dead_letters import NotReplayed, letter_discard, letter_replay

MOST = 200


class ValkeyAway(APIException):
    status_code = 503
    default_detail = "dead letters cannot be read while Valkey is away; new ones wait in a file until it is back"


class StillBroken(APIException):
    status_code = 409


class StaffOnly(IsAuthenticated):
    def has_permission(self, request: Request, view: Any) -> bool:
        if super().has_permission(request, view) and not is_staff(request.user):
            raise PermissionDenied("dead letters are for staff: they hold messages of every account")
        return super().has_permission(request, view)


class DeadLetterSerializer(serializers.Serializer):
    id = serializers.CharField(source="identifier")
    kind = serializers.CharField()
    error = serializers.CharField()
    payload = serializers.CharField(help_text="the message as text")
    origin = serializers.DictField(source="context", help_text="where it came from: account, task, user ...")
    trace_id = serializers.CharField()
    at = serializers.FloatField(help_text="seconds since 1970")


class DeadLetterPageSerializer(serializers.Serializer):
    count = serializers.IntegerField(help_text="letters of all kinds")
    results = DeadLetterSerializer(many=True)


class LetterView(APIView):
    permission_classes = (StaffOnly,)

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, redis.RedisError):
            exc = ValkeyAway()
        elif isinstance(exc, LetterGone):
            exc = Http404()
        elif isinstance(exc, NotReplayed):
            exc = StillBroken(str(exc))
        return super().handle_exception(exc)


class DeadLetterListView(LetterView):
    @extend_schema(
        operation_id="dlq_list",
        parameters=[
            OpenApiParameter("kind", str, description="only this kind, like private_frame"),
            OpenApiParameter("before", str, description="the id of the last letter that you have"),
            OpenApiParameter("limit", int, description=f"at most {MOST}"),
        ],
        responses=DeadLetterPageSerializer,
    )
    def get(self, request: Request) -> Response:
        """Messages that could not be handled, the newest first. For staff."""
        asked = request.query_params
        before = serializers.RegexField(r"^[0-9]{1,20}-[0-9]{1,20}$", allow_blank=True)
        limit = serializers.IntegerField(min_value=1, max_value=MOST)
        page = dead_letters().newest(
            kind=asked.get("kind", ""),
            before=field("before", before, asked.get("before", "")),
            limit=field("limit", limit, asked.get("limit", 50)),
        )
        return Response({"count": dead_letters().count(), "results": DeadLetterSerializer(page, many=True).data})


def field(name: str, rule: serializers.Field, value: Any) -> Any:
    try:
        return rule.run_validation(value)
    except serializers.ValidationError as error:
        raise serializers.ValidationError({name: error.detail}) from None


class DeadLetterDetailView(LetterView):
    @extend_schema(responses=DeadLetterSerializer)
    def get(self, request: Request, identifier: str) -> Response:
        """One letter."""
        return Response(DeadLetterSerializer(dead_letters().get(identifier)).data)

    @extend_schema(request=None, responses={204: None})
    def delete(self, request: Request, identifier: str) -> Response:
        """Discard a letter; the audit trail keeps what it was."""
        letter_discard(identifier=identifier, actor=request.user.get_username())
        return Response(status=204)


class DeadLetterReplayView(LetterView):
    @extend_schema(request=None, responses=DeadLetterSerializer)
    def post(self, request: Request, identifier: str) -> Response:
        """Handle a letter once more, by the code that failed; 409 and the reason when it fails again."""
        letter = letter_replay(identifier=identifier, actor=request.user.get_username())
        return Response(DeadLetterSerializer(letter).data)
