"""Binance's public market data over the simulator's markets: each one is offered as spot and as USD-M futures."""

from __future__ import annotations
