"""Reading the parameters of a request as Bybit does: a sentence with 10001 for whatever it cannot use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from trading.simulator.errors import parameter_error
from trading.simulator.exchange import Market
from trading.simulator.venue import Venue

Query = Mapping[str, str]

CATEGORIES = ("spot", "linear", "inverse", "option")
_CURSOR = "lastid=0&lasttime="


def number(query: Mapping[str, Any], name: str, default: int, largest: int) -> int:
    """A count between 1 and the endpoint's largest; Bybit refuses what is outside."""
    text = str(query.get(name) or default)
    if not _is_number(text) or not 1 <= int(text) <= largest:
        raise parameter_error(f"params error: {name} must be 1 to {largest}")
    return int(text)


def milliseconds(query: Query, name: str) -> int | None:
    """A time since 1970, or None where it is not given."""
    text = query.get(name) or ""
    if not text:
        return None
    if not _is_number(text):
        raise parameter_error(f"params error: {name} invalid {text}")
    return int(text)


def period(query: Query, start_name: str = "startTime", end_name: str = "endTime") -> tuple[int | None, int | None]:
    """From and to; each may be missing."""
    start, end = milliseconds(query, start_name), milliseconds(query, end_name)
    if start is not None and end is not None and start > end:
        raise parameter_error(f"params error: {start_name} must not be after {end_name}")
    return start, end


def choice(query: Query, name: str, choices: Mapping[str, int]) -> int:
    """What one of the documented words stands for."""
    text = query.get(name) or ""
    if text not in choices:
        raise parameter_error(f"params error: {name} invalid {text}".rstrip())
    return choices[text]


def require_linear(query: Query, default: str = "") -> None:
    """Refuse every category but linear: the market of the others does not trade here."""
    category = query.get("category") or default
    if category == "linear":
        return
    if category in CATEGORIES:
        raise parameter_error(f"params error: category invalid; this simulator trades linear, not {category}")
    raise parameter_error(f"params error: category invalid {category}".rstrip())


def linear_market(venue: Venue, query: Query, default_category: str = "") -> Market:
    """The market that ``category`` and ``symbol`` name."""
    require_linear(query, default_category)
    return venue.exchange.market(query.get("symbol") or "")


def any_market(venue: Venue, query: Query, default_category: str = "") -> Market:
    """The linear or spot market that ``category`` and ``symbol`` name."""
    if (query.get("category") or default_category) == "spot":
        market = venue.exchange.spot.get(query.get("symbol") or "")
        if market is None:
            raise parameter_error(f"params error: symbol invalid {query.get('symbol') or ''}".rstrip())
        return market
    return linear_market(venue, query, default_category)


def cursor_of(time_ms: int) -> str:
    """Where the page after a row of this time begins, in the spelling of Bybit: encoded once more than a query is."""
    return f"lastid%3D0%26lasttime%3D{time_ms}"


def cursor_time(query: Query) -> int | None:
    """The time in a cursor that :func:`cursor_of` made; clients encode it again, or decode it, as they like."""
    text = unquote(unquote(query.get("cursor") or ""))
    if not text:
        return None
    digits = text.removeprefix(_CURSOR)
    if digits == text or not _is_number(digits):
        raise parameter_error("params error: cursor invalid")
    return int(digits)


def _is_number(text: str) -> bool:
    # isdigit() alone takes digits of other scripts and powers, which int() may refuse.
    return text.isascii() and text.isdigit() and len(text) <= 18
