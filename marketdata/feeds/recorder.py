"""Raw frames into compressed files that replay bit for bit.

The format is that of ``marketdata.feeds.recorded``: JSON lines, one a frame, as it came. A file is a row of zstd frames
that each end on a line, one for every half second at most: a process that is killed loses what was not written yet and
leaves a file that can be read to its end. Beside each file lies its index, one JSON line for each zstd frame: where
it begins, how long it is, and the time and number of the lines in it.
"""

from __future__ import annotations

import base64
import logging
import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import zstandard

from marketdata.recording_names import INDEX_SUFFIX, SUFFIX

log = logging.getLogger(__name__)

WRITE_SECONDS = 0.5
# More than this waiting for the disk is not taken; how much was lost is written down when it goes on.
MOST_WAITING_BYTES = 64 * 2**20
FORMAT = 2

Line = tuple[str, str, bytes, int, str | None]


class Recorder:
    """:meth:`record` may be called from the event loop: it only queues. A thread of its own compresses and writes.

    Args:
        folder: made when it is not there.
        prefix: what the files' names begin with; the time of their first line follows.
        most_bytes: of compressed file, after which the next one begins.
        most_seconds: the same by age.
    """

    def __init__(self, folder: Path, prefix: str, *, most_bytes: int, most_seconds: float) -> None:
        self._folder, self._prefix = folder, prefix
        self._most_bytes, self._most_seconds = most_bytes, most_seconds
        self._lock, self._writing, self._wake = threading.Lock(), threading.Lock(), threading.Event()
        self._waiting: list[Line] = []
        self._waiting_bytes = self._lost = 0
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._compressor = zstandard.ZstdCompressor(level=3)
        # The recording and its index.
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        self._began = 0.0
        self._header: dict[str, Any] = {}
        self.counts = {"lines": 0, "lost": 0, "bytes": 0, "files": 0}

    def start(self, about: Mapping[str, Any]) -> None:
        """Begin to write; ``about`` (plain JSON) is in the header of each file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._header = dict(about)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def record(self, connection: str, kind: str, data: bytes, receive_ns: int, url: str | None) -> None:
        with self._lock:
            if self._waiting_bytes > MOST_WAITING_BYTES:
                self._lost += 1
                return
            if self._lost:
                # A hole is part of what happened.
                told = orjson.dumps({"lost": self._lost})
                self._waiting.append((connection, "lost", told, receive_ns, None))
                self.counts["lost"] += self._lost
                self._lost = 0
            self._waiting.append((connection, kind, data, receive_ns, url))
            self._waiting_bytes += len(data)

    def close(self) -> None:
        """Write what waits and end the file."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def status(self) -> dict[str, Any]:
        return {"folder": str(self._folder), **self.counts}

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(WRITE_SECONDS)
            self.flush()
        self.flush()
        self._close_file()

    def flush(self) -> None:
        """Write what waits, now, in this thread."""
        with self._writing:
            with self._lock:
                lines, self._waiting, self._waiting_bytes = self._waiting, [], 0
            if not lines:
                return
            try:
                self._write(lines)
            except OSError as error:
                log.error("%d recorded lines are lost: %s", len(lines), error)
                with self._lock:
                    self._lost += len(lines)
                self._close_file()

    def _write(self, lines: list[Line]) -> None:
        if self._files is None:
            self._files = self._open_file(lines[0][3])
        text = b"".join(as_json(*line) for line in lines)
        self._append(self._files, text, len(lines), lines[0][3], lines[-1][3])
        if self._files[0].tell() > self._most_bytes or time.monotonic() - self._began > self._most_seconds:
            self._close_file()

    def _append(self, files: tuple[BinaryIO, BinaryIO], text: bytes, count: int, first_ns: int, last_ns: int) -> None:
        file, index = files
        packed, offset = self._compressor.compress(text), file.tell()
        # One write each, without a buffer of ours in between: what a kill cuts off is the last one.
        file.write(packed)
        row = {"offset": offset, "bytes": len(packed), "lines": count, "first_ns": first_ns, "last_ns": last_ns}
        index.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        self.counts["lines"] += count
        self.counts["bytes"] += len(packed)

    def _open_file(self, receive_ns: int) -> tuple[BinaryIO, BinaryIO]:
        moment = datetime.fromtimestamp(receive_ns // 1_000_000_000, tz=UTC)
        name = f"{self._prefix}-{moment:%Y%m%dT%H%M%S}.{receive_ns % 1_000_000_000:09d}"
        file = (self._folder / f"{name}{SUFFIX}").open("xb", buffering=0)
        index = (self._folder / f"{name}{INDEX_SUFFIX}").open("xb", buffering=0)
        self._began = time.monotonic()
        self.counts["files"] += 1
        header = {"t": "header", "format": FORMAT, "recorded": receive_ns / 1e9, **self._header}
        self._append((file, index), orjson.dumps(header, option=orjson.OPT_APPEND_NEWLINE), 0, receive_ns, receive_ns)
        return file, index

    def _close_file(self) -> None:
        for file in self._files or ():
            try:
                os.fsync(file.fileno())
            except OSError as error:
                log.error("a recording may not be on the disk: %s", error)
            file.close()
        self._files = None


def as_json(connection: str, kind: str, data: bytes, receive_ns: int, url: str | None) -> bytes:
    """One line. Bytes that are no UTF-8 are told in base64."""
    row: dict[str, Any] = {"t": kind, "conn": connection, "ts": receive_ns // 1_000 / 1e6, "ns": receive_ns}
    if url is not None:
        row["url"] = url
    try:
        row["data"] = data.decode()
    except UnicodeDecodeError:
        row["base64"] = base64.b64encode(data).decode()
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
