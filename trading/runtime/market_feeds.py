"""Which feeds an engine listens to, by its settings."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from marketdata.feeds import binance_addresses as addresses
from marketdata.feeds.binance import BinanceFeed
from marketdata.feeds.binance_rest import MARKETS, BinanceRest
from marketdata.feeds.bybit import BybitPublicFeed
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.protocol import Tap
from marketdata.feeds.recorder import Recorder
from trading.gateways.bybit import BybitEndpoints
from trading.runtime.market_access import binance_gate
from trading.runtime.market_plane import MarketPlane, bybit_topics


def connect(plane: MarketPlane, endpoints: BybitEndpoints, rest: BybitPublicRest, tap: Tap | None = None) -> None:
    """Let a plane follow the venues that the settings name."""
    plane.follow_bybit(bybit_feed(endpoints, rest, tap))
    if settings.BINANCE_SYMBOLS:
        rest_url, streams = binance_addresses(settings.BINANCE_MARKET)
        binance_rest = BinanceRest(rest_url, MARKETS[settings.BINANCE_MARKET], binance_gate(rest_url))
        plane.follow_binance(binance_feed(streams, binance_rest, tap), settings.BINANCE_SYMBOLS)


def bybit_feed(endpoints: BybitEndpoints, rest: BybitPublicRest, tap: Tap | None) -> BybitPublicFeed:
    """Without symbols yet. Who made ``rest`` closes it."""
    url = f"{endpoints.websocket}/v5/public/linear"
    return BybitPublicFeed(url, bybit_topics, rest, symbols_a_connection=settings.SYMBOLS_A_CONNECTION, tap=tap)


def binance_addresses(market: str) -> tuple[str, str]:
    """Where REST and combined streams of ``spot`` or ``usdm`` are."""
    simulator = settings.SIMULATOR_URL if settings.EXCHANGE == "simulator" else None
    return addresses.binance_addresses(market, simulator)


def binance_feed(streams: str, rest: BinanceRest, tap: Tap | None) -> BinanceFeed:
    """Without symbols yet. It closes ``rest`` when it ends."""
    return BinanceFeed(streams, (), rest, symbols_a_connection=settings.SYMBOLS_A_CONNECTION, tap=tap)


def recorder(engine: str) -> Recorder | None:
    """What records this engine's raw frames, where the settings want them recorded."""
    if not settings.RECORD_DIR:
        return None
    return Recorder(
        Path(settings.RECORD_DIR),
        f"engine-{engine}",
        most_bytes=settings.RECORD_FILE_MEGABYTES * 2**20,
        most_seconds=settings.RECORD_FILE_MINUTES * 60.0,
    )
