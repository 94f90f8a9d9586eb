"""How often one may ask: by user and endpoint in a second, by address in some seconds, as documented."""

from __future__ import annotations

from collections import Counter, deque

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
    "/v5/account/transaction-log": 25,
}
IP_REQUESTS, IP_WINDOW_MS = 600, 5_000
IP_CONNECTIONS, IP_CONNECTIONS_WINDOW_MS = 500, 300_000
IP_BAN_MS = 600_000
IP_STREAMS = 1_000


def limit_of(endpoint: str, category: str) -> int:
    limit = LIMITS.get(endpoint, DEFAULT_LIMIT)
    return limit if isinstance(limit, int) else limit.get(category, limit["linear"])


class RateLimits:
    """Rolling seconds by user, endpoint and category."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str, str], tuple[int, deque[int]]] = {}

    def take(self, user: str, endpoint: str, now_ms: int, category: str = "linear") -> tuple[int, int, int]:
        """Count one call: the limit, what remains (below 0: refused, not counted), and when it resets (ms)."""
        key = (user, endpoint, category)
        bucket = self._calls.get(key)
        if bucket is None:
            bucket = self._calls[key] = (limit_of(endpoint, category), deque())
        limit, calls = bucket
        while calls and calls[0] <= now_ms - SECOND_MS:
            calls.popleft()
        if len(calls) >= limit:
            # A little late: pybit fails when the moment it should wait for has just passed.
            return limit, -1, calls[0] + SECOND_MS + RESET_MARGIN_MS
        calls.append(now_ms)
        return limit, limit - len(calls), now_ms


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
    """The limits of an address: REST requests, new websocket connections by path, open public ones by path."""

    def __init__(self) -> None:
        self._requests = AddressLimit(IP_REQUESTS, IP_WINDOW_MS, IP_BAN_MS)
        self._connections: dict[str, AddressLimit] = {}
        self._streams: Counter[tuple[str, str]] = Counter()

    def admits_request(self, address: str | None, now_ms: int) -> bool:
        return self._requests.admits(address or "", now_ms)

    def admits_connection(self, address: str | None, path: str, now_ms: int) -> bool:
        limit = self._connections.get(path)
        if limit is None:
            limit = self._connections[path] = AddressLimit(IP_CONNECTIONS, IP_CONNECTIONS_WINDOW_MS)
        return limit.admits(address or "", now_ms)

    def begins_stream(self, address: str | None, path: str) -> bool:
        """Whether one more public connection may be open; then :meth:`ends_stream` must follow."""
        key = (address or "", path)
        if self._streams[key] >= IP_STREAMS:
            return False
        self._streams[key] += 1
        return True

    def ends_stream(self, address: str | None, path: str) -> None:
        self._streams[address or "", path] -= 1
