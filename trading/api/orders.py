from __future__ import annotations

import re
from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import generics, serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from risk.intents import CLIENT_ORDER_ID
from trading.api.idempotency import IDEMPOTENCY_KEY, idempotent
from trading.api.pagination import Pages
from trading.api.refusals import RefusalsRecorded
from trading.crash_points import reach
from trading.lifecycle import OrderState
from trading.models import Account, Mode, Order
from trading.models.order import Side
from trading.permissions import may_trade
from trading.selectors import visible_accounts, visible_fills, visible_orders, visible_signals
from trading.serializers import FillSerializer, OrderSerializer, SignalSerializer
from trading.services.amendments import order_amend_request
from trading.services.orders import order_cancel_request, order_place

DIGITS = 36
# Python's Decimal also reads other scripts' digits and 1_0: of an order that would be a guess.
PLAIN_NUMBER = re.compile(r"\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?\s*")


class StrictSerializer(serializers.Serializer):
    """Refuses fields it does not know: a misspelt ``stop_los`` must not become an order without a stop."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = set(data) - set(self.fields)
            if unknown:
                known = ", ".join(self.fields)
                raise serializers.ValidationError({name: [f"unknown field; known are {known}"] for name in unknown})
        return super().to_internal_value(data)


class PlainNumberField(serializers.DecimalField):
    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not PLAIN_NUMBER.fullmatch(str(data)[: self.MAX_STRING_LENGTH]):
            self.fail("invalid")
        return super().to_internal_value(data)

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        # DRF takes "" for null here; an order whose stop is "" has lost it on the way.
        return (False, data) if isinstance(data, str) else super().validate_empty_values(data)


def price_field(**options: Any) -> serializers.DecimalField:
    """A decimal as it was written: the instrument's grid says how many decimals are right, and names the value."""
    return PlainNumberField(max_digits=DIGITS, decimal_places=None, **options)


class OrderRequestSerializer(StrictSerializer):
    account = serializers.IntegerField(required=False, help_text="may be left out by users of exactly one account")
    symbol = serializers.CharField(max_length=32)
    side = serializers.ChoiceField(Side.choices)
    order_type = serializers.ChoiceField(["Market", "Limit"])
    quantity = price_field(help_text="base coin, a multiple of the lot size")
    price = price_field(required=False, allow_null=True, help_text="limit orders only, a multiple of the tick size")
    time_in_force = serializers.ChoiceField(["GTC", "IOC", "FOK", "PostOnly"], default="GTC")
    reduce_only = serializers.BooleanField(default=False)
    take_profit = price_field(required=False, allow_null=True)
    stop_loss = price_field(required=False, allow_null=True)
    client_order_id = serializers.CharField(required=False, max_length=36, help_text="36 of [A-Za-z0-9_-]")
    reason = serializers.CharField(required=False, default="", max_length=500, allow_blank=True)

    def validate_client_order_id(self, value: str) -> str:
        if not re.fullmatch(CLIENT_ORDER_ID, value):
            raise serializers.ValidationError("must be 1 to 36 of the characters A-Z a-z 0-9 _ -")
        return value


def account_to_trade(user: Any, account_id: int | None) -> Account:
    """The account an order is for. Another tenant's does not exist; a viewer's is forbidden."""
    visible = visible_accounts(user)
    if account_id is None:
        candidates = list(visible[:2])
        if len(candidates) != 1:
            raise serializers.ValidationError({"account": ["name the account; you see more than one, or none"]})
        account = candidates[0]
    else:
        account = get_object_or_404(visible, pk=account_id)
    if not may_trade(user, account):
        raise PermissionDenied(f"you may see {account.name} but not trade on it; its manager can change that")
    return account


class OrderAmendSerializer(StrictSerializer):
    quantity = price_field(required=False, help_text="base coin, what is filled already counted")
    price = price_field(required=False)
    reason = serializers.CharField(required=False, default="", max_length=500, allow_blank=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not {"quantity", "price"} & set(attrs):
            raise serializers.ValidationError({"quantity": ["name a quantity, a price, or both"]})
        return attrs


class OrderCreateView(RefusalsRecorded):
    @extend_schema(
        parameters=[IDEMPOTENCY_KEY],
        request=OrderRequestSerializer,
        responses={201: OrderSerializer, 200: OrderSerializer},
        examples=[
            OpenApiExample(
                "limit order",
                value={
                    "account": 1,
                    "symbol": "BTCUSDT",
                    "side": "Buy",
                    "order_type": "Limit",
                    "quantity": "0.010",
                    "price": "60000.0",
                    "time_in_force": "PostOnly",
                    "client_order_id": "my-bot-000001",
                },
                request_only=True,
            )
        ],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Place an order. It is recorded at once (201) and sent by the engine that owns the account; repeat a request
        with the same ``client_order_id`` as often as you like: the answer is the first order (200)."""
        serializer = OrderRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        values = dict(serializer.validated_data)
        account = account_to_trade(request.user, values.pop("account", None))
        before = (
            values.get("client_order_id")
            and Order.objects.filter(account=account, client_order_id=values["client_order_id"]).exists()
        )
        order = order_place(account=account, actor=request.user.get_username(), **values)
        reach("api.committed")
        code = status.HTTP_200_OK if before else status.HTTP_201_CREATED
        return Response(OrderSerializer(order).data, status=code)


MODE = OpenApiParameter(
    "mode", str, enum=Mode.values, description="the books of this mode; left out: of the one that each account is in"
)


def wanted_mode(request: Request) -> str | None:
    """Whose books are asked for; None: those of the mode that each account is in."""
    mode = request.query_params.get("mode")
    if mode is not None and mode not in Mode.values:
        raise serializers.ValidationError({"mode": [f"{mode[:50]} is no mode; expected {' or '.join(Mode.values)}"]})
    return mode


class OrderDetailView(RefusalsRecorded):
    meant = "order"

    @extend_schema(parameters=[MODE], responses=OrderSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """One order."""
        rows = visible_orders(request.user, wanted_mode(request))
        return Response(OrderSerializer(get_object_or_404(rows, pk=pk)).data)

    @extend_schema(parameters=[IDEMPOTENCY_KEY], request=OrderAmendSerializer, responses={202: OrderSerializer})
    @idempotent
    def patch(self, request: Request, pk: int) -> Response:
        """Ask for another price or quantity of a working limit order; the order says how it ended. Its engine checks
        the risk of what is added and asks the venue; until the outcome is proven the larger of both counts."""
        order = get_object_or_404(visible_orders(request.user), pk=pk)
        if not may_trade(request.user, order.account):
            raise PermissionDenied("you may see this order but not change it")
        serializer = OrderAmendSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        order = order_amend_request(order=order, actor=request.user.get_username(), **serializer.validated_data)
        return Response(OrderSerializer(order).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(parameters=[IDEMPOTENCY_KEY], request=None, responses={202: OrderSerializer})
    @idempotent
    def delete(self, request: Request, pk: int) -> Response:
        """Ask for a cancel; the order says how it ended."""
        order = get_object_or_404(visible_orders(request.user), pk=pk)
        if not may_trade(request.user, order.account):
            raise PermissionDenied("you may see this order but not cancel it")
        order = order_cancel_request(order=order, actor=request.user.get_username())
        return Response(OrderSerializer(order).data, status=status.HTTP_202_ACCEPTED)


ACCOUNT = OpenApiParameter("account", int, description="only of this account")
SYMBOL = OpenApiParameter("symbol", str, description="only of this symbol")


def chosen(request: Request, rows: Any, symbol_path: str) -> Any:
    """Rows narrowed by ``account`` and ``symbol``."""
    symbol = request.query_params.get("symbol")
    rows = of_account(request, rows)
    return rows.filter(**{symbol_path: symbol}) if symbol else rows


def of_account(request: Request, rows: Any) -> Any:
    """Rows narrowed by ``account``."""
    account = request.query_params.get("account")
    if not account:
        return rows
    if not re.fullmatch(r"[0-9]{1,30}", account):
        raise serializers.ValidationError({"account": [f"{account[:50]} is not an account's number"]})
    return rows.filter(account_id=int(account))


class OrderListView(generics.ListAPIView):
    serializer_class = OrderSerializer
    pagination_class = Pages

    @extend_schema(parameters=[ACCOUNT, SYMBOL, MODE, OpenApiParameter("state", str, description="a state, or live")])
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """Orders, newest first."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        rows = chosen(self.request, visible_orders(self.request.user, wanted_mode(self.request)), "instrument__symbol")
        state = self.request.query_params.get("state")
        if not state:
            return rows
        if state == "live":
            return rows.filter(state__in=Order.live_states())
        known = [state.value for state in OrderState]
        if state not in known:
            raise serializers.ValidationError({"state": [f"{state} is no state; known are live, {', '.join(known)}"]})
        return rows.filter(state=state)


class FillListView(generics.ListAPIView):
    serializer_class = FillSerializer
    pagination_class = Pages

    @extend_schema(parameters=[ACCOUNT, SYMBOL, MODE])
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """Our executions, newest first."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        return chosen(self.request, visible_fills(self.request.user, wanted_mode(self.request)), "instrument__symbol")


class SignalListView(generics.ListAPIView):
    serializer_class = SignalSerializer
    pagination_class = Pages

    @extend_schema(parameters=[ACCOUNT, SYMBOL, MODE])
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """What strategies wanted and what became of it, newest first."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        return chosen(self.request, visible_signals(self.request.user, wanted_mode(self.request)), "symbol")
