"""A Bybit-compatible exchange on loopback: real matching, seeded or recorded market. Free of Django."""

from __future__ import annotations
