"""Where Binance's REST and combined streams are, by market."""

from __future__ import annotations

# Futures serve books at an address of their own.
BINANCE = {
    "spot": ("https://api.binance.com", "wss://stream.binance.com:9443/stream"),
    "usdm": ("https://fapi.binance.com", "wss://fstream.binance.com/public/stream"),
}
SIMULATED_STREAMS = {"spot": "/spot/stream", "usdm": "/futures/public/stream"}


def binance_addresses(market: str, simulator_url: str | None = None) -> tuple[str, str]:
    """REST and combined streams of ``spot`` or ``usdm``: Binance's own, or those of a simulator."""
    if simulator_url is None:
        return BINANCE[market]
    return simulator_url, simulator_url.replace("http", "ws", 1) + SIMULATED_STREAMS[market]
