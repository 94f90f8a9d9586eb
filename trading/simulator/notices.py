"""Public topics with a pace of their own: liquidations, price limits, and the tickers of spot markets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trading.simulator.exchange import Exchange
from trading.simulator.hub import Hub
from trading.simulator.markets import Liquidation, Market
from trading.simulator.publisher import SpotTicker, liquidations_message, price_limit_message
from trading.simulator.topics import address

LIQUIDATIONS_MS, PRICE_LIMITS_MS, SPOT_TICKERS_MS = 500, 300, 50


class Notices:
    """``spot_tickers`` by symbol, filled by whoever lists a spot market; ``on_liquidations`` hears of those that are
    told."""

    def __init__(self, exchange: Exchange, hub: Hub, on_liquidations: Callable[[Sequence[Liquidation]], None]) -> None:
        self._exchange, self._hub, self._on_liquidations = exchange, hub, on_liquidations
        self.spot_tickers: dict[str, SpotTicker] = {}
        self._price_limits: dict[str, tuple[str, str]] = {}
        self._periods: dict[int, int] = {}

    def tick(self, now_ms: int) -> None:
        """Tell what is due."""
        if self._is_due(LIQUIDATIONS_MS, now_ms):
            self._tell_liquidations(now_ms)
        if self._is_due(PRICE_LIMITS_MS, now_ms):
            for market in (*self._exchange.markets.values(), *self._exchange.spot.values()):
                self._tell_price_limit(market, now_ms)
        if self._is_due(SPOT_TICKERS_MS, now_ms):
            self._tell_spot_tickers(now_ms)

    def price_limit(self, market: Market, now_ms: int) -> bytes:
        """What a new subscriber is told; the first one is not told it again."""
        name = address(market.category, f"priceLimit.{market.symbol}")
        if not self._hub.wanted(name):
            self._price_limits[name] = market.price_limits()
        return price_limit_message(market, now_ms)

    def _is_due(self, every_ms: int, now_ms: int) -> bool:
        """Once in each period of the clock."""
        period = now_ms // every_ms
        if self._periods.get(every_ms) == period:
            return False
        self._periods[every_ms] = period
        return True

    def _tell_liquidations(self, now_ms: int) -> None:
        liquidations, self._exchange.liquidations = self._exchange.liquidations, []
        if not liquidations:
            return
        self._on_liquidations(liquidations)
        by_symbol: dict[str, list[Liquidation]] = {}
        for each in liquidations:
            by_symbol.setdefault(each.symbol, []).append(each)
        for symbol, rows in by_symbol.items():
            topic = f"allLiquidation.{symbol}"
            if self._hub.wanted(topic):
                self._hub.publish(topic, liquidations_message(symbol, rows, now_ms))

    def _tell_price_limit(self, market: Market, now_ms: int) -> None:
        name = address(market.category, f"priceLimit.{market.symbol}")
        if not self._hub.wanted(name):
            return
        limits = market.price_limits()
        if self._price_limits.get(name) != limits:
            self._price_limits[name] = limits
            self._hub.publish(name, price_limit_message(market, now_ms))

    def _tell_spot_tickers(self, now_ms: int) -> None:
        for ticker in self.spot_tickers.values():
            name = address("spot", ticker.topic)
            message = ticker.news(now_ms) if self._hub.wanted(name) else None
            if message is not None:
                self._hub.publish(name, message)
