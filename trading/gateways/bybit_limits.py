"""What each call of pybit costs at Bybit, and what the answers' headers and codes say of limits and of its health
(exchange documents: "rate-limit", "error")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
import requests
from pybit.exceptions import FailedRequestError, InvalidRequestError

from marketdata.feeds.protocol import RestAnswer
from trading.gateways.bybit_codes import AMBIGUOUS, OF_ONE_ORDER, REFUSED_STATUSES, THROTTLED
from trading.resilience.guard import Ending, Endpoint
from trading.resilience.rate_budget import CANCEL_SHARES, NOTHING_SAID, Allowance, Bucket

# Of every address: 600 requests in 5 s, all keys and endpoints together.
ADDRESS_LIMIT, ADDRESS_WINDOW_MS = 600, 5_000
# An address that asked too much is refused for minutes; asking on makes it longer.
ADDRESS_REFUSED = 403
ADDRESS_PAUSE_MS = 10_000
LONGEST_PAUSE_MS = 5_000
# No connection, no answer, or one that pybit stumbles over: it expects an object with retCode and retMsg.
UNANSWERED = (requests.RequestException, OSError, ValueError, LookupError, TypeError, AttributeError)
TRANSPORT = (requests.RequestException, OSError)
UNREADABLE = 409  # what pybit makes of a body that is no JSON
SERVER_ERROR = 500
TOO_MANY_REQUESTS = 429
LONGEST_REFUSAL = 1_000

# By the method of pybit's session: the breaker's group, and calls a second of a user without VIP level.
CALLS: Mapping[str, tuple[str, int]] = {
    "place_order": ("orders", 10),
    "amend_order": ("orders", 10),
    "cancel_order": ("orders", 10),
    "cancel_all_orders": ("orders", 10),
    "set_dcp": ("account", 5),
    "set_leverage": ("account", 10),
    "set_trading_stop": ("account", 10),
    "get_open_orders": ("account", 50),
    "get_order_history": ("account", 50),
    "get_executions": ("account", 50),
    "get_positions": ("account", 50),
    "get_wallet_balance": ("account", 50),
    "get_transaction_log": ("account", 25),
    "get_server_time": ("market", 0),
    "get_orderbook": ("market", 0),
}
CANCELS = frozenset({"cancel_order", "cancel_all_orders"})


def endpoint_of(call: str, venue: str, key: str) -> Endpoint:
    """What a method of pybit's session takes from: its own bucket of this key, then the address's.

    Raises:
        KeyError: a method that is not in ``CALLS``: nobody may ask what nobody counts.
    """
    group, limit = CALLS[call]
    address = Bucket(f"{venue}:address", ADDRESS_LIMIT, ADDRESS_WINDOW_MS)
    if not limit:
        return Endpoint(group, (address,))
    own = Bucket(f"{venue}:{key}:{call}", limit)
    if call in CANCELS:
        own = Bucket(own.name, limit, shares=CANCEL_SHARES)
    return Endpoint(group, (own, address))


def market_endpoint(venue: str) -> Endpoint:
    """What a public question takes from: the address alone, which all keys share."""
    return Endpoint("market", (Bucket(f"{venue}:address", ADDRESS_LIMIT, ADDRESS_WINDOW_MS),))


def market_ending(end: RestAnswer | Exception) -> Ending:
    """What the end of a public question says. What it says of limits is said of the whole address."""
    if isinstance(end, Exception):
        is_transport = isinstance(end, (aiohttp.ClientError, TimeoutError, OSError))
        return Ending(asked=is_transport, failure=type(end).__name__, transport=is_transport)
    if end.status in (ADDRESS_REFUSED, TOO_MANY_REQUESTS):
        return Ending(said=Allowance(blocked_ms=ADDRESS_PAUSE_MS))
    if end.status != 200:
        return Ending(failure=f"HTTP {end.status}" if end.status >= SERVER_ERROR else "")
    # A refusal is short; nobody reads a list of all instruments twice.
    if len(end.body) <= LONGEST_REFUSAL and _code(end.body) in THROTTLED:
        # Limits of a user's endpoint are not the address's: only how long to wait is.
        return Ending(said=Allowance(blocked_ms=allowance_of(end.headers, throttled=True).blocked_ms))
    return Ending()


def _code(body: bytes) -> int | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer.get("retCode") if isinstance(answer, dict) else None


def ending_of(end: Any) -> Ending:
    """What an answer of pybit's, with its headers, or an exception of it says."""
    if isinstance(end, InvalidRequestError):
        ill = end.status_code in AMBIGUOUS - OF_ONE_ORDER
        failure = f"{end.message} (retCode {end.status_code})" if ill else ""
        return Ending(failure=failure, said=allowance_of(end.resp_headers, throttled=end.status_code in THROTTLED))
    if isinstance(end, FailedRequestError):
        if end.status_code == ADDRESS_REFUSED:
            return Ending(said=Allowance(blocked_ms=ADDRESS_PAUSE_MS, everywhere=True))
        broken = end.status_code >= SERVER_ERROR or end.status_code == UNREADABLE
        failure = f"HTTP {end.status_code}" if broken or end.status_code not in REFUSED_STATUSES else ""
        return Ending(failure=failure, transport=broken)
    if isinstance(end, UNANSWERED):
        # Its text would name the address with its query: whose order was asked for is not for every status page.
        return Ending(failure=type(end).__name__, transport=isinstance(end, TRANSPORT))
    if isinstance(end, Exception):
        return Ending(asked=False)
    content, _, headers = end
    is_answer = isinstance(content, Mapping) and content.get("retCode") == 0
    return Ending(failure="" if is_answer else "an answer that is none", said=allowance_of(headers))


def allowance_of(headers: Mapping[str, str] | None, *, throttled: bool = False) -> Allowance:
    """Bybit's limit headers; what is missing or no number is not said. The time of reset counts only for a refusal:
    otherwise it is about now. It is by the venue's clock, so a wait of more than a few seconds is not believed."""
    if headers is None:
        return NOTHING_SAID
    limit, remaining = _number(headers, "X-Bapi-Limit"), _number(headers, "X-Bapi-Limit-Status")
    if not limit or limit <= 0 or remaining is None or not 0 <= remaining <= limit:
        limit = remaining = None
    blocked_ms = 0
    if throttled:
        reset, now = _number(headers, "X-Bapi-Limit-Reset-Timestamp"), _number(headers, "Timenow")
        blocked_ms = min(max(reset - now, 0), LONGEST_PAUSE_MS) if reset is not None and now is not None else 1_000
    return Allowance(limit, remaining, blocked_ms)


def _number(headers: Mapping[str, str], name: str) -> int | None:
    try:
        return int(headers[name])
    except (KeyError, ValueError):
        return None
