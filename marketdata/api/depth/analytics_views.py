from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import orjson
import redis
from django.http import Http404, HttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from marketdata.api.depth import answers
from marketdata.api.depth.parameters import (
    DEPTH_PARAMETER,
    MARKET_PARAMETER,
    SYMBOL_PARAMETER,
    TIME_PARAMETERS,
    choice_of,
    depth_of,
    known,
    market_of,
    number_of,
    refuse,
    span_of,
    symbol_of,
    symbol_text,
)
from marketdata.api.depth.serializers import (
    CorrelationSerializer,
    GroupsNowSerializer,
    GroupsSerializer,
    HeatmapSerializer,
    SpreadSerializer,
)
from marketdata.api.depth.views import VALKEY_IS_AWAY, DepthSilent, DepthView, KeptView
from marketdata.depth import selectors
from marketdata.depth.heat import heat_map
from marketdata.depth.indicators import group_volumes, rolling_correlations
from marketdata.depth.snapshots import DAY, DEPTH_TEXTS, MINUTE, DepthVolume, Market

MOST_COMPARED = 20
MOST_HEAT_ROWS, MOST_HEAT_COLUMNS = 200, 720
HEAT_SPAN = timedelta(days=14)
# What can be asked for at once: some ten thousand rows at most.
MINUTES = "1m"
GROUPS_SPAN = {MINUTES: timedelta(hours=6), "1h": timedelta(days=14), "1d": timedelta(days=732)}
SPREAD_SPAN = {MINUTES: timedelta(days=7), "1h": timedelta(days=92), "1d": timedelta(days=3_660)}
DEFAULT_SPAN = {MINUTES: timedelta(hours=1), "1h": timedelta(days=7), "1d": timedelta(days=365)}
INTERVAL_PARAMETER = OpenApiParameter(
    "interval", str, enum=list(DEFAULT_SPAN), description=f"{MINUTES}; means for hours and days, kept for ever"
)


class GroupsView(KeptView):
    @extend_schema(parameters=[MARKET_PARAMETER, DEPTH_PARAMETER], responses=GroupsNowSerializer)
    def get(self, request: Request) -> HttpResponse:
        """TOTAL, TOTAL1 (without BTC), TOTAL2 (without BTC and ETH) and OTHERS (the ten largest of the rest) now, by
        value in dollars."""
        try:
            return self.answer(request)
        except redis.RedisError as error:
            raise DepthSilent(VALKEY_IS_AWAY) from error

    def question(self, request: Request) -> answers.Question:
        market, depth = market_of(request) or Market.SPOT, depth_of(request)

        def read() -> dict[str, Any]:
            return answers.groups_now(market, [depth])[depth]

        return answers.Question(f"groups-now:{market}:{depth}", answers.GROUPS_SECONDS, read)


class GroupsHistoryView(KeptView):
    @extend_schema(
        parameters=[MARKET_PARAMETER, DEPTH_PARAMETER, INTERVAL_PARAMETER, *TIME_PARAMETERS],
        responses=GroupsSerializer(many=True),
    )
    def get(self, request: Request) -> HttpResponse:
        """The same by minute (at most six hours at once, packed days included), hour (14 days) or day (two years)."""
        return self.answer(request)

    def question(self, request: Request) -> answers.Question:
        market, depth = market_of(request) or Market.SPOT, depth_of(request)
        interval = choice_of(request, "interval", DEFAULT_SPAN, MINUTES)
        start, end = span_of(request, GROUPS_SPAN[interval], default=DEFAULT_SPAN[interval])

        def read() -> list[dict[str, Any]]:
            rows = _group_rows(market, depth, interval, start, end)
            return [
                {"time": time, "groups": [answers.group(each) for each in group_volumes(volumes)]}
                for time, volumes in rows.items()
            ]

        name = f"groups:{market}:{depth}:{interval}:{answers.minute_text(start)}:{answers.minute_text(end)}"
        return answers.Question(name, answers.HISTORY_SECONDS, read)


def _group_rows(
    market: Market, depth: int, interval: str, start: datetime, end: datetime
) -> Mapping[int, Mapping[str, DepthVolume]]:
    if interval == MINUTES:
        return selectors.group_minutes(market, depth, start, end)
    return selectors.group_means(market, depth, interval, start, end)


class SpreadView(DepthView):
    @extend_schema(
        parameters=[SYMBOL_PARAMETER, DEPTH_PARAMETER, INTERVAL_PARAMETER, *TIME_PARAMETERS],
        responses=SpreadSerializer,
        examples=[OpenApiExample("a minute", value=answers.SPREAD_EXAMPLE, response_only=True)],
    )
    def get(self, request: Request) -> Response:
        """Spot and futures side by side, of each time that both have: how much more rests on futures, in percent of
        spot. By minute (at most seven days at once), hour (92 days) or day (ten years)."""
        symbol, depth = symbol_of(request), depth_of(request)
        interval = choice_of(request, "interval", DEFAULT_SPAN, MINUTES)
        start, end = span_of(request, SPREAD_SPAN[interval], default=DEFAULT_SPAN[interval])
        spot, futures = (
            _volumes(symbol, market, depth, interval, start, end) for market in (Market.SPOT, Market.FUTURES)
        )
        rows = [answers.spread(time, spot[time], futures[time]) for time in spot if time in futures]
        return Response({"symbol": symbol, "depth": DEPTH_TEXTS[depth], "interval": interval, "results": rows})


def _volumes(
    symbol: str, market: Market, depth: int, interval: str, start: datetime, end: datetime
) -> dict[int, DepthVolume]:
    if interval == MINUTES:
        return dict(selectors.depth_minutes(symbol, market, depth, start, end))
    rows = selectors.depth_aggregates(symbol, market, depth, interval, start, end)
    return {int(row.start.timestamp()): selectors.mean_volume(row, depth) for row in rows}


class HeatmapView(KeptView):
    @extend_schema(
        parameters=[
            SYMBOL_PARAMETER,
            MARKET_PARAMETER,
            *TIME_PARAMETERS,
            OpenApiParameter("rows", int, description=f"of prices, 1 to {MOST_HEAT_ROWS}; default {MOST_HEAT_ROWS}"),
        ],
        responses=HeatmapSerializer,
        examples=[OpenApiExample("two minutes", value=answers.HEATMAP_EXAMPLE, response_only=True)],
    )
    def get(self, request: Request) -> HttpResponse:
        """What rested at which price, within 5 % of the best prices, kept for 14 days: columns of time, at most 720,
        of rows of prices. Of a longer span a column is the mean of several minutes; where prices moved far a row is the
        sum of several. Null: nothing is known of that price then. Books are loaded to a certain depth, and further
        levels are learned when they change: ``known`` says between which prices nothing is missing."""
        return self.answer(request)

    def question(self, request: Request) -> answers.Question:
        symbol, market = symbol_text(request), market_of(request) or Market.SPOT
        rows = number_of(request, "rows", MOST_HEAT_ROWS, MOST_HEAT_ROWS)
        start, end = span_of(request, HEAT_SPAN, default=timedelta(minutes=MOST_HEAT_COLUMNS - 1))

        def read() -> bytes:
            minutes = selectors.heat_minutes(known(symbol), market, start, end)
            found = heat_map(minutes, int(start.timestamp()), int(end.timestamp()), rows, MOST_HEAT_COLUMNS)
            body = {"symbol": symbol, "marketType": market.value, **answers.heatmap(found)}
            # A hundred thousand numbers, which the framework's own writer takes a second for.
            return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)

        name = f"heat:{symbol}:{market}:{rows}:{answers.minute_text(start)}:{answers.minute_text(end)}"
        return answers.Question(name, answers.HISTORY_SECONDS, read)


class CorrelationView(DepthView):
    @extend_schema(
        parameters=[
            OpenApiParameter("symbols", str, required=True, description=f"2 to {MOST_COMPARED}, by commas"),
            MARKET_PARAMETER,
            DEPTH_PARAMETER,
            OpenApiParameter("type", str, enum=["bid", "ask"], description="none: the mean of both sides"),
            OpenApiParameter("window", int, description="minutes of each matrix, 3 to 1440; default 60"),
            *TIME_PARAMETERS,
        ],
        responses=CorrelationSerializer,
    )
    def get(self, request: Request) -> Response:
        """How the volumes of symbols go with each other, in windows that follow each other by half their length."""
        symbols = sorted({symbol for symbol in request.query_params.get("symbols", "").split(",") if symbol})
        if not 2 <= len(symbols) <= MOST_COMPARED:
            raise refuse("symbols", "", f"are {len(symbols)}; expected 2 to {MOST_COMPARED} different ones, by commas")
        if not all(map(selectors.is_known, symbols)):
            raise Http404
        market, depth = market_of(request) or Market.SPOT, depth_of(request)
        side = choice_of(request, "type", ("bid", "ask", "both"), "both")
        window = number_of(request, "window", 60, DAY // MINUTE)
        if window < 3:
            raise refuse("window", str(window), "is less than 3 minutes")
        start, end = span_of(request, timedelta(days=1))
        first, count = -(-int(start.timestamp()) // MINUTE), int(end.timestamp()) // MINUTE
        series = np.full((len(symbols), max(0, count - first + 1)), np.nan)
        for at, symbol in enumerate(symbols):
            for minute, volume in selectors.depth_minutes(symbol, market, depth, start, end):
                series[at, minute // MINUTE - first] = answers.side_value(volume, side)
        step = max(1, window // 2)
        found = rolling_correlations(series, window, step)
        windows = [
            {"to": (first + at * step + window - 1) * MINUTE, "matrix": answers.matrix(each)}
            for at, each in enumerate(found)
        ]
        return Response({"symbols": symbols, "windows": windows})
