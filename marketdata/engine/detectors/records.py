"""From kernels to Python: compact records in a ring that keeps the newest."""

from __future__ import annotations

from marketdata.engine.compiled import kernel
from marketdata.engine.detectors.layout import (
    EVENT_RING,
    EVENTS,
    EVENTS_WRITTEN,
    RECORD_BEGIN_MS,
    RECORD_DETECTED_MS,
    RECORD_EVIDENCE,
    RECORD_FIRST_EVIDENCE,
    RECORD_HIGH,
    RECORD_KIND,
    RECORD_LOT_SIZE,
    RECORD_LOW,
    RECORD_SCORE,
    RECORD_SIDE,
    RECORD_TICK_SIZE,
    RECORD_WORDS,
)
from marketdata.engine.layout import LOT_SIZE, NOW_MS, TICK_SIZE
from marketdata.engine.memory import load, load_float, store, store_float


@kernel
def new_record(book: int, detector: int, kind: int, side: int, low: int, high: int, begin_ms: int, score: float) -> int:
    """Begin a record; returns the address of its evidence (float), which the caller fills."""
    written = load(detector, EVENTS_WRITTEN)
    record = detector + 8 * (EVENT_RING + written % EVENTS * RECORD_WORDS)
    store(detector, EVENTS_WRITTEN, written + 1)
    store(record, RECORD_KIND, kind)
    store(record, RECORD_SIDE, side)
    store(record, RECORD_LOW, low)
    store(record, RECORD_HIGH, high)
    store(record, RECORD_BEGIN_MS, begin_ms)
    store(record, RECORD_DETECTED_MS, load(book, NOW_MS))
    store_float(record, RECORD_SCORE, min(max(score, 0.0), 1.0))
    # The grid may become finer before the record is fetched.
    store_float(record, RECORD_TICK_SIZE, load_float(book, TICK_SIZE))
    store_float(record, RECORD_LOT_SIZE, load_float(book, LOT_SIZE))
    for place in range(RECORD_EVIDENCE):
        store_float(record, RECORD_FIRST_EVIDENCE + place, 0.0)
    return record + 8 * RECORD_FIRST_EVIDENCE
