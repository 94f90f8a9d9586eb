"""The detectors of one symbol, as the engine's owner sees them: attached to a book, fetched after its messages."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from marketdata.engine.book import SymbolBook
from marketdata.engine.compiled import callback
from marketdata.engine.detectors import layout
from marketdata.engine.detectors.detection import SIDE_NAMES, Detection, evidence_of, reason_of
from marketdata.engine.detectors.kinds import DetectionKind
from marketdata.engine.detectors.observe import observe_message, observe_trade
from marketdata.engine.detectors.parameters import DetectorParameters

OBSERVE_MESSAGE, OBSERVE_TRADE = callback(observe_message), callback(observe_trade)


class SymbolDetectors:
    """All detectors of one book, from now on, until :meth:`detach`. Fetch after every message or batch: the ring holds
    the newest ``EVENTS`` and counts in ``lost`` those that were overwritten before anyone fetched them.

    They look where features are computed (``Work.FEATURES``), and at the trades that the book is told.
    """

    def __init__(self, book: SymbolBook, parameters: DetectorParameters | None = None) -> None:
        self.parameters = parameters or DetectorParameters()
        self.lost = 0
        self._book = book
        self._words: NDArray[np.int64] = np.zeros(layout.DETECTOR_WORDS, dtype=np.int64)
        self._floats: NDArray[np.float64] = self._words.view(np.float64)
        values = self.parameters.values()
        self._floats[layout.PARAMETERS : layout.PARAMETERS + len(values)] = values
        self._fetched = 0
        book.observe_with(int(self._words.ctypes.data), OBSERVE_MESSAGE, OBSERVE_TRADE)
        # The book's kernels follow the address: it must be forgotten before the memory goes.
        self._detach = finalize(self, book.observe_with, 0, 0, 0)

    def detach(self) -> None:
        """The book is not looked at any more."""
        self._detach()

    def fetch(self) -> list[Detection]:
        """What was detected since the last time, in order."""
        written = int(self._words[layout.EVENTS_WRITTEN])
        if written == self._fetched:
            return []
        first = max(self._fetched, written - layout.EVENTS)
        self.lost += first - self._fetched
        self._fetched = written
        return [self._detection(number) for number in range(first, written)]

    def _detection(self, number: int) -> Detection:
        start = layout.EVENT_RING + number % layout.EVENTS * layout.RECORD_WORDS
        words = self._words[start : start + layout.RECORD_WORDS].tolist()
        floats = self._floats[start : start + layout.RECORD_WORDS].tolist()
        kind, side = DetectionKind(words[layout.RECORD_KIND]), SIDE_NAMES[words[layout.RECORD_SIDE]]
        tick_size, lot_size = floats[layout.RECORD_TICK_SIZE], floats[layout.RECORD_LOT_SIZE]
        # The shortest text of a float that was made from a decimal step is that step.
        step = Decimal(repr(tick_size))
        low, high = step * words[layout.RECORD_LOW], step * words[layout.RECORD_HIGH]
        evidence = evidence_of(kind, floats[layout.RECORD_FIRST_EVIDENCE :], tick_size, lot_size)
        return Detection(
            symbol=self._book.symbol,
            kind=kind,
            side=side,
            low=low,
            high=high,
            begin_ms=words[layout.RECORD_BEGIN_MS],
            detected_ms=words[layout.RECORD_DETECTED_MS],
            score=floats[layout.RECORD_SCORE],
            evidence=MappingProxyType(evidence),
            reason=reason_of(kind, side, low, high, evidence),
        )
