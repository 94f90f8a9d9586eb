"""What the market says, as values: the same ones live, on paper and in a replay.

Two clocks on every event that a strategy may act on: the venue's and ours at receipt, int64 nanoseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade of the market. ``side`` is the taker's."""

    symbol: str
    trade_id: str
    price: Decimal
    quantity: Decimal
    side: str
    venue_ns: int
    receive_ns: int


@dataclass(frozen=True, slots=True)
class Candle:
    """One bar; ``interval`` in Bybit's words (minutes, or D). ``closed`` is False while it still changes."""

    symbol: str
    interval: str
    start_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    turnover: Decimal
    closed: bool


@dataclass(frozen=True, slots=True)
class Ticker:
    """The market's summary of one symbol; None is what the venue has not said yet. ``change_24h`` is a fraction."""

    symbol: str
    last_price: Decimal | None = None
    mark_price: Decimal | None = None
    index_price: Decimal | None = None
    bid_price: Decimal | None = None
    ask_price: Decimal | None = None
    funding_rate: Decimal | None = None
    next_funding_ms: int | None = None
    volume_24h: Decimal | None = None
    turnover_24h: Decimal | None = None
    change_24h: Decimal | None = None
    open_interest: Decimal | None = None


@dataclass(frozen=True, slots=True)
class BookView:
    """A proven book at one moment. ``features`` are in the order of ``marketdata.engine.feature_table.FEATURES``."""

    symbol: str
    state: str
    venue_ns: int
    receive_ns: int
    update_id: int
    best_bid: Decimal
    best_ask: Decimal
    features: NDArray[np.float64]


class FeedEventKind(StrEnum):
    """What happens to a market feed."""

    CONNECTED = "CONNECTED"
    DISCONNECTED = "DISCONNECTED"
    ERROR = "ERROR"
    RECONNECTING = "RECONNECTING"
    SNAPSHOT_LOADED = "SNAPSHOT_LOADED"
    GAP_DETECTED = "GAP_DETECTED"
    UPDATE_FAILED = "UPDATE_FAILED"


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """One thing that happened to a feed. ``symbol`` is empty where it concerns several; ``metadata`` is plain JSON,
    with ``alert: true`` where a person should look."""

    kind: FeedEventKind
    venue: str
    market_type: str
    symbol: str
    message: str
    time_ns: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
