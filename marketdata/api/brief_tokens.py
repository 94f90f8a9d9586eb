"""Tokens that were good a moment ago: for endpoints that are asked often and only read."""

from __future__ import annotations

import time
from copy import copy
from typing import Any

from drf_spectacular.authentication import TokenScheme
from rest_framework.authentication import TokenAuthentication
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

BELIEVED_SECONDS = 1.0
MOST_KEPT = 10_000

_good: dict[str, tuple[float, Any, Any]] = {}


class BriefTokenAuthentication(TokenAuthentication):
    """A token that was good is believed for another second without asking the database, where nothing is changed: one
    that is revoked, or whose user is shut out, lets nobody read after that second, and nobody write at once."""

    def authenticate(self, request: Request) -> Any:
        self._reads = request.method in SAFE_METHODS
        return super().authenticate(request)

    def authenticate_credentials(self, key: str) -> Any:
        now = time.monotonic()
        if self._reads and (known := _good.get(key)) is not None and now < known[0]:
            # A copy: what a view does to its user is not for the next request to see.
            return copy(known[1]), known[2]
        user, token = super().authenticate_credentials(key)
        if len(_good) >= MOST_KEPT:
            _good.clear()
        _good[key] = (now + BELIEVED_SECONDS, user, token)
        return user, token


class BriefTokenScheme(TokenScheme):
    """For the API's documentation, which wants a name for each way to log in."""

    target_class = "marketdata.api.brief_tokens.BriefTokenAuthentication"
    name = "briefTokenAuth"
    priority = 1
