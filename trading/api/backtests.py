from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial
from typing import Any

import orjson
from celery import current_app
from celery.exceptions import OperationalError
from django.conf import settings
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes, extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketdata.candles.selectors import candle_series
from marketdata.candles.series import interval_ms
from trading.api.alerts import one_of
from trading.api.backtest_export import csv_file, html_file, json_file, prices_json
from trading.api.backtest_schema import FULL, REQUEST, SHORT
from trading.api.idempotency import IDEMPOTENCY_KEY, idempotent
from trading.api.pagination import Pages
from trading.backtest.recording_files import recording_at
from trading.backtest.recording_lines import symbols_of
from trading.backtest.report import overview
from trading.backtest.request import Source
from trading.backtest.result_packing import json_rows, unpack_equity
from trading.backtest.statistics import drawdowns, thinned
from trading.models import BacktestRun
from trading.selectors import backtest_part, live_results, visible_backtests
from trading.serializers import BacktestListSerializer, BacktestSerializer
from trading.services.backtests import backtest_create, backtest_delete, backtest_stop, recordings

log = logging.getLogger(__name__)

STATES = [str(state) for state in BacktestRun.State]
OUTCOMES = ("approved", "vetoed", "denied")
SIDES = ("Buy", "Sell")
FORMS = ("csv", "json", "html")
TABLES = ("trades", "fills", "signals", "equity")
# Columns that a table may be sorted by; money is text in the rows, and sorted as the number that it is.
SORTS = {
    "trades": (
        *("opened_ms", "closed_ms", "symbol", "strategy", "side", "quantity", "entry_price", "exit_price"),
        *("fees", "funding", "pnl", "best", "worst", "why"),
    ),
    "fills": ("time_ms", "symbol", "strategy", "side", "price", "quantity", "fee", "realised_pnl", "why"),
    "signals": ("time_ms", "symbol", "strategy", "side", "strength", "outcome", "words"),
}
WORDS = ("symbol", "strategy", "side", "why", "outcome", "words")
MOST_POINTS, MOST_BARS = 100_000, 500_000
LATEST_MS = 4_102_444_800_000  # 2100


def own(request: Request, pk: str) -> BacktestRun:
    run: BacktestRun = get_object_or_404(visible_backtests(request.user), pk=int(pk))
    return run


def packed(run: BacktestRun, kind: str) -> bytes:
    """
    Raises:
        ValidationError: the run has found nothing (yet).
    """
    data = backtest_part(run, kind)
    if data is None:
        raise serializers.ValidationError({"state": [f"the backtest is {run.state}: there are no {kind}"]})
    return data


def send(run_id: int) -> None:
    """To a worker. While the broker is away the run waits in the database, and is sent within a minute or so."""
    try:
        current_app.send_task("trading.tasks.carry_out_backtest", args=(run_id,), retry=False)
    except OperationalError as error:
        log.warning("backtest %s is not sent to a worker yet: %s", run_id, error)


class BacktestListView(generics.ListAPIView):
    serializer_class = BacktestListSerializer
    pagination_class = Pages

    @extend_schema(parameters=[OpenApiParameter("state", str, enum=STATES)])
    def get(self, request: Request, *args: Any, **options: Any) -> Response:
        """Your backtests (staff: everybody's); the newest first."""
        return super().get(request, *args, **options)

    def get_queryset(self) -> Any:
        rows = visible_backtests(self.request.user)
        if state := self.request.query_params.get("state"):
            rows = rows.filter(state=one_of("state", state, STATES))
        return rows

    @extend_schema(
        parameters=[IDEMPOTENCY_KEY],
        request={"application/json": REQUEST},
        responses={201: BacktestSerializer},
        examples=[SHORT, FULL],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Ask for a backtest. It waits for a worker; follow ``state`` and ``progress`` under its ``id``. What is not
        said is as in live trading: an account's default limits and exit rules, the costs of the venue's takers."""
        data = dict(request.data) if isinstance(request.data, dict) else request.data
        name = data.pop("name", "") if isinstance(data, dict) else ""
        run = backtest_create(owner=request.user, data=data, name=name)
        transaction.on_commit(partial(send, run.pk))
        return Response(BacktestSerializer(run).data, status=status.HTTP_201_CREATED)


class RecordingSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="what `recording` of a backtest names")
    bytes = serializers.IntegerField()
    first_ms = serializers.IntegerField(allow_null=True, help_text="when its first line came; null: it has no index")
    last_ms = serializers.IntegerField(allow_null=True)
    symbols = serializers.ListField(child=serializers.CharField(), help_text="those that its header names")


class RecordingsView(APIView):
    @extend_schema(responses=RecordingSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The recordings that this deployment has, by name: of books, or of trades alone."""
        found = [
            {**asdict(each), "symbols": symbols_of(recording_at(settings.RECORDINGS_DIR, each.name))}
            for each in recordings()
        ]
        return Response(RecordingSerializer(found, many=True).data)


class BacktestDetailView(APIView):
    @extend_schema(responses=BacktestSerializer)
    def get(self, request: Request, pk: str) -> Response:
        """What was asked, how far it is, and what it found: all figures, months, the curve, how trades ended."""
        return Response(BacktestSerializer(own(request, pk)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: str) -> Response:
        """Delete one that is over."""
        backtest_delete(run=own(request, pk), actor=request.user.get_username())
        return Response(status=status.HTTP_204_NO_CONTENT)


class BacktestStopView(APIView):
    @extend_schema(request=None, responses=BacktestSerializer)
    def post(self, request: Request, pk: str) -> Response:
        """Stop one that waits or runs; one that runs ends within a second or two and keeps nothing."""
        return Response(BacktestSerializer(backtest_stop(run=own(request, pk), actor=request.user.get_username())).data)


class RowPages(Pages):
    """Rows are small, and charts mark many."""

    max_page_size = 1_000


class RowsView(APIView):
    """One page of a run's rows. ``span``: the columns of a row's first and last moment, for ``from`` and ``to``."""

    kind = ""
    span = ("time_ms", "time_ms")
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def get(self, request: Request, pk: str) -> Response:
        asked = request.query_params
        sort = asked.get("sort", SORTS[self.kind][0])
        column = one_of("sort", sort.removeprefix("-"), SORTS[self.kind])
        rows = json_rows(self.kind, packed(own(request, pk), self.kind))
        for name, allowed in self.filters:
            if value := asked.get(name):
                rows = [row for row in rows if row[name] == (one_of(name, value, allowed) if allowed else value)]
        first, last = self.span
        if value := asked.get("from"):
            start = whole("from", value, 0, LATEST_MS)
            rows = [row for row in rows if row[last] >= start]
        if value := asked.get("to"):
            end = whole("to", value, 0, LATEST_MS)
            rows = [row for row in rows if row[first] <= end]
        rows.sort(key=lambda row: row[column] if column in WORDS else float(row[column]), reverse=sort.startswith("-"))
        pages = RowPages()
        return pages.get_paginated_response(pages.paginate_queryset(rows, request, view=self))


def rows_schema(kind: str, *filters: OpenApiParameter) -> Any:
    sorts = [sign + name for name in SORTS[kind] for sign in ("", "-")]
    row = {"type": "object", "additionalProperties": {}}
    return extend_schema(
        parameters=[
            OpenApiParameter("sort", str, enum=sorts, description="a column; with - the largest first"),
            OpenApiParameter("page", int),
            OpenApiParameter("limit", int, description="at most 1000"),
            OpenApiParameter("symbol", str),
            OpenApiParameter("from", int, description="milliseconds UTC; of a trade: what was held then or later"),
            OpenApiParameter("to", int, description="milliseconds UTC; of a trade: what was held then or earlier"),
            *filters,
        ],
        responses={
            (200, "application/json"): {
                "type": "object",
                "properties": {"count": {"type": "integer"}, "results": {"type": "array", "items": row}},
            }
        },
    )


class BacktestTradesView(RowsView):
    kind = "trades"
    span = ("opened_ms", "closed_ms")
    filters = (("symbol", ()), ("side", SIDES))

    @rows_schema("trades", OpenApiParameter("side", str, enum=SIDES))
    def get(self, request: Request, pk: str) -> Response:
        """Its trades, one for each position from nothing to nothing; money as text, USDT."""
        return super().get(request, pk)


class BacktestFillsView(RowsView):
    kind = "fills"
    filters = (("symbol", ()), ("side", SIDES))

    @rows_schema("fills", OpenApiParameter("side", str, enum=SIDES))
    def get(self, request: Request, pk: str) -> Response:
        """Its fills; ``why`` each came to be."""
        return super().get(request, pk)


class BacktestSignalsView(RowsView):
    kind = "signals"
    filters = (("symbol", ()), ("outcome", OUTCOMES))

    @rows_schema("signals", OpenApiParameter("outcome", str, enum=OUTCOMES))
    def get(self, request: Request, pk: str) -> Response:
        """Its signals and what became of each: approved, vetoed or denied, and why."""
        return super().get(request, pk)


CURVE = {name: {"type": "array", "items": {"type": "number"}} for name in ("time_ms", "equity", "exposed", "drawdown")}


class BacktestEquityView(APIView):
    @extend_schema(
        parameters=[OpenApiParameter("points", int, description=f"about how many; 10 to {MOST_POINTS}, default 5000")],
        responses={(200, "application/json"): {"type": "object", "properties": CURVE}},
    )
    def get(self, request: Request, pk: str) -> Response:
        """The equity curve; where it has more points than asked for, the lowest and highest of each stretch."""
        times, equity, exposed = unpack_equity(packed(own(request, pk), "equity"))
        kept = thinned(times, equity, whole("points", request.query_params.get("points", "5000"), 10, MOST_POINTS))
        curve = {"time_ms": times, "equity": equity, "exposed": exposed, "drawdown": drawdowns(equity)}
        return Response({name: values[kept].tolist() if len(times) else [] for name, values in curve.items()})


def whole(name: str, value: str, least: int, most: int) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 15 or not least <= int(value) <= most:
        raise serializers.ValidationError({name: [f"must be a whole number from {least} to {most}"]})
    return int(value)


class BacktestPricesView(APIView):
    @extend_schema(
        parameters=[
            OpenApiParameter("symbol", str, description="one of the run's: with from and to, finer bars of that time"),
            OpenApiParameter("from", int, description="milliseconds UTC"),
            OpenApiParameter("to", int, description="milliseconds UTC"),
        ],
        responses={(200, "application/json"): {"type": "array", "items": {"type": "object"}}},
    )
    def get(self, request: Request, pk: str) -> HttpResponse:
        """The bars to draw, at most some 1,500 of each symbol: ``interval_ms``, ``time_ms``, open, high, low, close.
        Of a ``symbol`` and a time one such object, of what the archive has now."""
        run, asked = own(request, pk), request.query_params
        whole_run = prices_json(packed(run, "prices"))
        if "symbol" not in asked:
            return HttpResponse(whole_run, content_type="application/json")
        symbol = one_of("symbol", asked["symbol"], [each["symbol"] for each in orjson.loads(whole_run)])
        if run.request["source"] != Source.CANDLES:  # the archive does not have what it was tested on
            return Response(next(each for each in orjson.loads(whole_run) if each["symbol"] == symbol))
        start, end = (whole(name, asked.get(name, ""), 0, LATEST_MS) for name in ("from", "to"))
        if end - start > interval_ms(run.request["interval"]) * MOST_BARS:
            raise serializers.ValidationError({"to": [f"must be at most {MOST_BARS} bars after from"]})
        found = candle_series(run.request["venue"], symbol, run.request["interval"], start, max(start, end))
        return Response(overview(found))


class BacktestLiveView(APIView):
    @extend_schema(responses={(200, "application/json"): {"type": "array", "items": {"type": "object"}}})
    def get(self, request: Request, pk: str) -> Response:
        """What strategies with the same rule and parameters did on your accounts in the same time: fills, profit, and
        how many signals are the same as here, to the millisecond."""
        run = own(request, pk)
        return Response(live_results(request.user, run, json_rows("signals", packed(run, "signals"))))


class BacktestExportView(APIView):
    @extend_schema(
        parameters=[
            OpenApiParameter("as", str, enum=FORMS, description="default json; html: one file that needs no network"),
            OpenApiParameter("what", str, enum=TABLES, description="of csv; default trades"),
        ],
        responses={(200, "text/csv"): OpenApiTypes.STR, (200, "application/json"): OpenApiTypes.OBJECT},
    )
    def get(self, request: Request, pk: str) -> HttpResponse:
        """The whole run as a file."""
        form = one_of("as", request.query_params.get("as", "json"), FORMS)
        what = one_of("what", request.query_params.get("what", "trades"), TABLES)
        run = own(request, pk)
        packed(run, "trades")
        if form == "csv":
            return attachment(f"backtest-{run.pk}-{what}.csv", "text/csv", csv_file(run, what))
        if form == "html":
            return attachment(f"backtest-{run.pk}.html", "text/html", html_file(run))
        return attachment(f"backtest-{run.pk}.json", "application/json", json_file(run))


def attachment(name: str, kind: str, content: str | bytes) -> HttpResponse:
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(content, content_type=f"{kind}; charset=utf-8", headers=disposition)
