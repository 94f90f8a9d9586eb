"""What the archive is asked with: checked, and refused with a sentence."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from marketdata.api.depth.parameters import refuse
from marketdata.api.views import moment
from marketdata.candles import selectors
from marketdata.candles.models import ArchiveSeries
from marketdata.candles.series import INTERVALS
from marketdata.candles.series_key import FUNDING, PriceOf, SeriesKey, interval_named

# Times may be given in milliseconds since 1970, as bars have them.
MILLISECONDS = re.compile(r"[0-9]{1,13}")
LINE_PARAMETERS = [
    OpenApiParameter("symbol", str, required=True, description="like BTCUSDT"),
    OpenApiParameter("venue", str, description="bybit (default), binance, or as imported"),
    OpenApiParameter("market", str, enum=[each.value for each in PriceOf], description="linear"),
]
INTERVAL_PARAMETER = OpenApiParameter("interval", str, enum=list(INTERVALS), description="minutes, or D; default 60")
SPAN_PARAMETERS = [
    OpenApiParameter("from", str, description="ISO 8601 with its zone, or milliseconds; default the first there is"),
    OpenApiParameter("to", str, description="the same, itself not included; default after the last"),
]


def key_of(request: Request, *, funding: bool = False) -> SeriesKey:
    values = {"venue": "bybit", "market": PriceOf.LINEAR.value, "symbol": "", "interval": "60"}
    values |= {name: request.query_params[name] for name in values if name in request.query_params}
    if not values["symbol"]:
        raise refuse("symbol", "", "is missing; expected a symbol like BTCUSDT")
    try:
        interval = FUNDING if funding else interval_named(values["interval"][:20])
        return SeriesKey(values["venue"], values["symbol"], interval, values["market"])
    except ValueError as error:
        # The value's own name begins the sentence.
        raise refuse(str(error).split(" ")[0], "", str(error)) from None


def lines_of(key: SeriesKey) -> list[ArchiveSeries]:
    """What is stored of a symbol: rates, or bars of any length. Raises Http404 where nothing is."""
    lines = list(selectors.archive_lines(venue=key.venue, market=key.market, symbol=key.symbol))
    lines = [line for line in lines if (line.interval == FUNDING) == key.is_funding]
    if not lines:
        raise Http404
    return lines


def span_of(request: Request, ends: tuple[int, int]) -> tuple[int, int]:
    """``from`` and ``to`` in milliseconds, within what is stored."""
    start, end = _time_of(request, "from"), _time_of(request, "to")
    if start is not None and end is not None and start > end:
        raise refuse("from", request.query_params["from"], "is after to")
    first, last = ends
    return max(first, start or 0), min(last, last if end is None else end)


def _time_of(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text and MILLISECONDS.fullmatch(text):
        return int(text)
    found = moment(request, name)
    return None if found is None else int(found.timestamp() * 1_000)


def ends_of(lines: Sequence[ArchiveSeries]) -> tuple[int, int]:
    """Where the stored bars begin, and after the last one's start; now, where one line goes on."""
    first, last = selectors.stored_ends(lines)
    return first, min(last + 1, time.time_ns() // 1_000_000)


def chosen(request: Request, names: Sequence[str]) -> dict[str, Any]:
    """Filters that were given, none of them longer than any name of ours."""
    found = {name: request.query_params[name] for name in names if request.query_params.get(name)}
    for name, value in found.items():
        if len(value) > 32:
            raise refuse(name, value, "is longer than any name")
    return found
