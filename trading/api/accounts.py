from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from trading.api.orders import ACCOUNT, SYMBOL, chosen
from trading.api.pagination import Pages
from trading.selectors import equity_curve, visible_accounts, visible_positions
from trading.serializers import AccountSerializer, EquityPointSerializer, PositionSerializer


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


class AccountEquityView(APIView):
    @extend_schema(responses=EquityPointSerializer(many=True))
    def get(self, request: Request, pk: int) -> Response:
        """The equity curve, oldest first."""
        account = get_object_or_404(visible_accounts(request.user), pk=pk)
        return Response(EquityPointSerializer(equity_curve(account), many=True).data)


class PositionListView(generics.ListAPIView):
    serializer_class = PositionSerializer
    pagination_class = Pages

    @extend_schema(parameters=[ACCOUNT, SYMBOL])
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """Open positions."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        return chosen(self.request, visible_positions(self.request.user), "instrument__symbol")


class PositionDetailView(APIView):
    @extend_schema(operation_id="positions_of_symbol", parameters=[ACCOUNT], responses=PositionSerializer(many=True))
    def get(self, request: Request, symbol: str) -> Response:
        """Open positions in one symbol, of every account you may see (or of the one that ``account`` names)."""
        rows = chosen(request, visible_positions(request.user), "instrument__symbol").filter(instrument__symbol=symbol)
        return Response(PositionSerializer(rows, many=True).data)
