from __future__ import annotations

import re
from datetime import UTC
from typing import Any

from django.http import Http404
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketdata import selectors
from marketdata.api.serializers import (
    CandleSerializer,
    FeedEventSerializer,
    InstrumentSerializer,
    OrderBookSerializer,
    TickerSerializer,
)
from marketdata.events import FeedEventKind

MOST_CANDLES = 1_000
MOST_LEVELS = 25
MOST_EVENTS = 500


class MarketSilent(APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "no engine feeds this market now; try again in a moment"


def known_symbol(symbol: str) -> str:
    if selectors.instrument_by_symbol(symbol) is None:
        raise Http404
    return symbol


def newest_frame(symbol: str) -> dict[str, Any]:
    try:
        frame = selectors.latest_frame(known_symbol(symbol))
    except selectors.MarketUnavailable as error:
        raise MarketSilent(str(error)) from error
    if frame is None:
        raise MarketSilent
    return frame


def whole_number(request: Request, name: str, default: int, largest: int) -> int:
    text = request.query_params.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= largest:
        raise serializers.ValidationError({name: [f"{text[:50]} is not a whole number from 1 to {largest}"]})
    return int(text)


class SymbolsView(APIView):
    @extend_schema(responses=InstrumentSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The instruments that can be traded, with their grids and limits."""
        return Response(InstrumentSerializer(selectors.instruments(), many=True).data)


class TickerView(APIView):
    @extend_schema(responses=TickerSerializer)
    def get(self, request: Request, symbol: str) -> Response:
        """The newest prices of one symbol."""
        frame = newest_frame(symbol)
        data = frame["data"]
        values: dict[str, Any] = {name: data.get(name) for name in TickerSerializer().get_fields()}
        values["bid"] = data["bids"][0][0] if data["bids"] else None
        values["ask"] = data["asks"][0][0] if data["asks"] else None
        values["timestamp"] = frame["timestamp"]
        return Response(values)


class OrderBookView(APIView):
    @extend_schema(
        parameters=[OpenApiParameter("depth", int, description=f"levels a side, 1 to {MOST_LEVELS}")],
        responses=OrderBookSerializer,
    )
    def get(self, request: Request, symbol: str) -> Response:
        """The best levels of one book. Trust them only while ``state`` is LIVE."""
        depth = whole_number(request, "depth", MOST_LEVELS, MOST_LEVELS)
        frame = newest_frame(symbol)
        data = frame["data"]
        return Response(
            {
                "symbol": symbol,
                "state": data["state"],
                "state_reason": data["state_reason"],
                "u": data["u"],
                "bids": data["bids"][:depth],
                "asks": data["asks"][:depth],
                "timestamp": frame["timestamp"],
            }
        )


class CandlesView(APIView):
    @extend_schema(
        parameters=[
            OpenApiParameter("interval", str, enum=selectors.INTERVALS, description="minutes"),
            OpenApiParameter("limit", int, description=f"1 to {MOST_CANDLES}"),
            OpenApiParameter("before", str, description="ISO 8601: only candles that start before"),
        ],
        responses=CandleSerializer(many=True),
    )
    def get(self, request: Request, symbol: str) -> Response:
        """Closed candles, oldest first."""
        interval = request.query_params.get("interval", "1")
        if interval not in selectors.INTERVALS:
            rule = f"{interval} is not one of {', '.join(selectors.INTERVALS)}"
            raise serializers.ValidationError({"interval": [rule]})
        limit = whole_number(request, "limit", 500, MOST_CANDLES)
        before = self._moment(request.query_params.get("before"))
        rows = selectors.candles(known_symbol(symbol), interval, limit, before)
        return Response(CandleSerializer(rows, many=True).data)

    def _moment(self, text: str | None) -> Any:
        if not text:
            return None
        try:
            moment = parse_datetime(text)
            # The calendar's first and last day are not in every zone.
            moment = moment.astimezone(UTC) if moment is not None and moment.tzinfo is not None else None
        except (ValueError, OverflowError):
            moment = None
        if moment is None:
            rule = f"{text} is not an ISO 8601 time with its zone, like 2026-01-31T12:00:00Z"
            raise serializers.ValidationError({"before": [rule]})
        return moment


class FeedEventsView(APIView):
    @extend_schema(
        parameters=[
            OpenApiParameter("symbol", str, description="only events of this symbol"),
            OpenApiParameter("kind", str, enum=[kind.value for kind in FeedEventKind]),
            OpenApiParameter("limit", int, description=f"1 to {MOST_EVENTS}"),
        ],
        responses=FeedEventSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """What happened to market feeds in the last 14 days, newest first."""
        symbol, kind = request.query_params.get("symbol"), request.query_params.get("kind")
        if symbol is not None:
            known_symbol(symbol)
        if kind is not None and kind not in list(FeedEventKind):
            raise serializers.ValidationError({"kind": [f"{kind[:50]} is not one of {', '.join(FeedEventKind)}"]})
        rows = selectors.feed_events(symbol, kind, whole_number(request, "limit", 100, MOST_EVENTS))
        return Response(FeedEventSerializer(rows, many=True).data)
