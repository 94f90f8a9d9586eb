"""Where a book's frames come from: how they look, how they follow each other, what they can show."""

from __future__ import annotations

from dataclasses import dataclass

from marketdata.engine import parse_binance, parse_bybit
from marketdata.engine.process import FrameFormat
from marketdata.engine.sync import SyncRule


@dataclass(frozen=True, slots=True)
class BookSource:
    """``head`` and ``data`` are what every frame of this book begins with, and begins its data with. ``depth_limit``:
    levels a side that the stream shows at most (0: each that changes); ``snapshot_limit``: levels asked for by REST;
    ``topic``: the only one of Bybit's whose frames are its own.
    """

    format: FrameFormat
    rule: SyncRule
    head: bytes
    data: bytes
    depth_limit: int = 0
    snapshot_limit: int = 0
    topic: str = ""


def bybit(symbol: str, depth: int) -> BookSource:
    """``orderbook.DEPTH.SYMBOL``, linear, inverse or spot."""
    topic = f"orderbook.{depth}.{symbol}"
    head, data = parse_bybit.head_text(topic), parse_bybit.data_text(symbol)
    return BookSource(FrameFormat.BYBIT, SyncRule.BYBIT, head, data, depth_limit=depth, topic=topic)


def binance_spot(symbol: str, stream: str = "", snapshot_limit: int = 1_000) -> BookSource:
    """Diff depth of Binance spot; ``stream`` is its name where frames come in a combined stream."""
    head, data = parse_binance.head_text(stream), parse_binance.data_text(symbol, "")
    return BookSource(FrameFormat.BINANCE, SyncRule.BINANCE_SPOT, head, data, snapshot_limit=snapshot_limit)


def binance_futures(symbol: str, stream: str = "", pair: str = "", snapshot_limit: int = 1_000) -> BookSource:
    """Diff depth of Binance USD-M, or coin-M with its ``pair``."""
    head, data = parse_binance.head_text(stream), parse_binance.data_text(symbol, pair)
    return BookSource(FrameFormat.BINANCE, SyncRule.BINANCE_FUTURES, head, data, snapshot_limit=snapshot_limit)
