"""Every strategy that can be configured, by its key."""

from __future__ import annotations

from strategies.base import Strategy
from strategies.library.orderbook_imbalance import OrderBookImbalance
from strategies.library.supertrend import SuperTrend

STRATEGIES: dict[str, type[Strategy]] = {
    SuperTrend.name: SuperTrend,
    OrderBookImbalance.name: OrderBookImbalance,
}
