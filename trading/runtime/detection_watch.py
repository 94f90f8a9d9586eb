"""The detectors of an engine's books: attached while a symbol is followed, fetched beside the messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from marketdata.engine.detectors.detection import Detection
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.parameters import DetectorParameters
from marketdata.engine.detectors.symbol import SymbolDetectors
from marketdata.engine.sync import BookState
from trading.runtime.market_frames import SymbolMarket

# Detectors keep their newest 256 events for us, so a message costs nothing here.
FETCH_SECONDS = 0.1


class DetectionWatch:
    """Tells ``on_detected`` of events of the given kinds, each market's in their order, while its book is LIVE: what
    was seen on the way to a gap is dropped with the book's proof. Without kinds nothing is watched.

    ``counts``: ``told``; ``unproven`` for books that were not LIVE; ``lost`` because they came faster than they were
    fetched.
    """

    def __init__(
        self,
        kinds: Collection[DetectionKind],
        on_detected: Callable[[Detection], None],
        parameters: DetectorParameters | None = None,
    ) -> None:
        self._kinds, self._on_detected, self._parameters = frozenset(kinds), on_detected, parameters
        self._watched: dict[str, tuple[SymbolMarket, SymbolDetectors]] = {}
        self.counts = {"told": 0, "unproven": 0, "lost": 0}

    def begin(self, market: SymbolMarket) -> None:
        if self._kinds:
            self._watched[market.symbol] = market, SymbolDetectors(market.book, self._parameters)

    def end(self, symbol: str) -> None:
        if symbol in self._watched:
            _, detectors = self._watched.pop(symbol)
            detectors.detach()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(FETCH_SECONDS)
            self.fetch()

    def fetch(self) -> None:
        """Tell what was detected since the last time."""
        for market, detectors in self._watched.values():
            lost = detectors.lost
            found = [each for each in detectors.fetch() if each.kind in self._kinds]
            self.counts["lost"] += detectors.lost - lost
            if market.state is not BookState.LIVE:
                self.counts["unproven"] += len(found)
                continue
            for detection in found:
                self.counts["told"] += 1
                market.note_detection(detection)
                self._on_detected(detection)
