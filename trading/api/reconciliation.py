from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from trading.api.alerts import moment, one_of
from trading.api.orders import ACCOUNT, StrictSerializer, of_account
from trading.api.pagination import Pages
from trading.models import AccountReconciliation
from trading.permissions import may_manage, may_trade
from trading.reconciliation import DifferenceKind
from trading.selectors import (
    coin_balances_of,
    comparison_of,
    visible_accounts,
    visible_discrepancies,
    visible_ledger,
    visible_runs,
)
from trading.serializers import (
    AccountReconciliationSerializer,
    CoinBalanceSerializer,
    DiscrepancySerializer,
    LedgerEntrySerializer,
    ReconciliationRunSerializer,
)
from trading.services.reconciliations import discrepancy_resolve, foreign_orders_set, reconciliation_request

STATES = ("open", "resolved")
KINDS = [str(kind) for kind in DifferenceKind]


class DiscrepancyListView(generics.ListAPIView):
    serializer_class = DiscrepancySerializer
    pagination_class = Pages

    @extend_schema(
        parameters=[
            ACCOUNT,
            OpenApiParameter("kind", str, enum=KINDS),
            OpenApiParameter("state", str, enum=STATES),
            OpenApiParameter("since", str, description="seen again since this time, with its offset from UTC"),
        ]
    )
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """Differences between our records and the venue's, of the accounts you may see; the newest first."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        asked = self.request.query_params
        rows = of_account(self.request, visible_discrepancies(self.request.user))
        if kind := asked.get("kind"):
            rows = rows.filter(kind=one_of("kind", kind, KINDS))
        if state := asked.get("state"):
            rows = rows.filter(resolved_at__isnull=one_of("state", state, STATES) == "open")
        if since := asked.get("since"):
            rows = rows.filter(last_seen_at__gte=moment("since", since))
        return rows


class ReconciliationRunListView(generics.ListAPIView):
    serializer_class = ReconciliationRunSerializer
    pagination_class = Pages

    @extend_schema(parameters=[ACCOUNT])
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """Comparisons with the venue, of the accounts you may see; the newest first."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        return of_account(self.request, visible_runs(self.request.user))


class ResolveSerializer(StrictSerializer):
    reason = serializers.CharField(max_length=500, help_text="what it was; it goes on the trail")


class DiscrepancyResolveView(APIView):
    @extend_schema(request=ResolveSerializer, responses=DiscrepancySerializer)
    def post(self, request: Request, pk: int) -> Response:
        """You have settled a difference that does not end by itself. For managers of the account."""
        row = get_object_or_404(visible_discrepancies(request.user).select_related("account"), pk=pk)
        if not may_manage(request.user, row.account):
            raise PermissionDenied(f"only a manager of {row.account.name} may settle its differences")
        serializer = ResolveSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        reason = serializer.validated_data["reason"]
        row = discrepancy_resolve(discrepancy=row, actor=request.user.get_username(), reason=reason)
        return Response(DiscrepancySerializer(row).data)


class ReconcileView(APIView):
    @extend_schema(request=None, responses={202: AccountReconciliationSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """Compare the account with the venue now, its ledger too. For traders of the account. Its owner does it within
        moments, or a worker within ten seconds; the outcome is in ``reconciliation/runs``."""
        account = get_object_or_404(visible_accounts(request.user), pk=pk)
        if not may_trade(request.user, account):
            raise PermissionDenied(f"you may see {account.name} but not have it compared; a trader of the account can")
        state = reconciliation_request(account=account, actor=request.user.get_username())
        return Response(AccountReconciliationSerializer(state).data, status=status.HTTP_202_ACCEPTED)


class PolicySerializer(StrictSerializer):
    foreign_orders = serializers.ChoiceField(AccountReconciliation.ForeignOrders.choices)


class ReconciliationPolicyView(APIView):
    @extend_schema(responses=AccountReconciliationSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """How the account is compared with the venue, and how that goes."""
        account = get_object_or_404(visible_accounts(request.user), pk=pk)
        return Response(AccountReconciliationSerializer(comparison_of(account)).data)

    @extend_schema(request=PolicySerializer, responses=AccountReconciliationSerializer)
    def put(self, request: Request, pk: int) -> Response:
        """Choose what becomes of orders at the venue that are not ours; for managers of the account."""
        account = get_object_or_404(visible_accounts(request.user), pk=pk)
        if not may_manage(request.user, account):
            raise PermissionDenied(f"only a manager of {account.name} may choose what becomes of foreign orders")
        serializer = PolicySerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        policy = serializer.validated_data["foreign_orders"]
        state = foreign_orders_set(account=account, policy=policy, actor=request.user.get_username())
        return Response(AccountReconciliationSerializer(state).data)


class LedgerView(generics.ListAPIView):
    serializer_class = LedgerEntrySerializer
    pagination_class = Pages

    @extend_schema(
        parameters=[
            ACCOUNT,
            OpenApiParameter("kind", str, description="the venue's word, like TRADE or SETTLEMENT (funding)"),
            OpenApiParameter("currency", str),
            OpenApiParameter("symbol", str),
        ]
    )
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """Every movement of money as the venue booked it, of the accounts you may see; the newest first."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        rows = of_account(self.request, visible_ledger(self.request.user))
        asked = {name: self.request.query_params.get(name) for name in ("kind", "currency", "symbol")}
        return rows.filter(**{name: value for name, value in asked.items() if value})


class BalancesView(APIView):
    @extend_schema(responses=CoinBalanceSerializer(many=True))
    def get(self, request: Request, pk: int) -> Response:
        """Each coin of the account: what the venue says, and what opening balance and ledger explain."""
        account = get_object_or_404(visible_accounts(request.user), pk=pk)
        return Response(CoinBalanceSerializer(coin_balances_of(account), many=True).data)
