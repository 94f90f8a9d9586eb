"""Decimals on the wire: plain text, never a float and never an exponent."""

from __future__ import annotations

from decimal import Decimal

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers


@extend_schema_field({"type": "string", "format": "decimal", "example": "0.001"})
class PlainDecimalField(serializers.Field):
    """A decimal as text: "0.001", never "1E-3"."""

    def to_representation(self, value: Decimal) -> str:
        return f"{value:f}"
