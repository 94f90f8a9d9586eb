"""A recorded session as a market: its raw public frames again, at their own pace, over and over.

Only what must change changes: update ids and sequence numbers continue from loop to loop, and times are moved to now.
Everything else of a frame, its key order included, is as it was received.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from marketdata.feeds.bybit import topic_of
from marketdata.feeds.recorded import RecordedFrame, RecordingError, read_recording
from trading.simulator.exchange import Exchange
from trading.simulator.hub import Hub
from trading.simulator.playing import UPDATE, MarketPlayer
from trading.simulator.topics import address

PAUSE_BETWEEN_LOOPS_SECONDS = 0.5
_TIMES = re.compile(rb'"(ts|cts|T|timestamp)":(\d{13})')


@dataclass(frozen=True, slots=True)
class Recording:
    """The public frames of one session, in the order of arrival, and what the venue listed."""

    name: str
    frames: tuple[RecordedFrame, ...]
    instruments: Mapping[str, tuple[dict[str, Any], ...]]

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Raises RecordingError when the file holds no order books."""
        frames, instruments = [], {}
        for frame in read_recording(path):
            if frame.kind == "recv" and topic_of(frame.data) is not None:
                frames.append(frame)
            elif frame.kind == "http" and frame.url and "instruments-info" in frame.url and frame.category:
                answer = orjson.loads(frame.data)
                instruments[frame.category] = tuple(answer["result"]["list"])
        if not any((topic_of(frame.data) or "").startswith("orderbook.") for frame in frames):
            raise RecordingError(f"{path.name} holds no order-book frames")
        return cls(path.name, tuple(frames), instruments)

    def symbols(self, category: str) -> set[str]:
        """The symbols whose books were recorded."""
        topics = {topic_of(frame.data) or "" for frame in self.frames if frame.category == category}
        return {topic.rpartition(".")[2] for topic in topics if topic.startswith("orderbook.")}

    def listings(self, category: str) -> dict[str, dict[str, Any]]:
        """The venue's own rows of the recorded symbols."""
        wanted = self.symbols(category)
        return {row["symbol"]: row for row in self.instruments.get(category, ()) if row["symbol"] in wanted}


class RecordingPlayer(MarketPlayer):
    """Plays into the hub, and keeps the exchange's linear markets at the recording's books and prices."""

    def __init__(self, recording: Recording, exchange: Exchange, hub: Hub) -> None:
        super().__init__(exchange, hub)
        self._recording = recording
        self.loops = 0
        self.book_topics = {
            topic for frame in recording.frames if (topic := topic_of(frame.data) or "").startswith("orderbook.")
        }
        self._show_first_state()

    async def run(self, clock: Callable[[], int], speed: float = 1.0) -> None:
        """Play at so many times the recorded pace; frames are moved to the time of ``clock`` (ms since 1970)."""
        frames = self._recording.frames
        while True:
            started, first = time.monotonic(), frames[0].receive_ns
            for frame in frames:
                wait = (frame.receive_ns - first) / 1e9 / speed - (time.monotonic() - started)
                if wait > 0:
                    await asyncio.sleep(wait)
                self.play(frame, clock())
            self.loops += 1
            self._continue_ids()
            await asyncio.sleep(PAUSE_BETWEEN_LOOPS_SECONDS / speed)

    def play(self, frame: RecordedFrame, now_ms: int) -> None:
        """Send one frame on, moved to now, and let the markets follow it."""
        topic, category = topic_of(frame.data) or "", frame.category or "linear"
        if topic.startswith("kline."):
            return  # our own candles serve every interval, this one included
        shift = now_ms - frame.receive_ns // 1_000_000
        data = _TIMES.sub(lambda found: b'"%s":%d' % (found[1], int(found[2]) + shift), frame.data)
        if topic.startswith("orderbook."):
            data = self._book_frame(topic, category, data)
            if topic in self._skip:
                self._skip.discard(topic)
                return
        elif category == "linear":
            self._market_frame(topic, frame.data, now_ms)
        self._hub.publish(address(category, topic), data)

    def symbols(self, category: str) -> set[str]:
        return self._recording.symbols(category)

    def listings(self, category: str) -> dict[str, dict[str, Any]]:
        return self._recording.listings(category)

    def _continue_ids(self) -> None:
        """The next loop begins with snapshots; their ids follow those of this loop's last messages."""
        for frame in self._recording.frames:
            topic = topic_of(frame.data) or ""
            key = (frame.category or "linear", topic)
            if topic.startswith("orderbook.") and b'"type":"snapshot"' in frame.data[:120]:
                first = int(UPDATE.search(frame.data)[1])  # type: ignore[index]
                self._offsets[key] = self._books[key].update_id + 1 - first

    def _show_first_state(self) -> None:
        """Prices and books before the first second is played, so that nothing is ever empty."""
        seen: set[str] = set()
        for frame in self._recording.frames:
            topic = topic_of(frame.data) or ""
            key = f"{frame.category}/{topic}"
            if key in seen or not topic.startswith(("orderbook.", "tickers.")):
                continue
            seen.add(key)
            if topic.startswith("orderbook."):
                self._book_frame(topic, frame.category or "linear", frame.data)
            elif frame.category == "linear":
                self._market_frame(topic, frame.data, frame.receive_ns // 1_000_000)
