from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.generics import ListAPIView
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketdata import selectors
from marketdata.api.serializers import (
    CandleSerializer,
    DetectionSerializer,
    FeedEventSerializer,
    InstrumentSerializer,
    OrderBookSerializer,
    TickerSerializer,
)
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.events import FeedEventKind
from marketdata.models import Detection

MOST_CANDLES = 1_000
MOST_LEVELS = 25
MOST_EVENTS = 500
MOST_DETECTIONS = 500


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


def moment(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        found = parse_datetime(text)
        # The calendar's first and last day are not in every zone.
        found = found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        found = None
    if found is None:
        rule = f"{text[:50]} is not an ISO 8601 time with its zone, like 2026-01-31T12:00:00Z"
        raise serializers.ValidationError({name: [rule]})
    return found


def one_of(request: Request, name: str, allowed: Iterable[str]) -> str | None:
    text = request.query_params.get(name)
    if text is not None and text not in allowed:
        raise serializers.ValidationError({name: [f"{text[:50]} is not one of {', '.join(allowed)}"]})
    return text


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
        before = moment(request, "before")
        rows = selectors.candles(known_symbol(symbol), interval, limit, before)
        return Response(CandleSerializer(rows, many=True).data)


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
        symbol, kind = request.query_params.get("symbol"), one_of(request, "kind", list(FeedEventKind))
        if symbol is not None:
            known_symbol(symbol)
        rows = selectors.feed_events(symbol, kind, whole_number(request, "limit", 100, MOST_EVENTS))
        return Response(FeedEventSerializer(rows, many=True).data)


class DetectionPages(CursorPagination):
    """Newest first; ``next`` goes on where a page ended, whatever was detected meanwhile."""

    ordering = ("-detected_at", "-id")
    page_size = 100
    page_size_query_param = "limit"
    max_page_size = MOST_DETECTIONS


class DetectionsView(ListAPIView):
    serializer_class = DetectionSerializer
    pagination_class = DetectionPages

    @extend_schema(
        parameters=[
            OpenApiParameter("symbol", str, description="only detections of this symbol"),
            OpenApiParameter("kind", str, enum=list(DetectionKind.__members__)),
            OpenApiParameter("since", str, description="ISO 8601: only what was detected at this venue time or later"),
            OpenApiParameter("limit", int, description=f"on a page, 1 to {MOST_DETECTIONS}"),
        ]
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """What the engine saw in books and trades, newest first: hints with evidence, not proof."""
        return self.list(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Detection]:
        whole_number(self.request, "limit", 100, MOST_DETECTIONS)
        kind, since = one_of(self.request, "kind", DetectionKind.__members__), moment(self.request, "since")
        symbol = self.request.query_params.get("symbol")
        return selectors.detections(None if symbol is None else known_symbol(symbol), kind, since)
