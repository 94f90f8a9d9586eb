"""Which feeds an engine listens to, by its settings."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from marketdata.feeds.binance import BinanceFeed
from marketdata.feeds.binance_rest import MARKETS, BinanceRest
from marketdata.feeds.bybit import BybitPublicFeed
from marketdata.feeds.bybit_rest import BybitPublicRest
from marketdata.feeds.protocol import Tap
from marketdata.feeds.recorder import Recorder
from trading.gateways.bybit import BybitEndpoints
from trading.runtime.market_plane import MarketPlane, bybit_topics

# Where combined streams and REST are, by market. Futures serve books at an address of their own.
BINANCE = {
    "spot": ("wss://stream.binance.com:9443/stream", "https://api.binance.com"),
    "usdm": ("wss://fstream.binance.com/public/stream", "https://fapi.binance.com"),
}
SIMULATED_STREAMS = {"spot": "/spot/stream", "usdm": "/futures/public/stream"}


def connect(plane: MarketPlane, endpoints: BybitEndpoints, rest: BybitPublicRest, tap: Tap | None = None) -> None:
    """Let a plane follow the venues that the settings name."""
    url = f"{endpoints.websocket}/v5/public/linear"
    limit = settings.SYMBOLS_A_CONNECTION
    plane.follow_bybit(BybitPublicFeed(url, bybit_topics, rest, symbols_a_connection=limit, tap=tap))
    if settings.BINANCE_SYMBOLS:
        plane.follow_binance(binance_feed(tap), settings.BINANCE_SYMBOLS)


def binance_feed(tap: Tap | None) -> BinanceFeed:
    market = settings.BINANCE_MARKET
    streams, rest_url = BINANCE[market]
    if settings.EXCHANGE == "simulator":
        rest_url = settings.SIMULATOR_URL
        streams = rest_url.replace("http", "ws", 1) + SIMULATED_STREAMS[market]
    rest = BinanceRest(rest_url, MARKETS[market])
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
