from __future__ import annotations

import re
from typing import Any

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, serializers
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.chain import PLATFORM, account_chain
from audit.models import AuditEvent
from trading.api.alerts import moment
from trading.selectors import trace_timeline, visible_events


class NewestFirst(CursorPagination):
    """``?limit=`` (at most 200); ``next`` is the address of the older ones, found as quickly however old they are."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
    ordering = "-id"


class AuditEventSerializer(serializers.ModelSerializer):
    account = serializers.SerializerMethodField(help_text="null: of the platform")

    class Meta:
        model = AuditEvent
        fields = [
            "id",
            "account",
            "sequence",
            "created_at",
            "actor",
            "action",
            "subject",
            "reason",
            "trace_id",
            "parameters",
            "before",
            "after",
            "previous_hash",
            "hash",
        ]

    def get_account(self, event: AuditEvent) -> int | None:
        return None if event.chain == PLATFORM else int(event.chain.partition(":")[2])


EXACT = ("trace_id", "actor", "action", "subject")


class AuditListView(generics.ListAPIView):
    serializer_class = AuditEventSerializer
    pagination_class = NewestFirst

    @extend_schema(
        parameters=[
            OpenApiParameter("account", str, description="only of this account, by its number; or platform"),
            OpenApiParameter("trace_id", str),
            OpenApiParameter("actor", str, description="a user, strategy:..., venue, engine"),
            OpenApiParameter("action", str, description="like order.intended"),
            OpenApiParameter("subject", str, description="like order:12"),
            OpenApiParameter("since", str, description="with its offset from UTC"),
            OpenApiParameter("until", str, description="before this time, with its offset from UTC"),
        ]
    )
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """The audit trail of the accounts you may see, the newest first; the platform's with the permission for it."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        asked = self.request.query_params
        rows = visible_events(self.request.user)
        if account := asked.get("account"):
            rows = rows.filter(chain=PLATFORM if account == PLATFORM else account_chain(number("account", account)))
        if since := asked.get("since"):
            rows = rows.filter(created_at__gte=moment("since", since))
        if until := asked.get("until"):
            rows = rows.filter(created_at__lt=moment("until", until))
        return rows.filter(**{name: asked[name] for name in EXACT if asked.get(name)})


def number(field: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise serializers.ValidationError({field: [f"{value[:50]} is not an account's number, nor {PLATFORM}"]})
    return int(value)


class StepSerializer(serializers.Serializer):
    at = serializers.DateTimeField(help_text="ours; of a fill the venue's")
    kind = serializers.CharField(help_text="signal, verdict, decision, order, sent, transition, fill, booked, event")
    text = serializers.CharField()
    account = serializers.IntegerField(allow_null=True)
    subject = serializers.CharField(help_text="like order:12")
    detail = serializers.JSONField()
    gap_ms = serializers.FloatField(help_text="since the step before")
    since_ms = serializers.FloatField(help_text="since the first step")


class TraceView(APIView):
    @extend_schema(responses=StepSerializer(many=True))
    def get(self, request: Request, trace_id: str) -> Response:
        """What one signal, request or kill switch brought about, in its order: verdict, decision with its refusals,
        order, request, transitions, fills, positions. Only of accounts you may see."""
        steps = trace_timeline(request.user, trace_id)
        if not steps:
            raise Http404
        return Response(StepSerializer(steps, many=True).data)
