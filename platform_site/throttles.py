"""Limits on requests to the API, counted in Valkey; while it is away nobody is kept from trading or stopping."""

from __future__ import annotations

import logging
from typing import Any

import redis
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, UserRateThrottle

log = logging.getLogger(__name__)


class AnonymousThrottle(AnonRateThrottle):
    def allow_request(self, request: Request, view: Any) -> bool:
        try:
            return bool(super().allow_request(request, view))
        except (redis.RedisError, OSError) as error:
            return _uncounted(error)


class UserThrottle(UserRateThrottle):
    def allow_request(self, request: Request, view: Any) -> bool:
        try:
            return bool(super().allow_request(request, view))
        except (redis.RedisError, OSError) as error:
            return _uncounted(error)


def _uncounted(error: Exception) -> bool:
    log.warning("a request is not counted, Valkey does not answer: %s", type(error).__name__)
    return True
