"""What the depth endpoints are asked with: checked, and refused with a sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.http import Http404
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request

from marketdata.depth import selectors
from marketdata.depth.snapshots import DEPTH_BY_TEXT, Market

SYMBOL = re.compile(r"[A-Z0-9]{5,20}")
SYMBOL_RULE = "is not a symbol: 5 to 20 capital letters and digits, like BTCUSDT"
# Times may be given in seconds since 1970 too, as charts do.
SECONDS = re.compile(r"[0-9]{9,11}")
DEFAULT_SPAN = timedelta(hours=1)

SYMBOL_PARAMETER = OpenApiParameter("symbol", str, required=True, description="`^[A-Z0-9]{5,20}$`, like BTCUSDT")
DEPTH_PARAMETER = OpenApiParameter(
    "depth", str, enum=list(DEPTH_BY_TEXT), description="percent from the best price; default 5"
)
MARKET_PARAMETER = OpenApiParameter("marketType", str, enum=[market.value for market in Market], description="SPOT")
TIME_PARAMETERS = [
    OpenApiParameter("from", str, description="ISO 8601 with its zone, or seconds since 1970; default an hour before"),
    OpenApiParameter("to", str, description="the same; default now"),
]


def refuse(name: str, text: str, rule: str) -> serializers.ValidationError:
    return serializers.ValidationError({name: [f"{text[:50]} {rule}" if text else rule]})


def symbol_of(request: Request) -> str:
    """Raises Http404 for a symbol of which there is nothing."""
    return known(symbol_text(request))


def known(symbol: str) -> str:
    if not selectors.is_known(symbol):
        raise Http404
    return symbol


def symbol_text(request: Request) -> str:
    """A symbol that may be one: to ask for what is kept of it. Where nothing is found, :func:`known` has to judge."""
    text = request.query_params.get("symbol", "")
    if not text:
        raise refuse("symbol", "", "is missing; expected a symbol like BTCUSDT")
    if not SYMBOL.fullmatch(text):
        raise refuse("symbol", text, SYMBOL_RULE)
    return text


def depth_of(request: Request, default: str = "5") -> int:
    text = request.query_params.get("depth", default)
    if text not in DEPTH_BY_TEXT:
        raise refuse("depth", text, f"is not one of {', '.join(DEPTH_BY_TEXT)}")
    return DEPTH_BY_TEXT[text]


def market_of(request: Request, default: Market | None = Market.SPOT) -> Market | None:
    text = request.query_params.get("marketType", default.value if default else "")
    if not text:
        return None
    if text not in Market.__members__:
        raise refuse("marketType", text, f"is not one of {', '.join(Market)}")
    return Market(text)


def choice_of(request: Request, name: str, allowed: Mapping[str, Any] | tuple[str, ...], default: str) -> str:
    text = request.query_params.get(name, default)
    if text not in allowed:
        raise refuse(name, text, f"is not one of {', '.join(allowed)}")
    return text


def number_of(request: Request, name: str, default: int, largest: int) -> int:
    text = request.query_params.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= largest:
        raise refuse(name, text, f"is not a whole number from 1 to {largest}")
    return int(text)


def span_of(request: Request, longest: timedelta, default: timedelta = DEFAULT_SPAN) -> tuple[datetime, datetime]:
    """``from`` and ``to``, both included."""
    end = _moment(request, "to") or timezone.now()
    start = _moment(request, "from") or end - default
    if start > end:
        raise refuse("from", start.isoformat(), f"is after to, {end.isoformat()}")
    if end - start > longest:
        raise refuse("from", start.isoformat(), f"is more than {longest.days} days before to; ask for less at once")
    return start, end


def _moment(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if not text:
        return None
    if SECONDS.fullmatch(text):
        return datetime.fromtimestamp(int(text), tz=UTC)
    try:
        found = parse_datetime(text)
        # The calendar's first and last day are not in every zone.
        found = found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        found = None
    if found is None or not 1970 <= found.year < 2200:
        rule = "is no time: ISO 8601 with its zone, like 2026-01-31T12:00:00Z, or seconds since 1970"
        raise refuse(name, text, rule)
    return found
