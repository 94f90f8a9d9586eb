from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketdata.api.candles.parameters import (
    INTERVAL_PARAMETER,
    LINE_PARAMETERS,
    SPAN_PARAMETERS,
    chosen,
    ends_of,
    key_of,
    lines_of,
    span_of,
)
from marketdata.api.candles.serializers import (
    BarPageSerializer,
    FundingPageSerializer,
    ImportSerializer,
    ReportSerializer,
    SeriesPageSerializer,
    UploadSerializer,
)
from marketdata.api.candles.upload import MEGABYTE, TooLarge, UploadParser
from marketdata.api.depth.export import streamed
from marketdata.api.depth.parameters import number_of
from marketdata.candles import selectors, services
from marketdata.candles.findings import GAPS_TOLD, ImportRefused, Report, time_text
from marketdata.candles.selectors import Coverage
from marketdata.candles.series import CandleSeries
from marketdata.candles.series_key import SeriesKey
from marketdata.models import ArchiveImport

MOST_BARS, MOST_LINES, MOST_IMPORTS = 5_000, 50, 200
ROWS_TOLD = 30
BAR_COLUMNS = ("start", "open", "high", "low", "close", "volume")
SERIES_EXAMPLE = {
    "results": [
        {
            "venue": "bybit",
            "market": "linear",
            "symbol": "BTCUSDT",
            "interval": "1",
            "first": "2025-01-01T00:00:00Z",
            "last": "2025-12-31T23:59:00Z",
            "bars": 525_540,
            "bytes": 3_700_000,
            "missing": 60,
            "gap_count": 1,
            "gaps": [{"from": "2025-03-04T02:00:00Z", "to": "2025-03-04T03:00:00Z", "missing": 60}],
        }
    ],
    "next": None,
}
BAR_EXAMPLE = {
    "venue": "bybit",
    "market": "linear",
    "symbol": "BTCUSDT",
    "interval": "60",
    "results": [
        {
            "start": 1735689600000,
            "open": "93530",
            "high": "94509.4",
            "low": "93489",
            "close": "94387",
            "volume": "3092.1",
        }
    ],
    "next": None,
}
REPORT_EXAMPLE = {
    "series": "bybit linear BTCUSDT 60",
    "source": "btc.csv.gz",
    "refused": False,
    "rows": 8_760,
    "stored": 8_760,
    "replaced": 0,
    "unchanged": 0,
    "filled": 0,
    "from": "2025-01-01T00:00:00Z",
    "to": "2025-12-31T23:00:00Z",
    "findings": [],
    "gaps": [],
    "gap_count": 0,
    "missing": 0,
}


class MayImport(BasePermission):
    """Past bars are for everybody who is logged in; bringing some is for staff and who may import them."""

    message = "bringing past bars needs staff, or the permission to import candles"

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user.is_staff or request.user.has_perm("marketdata.import_candles"))


class SeriesView(APIView):
    @extend_schema(
        operation_id="candles_series",
        parameters=[
            OpenApiParameter("venue", str),
            OpenApiParameter("market", str),
            OpenApiParameter("symbol", str),
            OpenApiParameter("interval", str),
            OpenApiParameter("limit", int, description=f"lines on a page, 1 to {MOST_LINES}"),
            OpenApiParameter("page", int, description="from 1 on"),
        ],
        responses=SeriesPageSerializer,
        examples=[OpenApiExample("a year of minutes", value=SERIES_EXAMPLE, response_only=True)],
    )
    def get(self, request: Request) -> Response:
        """What the archive has, and what is missing in it, by venue, market, symbol and interval."""
        limit, page = number_of(request, "limit", MOST_LINES, MOST_LINES), number_of(request, "page", 1, 100_000)
        lines = selectors.archive_lines(**chosen(request, ("venue", "market", "symbol", "interval")))
        some = list(lines[(page - 1) * limit : page * limit + 1])
        following = _next(request, page=page + 1) if len(some) > limit else None
        return Response({"results": [_line(each) for each in selectors.coverages(some[:limit])], "next": following})


class BarsView(APIView):
    @extend_schema(
        operation_id="candles_bars",
        parameters=[
            *LINE_PARAMETERS,
            INTERVAL_PARAMETER,
            *SPAN_PARAMETERS,
            OpenApiParameter("limit", int, description=f"1 to {MOST_BARS}; default 1000"),
        ],
        responses=BarPageSerializer,
        examples=[OpenApiExample("an hour", value=BAR_EXAMPLE, response_only=True)],
    )
    def get(self, request: Request) -> Response:
        """Past bars, the earliest first. An interval that is not stored is made of shorter ones that are complete;
        ``next`` is where the following page begins."""
        key, limit = key_of(request), number_of(request, "limit", 1_000, MOST_BARS)
        start, end = span_of(request, ends_of(lines_of(key)))
        rows: list[dict[str, Any]] = []
        for series in _windows(key, start, end, limit + 1):
            rows += _bars(series.between(start, end))
            if len(rows) > limit:
                break
        following = _next(request, **{"from": rows[limit]["start"]}) if len(rows) > limit else None
        return Response({**_named(key), "interval": key.interval, "results": rows[:limit], "next": following})


class ExportView(APIView):
    @extend_schema(
        operation_id="candles_export",
        parameters=[*LINE_PARAMETERS, INTERVAL_PARAMETER, *SPAN_PARAMETERS],
        responses={(200, "text/csv"): str},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """The same as a CSV file of any length, streamed: ``ts_ms,open,high,low,close,volume``; the importer reads it
        again."""
        key = key_of(request)
        start, end = span_of(request, ends_of(lines_of(key)))
        name = f"{key.venue}-{key.market}-{key.symbol}-{key.interval}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingHttpResponse(
            streamed(_csv(key, start, end)), content_type="text/csv; charset=utf-8", headers=headers
        )


class FundingView(APIView):
    @extend_schema(
        operation_id="candles_funding",
        parameters=[
            *LINE_PARAMETERS,
            *SPAN_PARAMETERS,
            OpenApiParameter("limit", int, description=f"1 to {MOST_BARS}; default 1000"),
        ],
        responses=FundingPageSerializer,
    )
    def get(self, request: Request) -> Response:
        """Past funding rates, the earliest first: fractions of a position's worth, which longs pay where they are above
        0."""
        key, limit = key_of(request, funding=True), number_of(request, "limit", 1_000, MOST_BARS)
        (line,) = lines_of(key)
        found = selectors.stored(line, *span_of(request, ends_of([line])))
        times, rates = found.bars.start[: limit + 1].tolist(), found.bars.open[: limit + 1].tolist()
        texts = [_text(rate, found.price_decimals) for rate in rates]
        rows = [{"time": at, "rate": rate} for at, rate in zip(times, texts, strict=True)]
        following = _next(request, **{"from": rows[limit]["time"]}) if len(rows) > limit else None
        return Response({**_named(key), "results": rows[:limit], "next": following})


class ImportPages(CursorPagination):
    ordering = ("-created_at", "-id")
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = MOST_IMPORTS


class ImportsView(ListAPIView):
    serializer_class = ImportSerializer
    pagination_class = ImportPages
    permission_classes = (IsAuthenticated, MayImport)

    @extend_schema(operation_id="candles_imports")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Who brought what, when and from where, with the whole report, the newest first; refused ones too. For who may
        import."""
        number_of(request, "limit", 50, MOST_IMPORTS)
        return self.list(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[ArchiveImport]:
        return selectors.imports()


class ImportView(APIView):
    permission_classes = (IsAuthenticated, MayImport)
    parser_classes = (UploadParser,)

    @extend_schema(
        operation_id="candles_import",
        request={"multipart/form-data": UploadSerializer},
        responses={201: ReportSerializer},
        examples=[
            OpenApiExample(
                "hours of a year",
                value={"file": "btc.csv.gz", "symbol": "BTCUSDT", "interval": "60", "repairs": ["sort"]},
                request_only=True,
            ),
            OpenApiExample("stored", value=REPORT_EXAMPLE, response_only=True),
        ],
    )
    def post(self, request: Request) -> Response:
        """Bring a file of past bars or funding rates into the archive; bringing it again changes nothing. With anything
        wrong that no repair was asked for it is refused whole: 400, with the rows. For staff, and who may import."""
        upload = UploadSerializer(data=request.data)
        upload.is_valid(raise_exception=True)
        file = upload.validated_data["file"]
        if file.size > settings.ARCHIVE_UPLOAD_MEGABYTES * MEGABYTE:
            raise TooLarge
        try:
            report = services.file_import(
                file.file,
                key=upload.key,
                form=upload.form,
                options=upload.options,
                actor=request.user.get_username(),
                source=file.name,
                most_rows=settings.ARCHIVE_UPLOAD_ROWS,
            )
        except ImportRefused as refusal:
            raise serializers.ValidationError(_rules(refusal.report)) from None
        return Response(report.as_json(), status=status.HTTP_201_CREATED)


def _rules(report: Report) -> dict[str, list[str]]:
    """What was wrong: each kind with what repairs it, then rows."""
    rules: dict[str, list[str]] = {}
    open_ones = [finding for finding in report.findings if not finding.handled]
    for finding in open_ones:
        told = finding.as_json()
        rules[finding.kind.value] = [". ".join(filter(None, [f"{finding.count} rows", finding.note, told["remedy"]]))]
    for finding in open_ones:
        for row, problem in finding.rows:
            if len(rules) < ROWS_TOLD:
                rules.setdefault(f"row {row}" if row else "file", []).append(problem)
    return rules


def _next(request: Request, **changes: Any) -> str:
    return request.build_absolute_uri(f"{request.path}?{urlencode({**request.query_params.dict(), **changes})}")


def _named(key: SeriesKey) -> dict[str, str]:
    return {"venue": key.venue, "market": key.market, "symbol": key.symbol}


def _line(found: Coverage) -> dict[str, Any]:
    return {
        **_named(found.key),
        "interval": found.key.interval,
        "first": time_text(found.first_ms),
        "last": time_text(found.last_ms),
        "bars": found.bars,
        "bytes": found.size,
        "missing": found.missing,
        "gap_count": len(found.gaps),
        "gaps": [gap.as_json() for gap in found.gaps[:GAPS_TOLD]],
    }


def _windows(key: SeriesKey, start_ms: int, end_ms: int, bars: int) -> Iterator[CandleSeries]:
    """From one moment to another, so many bars at once; where bars are missing, more at once the longer it takes."""
    first, span = start_ms, bars * key.step_ms
    while first < end_ms:
        last = min(end_ms, first + span)
        yield selectors.candle_series(key.venue, key.symbol, key.interval, first, last, market=key.market)
        first, span = last, 2 * span


def _columns(series: CandleSeries) -> Iterator[tuple[Any, ...]]:
    prices = [
        [_text(units, series.price_decimals) for units in column.tolist()]
        for column in (series.open, series.high, series.low, series.close)
    ]
    volumes = [_text(units, series.volume_decimals) for units in series.volume.tolist()]
    return zip(series.start_ms.tolist(), *prices, volumes, strict=True)


def _bars(series: CandleSeries) -> list[dict[str, Any]]:
    return [dict(zip(BAR_COLUMNS, row, strict=True)) for row in _columns(series)]


def _text(units: int, decimals: int) -> str:
    """As a decimal without a float on the way."""
    if not decimals:
        return str(units)
    digits = str(abs(units)).zfill(decimals + 1)
    text = f"{digits[:-decimals]}.{digits[-decimals:]}".rstrip("0").rstrip(".")
    return f"-{text}" if units < 0 else text


def _csv(key: SeriesKey, start_ms: int, end_ms: int) -> Iterator[str]:
    yield "ts_ms,open,high,low,close,volume\n"
    first = start_ms
    while first < end_ms:
        last = min(end_ms, first + MOST_BARS * key.step_ms)
        series = selectors.candle_series(key.venue, key.symbol, key.interval, first, last, market=key.market)
        if len(series):
            yield "".join(",".join(map(str, row)) + "\n" for row in _columns(series))
        first = last
