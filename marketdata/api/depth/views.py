from __future__ import annotations

import time
from datetime import timedelta
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import redis
from django.http import Http404, StreamingHttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.permissions import SAFE_METHODS, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from marketdata.api.depth import answers, export
from marketdata.api.depth.parameters import (
    DEPTH_PARAMETER,
    MARKET_PARAMETER,
    SYMBOL_PARAMETER,
    TIME_PARAMETERS,
    choice_of,
    depth_of,
    market_of,
    number_of,
    span_of,
    symbol_of,
)
from marketdata.api.depth.serializers import (
    AddedSymbolsSerializer,
    ChangedSymbolsSerializer,
    CollectorSerializer,
    CurrentBookSerializer,
    DepthSerializer,
    HistorySerializer,
    IngestedSerializer,
    IngestSerializer,
    PointSerializer,
    SnapshotPageSerializer,
    StatsSerializer,
    SymbolsSerializer,
)
from marketdata.api.rate_limit import RateLimited
from marketdata.depth import selectors, services
from marketdata.depth.current import as_of
from marketdata.depth.indicators import market_difference_percent
from marketdata.depth.snapshots import DEPTH_TEXTS, Market

MOST_ROWS = 5_000
ALL_MINUTES = timedelta(days=62)
MOST_POINTS = timedelta(days=7)
AGGREGATES_SPAN = {"1h": timedelta(days=92), "1d": timedelta(days=3_660)}
TYPES = {"spot": (Market.SPOT,), "futures": (Market.FUTURES,), "all": (Market.SPOT, Market.FUTURES)}


class DepthSilent(APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "this book is not collected right now; see /api/v1/collector"


class StaffWrites(BasePermission):
    """Market data is for everybody who is logged in; what is collected is for staff to say."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.method in SAFE_METHODS or bool(request.user and request.user.is_staff)


class DepthView(RateLimited):
    permission_classes = (IsAuthenticated, StaffWrites)


def newest_book(market: Market, symbol: str) -> dict[str, Any] | None:
    try:
        book = selectors.hot().latest(market, symbol)
    except redis.RedisError as error:
        raise DepthSilent("Valkey, which holds the newest books, does not answer") from error
    return None if book is None else as_of(book, time.time() * 1000)


class CurrentBookView(DepthView):
    market = Market.SPOT

    @extend_schema(
        parameters=[SYMBOL_PARAMETER],
        responses=CurrentBookSerializer,
        examples=[OpenApiExample("BTCUSDT", value=answers.BOOK_EXAMPLE, response_only=True)],
    )
    def get(self, request: Request) -> Response:
        """The book now: best prices, the top 20 of each side, all six depths and their differences."""
        book = newest_book(self.market, symbol_of(request))
        if book is None:
            raise DepthSilent
        return Response(book)


class DepthOfSymbolView(DepthView):
    @extend_schema(
        parameters=[SYMBOL_PARAMETER, DEPTH_PARAMETER, OpenApiParameter("type", str, enum=list(TYPES))],
        responses=DepthSerializer,
        examples=[OpenApiExample("both markets", value=answers.DEPTH_EXAMPLE, response_only=True)],
    )
    def get(self, request: Request) -> Response:
        """One depth of a symbol now, on spot, on futures, or on both with their difference."""
        symbol, depth = symbol_of(request), depth_of(request)
        markets = TYPES[choice_of(request, "type", TYPES, "all")]
        books = {market: book for market in markets if (book := newest_book(market, symbol)) is not None}
        if not books:
            raise DepthSilent
        volumes = {market: answers.volume_in(book, depth) for market, book in books.items()}
        body: dict[str, Any] = {
            "symbol": symbol,
            "depth": DEPTH_TEXTS[depth],
            "markets": [answers.market_depth(books[market], volume) for market, volume in volumes.items()],
        }
        if len(volumes) == 2:
            spot, futures = volumes[Market.SPOT], volumes[Market.FUTURES]
            body["futuresOverSpotPercent"] = {
                "bid": answers.plain(market_difference_percent(spot.bid_volume, futures.bid_volume)),
                "ask": answers.plain(market_difference_percent(spot.ask_volume, futures.ask_volume)),
            }
        return Response(body)


class ChartDataView(DepthView):
    @extend_schema(
        parameters=[
            SYMBOL_PARAMETER,
            MARKET_PARAMETER,
            DEPTH_PARAMETER,
            OpenApiParameter("type", str, enum=["bid", "ask"], description="none: the mean of both sides"),
            *TIME_PARAMETERS,
        ],
        responses=PointSerializer(many=True),
        examples=[OpenApiExample("points", value=[{"time": 1789473600, "value": 1184.25}], response_only=True)],
    )
    def get(self, request: Request) -> Response:
        """Minutes as a chart takes them, the earliest first; at most seven days at once."""
        symbol, depth, market = symbol_of(request), depth_of(request), market_of(request) or Market.SPOT
        side = choice_of(request, "type", ("bid", "ask", "both"), "both")
        rows = selectors.depth_minutes(symbol, market, depth, *span_of(request, MOST_POINTS))
        return Response([{"time": minute, "value": answers.side_value(volume, side)} for minute, volume in rows])


class SnapshotsView(DepthView):
    @extend_schema(
        parameters=[
            SYMBOL_PARAMETER,
            MARKET_PARAMETER,
            DEPTH_PARAMETER,
            *TIME_PARAMETERS,
            OpenApiParameter("limit", int, description=f"1 to {MOST_ROWS}; default 1000"),
        ],
        responses=SnapshotPageSerializer,
        examples=[OpenApiExample("a page", value=answers.PAGE_EXAMPLE, response_only=True)],
    )
    def get(self, request: Request) -> Response:
        """Minutes with all their volumes, the earliest first; ``next`` is where it goes on."""
        symbol, depth, market = symbol_of(request), depth_of(request), market_of(request) or Market.SPOT
        limit = number_of(request, "limit", 1_000, MOST_ROWS)
        start, end = span_of(request, ALL_MINUTES)
        if end - start <= timedelta(days=1):
            rows = selectors.depth_minutes(symbol, market, depth, start, end)[: limit + 1]
        else:
            days = selectors.stored_days(symbol, market, depth, start, end)
            rows = list(islice((row for day in days for row in day), limit + 1))
        body = {
            "symbol": symbol,
            "marketType": market.value,
            "depth": DEPTH_TEXTS[depth],
            "results": [answers.snapshot(minute, volume) for minute, volume in rows[:limit]],
            "next": None,
        }
        if len(rows) > limit:
            goes_on = {"from": rows[limit][0], "to": int(end.timestamp())}
            asked = {**request.query_params.dict(), **goes_on}
            body["next"] = request.build_absolute_uri(f"{request.path}?{urlencode(asked)}")
        return Response(body)

    @extend_schema(
        request=IngestSerializer,
        responses=IngestedSerializer,
        examples=[OpenApiExample("one minute", value=answers.INGEST_EXAMPLE, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        """Store minutes from elsewhere, at most 1,000 at once. One that is known stays as it is: sending it again
        changes nothing. For staff."""
        serializer = IngestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        snapshots = serializer.values()
        return Response({"received": len(snapshots), "stored": services.depth_rows_store(snapshots)})


class ExportView(DepthView):
    @extend_schema(
        parameters=[
            SYMBOL_PARAMETER,
            MARKET_PARAMETER,
            DEPTH_PARAMETER,
            *TIME_PARAMETERS,
            OpenApiParameter("as", str, enum=list(export.FORMATS), description="csv"),
        ],
        responses={(200, "text/csv"): str, (200, "application/json"): SnapshotPageSerializer},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """All minutes of a span as a file, streamed: timestamp, bid volume, ask volume, and their values."""
        symbol, depth, market = symbol_of(request), depth_of(request), market_of(request) or Market.SPOT
        file_format = choice_of(request, "as", export.FORMATS, "csv")
        start, end = span_of(request, ALL_MINUTES)
        days = selectors.stored_days(symbol, market, depth, start, end)
        content_type, lines = export.FORMATS[file_format]
        name = f"{symbol}-{market.value}-{DEPTH_TEXTS[depth]}.{file_format}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingHttpResponse(export.streamed(lines(days)), content_type=content_type, headers=headers)


class HistoryView(DepthView):
    @extend_schema(
        parameters=[
            SYMBOL_PARAMETER,
            MARKET_PARAMETER,
            DEPTH_PARAMETER,
            OpenApiParameter("interval", str, enum=list(selectors.INTERVALS), description="1h"),
            *TIME_PARAMETERS,
        ],
        responses=HistorySerializer,
        examples=[OpenApiExample("an hour", value=answers.HISTORY_EXAMPLE, response_only=True)],
    )
    def get(self, request: Request) -> Response:
        """Hours or days with mean, least and largest volumes, kept for ever."""
        symbol, depth, market = symbol_of(request), depth_of(request), market_of(request) or Market.SPOT
        interval = choice_of(request, "interval", selectors.INTERVALS, "1h")
        longest = AGGREGATES_SPAN[interval]
        start, end = span_of(request, longest, default=min(longest, timedelta(days=365 if interval == "1d" else 7)))

        def read() -> list[dict[str, Any]]:
            rows = selectors.depth_aggregates(symbol, market, depth, interval, start, end)
            return [answers.bucket(row) for row in rows]

        # A span to now moves with every second; its buckets do not.
        key = f"history:{symbol}:{market}:{depth}:{interval}:{answers.minute_text(start)}:{answers.minute_text(end)}"
        return Response(
            {
                "symbol": symbol,
                "marketType": market.value,
                "depth": DEPTH_TEXTS[depth],
                "interval": interval,
                "results": answers.cached(key, answers.HISTORY_SECONDS, read),
            }
        )


class StatsView(DepthView):
    @extend_schema(parameters=[SYMBOL_PARAMETER, MARKET_PARAMETER], responses=StatsSerializer)
    def get(self, request: Request) -> Response:
        """How much there is of a symbol; without a market, of all of them."""
        symbol, market = symbol_of(request), market_of(request, default=None)

        def read() -> dict[str, Any]:
            found = selectors.depth_stats(symbol, market)
            return {
                "symbol": symbol,
                "marketType": market.value if market else None,
                "totalSnapshots": found.snapshots,
                "oldest": found.oldest,
                "newest": found.newest,
                "dataAvailableDays": found.days,
            }

        return Response(answers.cached(f"stats:{symbol}:{market}", answers.STATS_SECONDS, read))


class CollectorView(DepthView):
    @extend_schema(responses=CollectorSerializer)
    def get(self, request: Request) -> Response:
        """What is collected, how it goes, and when a book last came."""
        return Response(selectors.collector_status())

    @extend_schema(request=None, responses=CollectorSerializer)
    def post(self, request: Request) -> Response:
        """Start collecting. For staff."""
        return self._switch(request, running=True)

    @extend_schema(request=None, responses=CollectorSerializer)
    def delete(self, request: Request) -> Response:
        """Stop collecting; what is stored stays. For staff."""
        return self._switch(request, running=False)

    def _switch(self, request: Request, *, running: bool) -> Response:
        services.collector_switch(running=running, actor=request.user.get_username())
        return Response(selectors.collector_status())


class CollectorSymbolsView(DepthView):
    @extend_schema(
        request=AddedSymbolsSerializer,
        responses=ChangedSymbolsSerializer,
        examples=[
            OpenApiExample("two", value={"symbols": ["BTCUSDT", "ETHUSDT"], "source": "rest"}, request_only=True)
        ],
    )
    def post(self, request: Request) -> Response:
        """Collect symbols, on spot and futures where these list them: by REST once a minute, or by stream with every
        change. For staff."""
        serializer = AddedSymbolsSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        actor = request.user.get_username()
        return Response({"changed": services.collector_symbols_add(**serializer.validated_data, actor=actor)})

    @extend_schema(request=SymbolsSerializer, responses=ChangedSymbolsSerializer)
    def delete(self, request: Request) -> Response:
        """Collect symbols no more; their history stays. For staff."""
        serializer = SymbolsSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        symbols = serializer.validated_data["symbols"]
        changed = services.collector_symbols_remove(symbols=symbols, actor=request.user.get_username())
        if not changed:
            raise Http404
        return Response({"changed": changed})
