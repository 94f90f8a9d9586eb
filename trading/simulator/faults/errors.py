"""A fault rule that cannot be used."""

from __future__ import annotations


class FaultError(ValueError):
    """Names the field, its value and what is allowed."""


def wrong(field: str, value: object, expected: str) -> FaultError:
    shown = repr(value)
    return FaultError(f"{field} is {shown if len(shown) <= 80 else shown[:77] + '...'}; expected {expected}")
