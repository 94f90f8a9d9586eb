"""Who sent a request, proven as Bybit proves it: over the raw bytes that came."""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Mapping

from trading.simulator.errors import ApiError
from trading.simulator.keys import ApiKey

DEFAULT_RECEIVE_WINDOW_MS = 5_000
AHEAD_MS = 1_000
# Requests a second, user and endpoint (documented defaults); everything else has 50.
LIMITS = {
    "/v5/order/create": 10,
    "/v5/order/amend": 10,
    "/v5/order/cancel": 10,
    "/v5/order/cancel-all": 10,
    "/v5/position/set-leverage": 10,
    "/v5/position/trading-stop": 10,
    "/v5/account/fee-rate": 5,
}
DEFAULT_LIMIT = 50
RESET_MARGIN_MS = 100


class Authority:
    """Knows the keys; says whose request it is or why it is nobody's."""

    def __init__(self, keys: Mapping[str, ApiKey]) -> None:
        self._by_key = {key.api_key: key for key in keys.values()}

    def user_of(self, headers: Mapping[str, str], payload: str, now_ms: int) -> str:
        """``payload`` is the raw query string of a GET, the raw body of a POST.

        Raises:
            ApiError: 10003 unknown key, 10002 outside the receive window, 10004 wrong signature.
        """
        key = self._by_key.get(headers.get("X-BAPI-API-KEY", ""))
        if key is None:
            raise ApiError(10003, "API key is invalid.")
        timestamp, window = headers.get("X-BAPI-TIMESTAMP", ""), headers.get("X-BAPI-RECV-WINDOW", "")
        window_ms = int(window) if window.isdigit() else DEFAULT_RECEIVE_WINDOW_MS
        if not timestamp.isdigit() or not now_ms - window_ms <= int(timestamp) < now_ms + AHEAD_MS:
            raise ApiError(
                10002,
                "invalid request, please check your server timestamp or recv_window param. "
                f"req_timestamp[{timestamp}],server_timestamp[{now_ms}],recv_window[{window_ms}]",
            )
        text = f"{timestamp}{key.api_key}{window}{payload}"
        expected = hmac.new(key.api_secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, headers.get("X-BAPI-SIGN", "")):
            raise ApiError(10004, f"error sign! origin_string[{text}]")
        return key.user

    def user_of_websocket(self, arguments: list[object], now_ms: int) -> str:
        """The ``args`` of an ``auth`` request: key, expiry in ms, signature.

        Raises:
            ApiError: as :meth:`user_of`; -1 for an expired request.
        """
        if len(arguments) != 3:
            raise ApiError(10001, "auth takes the api key, the expiry and the signature")
        api_key, expires, signature = arguments
        key = self._by_key.get(str(api_key))
        if key is None:
            raise ApiError(10003, "API key is invalid.")
        if not str(expires).isdigit() or int(str(expires)) < now_ms:
            raise ApiError(-1, "Request expired")
        expected = hmac.new(key.api_secret.encode(), f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, str(signature)):
            raise ApiError(10004, "error sign!")
        return key.user


class RateLimits:
    """Rolling seconds by user and endpoint."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], deque[int]] = {}

    def take(self, user: str, endpoint: str, now_ms: int) -> tuple[int, int, int]:
        """Count one call: the limit, what remains (below 0: refused, not counted), and when it resets (ms)."""
        limit = LIMITS.get(endpoint, DEFAULT_LIMIT)
        calls = self._calls.setdefault((user, endpoint), deque())
        while calls and calls[0] <= now_ms - 1_000:
            calls.popleft()
        if len(calls) >= limit:
            # A little late: pybit fails when the moment it should wait for has just passed.
            return limit, -1, calls[0] + 1_000 + RESET_MARGIN_MS
        calls.append(now_ms)
        return limit, limit - len(calls), now_ms
