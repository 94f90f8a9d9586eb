"""How often one may ask: by user and endpoint in a second, by address in some seconds, as documented."""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

RESET_MARGIN_MS = 100
SECOND_MS = 1_000
DEFAULT_LIMIT = 50
# Requests a second of a user without VIP level; an endpoint that is not here has 50. By category where they differ.
LIMITS: dict[str, int | dict[str, int]] = {
    "/v5/order/create": {"linear": 10, "inverse": 10, "option": 10, "spot": 20},
    "/v5/order/amend": 10,
    "/v5/order/cancel": {"linear": 10, "inverse": 10, "option": 10, "spot": 20},
    "/v5/order/cancel-all": {"linear": 10, "inverse": 10, "option": 1, "spot": 20},
    "/v5/order/create-batch": {"linear": 10, "inverse": 10, "option": 10, "spot": 20},
    "/v5/order/amend-batch": {"linear": 10, "inverse": 10, "option": 10, "spot": 20},
    "/v5/order/cancel-batch": {"linear": 10, "inverse": 10, "option": 10, "spot": 20},
    "/v5/order/pre-check": {"linear": 10, "inverse": 10, "option": 10, "spot": 20},
    "/v5/order/disconnected-cancel-all": 5,
    "/v5/position/set-leverage": 10,
    "/v5/position/trading-stop": 10,
    "/v5/position/switch-mode": 10,
    "/v5/account/fee-rate": 5,
    "/v5/account/query-dcp-info": 5,
    "/v5/account/smp-group": 5,
    "/v5/account/set-margin-mode": 5,
    "/v5/account/transaction-log": 25,
}
IP_REQUESTS, IP_WINDOW_MS = 600, 5_000
IP_CONNECTIONS, IP_CONNECTIONS_WINDOW_MS = 500, 300_000
IP_BAN_MS = 600_000
IP_STREAMS = 1_000
IP_TRADE_REQUESTS = 3_000
USER_SESSIONS, SESSION_REQUESTS = 50, 500


def limit_of(endpoint: str, category: str) -> int:
    limit = LIMITS.get(endpoint, DEFAULT_LIMIT)
    return limit if isinstance(limit, int) else limit.get(category, limit["linear"])


class Allowance(NamedTuple):
    """What a request may do: ``admitted`` of what it asked for, ``remaining`` after it, ``reset_ms`` when more is
    allowed again (the present while there was enough)."""

    limit: int
    remaining: int
    reset_ms: int
    admitted: int


class RateLimits:
    """Rolling seconds by user, endpoint and category; a batch endpoint has its own, apart from the single one."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str, str], tuple[int, deque[int]]] = {}

    def take(self, user: str, endpoint: str, now_ms: int, category: str = "linear", weight: int = 1) -> Allowance:
        """Count one call, or the orders of a batch: those beyond the limit are neither admitted nor counted."""
        key = (user, endpoint, category)
        bucket = self._calls.get(key)
        if bucket is None:
            bucket = self._calls[key] = (limit_of(endpoint, category), deque())
        limit, calls = bucket
        while calls and calls[0] <= now_ms - SECOND_MS:
            calls.popleft()
        admitted = min(weight, limit - len(calls))
        calls.extend([now_ms] * admitted)
        # A little late: pybit fails when the moment it should wait for has just passed.
        reset = now_ms if admitted == weight else calls[0] + SECOND_MS + RESET_MARGIN_MS
        return Allowance(limit, limit - len(calls), reset, admitted)


class AddressLimit:
    """At most ``most`` events of an address in a rolling window; who asks for more is refused for ``ban_ms``."""

    def __init__(self, most: int, window_ms: int, ban_ms: int = 0) -> None:
        self._most, self._window_ms, self._ban_ms = most, window_ms, ban_ms
        self._events: dict[str, deque[int]] = {}
        self._banned_until: dict[str, int] = {}

    def admits(self, address: str, now_ms: int) -> bool:
        if now_ms < self._banned_until.get(address, 0):
            return False
        events = self._events.setdefault(address, deque())
        while events and events[0] <= now_ms - self._window_ms:
            events.popleft()
        if len(events) >= self._most:
            self._banned_until[address] = now_ms + self._ban_ms
            return False
        events.append(now_ms)
        return True


class AddressLimits:
    """The limits of an address: REST requests, new websocket connections, open public ones by path, and requests on
    trade connections. The documented numbers, unless others are given."""

    def __init__(
        self,
        *,
        requests: int = IP_REQUESTS,
        connections: int = IP_CONNECTIONS,
        streams: int = IP_STREAMS,
        trade_requests: int = IP_TRADE_REQUESTS,
    ) -> None:
        self._requests = AddressLimit(requests, IP_WINDOW_MS, IP_BAN_MS)
        # All paths count together: the documented limit is one of the host.
        self._connections = AddressLimit(connections, IP_CONNECTIONS_WINDOW_MS)
        self._most_streams = streams
        self._streams: Counter[tuple[str, str]] = Counter()
        self._trade_requests = AddressLimit(trade_requests, SECOND_MS)

    def admits_request(self, address: str | None, now_ms: int) -> bool:
        return self._requests.admits(address or "", now_ms)

    def admits_connection(self, address: str | None, now_ms: int) -> bool:
        return self._connections.admits(address or "", now_ms)

    def admits_trade_request(self, address: str | None, now_ms: int) -> bool:
        return self._trade_requests.admits(address or "", now_ms)

    def begins_stream(self, address: str | None, path: str) -> bool:
        """Whether one more public connection may be open; then :meth:`ends_stream` must follow."""
        key = (address or "", path)
        if self._streams[key] >= self._most_streams:
            return False
        self._streams[key] += 1
        return True

    def ends_stream(self, address: str | None, path: str) -> None:
        self._streams[address or "", path] -= 1


class TradeLimits:
    """The limits of trade connections: how many of one user are open, and how many requests each makes in a second.

    Bybit documents that there are such limits (10003 and 20003) and not their numbers: these are far beyond what the
    limits of the endpoints let through.
    """

    def __init__(self, *, sessions: int = USER_SESSIONS, requests: int = SESSION_REQUESTS) -> None:
        self._most_sessions, self._most_requests = sessions, requests
        self._sessions: Counter[str] = Counter()

    def begins_session(self, user: str) -> bool:
        """Whether one more connection may trade for a user; then :meth:`ends_session` must follow."""
        if self._sessions[user] >= self._most_sessions:
            return False
        self._sessions[user] += 1
        return True

    def ends_session(self, user: str) -> None:
        self._sessions[user] -= 1

    def of_session(self) -> RequestRate:
        return RequestRate(self._most_requests)


class RequestRate:
    """At most so many requests in a rolling second."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._times: deque[int] = deque()

    def admits(self, now_ms: int) -> bool:
        while self._times and self._times[0] <= now_ms - SECOND_MS:
            self._times.popleft()
        if len(self._times) >= self._most:
            return False
        self._times.append(now_ms)
        return True
