"""Who sent a request, proven as Bybit proves it: over the raw bytes that came."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping

from trading.simulator.errors import ApiError
from trading.simulator.keys import ApiKey

DEFAULT_RECEIVE_WINDOW_MS = 5_000
AHEAD_MS = 1_000
# More digits than any time in ms has: a number of a million digits would be computed for seconds.
MOST_DIGITS = 15


class Authority:
    """Knows the keys; says whose request it is or why it is nobody's.

    ``issued`` gives keys that follow from what they are called; ``admit`` hears of each when it has first signed.
    """

    def __init__(
        self,
        keys: Mapping[str, ApiKey],
        issued: Callable[[str], ApiKey | None] = lambda api_key: None,
        admit: Callable[[ApiKey], None] = lambda key: None,
    ) -> None:
        self._issued, self._admit = issued, admit
        self._by_key = {key.api_key: key for key in keys.values()}
        # A keyed hash that has read the secret already: to copy it is cheaper than to make it.
        self._hashes = {key.api_key: _hash_of(key) for key in keys.values()}

    def claimed_user(self, headers: Mapping[str, str]) -> str | None:
        """Whose key came with a request, before anything is proven."""
        key = self._by_key.get(headers.get("X-BAPI-API-KEY", ""))
        return None if key is None else key.user

    def user_of(self, headers: Mapping[str, str], payload: bytes, now_ms: int) -> str:
        """``payload`` is the raw query string of a GET, the raw body of a POST.

        Raises:
            ApiError: 10003 unknown key, 10002 outside the receive window, 10004 wrong signature.
        """
        key = self._key(headers.get("X-BAPI-API-KEY", ""))
        timestamp, window = headers.get("X-BAPI-TIMESTAMP", ""), headers.get("X-BAPI-RECV-WINDOW", "")
        check_window(timestamp, window, now_ms)
        signed = f"{timestamp}{key.api_key}{window}".encode(errors="surrogateescape") + payload
        if not self._is_signed(key, signed, headers.get("X-BAPI-SIGN", "")):
            raise ApiError(10004, f"error sign! origin_string[{signed.decode(errors='replace')}]")
        return key.user

    def user_of_websocket(self, arguments: list[object], now_ms: int) -> str:
        """The ``args`` of an ``auth`` request: key, expiry in ms, signature.

        Raises:
            ApiError: as :meth:`user_of`; -1 for an expired request.
        """
        if len(arguments) != 3 or not all(isinstance(each, str | int) for each in arguments):
            raise ApiError(10001, "auth takes the api key, the expiry and the signature")
        api_key, expires, signature = map(str, arguments)
        key = self._key(api_key)
        if not is_number(expires) or int(expires) < now_ms:
            raise ApiError(-1, "Request expired")
        if not self._is_signed(key, f"GET/realtime{expires}".encode(), signature):
            raise ApiError(10004, "error sign!")
        return key.user

    def _key(self, api_key: str) -> ApiKey:
        key = self._by_key.get(api_key) or self._issued(api_key)
        if key is None:
            raise ApiError(10003, "API key is invalid.")
        return key

    def _is_signed(self, key: ApiKey, text: bytes, signature: str) -> bool:
        known = self._hashes.get(key.api_key)
        expected = _hash_of(key) if known is None else known.copy()
        expected.update(text)
        # As bytes: the comparison of texts fails for a signature that is not ASCII.
        signed = hmac.compare_digest(expected.hexdigest().encode(), signature.encode(errors="replace"))
        if signed and known is None:
            self._by_key[key.api_key], self._hashes[key.api_key] = key, _hash_of(key)
            self._admit(key)
        return signed


def _hash_of(key: ApiKey) -> hmac.HMAC:
    return hmac.new(key.api_secret.encode(), digestmod=hashlib.sha256)


def check_window(timestamp: str, window: str, now_ms: int) -> None:
    """Whether a request's time is near enough to the venue's.

    Raises:
        ApiError: 10002.
    """
    window_ms = int(window) if is_number(window) else DEFAULT_RECEIVE_WINDOW_MS
    if not is_number(timestamp) or not now_ms - window_ms <= int(timestamp) < now_ms + AHEAD_MS:
        raise ApiError(
            10002,
            "invalid request, please check your server timestamp or recv_window param. "
            f"req_timestamp[{shown(timestamp)}],server_timestamp[{now_ms}],recv_window[{window_ms}]",
        )


def is_number(text: str) -> bool:
    """Whether it is digits only, ASCII ones: ``isdigit`` alone accepts what ``int`` does not."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def shown(text: str) -> str:
    """A header as it may be told again: orjson refuses what is no Unicode."""
    return text.encode(errors="replace").decode()
