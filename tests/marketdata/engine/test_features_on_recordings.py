"""Every feature equals an independent computation on real sessions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from marketdata.engine.feature_table import FEATURES
from marketdata.feeds import book_replay
from marketdata.feeds.recorded import RecordedFrame, read_recording
from tests.marketdata.engine.feature_oracle import Session, WatchedBook
from tests.recordings import bybit_session, recording

NAMES = [spec.name for spec in FEATURES]
# A birth is kept in odd milliseconds.
LIFETIME_TOLERANCE = 0.0011


def watched_books(monkeypatch: pytest.MonkeyPatch, paths: list[Path]) -> list[WatchedBook]:
    """The books of the files, each compared with those before it, after all their frames in the order of arrival."""
    made: list[WatchedBook] = []

    def make(*arguments: Any, **options: Any) -> WatchedBook:
        made.append(WatchedBook(*arguments, **options))
        if len(made) > 1:
            made[-1].compare_with(made[0], made[0])
        return made[-1]

    monkeypatch.setattr(book_replay, "SymbolBook", make)
    playing = book_replay.Replay()
    for _ in playing.run(in_order(paths)):
        pass
    return made


def in_order(paths: list[Path]) -> Iterator[RecordedFrame]:
    """All files by time. Snapshots there do not say whose they are: the file does."""
    frames = [name_snapshot(frame, path) for path in paths for frame in read_recording(path)]
    return iter(sorted(frames, key=lambda frame: frame.receive_ns))


def name_snapshot(frame: RecordedFrame, path: Path) -> RecordedFrame:
    if not frame.data.startswith(b'{"lastUpdateId"'):
        return frame
    return replace(frame, url=f"https://venue/depth?symbol={path.name.split('_')[1].upper()}")


def check(session: Session) -> int:
    """Compare all rows; returns how many values were compared, and were numbers."""
    actual = pd.DataFrame([row.features for row in session.rows], columns=NAMES)
    assert set(session.expected.columns) == set(NAMES)
    compared = 0
    for name in NAMES:
        expected = session.expected[name].to_numpy(dtype=np.float64)
        rows = np.array(session.sampled if name in session.of_levels else range(len(expected)))
        tolerance = LIFETIME_TOLERANCE if name.startswith("lifetime") else 1e-9 * SCALE.get(name, 1.0)
        np.testing.assert_allclose(
            actual[name].to_numpy()[rows], expected[rows], rtol=1e-7, atol=tolerance, err_msg=name
        )
        compared += int(np.isfinite(expected[rows]).sum())
    return compared


SCALE = {"noise_60s": 1e-6, "return_mean_60s": 1e-4, "order_flow_60s": 1e3, "order_flow_10s": 1e3}


@pytest.mark.recording
def test_every_feature_of_three_books_of_a_bybit_session_equals_an_independent_computation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    books = watched_books(monkeypatch, [bybit_session()])
    sessions = [Session(book.happened, 200, 0, every=1) for book in books]
    sessions[0].compare_with(None, None)
    for session in sessions[1:]:
        session.compare_with(sessions[0], sessions[0])
    assert sum(map(check, sessions)) > 90_000


@pytest.mark.recording
@pytest.mark.slow
def test_every_feature_of_two_perpetuals_equals_an_independent_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    # 5.7 minutes: windows of 300 s are seen whole.
    names = ("usdm_btcusdt_20240808.gz", "usdm_ethusdt_20240808.gz")
    books = watched_books(monkeypatch, [recording("binance-raw", name) for name in names])
    sessions = [Session(book.happened, 0, 1_000, every=25) for book in books]
    sessions[0].compare_with(None, None)
    sessions[1].compare_with(sessions[0], sessions[0])
    assert sum(map(check, sessions)) > 500_000
    numbers = sessions[1].expected.notna().any()
    assert numbers.all(), list(numbers[~numbers].index)
