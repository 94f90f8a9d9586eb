"""So many requests a minute of each user, told in every answer: ``X-RateLimit-Limit``, ``-Remaining``, ``-Reset``."""

from __future__ import annotations

import time
from typing import Any

import redis
from django.conf import settings
from redis.client import Pipeline
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from marketdata.selectors import valkey

MINUTE = 60


class MinuteThrottle(BaseThrottle):
    """A count in Valkey by user and calendar minute: one round trip, the same for all web processes. While Valkey is
    away nobody is refused."""

    scope = "depth"

    def allow_request(self, request: Request, view: APIView) -> bool:
        now = time.time()
        minute = int(now // MINUTE)
        who = request.user.pk if request.user.is_authenticated else request.META.get("REMOTE_ADDR", "")
        key = f"{settings.REDIS_PREFIX}:rate:{self.scope}:{who}:{minute}"
        limit: int = settings.DEPTH_API_RATE
        self._wait = (minute + 1) * MINUTE - now
        try:
            pipeline = valkey().pipeline(transaction=False)
            pipeline.incr(key)
            pipeline.expire(key, 2 * MINUTE)
            if isinstance(view, RateLimited):
                view.ask_valkey(request, pipeline)
            used, _, *told = pipeline.execute()
        except (redis.RedisError, OSError):
            return True
        if isinstance(view, RateLimited):
            view.told = told
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(0, limit - used)),
            "X-RateLimit-Reset": str((minute + 1) * MINUTE),
        }
        request._request.rate_limit_headers = headers  # type: ignore[attr-defined]
        return used <= limit

    def wait(self) -> float:
        return self._wait


class RateLimited(APIView):
    """A view whose answers, refusals too, tell the limit."""

    throttle_classes = (MinuteThrottle,)
    # What Valkey answered beside the count; None while it is away.
    told: list[Any] | None = None

    def ask_valkey(self, request: Request, pipeline: Pipeline) -> None:
        """Ask more of Valkey in the round trip that counts the request: ``told`` has the answers then. What is wrong
        with the request is for the view to say."""

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        for name, value in getattr(request._request, "rate_limit_headers", {}).items():
            answer[name] = value
        return answer
