"""Recorded sessions as streams: the books of production, byte by byte."""

from __future__ import annotations

import re

import numpy as np

from benchmarks.engine.streams import DATA, Listing, Stream
from marketdata.feeds.recorded import read_recording

TOPIC = re.compile(rb'\{"topic":"orderbook\.200\.([A-Z0-9]+)"')
# Ticks and lots of the recorded symbols on that day.
LISTINGS = {
    ("linear", "BTCUSDT"): Listing("BTCUSDT", 0, 10, 2, 3),
    ("linear", "SOLUSDT"): Listing("SOLUSDT", 0, 10, 3, 1),
    ("spot", "BTCUSDT"): Listing("BTCUSDT", 0, 1, 1, 6),
}


def bybit_streams() -> dict[str, Stream]:
    """By category and symbol; empty where there are no recordings."""
    frames: dict[tuple[str, str], list[bytes]] = {}
    for path in sorted((DATA / "bybit-v5-session").glob("*.zst")):
        for frame in read_recording(path):
            topic = TOPIC.match(frame.data) if frame.kind == "recv" else None
            if topic and frame.category:
                frames.setdefault((frame.category, topic[1].decode()), []).append(frame.data)
    streams = {}
    for key, found in frames.items():
        offsets = np.cumsum([0, *map(len, found)]).astype(np.int64)
        changes = sum(each.count(b'["') for each in found[1:])
        streams[" ".join(key)] = Stream(LISTINGS[key], b"".join(found), offsets, changes)
    return streams
