"""Recordings: exact to the byte and the nanosecond, in files that a killed process leaves readable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import zstandard

from marketdata.feeds.recorded import RecordingError, read_header, read_recording
from marketdata.feeds.recorder import INDEX_SUFFIX, Recorder

FRAMES = [
    ("bybit-linear.0", "connect", b"", 1_800_000_000_000_000_001, "ws://venue/v5/public/linear"),
    (
        "bybit-linear.0",
        "recv",
        b'{"topic":"publicTrade.X","data":"\xe2\x82\xac \\u0000"}',
        1_800_000_000_123_456_789,
        None,
    ),
    ("bybit-linear.0", "recv", b"\xff\x00 no text", 1_800_000_000_123_456_790, None),
    ("binance-usdm.0", "http", b'{"lastUpdateId":5}', 1_800_000_001_000_000_007, "http://venue/depth?symbol=X"),
]


def recorder(folder: Path, **options: float) -> Recorder:
    return Recorder(folder, "test", **{"most_bytes": 1 << 20, "most_seconds": 3_600, **options})


def test_what_is_recorded_is_read_back_exactly(tmp_path: Path) -> None:
    made = recorder(tmp_path)
    made.start({"grids": {}})
    for frame in FRAMES:
        made.record(*frame)
    made.close()
    (path,) = tmp_path.glob("*.zst")
    assert read_header(path)["grids"] == {}
    assert [
        (line.connection, line.kind, line.data, line.receive_ns, line.url) for line in read_recording(path)
    ] == FRAMES
    assert next(iter(read_recording(path))).category == "linear"


def test_files_are_rotated_by_size_and_their_index_leads_to_every_part(tmp_path: Path) -> None:
    made = recorder(tmp_path, most_bytes=200)
    made.start({})
    count = 0
    for _ in range(5):
        for _ in range(10):
            made.record("c", "recv", os.urandom(40), 1_800_000_000_000_000_000 + count, None)
            count += 1
        made.flush()
    made.close()
    files = sorted(tmp_path.glob("*.jsonl.zst"))
    assert len(files) == 5
    assert sum(1 for path in files for _ in read_recording(path)) == count
    seen = []
    for path in files:
        raw = path.read_bytes()
        for row in map(orjson.loads, Path(str(path).replace(".jsonl.zst", INDEX_SUFFIX)).read_bytes().splitlines()):
            part = zstandard.ZstdDecompressor().decompress(raw[row["offset"] : row["offset"] + row["bytes"]], 1 << 20)
            times = [line["ns"] for line in map(orjson.loads, part.splitlines()) if line["t"] != "header"]
            assert len(times) == row["lines"]
            assert not times or (times[0], times[-1]) == (row["first_ns"], row["last_ns"])
            seen += times
    assert seen == sorted(seen) and len(seen) == count


def test_a_file_that_ends_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    made = recorder(tmp_path)
    made.start({})
    for number in range(6):
        made.record("c", "recv", b'{"n":%d}' % number, 1_800_000_000_000_000_000 + number, None)
        made.flush()
    made.close()
    (path,) = tmp_path.glob("*.zst")
    whole, torn = path.read_bytes(), tmp_path / "torn.zst"
    counts = []
    for length in range(len(whole) + 1):
        torn.write_bytes(whole[:length])
        read = [line.data for line in read_recording(torn)]
        assert read == [b'{"n":%d}' % number for number in range(len(read))]
        counts.append(len(read))
    assert counts == sorted(counts) and counts[-1] == 6


def test_a_killed_process_leaves_what_it_had_written(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from marketdata.feeds.recorder import Recorder\n"
        "made = Recorder(Path(sys.argv[1]), 'killed', most_bytes=1 << 30, most_seconds=3600); made.start({})\n"
        "for number in range(10**9):\n"
        "    made.record('c', 'recv', b'%d' % number, time.time_ns(), None)\n"
        "    if number % 1000 == 0: print(number, made.counts['lines'], flush=True); time.sleep(0.01)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        written = 0
        for line in process.stdout:
            written = int(line.split()[1])
            if written > 20_000:
                break
        process.send_signal(signal.SIGKILL)
    (path,) = tmp_path.glob("*.zst")
    read = [int(line.data) for line in read_recording(path)]
    assert len(read) >= written and read == list(range(len(read)))


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.zst"
    path.write_bytes(b"plain text")
    with pytest.raises(RecordingError, match="neither with gzip nor with zstd"):
        list(read_recording(path))
    path.write_bytes(zstandard.compress(b'{"t":"recv"}\n'))
    with pytest.raises(RecordingError, match="line 1"):
        list(read_recording(path))
