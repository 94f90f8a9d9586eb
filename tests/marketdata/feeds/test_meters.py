"""The venue's clock and ours are two: how far they are apart is found from the messages themselves."""

from __future__ import annotations

import gzip
import random
import re
from itertools import islice

import pytest

from marketdata.feeds.meters import ClockOffset, ConnectionMeter
from tests.recordings import FOLDER

MS, SECOND = 1_000_000, 1_000_000_000
START = 1_800_000_000 * SECOND


def test_the_offset_is_the_least_delay_and_latencies_are_what_is_above_it() -> None:
    clock, dice = ClockOffset(), random.Random(5)
    for number in range(2_000):
        sent = START + number * 50 * MS
        clock.note(sent, sent - 1_300 * MS + 2 * MS + int(dice.expovariate(1 / (20 * MS))))
    assert -1_298.1 * MS <= clock.offset_ns <= -1_295 * MS
    sent = START + 2_000 * 50 * MS
    assert clock.note(sent, sent - 1_298 * MS + 40 * MS) == pytest.approx(40 * MS, abs=3 * MS)


def test_one_message_with_a_wrong_time_does_not_move_it_for_long() -> None:
    clock = ClockOffset()
    for number in range(1_200):
        sent = START + number * 100 * MS
        from_the_future = 5 * SECOND if number == 600 else 0
        clock.note(sent + from_the_future, sent + 10 * MS)
    assert clock.offset_ns == 10 * MS


def test_a_clock_that_drifts_is_followed() -> None:
    clock = ClockOffset()
    for number in range(3_000):
        sent = START + number * 100 * MS
        clock.note(sent, sent + 10 * MS + number * 20_000)  # 0.2 ms a second
    assert clock.offset_ns == pytest.approx(10 * MS + 3_000 * 20_000, abs=15 * MS)


@pytest.mark.recording
def test_recordings_whose_clock_runs_1_3_seconds_behind_say_so() -> None:
    path = FOLDER / "binance-raw" / "usdm_btcusdt_20240808.gz"
    if not path.exists():
        pytest.skip(f"needs {path.name} under {FOLDER} (set MARKET_DATA_DIR)")
    meter = ConnectionMeter("recorded")
    with gzip.open(path, "rb") as lines:
        for line in islice(lines, 20_000):
            event = re.search(rb'"E":(\d{13})', line[:200])
            if event is not None:
                meter.note_clocks(int(event[1]), int(line[:19]))
    row = meter.row()
    assert -1_400 < row["clock_offset_ms"] < -1_200
    assert 0 <= row["latency_p50_ms"] < 50 and row["latency_p99_ms"] < 1_000
