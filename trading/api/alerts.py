from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.models import Alert
from audit.services import alert_acknowledge
from trading.api.orders import ACCOUNT, of_account
from trading.api.pagination import Pages
from trading.permissions import may_trade
from trading.selectors import visible_accounts, visible_alerts
from trading.serializers import AlertSerializer

STATES = ("open", "acknowledged")


class AlertListView(generics.ListAPIView):
    serializer_class = AlertSerializer
    pagination_class = Pages

    @extend_schema(
        parameters=[
            ACCOUNT,
            OpenApiParameter("level", str, enum=Alert.Level.values),
            OpenApiParameter("kind", str, description="what happened, like circuit_breaker_open"),
            OpenApiParameter("since", str, description="raised again since this time, with its offset from UTC"),
            OpenApiParameter("state", str, enum=STATES),
        ]
    )
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """Alerts of the accounts you may see, the newest first; staff see those of the platform too."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        asked = self.request.query_params
        rows = of_account(self.request, visible_alerts(self.request.user))
        if level := asked.get("level"):
            rows = rows.filter(level=one_of("level", level, Alert.Level.values))
        if kind := asked.get("kind"):
            rows = rows.filter(kind=kind)
        if since := asked.get("since"):
            rows = rows.filter(last_raised_at__gte=moment("since", since))
        if state := asked.get("state"):
            is_open = one_of("state", state, STATES) == "open"
            rows = rows.filter(acknowledged_at__isnull=is_open)
        return rows


def one_of(field: str, value: str, allowed: Any) -> str:
    if value not in allowed:
        raise serializers.ValidationError({field: [f"{value[:50]} is not one of {', '.join(allowed)}"]})
    return value


def moment(field: str, value: str) -> Any:
    try:
        # In an address "+" is a space.
        found = parse_datetime(value.replace(" ", "+"))
    except ValueError:
        found = None
    if found is None or is_naive(found):
        rule = f"{value[:50]} is no time with an offset, like 2026-01-31T12:00:00Z"
        raise serializers.ValidationError({field: [rule]})
    return found


class AlertAcknowledgeView(APIView):
    @extend_schema(request=None, responses=AlertSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """You have seen it. Traders and managers acknowledge their accounts' alerts, staff those of the platform."""
        alert = get_object_or_404(visible_alerts(request.user), pk=pk)
        if alert.account_id is not None:
            account = visible_accounts(request.user).get(pk=alert.account_id)
            if not may_trade(request.user, account):
                raise PermissionDenied("you may see this alert but not acknowledge it; a trader of the account can")
        alert = alert_acknowledge(alert_id=alert.pk, actor=request.user.get_username())
        return Response(AlertSerializer(alert).data)
