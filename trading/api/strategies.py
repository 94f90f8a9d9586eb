from __future__ import annotations

import re
from functools import partial
from typing import Any

from django.db import transaction
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from strategies.models import StrategyConfig
from strategies.services import strategy_config_update, strategy_disable, strategy_enable
from trading.api.backtests import send
from trading.api.idempotency import IDEMPOTENCY_KEY, idempotent
from trading.api.orders import StrictSerializer, price_field
from trading.api.pagination import Pages
from trading.permissions import may_manage
from trading.selectors import visible_strategies
from trading.serializers import BacktestSerializer, StrategySerializer
from trading.services.comparisons import comparison_create


class StrategyChangeSerializer(StrictSerializer):
    """What of a strategy may change; what is left out stays."""

    symbols = serializers.ListField(child=serializers.CharField(max_length=32), required=False, max_length=200)
    parameters = serializers.DictField(required=False)
    sizing_mode = serializers.ChoiceField(StrategyConfig.Sizing.choices, required=False)
    sizing_value = price_field(required=False)
    leverage = price_field(required=False)
    size_by_confidence = serializers.BooleanField(required=False)
    adaptive_leverage = serializers.BooleanField(required=False)
    allow_reversal = serializers.BooleanField(required=False)


class StrategyListView(generics.ListAPIView):
    """Strategies of the accounts you may see."""

    serializer_class = StrategySerializer
    pagination_class = Pages

    def get_queryset(self) -> Any:
        return visible_strategies(self.request.user)


def strategy_of(user: Any, key: str) -> StrategyConfig:
    """By number or, where only one of yours has it, by name."""
    rows = visible_strategies(user)
    found = list((rows.filter(pk=int(key)) if re.fullmatch(r"[0-9]{1,30}", key) else rows.filter(name=key))[:2])
    if not found:
        raise Http404
    if len(found) > 1:
        raise serializers.ValidationError({"name": [f"several of your accounts have {key}; use its number"]})
    return found[0]


def managed_strategy(user: Any, key: str) -> StrategyConfig:
    config = strategy_of(user, key)
    if not may_manage(user, config.account):
        raise PermissionDenied(f"only a manager of {config.account.name} may change its strategies")
    return config


class StrategyDetailView(APIView):
    @extend_schema(responses=StrategySerializer)
    def get(self, request: Request, key: str) -> Response:
        """One strategy."""
        return Response(StrategySerializer(strategy_of(request.user, key)).data)

    @extend_schema(request=StrategyChangeSerializer, responses=StrategySerializer)
    def put(self, request: Request, key: str) -> Response:
        """Change a strategy; a bad value changes nothing. Engines take the new version up at once."""
        config = managed_strategy(request.user, key)
        serializer = StrategyChangeSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        changed = strategy_config_update(config=config, actor=request.user.get_username(), **serializer.validated_data)
        return Response(StrategySerializer(changed).data)


class StrategyEnableView(APIView):
    @extend_schema(request=None, responses=StrategySerializer)
    def post(self, request: Request, key: str) -> Response:
        """Let it trade."""
        config = managed_strategy(request.user, key)
        return Response(StrategySerializer(strategy_enable(config=config, actor=request.user.get_username())).data)


class StrategyDisableView(APIView):
    @extend_schema(request=None, responses=StrategySerializer)
    def post(self, request: Request, key: str) -> Response:
        """No more signals; open orders and positions stay."""
        config = managed_strategy(request.user, key)
        return Response(StrategySerializer(strategy_disable(config=config, actor=request.user.get_username())).data)


COMPARISON = {
    "type": "object",
    "properties": {
        "start": {"type": "string", "description": "a day or a moment, UTC; default: since engines have run it"},
        "end": {"type": "string", "description": "the day or moment after the last"},
        "costs": {"type": "object", "additionalProperties": {}, "description": "as of a backtest"},
    },
}


class StrategyComparisonView(APIView):
    @extend_schema(
        parameters=[IDEMPOTENCY_KEY], request={"application/json": COMPARISON}, responses={201: BacktestSerializer}
    )
    @idempotent
    def post(self, request: Request, key: str) -> Response:
        """Hold what it signalled, live or on paper, against a backtest of the same bars. Follow ``state`` under the
        backtest's ``id``; when it is done, ``summary.live`` has every signal that is on record and not in the test, in
        the test and not on record, or different, with a reason."""
        config = strategy_of(request.user, key)
        data = request.data if isinstance(request.data, dict) else {"body": request.data}
        run = comparison_create(owner=request.user, config=config, data=dict(data))
        transaction.on_commit(partial(send, run.pk))
        return Response(BacktestSerializer(run).data, status=status.HTTP_201_CREATED)
