"""Names of topics in the hub."""

from __future__ import annotations

# What Binance's streams of all symbols begin with, and what stands for the symbol of these.
ALL_SYMBOLS = "!"


def address(category: str, topic: str) -> str:
    """The hub's name of a public topic: linear ones are plain, spot ones carry their category."""
    return topic if category == "linear" else f"{category}:{topic}"
