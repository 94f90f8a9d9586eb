"""Bybit's refusals, as exceptions that become an envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A request that the exchange refuses with a ``retCode``, a ``retMsg`` and, rarely, a ``retExtInfo``."""

    def __init__(self, code: int, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.details = dict(details or {})


def parameter_error(message: str) -> ApiError:
    return ApiError(10001, message)


def too_many_visits() -> ApiError:
    return ApiError(10006, "Too many visits. Exceeded the API Rate Limit.")
