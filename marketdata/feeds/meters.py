"""Figures of connections and symbols: how much came, how late it was, and how far the venue's clock is off."""

from __future__ import annotations

from collections import deque
from typing import Any

WINDOW_NS = 5_000_000_000
WINDOWS = 12
SAMPLES = 512


class ClockOffset:
    """How far our clock runs ahead of the venue's (negative: behind), in ns, plus the least delay of the network.

    A minimum filter: delays only ever add to ``receive - sent``, so the least value of each window of five seconds is
    the offset and the shortest way. Of the last minute's windows the second least counts, which one message with a
    wrong time cannot move.
    """

    def __init__(self) -> None:
        self._minima: deque[int] = deque(maxlen=WINDOWS)
        self._window = self._least = self._others = 0
        self._known = False

    @property
    def known(self) -> bool:
        return self._known

    @property
    def offset_ns(self) -> int:
        """0 before the first message."""
        return min(self._others, self._least) if self._known else 0

    def note(self, sent_ns: int, receive_ns: int) -> int:
        """Take one message's two clocks; returns its latency, corrected by the offset: at least 0."""
        delay, window = receive_ns - sent_ns, receive_ns // WINDOW_NS
        if not self._known:
            self._known, self._window, self._least, self._others = True, window, delay, delay
        elif window != self._window:
            self._minima.append(self._least)
            ordered = sorted(self._minima)
            self._others = ordered[1] if len(ordered) > 2 else ordered[0]
            self._window, self._least = window, max(delay, self._others)
        elif delay < self._least:
            self._least = delay
        return max(0, delay - self.offset_ns)


class Latencies:
    """The newest latencies of one source."""

    def __init__(self) -> None:
        self._samples: deque[int] = deque(maxlen=SAMPLES)

    def add(self, nanoseconds: int) -> None:
        self._samples.append(nanoseconds)

    def summary(self) -> dict[str, float]:
        """Median and 99th percentile (nearest rank) in ms; empty before the first."""
        ordered = sorted(self._samples)
        if not ordered:
            return {}
        return {
            f"latency_p{percent}_ms": round(ordered[min(len(ordered) - 1, percent * len(ordered) // 100)] / 1e6, 3)
            for percent in (50, 99)
        }


class ConnectionMeter:
    """Of one connection of a pool; it goes on through reconnections."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages = self.bytes = self.reconnects = self.handler_errors = self.failures = 0
        self.last_receive_ns = 0
        self.clock = ClockOffset()
        self.latencies = Latencies()

    def took(self, size: int, receive_ns: int) -> None:
        self.messages += 1
        self.bytes += size
        self.last_receive_ns = receive_ns

    def note_clocks(self, sent_ms: int, receive_ns: int) -> int:
        """The corrected latency of a message, in ns."""
        latency = self.clock.note(sent_ms * 1_000_000, receive_ns)
        self.latencies.add(latency)
        return latency

    def row(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "bytes": self.bytes,
            "reconnects": self.reconnects,
            "handler_errors": self.handler_errors,
            "last_update_ms": self.last_receive_ns // 1_000_000,
            "clock_offset_ms": round(self.clock.offset_ns / 1e6, 3),
            **self.latencies.summary(),
        }


class SymbolMeter:
    """Of one symbol's book."""

    def __init__(self) -> None:
        self.messages = self.bytes = self.gaps = self.refused = self.resyncs = 0
        self.last_receive_ns = 0
        self.latencies = Latencies()

    def row(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "bytes": self.bytes,
            "gaps": self.gaps,
            "refused": self.refused,
            "resyncs": self.resyncs,
            "last_update_ms": self.last_receive_ns // 1_000_000,
            **self.latencies.summary(),
        }
