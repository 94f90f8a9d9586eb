"""What a request for Binance's public data costs of what this address may ask, and what its answers say of limits."""

from __future__ import annotations

import aiohttp

from marketdata.feeds.protocol import RestAnswer
from trading.resilience.guard import Ending, Endpoint
from trading.resilience.rate_budget import Allowance, Bucket

# Weights are kept by the client itself, corrected by the venue's count of the whole address
# (marketdata/feeds/binance_rest.py). This is what many processes may ask together in any case.
ADDRESS_LIMIT, ADDRESS_WINDOW_MS = 600, 60_000
TOO_MANY_REQUESTS, BANNED, FIREWALL = 429, 418, 403
SERVER_ERROR = 500
DEFAULT_PAUSE_MS, LONGEST_PAUSE_MS = 60_000, 3_600_000


def binance_endpoint(venue: str) -> Endpoint:
    return Endpoint("market", (Bucket(f"{venue}:binance-address", ADDRESS_LIMIT, ADDRESS_WINDOW_MS),))


def binance_ending(end: RestAnswer | Exception) -> Ending:
    """A refusal for too many requests stops every process at this address for as long as the venue says."""
    if isinstance(end, Exception):
        is_transport = isinstance(end, (aiohttp.ClientError, TimeoutError, OSError))
        return Ending(asked=is_transport, failure=type(end).__name__, transport=is_transport)
    if end.status in (TOO_MANY_REQUESTS, BANNED, FIREWALL):
        told = end.headers.get("Retry-After", "")
        pause_ms = int(told) * 1_000 if told.isdecimal() else DEFAULT_PAUSE_MS
        return Ending(said=Allowance(blocked_ms=min(pause_ms, LONGEST_PAUSE_MS)))
    return Ending(failure=f"HTTP {end.status}" if end.status >= SERVER_ERROR else "")
