from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from trading.api.orders import ACCOUNT, MODE, SYMBOL, StrictSerializer, chosen, wanted_mode
from trading.api.pagination import Pages
from trading.models import Mode
from trading.permissions import may_manage
from trading.selectors import equity_curve, visible_accounts, visible_positions
from trading.serializers import AccountSerializer, EquityPointSerializer, PositionSerializer
from trading.services.account_modes import account_mode_set


class AccountListView(generics.ListAPIView):
    """The accounts you may see."""

    serializer_class = AccountSerializer
    pagination_class = Pages

    def get_queryset(self) -> Any:
        return visible_accounts(self.request.user)

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "user": self.request.user}


class AccountDetailView(APIView):
    @extend_schema(responses=AccountSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """One account with its balances."""
        account = get_object_or_404(visible_accounts(request.user), pk=pk)
        return Response(AccountSerializer(account, context={"user": request.user}).data)


class ModeSerializer(StrictSerializer):
    mode = serializers.ChoiceField(Mode.choices)
    confirm_name = serializers.CharField(
        required=False, default="", allow_blank=True, max_length=60, help_text="the account's name, to trade for real"
    )


class AccountModeView(APIView):
    @extend_schema(request=ModeSerializer, responses=AccountSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Trade on paper or for real from now on; for managers of the account. Refused (409) while anything is open."""
        account = get_object_or_404(visible_accounts(request.user), pk=pk)
        if not may_manage(request.user, account):
            raise PermissionDenied(f"only a manager of {account.name} may switch it between paper and real")
        serializer = ModeSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        switched = account_mode_set(account=account, actor=request.user.get_username(), **serializer.validated_data)
        return Response(AccountSerializer(switched, context={"user": request.user}).data)


class AccountEquityView(APIView):
    @extend_schema(parameters=[MODE], responses=EquityPointSerializer(many=True))
    def get(self, request: Request, pk: int) -> Response:
        """The equity curve, oldest first."""
        account = get_object_or_404(visible_accounts(request.user), pk=pk)
        return Response(EquityPointSerializer(equity_curve(account, wanted_mode(request)), many=True).data)


class PositionListView(generics.ListAPIView):
    serializer_class = PositionSerializer
    pagination_class = Pages

    @extend_schema(parameters=[ACCOUNT, SYMBOL, MODE])
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """Open positions."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        return chosen(
            self.request, visible_positions(self.request.user, wanted_mode(self.request)), "instrument__symbol"
        )


class PositionDetailView(APIView):
    @extend_schema(operation_id="positions_of_symbol", parameters=[ACCOUNT], responses=PositionSerializer(many=True))
    def get(self, request: Request, symbol: str) -> Response:
        """Open positions in one symbol, of every account you may see (or of the one that ``account`` names)."""
        rows = chosen(request, visible_positions(request.user), "instrument__symbol").filter(instrument__symbol=symbol)
        return Response(PositionSerializer(rows, many=True).data)
