"""The last question before a request that changes something leaves: may it still?

A process can be paused at any instruction, for as long as it likes. What decides is therefore asked after the request
got its timestamp and right before it is written to the socket. A pause before the question is found out by the
question; a pause after it makes the timestamp old, and the venue refuses the request once its receive window is over.
So nothing can arrive later than the last moment at which the answer was yes, plus the receive window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from trading.crash_points import ARMED, reach

# Given the request's timestamp in ms since 1970: why it must not be sent, or nothing.
Fence = Callable[[int], str]
TIMESTAMP = "X-BAPI-TIMESTAMP"
ORDERS = "/v5/order/"
LEFT = {"create": "order.bytes_left", "amend": "amend.bytes_left", "cancel": "cancel.bytes_left"}


class SendRefused(Exception):
    """The request was stopped on our side; not a byte of it left."""


class FencedAdapter(HTTPAdapter):
    """Asks ``fence`` about every POST; questions (GET) may always be asked."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        super().__init__()
        if ARMED:
            self.poolmanager.pool_classes_by_scheme = {"http": _MarkedPool}

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        if request.method == "POST":
            reason = self._fence(int(request.headers.get(TIMESTAMP, 0)))
            if reason:
                raise SendRefused(reason)
        return super().send(request, *arguments, **options)


class _MarkedConnection(HTTPConnection):
    def request(self, method: str, url: str, *arguments: Any, **options: Any) -> None:
        super().request(method, url, *arguments, **options)
        label = LEFT.get(url.removeprefix(ORDERS))
        if label is not None:
            reach(label)


class _MarkedPool(HTTPConnectionPool):
    ConnectionCls = _MarkedConnection


def no_fence(timestamp_ms: int) -> str:
    """For whoever needs no right to send: questions, and the emergency close while there is no database to ask."""
    return ""
