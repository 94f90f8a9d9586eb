from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from trading.api.idempotency import IDEMPOTENCY_KEY, idempotent
from trading.api.orders import StrictSerializer
from trading.api.refusals import RefusalsRecorded
from trading.models import Account, DeadManWatch
from trading.permissions import may_manage, may_operate_platform, may_trade
from trading.selectors import visible_accounts, visible_kill_switches
from trading.serializers import DeadManSerializer, KillSwitchSerializer
from trading.services.kill_switch import dead_man_set, kill_switch_engage, kill_switch_rearm


class KillSwitchListView(APIView):
    @extend_schema(responses=KillSwitchSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The engaged kill switches of the accounts you may see, and the platform's; each with how far it is."""
        context = {"accounts": set(visible_accounts(request.user).values_list("pk", flat=True))}
        rows = visible_kill_switches(request.user).filter(rearmed_at=None)
        return Response(KillSwitchSerializer(rows, many=True, context=context).data)


class ScopeSerializer(StrictSerializer):
    """What is meant: an account by its number, or the platform. Neither is never a guess."""

    account = serializers.IntegerField(required=False, min_value=1, max_value=2**62)
    platform = serializers.BooleanField(required=False, default=False)
    reason = serializers.CharField(max_length=500, help_text="for the trail, and for whoever re-arms")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if bool(attrs["platform"]) == ("account" in attrs):
            raise serializers.ValidationError({"account": ["name an account, or say platform: true; not both"]})
        return attrs


class EngageSerializer(ScopeSerializer):
    close_positions = serializers.BooleanField(required=False, default=True)


class RearmSerializer(ScopeSerializer):
    force = serializers.BooleanField(required=False, default=False, help_text="although not all is proven closed")


class KillSwitchEngageView(RefusalsRecorded):
    # A bot that has used up its user's requests must not keep the user from stopping it.
    throttle_classes: tuple[()] = ()

    @extend_schema(parameters=[IDEMPOTENCY_KEY], request=EngageSerializer, responses={201: KillSwitchSerializer})
    @idempotent
    def post(self, request: Request) -> Response:
        """Stop trading: cancel every order, close every position. For traders of the account; for the platform, staff
        with the permission. Asking again changes nothing."""
        values = validated(EngageSerializer, request)
        account = the_account(request, values)
        if account is not None and not may_trade(request.user, account):
            raise PermissionDenied(f"you may see {account.name} but not stop it; its manager can change that")
        switch = kill_switch_engage(
            account=account,
            actor=request.user.get_username(),
            reason=values["reason"],
            closes_positions=values["close_positions"],
        )
        return Response(KillSwitchSerializer(switch).data, status=status.HTTP_201_CREATED)


class KillSwitchRearmView(RefusalsRecorded):
    @extend_schema(parameters=[IDEMPOTENCY_KEY], request=RearmSerializer, responses=KillSwitchSerializer)
    @idempotent
    def post(self, request: Request) -> Response:
        """Let trade again. For managers of the account; the platform takes a second person with the permission."""
        values = validated(RearmSerializer, request)
        account = the_account(request, values)
        if account is not None and not may_manage(request.user, account):
            raise PermissionDenied(f"only a manager of {account.name} may re-arm it")
        switch = kill_switch_rearm(
            account=account, actor=request.user.get_username(), reason=values["reason"], force=values["force"]
        )
        return Response(KillSwitchSerializer(switch).data)


class DeadManView(RefusalsRecorded):
    @extend_schema(responses=DeadManSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """What happens to the account when no engine looks after it."""
        account = get_object_or_404(visible_accounts(request.user), pk=pk)
        watch = DeadManWatch.objects.filter(account=account).first() or DeadManWatch(account=account)
        return Response(DeadManSerializer(watch).data)

    @extend_schema(parameters=[IDEMPOTENCY_KEY], request=DeadManSerializer, responses=DeadManSerializer)
    @idempotent
    def put(self, request: Request, pk: int) -> Response:
        """Choose it; for managers of the account."""
        account = get_object_or_404(visible_accounts(request.user), pk=pk)
        if not may_manage(request.user, account):
            raise PermissionDenied(f"only a manager of {account.name} may change its dead-man switch")
        serializer = DeadManSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        watch = dead_man_set(account=account, actor=request.user.get_username(), **serializer.validated_data)
        return Response(DeadManSerializer(watch).data)


def validated(kind: type[ScopeSerializer], request: Request) -> dict[str, Any]:
    serializer = kind(data=request.data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def the_account(request: Request, values: dict[str, Any]) -> Account | None:
    """The account that is meant, None for the platform. Another tenant's does not exist."""
    if not values["platform"]:
        return get_object_or_404(visible_accounts(request.user), pk=values["account"])
    if not may_operate_platform(request.user):
        raise PermissionDenied("only staff with the permission to operate the platform's kill switch may do that")
    return None
